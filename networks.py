"""The networks of U-GAT-IT, CycleGAN and Pix2Pix, as in their authors' PyTorch code, layer by layer.

Every layer starts from PyTorch's default initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in)): that of U-GAT-IT. The other two
methods initialise theirs anew (`layers.init_weights`).
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Tuple, Type

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

import ops
from layers import (
    ILN,
    AdaLIN,
    Conv2D,
    Dropout,
    GroupNorm,
    InstanceNorm2D,
    Linear,
    SpectralNormConv2D,
    SpectralNormLinear,
    TransposedConv2D,
    UpsampleConv2D,
    norm_layer,
)

# U-GAT-IT (arXiv:1907.10830)


class CAMOutput(NamedTuple):
    """What a CAM gives: features (N, C, H, W), cam_logit (N, 2), heatmap (N, 1, H, W)."""

    features: Tensor
    cam_logit: Tensor
    heatmap: Tensor


class GeneratorOutput(NamedTuple):
    """What U-GAT-IT's generator gives: image (N, img_ch, H, W) in [-1, 1], cam_logit (N, 2), heatmap (N, 1, H / 4, W / 4).

    The last two are None without a CAM.
    """

    image: Tensor
    cam_logit: Optional[Tensor]
    heatmap: Optional[Tensor]


class DiscriminatorOutput(NamedTuple):
    """What U-GAT-IT's discriminator gives: logit (N, 1, h, w), cam_logit (N, 2), heatmap (N, 1, h + 1, w + 1).

    The last two are None without a CAM.
    """

    logit: Tensor
    cam_logit: Optional[Tensor]
    heatmap: Optional[Tensor]


class CAM(nn.Layer):
    """Class activation map of a U-GAT-IT network (section 2.1.1): an auxiliary classifier whose weights attend to channels.

    Two bias-free classifiers look at the average- and at the max-pooled features. Their weights multiply the feature maps, and a
    1x1 convolution joins the two products.

    Args:
        channels: C.
        activation: what follows the 1x1 convolution.
        spectral: spectral-normalise both classifiers. The features are multiplied by the raw weights, as the authors do.

    Shape:
        x (N, C, H, W); returns a CAMOutput.
    """

    def __init__(self, channels: int, activation: nn.Layer, spectral: bool = False) -> None:
        super().__init__()
        linear = SpectralNormLinear if spectral else Linear
        self.gap_fc = linear(channels, 1)
        self.gmp_fc = linear(channels, 1)
        self.conv1x1 = Conv2D(2 * channels, channels, 1, bias=True)
        self.activation = activation

    def forward(self, x: Tensor) -> CAMOutput:
        gap_logit = self.gap_fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        gmp_logit = self.gmp_fc(ops.global_max_pool(x))
        cam_logit = paddle.concat([gap_logit, gmp_logit], 1)
        gap_weight, gmp_weight = (_raw_weight(fc).flatten() for fc in (self.gap_fc, self.gmp_fc))
        x = self.activation(ops.weighted_conv1x1(x, gap_weight, gmp_weight, self.conv1x1.weight, self.conv1x1.bias))
        return CAMOutput(x, cam_logit, x.sum(1, keepdim=True))


def _raw_weight(linear: nn.Layer) -> Tensor:
    return linear.weight_orig if isinstance(linear, SpectralNormLinear) else linear.weight


class ResnetBlock(nn.Layer):
    """x + IN(conv(ReLU(IN(conv(x))))). Shape: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            Conv2D(channels, channels, 3, pad=1),
            InstanceNorm2D(),
            nn.ReLU(),
            Conv2D(channels, channels, 3, pad=1),
            InstanceNorm2D(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResnetAdaLINBlock(nn.Layer):
    """The decoder's residual block: AdaLIN styled by gamma and beta (N, C), or another norm. Shape: (N, C, H, W) to the same."""

    def __init__(self, channels: int, decoder_norm: str = "adalin") -> None:
        super().__init__()
        self.conv1 = Conv2D(channels, channels, 3, pad=1)
        self.norm1 = _decoder_norm(AdaLIN, decoder_norm, channels)
        self.conv2 = Conv2D(channels, channels, 3, pad=1)
        self.norm2 = _decoder_norm(AdaLIN, decoder_norm, channels)

    def forward(self, x: Tensor, *style: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x), *style))
        return x + self.norm2(self.conv2(out), *style)


def _decoder_norm(adaptive: Type[nn.Layer], kind: str, channels: int) -> nn.Layer:
    """AdaLIN or ILN, or what takes its place in the paper's table 1.

    The paper does not say how many groups GN has: here 32 as in its own paper, or fewer so that each has two channels or more.
    """
    if kind in ("adalin", "adain"):
        return adaptive(channels, learn_rho=kind == "adalin")
    groups = {"in": channels, "ln": 1, "gn": math.gcd(32, max(1, channels // 2))}
    return GroupNorm(channels, groups[kind])


class ResnetGenerator(nn.Layer):
    """U-GAT-IT's generator (section 2.1.1, figure 1; table 4): encoder, CAM, and a decoder styled through AdaLIN.

    Args:
        img_ch: channels of the images.
        ch: width of the first layer.
        n_res: residual blocks before and after the CAM.
        img_size: image side. The full version's MLP has one weight for each feature, so it takes no other size.
        light: pool the features before the MLP (the authors' light version).
        decoder_norm: adalin, or an ablation of table 1: adain, whose rho is fixed at 1; in, ln, gn, which need no MLP.
        cam: False leaves the CAM out, and the features as they are (an ablation of table 1).

    Shape:
        x (N, img_ch, img_size, img_size) in [-1, 1]; returns a GeneratorOutput. The light version takes any sides that are
        multiples of 4.

    Raises:
        ValueError: the image has another shape than the network was built for.
    """

    def __init__(
        self,
        img_ch: int = 3,
        ch: int = 64,
        n_res: int = 4,
        img_size: int = 256,
        light: bool = False,
        decoder_norm: str = "adalin",
        cam: bool = True,
    ) -> None:
        super().__init__()
        self.img_ch, self.multiple = img_ch, 4
        width = 4 * ch
        down = [Conv2D(img_ch, ch, 7, pad=3), InstanceNorm2D(), nn.ReLU()]
        down += [Conv2D(ch, 2 * ch, 3, stride=2, pad=1), InstanceNorm2D(), nn.ReLU()]
        down += [Conv2D(2 * ch, width, 3, stride=2, pad=1), InstanceNorm2D(), nn.ReLU()]
        down += [ResnetBlock(width) for _ in range(n_res)]
        self.DownBlock = nn.Sequential(*down)

        self.cam = CAM(width, nn.ReLU()) if cam else None

        self.light, self.FC, self.side = light, None, None
        if decoder_norm in ("adalin", "adain"):
            # The only image side that the network takes, if any.
            self.side = None if light else img_size
            features = width if light else width * (img_size // 4) ** 2
            self.FC = nn.Sequential(Linear(features, width), nn.ReLU(), Linear(width, width), nn.ReLU())
            self.gamma = Linear(width, width)
            self.beta = Linear(width, width)

        self.UpBlock1 = nn.LayerList([ResnetAdaLINBlock(width, decoder_norm) for _ in range(n_res)])
        up = []
        for channels in (2 * ch, ch):
            up += [UpsampleConv2D(2 * channels, channels), _decoder_norm(ILN, decoder_norm, channels), nn.ReLU()]
        up += [Conv2D(ch, img_ch, 7, pad=3), nn.Tanh()]
        self.UpBlock2 = nn.Sequential(*up)

    def forward(self, x: Tensor) -> GeneratorOutput:
        _check_images(x, self.img_ch, self.multiple, self.side)
        x = self.DownBlock(x)
        cam_logit = heatmap = None
        if self.cam is not None:
            x, cam_logit, heatmap = self.cam(x)
        style = self._style(x)
        for block in self.UpBlock1:
            x = block(x, *style)
        return GeneratorOutput(self.UpBlock2(x), cam_logit, heatmap)

    def _style(self, x: Tensor) -> Tuple[Tensor, ...]:
        """gamma and beta (N, C) from the features, for the norms that take them."""
        if self.FC is None:
            return ()
        style = self.FC(F.adaptive_avg_pool2d(x, 1).flatten(1) if self.light else x.flatten(1))
        return self.gamma(style), self.beta(style)


def _check_images(x: Tensor, channels: int, multiple: int = 1, side: Optional[int] = None) -> None:
    if not paddle.in_dynamic_mode():
        return  # while a static graph is made, sizes are unknown
    expected = f"(N, {channels}, {side}, {side})" if side else f"(N, {channels}, H, W) with H and W multiples of {multiple}"
    wrong = x.ndim != 4 or x.shape[1] != channels or any(length % multiple for length in x.shape[2:])
    if wrong or (side and list(x.shape[2:]) != [side, side]):
        raise ValueError(f"images must be {expected}, not {list(x.shape)}")


class Discriminator(nn.Layer):
    """U-GAT-IT's discriminator (section 2.1.2; table 5): global with 7 layers, local with 5.

    Args:
        img_ch: channels of the images.
        ch: width of the first layer.
        n_layers: layers in the authors' count: n_layers - 2 of stride 2, one of stride 1, the one that gives the logits.
        cam: False leaves the CAM out, and the features as they are (an ablation of table 1).

    Shape:
        x (N, img_ch, H, W) in [-1, 1], sides at least 3 * 2**(n_layers - 2); returns a DiscriminatorOutput, where
        h = H / 2**(n_layers - 2) - 2.
    """

    def __init__(self, img_ch: int = 3, ch: int = 64, n_layers: int = 7, cam: bool = True) -> None:
        super().__init__()
        self.img_ch = img_ch
        model = [SpectralNormConv2D(img_ch, ch, 4, stride=2, pad=1), nn.LeakyReLU(0.2)]
        for _ in range(n_layers - 3):
            model += [SpectralNormConv2D(ch, 2 * ch, 4, stride=2, pad=1), nn.LeakyReLU(0.2)]
            ch *= 2
        model += [SpectralNormConv2D(ch, 2 * ch, 4, pad=1), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*model)
        self.cam = CAM(2 * ch, nn.LeakyReLU(0.2), spectral=True) if cam else None
        self.conv = SpectralNormConv2D(2 * ch, 1, 4, pad=1, bias=False)

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        _check_images(x, self.img_ch)
        x, cam_logit, heatmap = self.model(x), None, None
        if self.cam is not None:
            x, cam_logit, heatmap = self.cam(x)
        return DiscriminatorOutput(self.conv(x), cam_logit, heatmap)


# CycleGAN (arXiv:1703.10593) and Pix2Pix (arXiv:1611.07004)


class CycleGANBlock(nn.Layer):
    """CycleGAN's residual block: x + norm(conv(ReLU(norm(conv(x))))). Shape: (N, C, H, W) to the same."""

    def __init__(self, channels: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = norm != "batch"
        layers = [Conv2D(channels, channels, 3, pad=1, bias=bias), norm_layer(norm, channels), nn.ReLU()]
        layers += [Dropout()] if dropout else []
        layers += [Conv2D(channels, channels, 3, pad=1, bias=bias), norm_layer(norm, channels)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class CycleGANGenerator(nn.Layer):
    """CycleGAN's generator (appendix 7.2, after Johnson et al.): c7s1-64, d128, d256, residual blocks, u128, u64, c7s1-3.

    Args:
        img_ch: channels of the images.
        ch: width of the first layer.
        n_blocks: residual blocks, 9 at 256x256 and 6 below in the paper.
        norm: batch, instance or none.
        upsample: transpose, as in the paper, or resize (nearest x2 and a convolution), which makes no checkerboards.
        dropout: after the first convolution of each block.

    Shape:
        x (N, img_ch, H, W) in [-1, 1], sides multiples of 4; returns the same.

    Raises:
        ValueError: the image has another number of channels, or sides that are no multiples of 4.
    """

    def __init__(
        self,
        img_ch: int = 3,
        ch: int = 64,
        n_blocks: int = 9,
        norm: str = "instance",
        upsample: str = "transpose",
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.img_ch, self.multiple, self.side = img_ch, 4, None
        bias = norm != "batch"

        def up(in_channels: int, out_channels: int) -> nn.Layer:
            if upsample == "resize":
                return UpsampleConv2D(in_channels, out_channels, bias)
            return TransposedConv2D(in_channels, out_channels, 3, bias)

        model = [Conv2D(img_ch, ch, 7, pad=3, bias=bias), norm_layer(norm, ch), nn.ReLU()]
        for width in (ch, 2 * ch):
            down = Conv2D(width, 2 * width, 3, stride=2, pad=1, bias=bias, zeros=True)
            model += [down, norm_layer(norm, 2 * width), nn.ReLU()]
        model += [CycleGANBlock(4 * ch, norm, dropout) for _ in range(n_blocks)]
        for width in (4 * ch, 2 * ch):
            model += [up(width, width // 2), norm_layer(norm, width // 2), nn.ReLU()]
        model += [Conv2D(ch, img_ch, 7, pad=3, bias=True), nn.Tanh()]
        self.model = nn.Sequential(*model)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(x, self.img_ch, self.multiple)
        return self.model(x)


class UnetGenerator(nn.Layer):
    """Pix2Pix's U-Net (section 3.2.1 and appendix 6.1): each decoder layer also sees the encoder layer of its size.

    Args:
        img_ch: channels of the images.
        ch: width of the first layer; the others double up to 8 * ch.
        n_downs: halvings of the map, 8 at 256x256.
        norm: batch, instance or none; the outermost layers and the innermost map have none.
        dropout: in up to three of the 8 * ch wide decoder layers, those after the innermost.
        skip: False gives the paper's comparison, the same encoder-decoder without skip connections.

    Shape:
        x (N, img_ch, H, W) in [-1, 1], sides multiples of 2**n_downs; returns the same.

    Raises:
        ValueError: the image has another number of channels or sides.
    """

    def __init__(
        self, img_ch: int = 3, ch: int = 64, n_downs: int = 8, norm: str = "batch", dropout: bool = True, skip: bool = True
    ) -> None:
        super().__init__()
        self.img_ch, self.multiple, self.side, self.skip = img_ch, 2**n_downs, None, skip
        bias = norm != "batch"
        widths = [ch * min(8, 2**level) for level in range(n_downs)]
        down, up = [], []
        for level, width in enumerate(widths):
            outermost, innermost = level == 0, level == n_downs - 1
            into = Conv2D(img_ch if outermost else widths[level - 1], width, 4, stride=2, pad=1, bias=bias, zeros=True)
            normed = [] if outermost or innermost else [norm_layer(norm, width)]
            down.append(nn.Sequential(*([] if outermost else [nn.LeakyReLU(0.2)]), into, *normed))
            out_of = TransposedConv2D(
                width if innermost or not skip else 2 * width,
                img_ch if outermost else widths[level - 1],
                4,
                bias=outermost or bias,
            )
            after: List[nn.Layer] = [nn.Tanh()] if outermost else [norm_layer(norm, widths[level - 1])]
            # Of the layers between the innermost and the first 8 * ch wide one.
            after += [Dropout()] if dropout and 4 <= level < n_downs - 1 else []
            up.append(nn.Sequential(nn.ReLU(), out_of, *after))
        self.down, self.up = nn.LayerList(down), nn.LayerList(up)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(x, self.img_ch, self.multiple)
        maps = []
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        x = self.up[-1](maps.pop())
        for layer in reversed(self.up[:-1]):
            skipped = maps.pop()
            x = layer(paddle.concat([skipped, x], 1) if self.skip else x)
        return x


class PatchGAN(nn.Layer):
    """Pix2Pix's discriminator (appendix 6.1.2), CycleGAN's too: one logit for each overlapping patch.

    Args:
        img_ch: channels of what it judges.
        ch: width of the first layer; the others double up to 8 * ch.
        n_layers: 0 looks at single pixels, 1 at patches of 16x16, 3 at 70x70, 5 at 286x286.
        norm: batch, instance or none.

    Shape:
        x (N, img_ch, H, W); returns (N, 1, h, w), where h = H for n_layers = 0, else H / 2**n_layers - 2.

    Raises:
        ValueError: the image has another number of channels.
    """

    def __init__(self, img_ch: int = 3, ch: int = 64, n_layers: int = 3, norm: str = "instance") -> None:
        super().__init__()
        self.img_ch = img_ch
        bias = norm != "batch"
        if n_layers == 0:
            model = [Conv2D(img_ch, ch, 1, bias=True), nn.LeakyReLU(0.2)]
            model += [Conv2D(ch, 2 * ch, 1, bias=bias), norm_layer(norm, 2 * ch), nn.LeakyReLU(0.2)]
            model += [Conv2D(2 * ch, 1, 1, bias=bias)]
        else:
            widths = [ch * min(8, 2**level) for level in range(n_layers + 1)]
            model = [Conv2D(img_ch, ch, 4, stride=2, pad=1, bias=True, zeros=True), nn.LeakyReLU(0.2)]
            for level in range(1, n_layers + 1):
                stride = 2 if level < n_layers else 1
                model += [Conv2D(widths[level - 1], widths[level], 4, stride, pad=1, bias=bias, zeros=True)]
                model += [norm_layer(norm, widths[level]), nn.LeakyReLU(0.2)]
            model += [Conv2D(widths[-1], 1, 4, pad=1, bias=True, zeros=True)]
        self.model = nn.Sequential(*model)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(x, self.img_ch)
        return self.model(x)


def both_passes(network: nn.Layer, first: Tensor, second: Tensor, norm: str) -> List[Tensor]:
    """The network's outputs for two batches of equal size: in one pass, unless batch norm would mix their statistics."""
    if norm == "batch":
        return [network(first), network(second)]
    return network(paddle.concat([first, second])).chunk(2)
