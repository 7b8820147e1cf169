"""The networks of U-GAT-IT (arXiv:1907.10830), as in the authors' PyTorch code, layer by layer.

Every layer starts from PyTorch's default initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), which the papers' results rest on.
"""

from __future__ import annotations

import math
from typing import Optional, Sequence, Tuple

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.nn.initializer import Constant, Uniform

import ops


def _uniform(layer: nn.Layer, shape: Sequence[int], fan_in: int, is_bias: bool = False) -> Tensor:
    bound = 1 / math.sqrt(fan_in)
    return layer.create_parameter(list(shape), is_bias=is_bias, default_initializer=Uniform(-bound, bound))


class Conv2D(nn.Layer):
    """Reflect-padded convolution.

    Shape:
        x (N, in_channels, H, W); returns (N, out_channels, (H + 2 pad - kernel) // stride + 1, ...).

    Raises:
        ValueError: the map is not larger than the pad.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, pad: int = 0, bias: bool = False
    ) -> None:
        super().__init__()
        fan_in = in_channels * kernel**2
        self.stride, self.pad = stride, pad
        self.weight = _uniform(self, [out_channels, in_channels, kernel, kernel], fan_in)
        self.bias = _uniform(self, [out_channels], fan_in, is_bias=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        x = ops.reflect_pad(x, self.pad) if self.pad else x
        return ops.conv2d(x, self.weight, self.bias, self.stride)


class Linear(nn.Layer):
    """x @ weight without bias. Shape: x (N, in_features), weight (in_features, out_features)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = _uniform(self, [in_features, out_features], in_features)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class InstanceNorm2D(nn.Layer):
    """Instance normalization without affine parameters or running statistics. Shape: (N, C, H, W) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.instance_norm(x)


# Normalization of U-GAT-IT


class AdaLIN(nn.Layer):
    r"""Adaptive layer-instance normalization (U-GAT-IT, section 2.1.1, equation 1).

    y = gamma * (rho * x_I + (1 - rho) * x_L) + beta, where x_I is x normalized over (H, W) and x_L over (C, H, W).
    rho near 1 keeps each channel's own statistics (content), near 0 mixes the channels (style).

    Args:
        channels: C, the number of feature maps.
        eps: added to both variances before the square root.

    Shape:
        x (N, C, H, W) with H * W > 1; gamma, beta (N, C); returns (N, C, H, W).

    Raises:
        ValueError: gamma or beta is not (N, C).

    Note:
        Variances divide by n - 1, as in the authors' PyTorch code. `clip_rho` keeps rho in [0, 1] after each generator step.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.rho = self.create_parameter([1, channels, 1, 1], default_initializer=Constant(0.9))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        if list(gamma.shape) != list(x.shape[:2]) or list(beta.shape) != list(x.shape[:2]):
            raise ValueError(f"gamma {gamma.shape} and beta {beta.shape} must both be (N, C) of x {x.shape}")
        return ops.adalin(x, self.rho, gamma, beta, self.eps)


class ILN(nn.Layer):
    """Layer-instance normalization (U-GAT-IT, section 2.1.1): AdaLIN with a gamma and beta of its own.

    Shape:
        x (N, C, H, W) with H * W > 1; returns the same. rho starts at 0: layer normalization alone.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.rho = self.create_parameter([1, channels, 1, 1], default_initializer=Constant(0.0))
        self.gamma = self.create_parameter([1, channels, 1, 1], default_initializer=Constant(1.0))
        self.beta = self.create_parameter([1, channels, 1, 1], default_initializer=Constant(0.0))

    def forward(self, x: Tensor) -> Tensor:
        per_image = list(x.shape[:2])
        gamma, beta = (value.flatten(1).expand(per_image) for value in (self.gamma, self.beta))
        return ops.adalin(x, self.rho, gamma, beta, self.eps)


def clip_rho(*networks: nn.Layer) -> None:
    """Clip every rho to [0, 1] in place (U-GAT-IT, section 2.1.1), as the authors do after each generator step."""
    with paddle.no_grad():
        for network in networks:
            for layer in network.sublayers():
                if isinstance(layer, (AdaLIN, ILN)):
                    layer.rho.clip_(0.0, 1.0)


# Spectral normalization


class _SpectralNorm(nn.Layer):
    """A weight divided by its largest singular value (arXiv:1802.05957, algorithm 1), one power iteration a training pass.

    `weight_u` (rows) and `weight_v` (columns) are the running singular vectors of the weight as a (rows, columns) matrix.
    """

    def _add_weight(self, shape: Sequence[int], rows: int, fan_in: int) -> None:
        self.weight_orig = _uniform(self, shape, fan_in)
        for name, size in (("weight_u", rows), ("weight_v", math.prod(shape) // rows)):
            self.register_buffer(name, _unit(paddle.randn([size], self.weight_orig.dtype)))

    def _sigma(self, matrix: Tensor) -> Tensor:
        """Largest singular value of `matrix` (rows, columns), differentiable in it.

        The products are written as those of matrices: Paddle's matrix-vector product takes 20 times as long backward.
        """
        if self.training:
            with paddle.no_grad():
                self._buffers["weight_v"] = _unit(paddle.matmul(self.weight_u.unsqueeze(0), matrix).flatten())
        product = paddle.matmul(matrix, self.weight_v.unsqueeze(1)).flatten()
        if self.training:
            self._buffers["weight_u"] = _unit(product.detach())
        return paddle.dot(self.weight_u, product)


def _unit(vector: Tensor) -> Tensor:
    return vector / paddle.clip(vector.square().sum().sqrt(), min=1e-12)


class SpectralNormConv2D(_SpectralNorm):
    """Reflect-padded convolution with a spectral-normalised weight; shapes as `Conv2D`.

    The output is divided instead of the weight: the same values, fewer passes over large weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, pad: int = 0, bias: bool = True
    ) -> None:
        super().__init__()
        fan_in = in_channels * kernel**2
        self.stride, self.pad = stride, pad
        self._add_weight([out_channels, in_channels, kernel, kernel], out_channels, fan_in)
        self.bias = _uniform(self, [out_channels], fan_in, is_bias=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        sigma = self._sigma(self.weight_orig.flatten(1))
        x = ops.reflect_pad(x, self.pad) if self.pad else x
        out = ops.conv2d(x, self.weight_orig, None, self.stride)
        maps = list(out.shape[:2])
        shift = paddle.zeros([1], out.dtype) if self.bias is None else self.bias
        return ops.scale_shift(out, (1 / sigma).expand(maps), shift.expand(maps))


class SpectralNormLinear(_SpectralNorm):
    """x @ weight / sigma without bias. Shape: x (N, in_features), weight_orig (in_features, out_features)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self._add_weight([in_features, out_features], out_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight_orig) / self._sigma(self.weight_orig.t())


# Class activation maps


class CAM(nn.Layer):
    """Class activation map of a U-GAT-IT network (section 2.1.1): an auxiliary classifier whose weights attend to channels.

    Two bias-free classifiers look at the average- and at the max-pooled features. Their weights multiply the feature maps, and a
    1x1 convolution joins the two products.

    Args:
        channels: C.
        activation: what follows the 1x1 convolution.
        spectral: spectral-normalise both classifiers. The features are multiplied by the raw weights, as the authors do.

    Shape:
        x (N, C, H, W); returns features (N, C, H, W), cam_logit (N, 2) and heatmap (N, 1, H, W).
    """

    def __init__(self, channels: int, activation: nn.Layer, spectral: bool = False) -> None:
        super().__init__()
        linear = SpectralNormLinear if spectral else Linear
        self.gap_fc = linear(channels, 1)
        self.gmp_fc = linear(channels, 1)
        self.conv1x1 = Conv2D(2 * channels, channels, 1, bias=True)
        self.activation = activation

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        gap_logit = self.gap_fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        gmp_logit = self.gmp_fc(ops.global_max_pool(x))
        cam_logit = paddle.concat([gap_logit, gmp_logit], 1)
        gap_weight, gmp_weight = (_raw_weight(fc).flatten() for fc in (self.gap_fc, self.gmp_fc))
        x = self.activation(ops.weighted_conv1x1(x, gap_weight, gmp_weight, self.conv1x1.weight, self.conv1x1.bias))
        return x, cam_logit, x.sum(1, keepdim=True)


def _raw_weight(linear: nn.Layer) -> Tensor:
    return linear.weight_orig if isinstance(linear, SpectralNormLinear) else linear.weight


# Generator


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
    """The residual block with AdaLIN, styled by gamma and beta (N, C). Shape: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv2D(channels, channels, 3, pad=1)
        self.norm1 = AdaLIN(channels)
        self.conv2 = Conv2D(channels, channels, 3, pad=1)
        self.norm2 = AdaLIN(channels)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x), gamma, beta))
        return x + self.norm2(self.conv2(out), gamma, beta)


class UpsampleConv2D(nn.Layer):
    """Nearest x2, reflect pad of 1, 3x3 convolution. Shape: (N, in_channels, H, W) to (N, out_channels, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = _uniform(self, [out_channels, in_channels, 3, 3], in_channels * 9)

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample_conv2d(x, self.weight)


class ResnetGenerator(nn.Layer):
    """U-GAT-IT's generator (section 2.1.1, figure 1; table 4): encoder, CAM, and a decoder styled through AdaLIN.

    Args:
        img_ch: channels of the images.
        ch: width of the first layer.
        n_res: residual blocks before and after the CAM.
        img_size: image side. The full version's MLP has one weight for each feature, so it takes no other size.
        light: pool the features before the MLP (the authors' light version).

    Shape:
        x (N, img_ch, img_size, img_size) in [-1, 1]; returns the image (the same shape and range), cam_logit (N, 2) and
        heatmap (N, 1, img_size / 4, img_size / 4).

    Raises:
        ValueError: the image has another shape than the network was built for.
    """

    def __init__(self, img_ch: int = 3, ch: int = 64, n_res: int = 4, img_size: int = 256, light: bool = False) -> None:
        super().__init__()
        self.img_ch, self.img_size, self.light = img_ch, img_size, light
        width = 4 * ch
        down = [Conv2D(img_ch, ch, 7, pad=3), InstanceNorm2D(), nn.ReLU()]
        down += [Conv2D(ch, 2 * ch, 3, stride=2, pad=1), InstanceNorm2D(), nn.ReLU()]
        down += [Conv2D(2 * ch, width, 3, stride=2, pad=1), InstanceNorm2D(), nn.ReLU()]
        down += [ResnetBlock(width) for _ in range(n_res)]
        self.DownBlock = nn.Sequential(*down)

        self.cam = CAM(width, nn.ReLU())

        features = width if light else width * (img_size // 4) ** 2
        self.FC = nn.Sequential(Linear(features, width), nn.ReLU(), Linear(width, width), nn.ReLU())
        self.gamma = Linear(width, width)
        self.beta = Linear(width, width)

        self.UpBlock1 = nn.LayerList([ResnetAdaLINBlock(width) for _ in range(n_res)])
        up = [UpsampleConv2D(width, 2 * ch), ILN(2 * ch), nn.ReLU()]
        up += [UpsampleConv2D(2 * ch, ch), ILN(ch), nn.ReLU()]
        up += [Conv2D(ch, img_ch, 7, pad=3), nn.Tanh()]
        self.UpBlock2 = nn.Sequential(*up)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        _check_images(x, self.img_ch, multiple=4, side=None if self.light else self.img_size)
        x = self.DownBlock(x)
        x, cam_logit, heatmap = self.cam(x)
        style = self.FC(F.adaptive_avg_pool2d(x, 1).flatten(1) if self.light else x.flatten(1))
        gamma, beta = self.gamma(style), self.beta(style)
        for block in self.UpBlock1:
            x = block(x, gamma, beta)
        return self.UpBlock2(x), cam_logit, heatmap


def _check_images(x: Tensor, channels: int, multiple: int = 1, side: Optional[int] = None) -> None:
    expected = f"(N, {channels}, {side}, {side})" if side else f"(N, {channels}, H, W) with H and W multiples of {multiple}"
    wrong = x.ndim != 4 or x.shape[1] != channels or any(length % multiple for length in x.shape[2:])
    if wrong or (side and list(x.shape[2:]) != [side, side]):
        raise ValueError(f"images must be {expected}, not {list(x.shape)}")


# Discriminators


class Discriminator(nn.Layer):
    """U-GAT-IT's discriminator (section 2.1.2; table 5): global with 7 layers, local with 5.

    Args:
        img_ch: channels of the images.
        ch: width of the first layer.
        n_layers: layers in the authors' count: n_layers - 2 of stride 2, one of stride 1, the one that gives the logits.

    Shape:
        x (N, img_ch, H, W) in [-1, 1], sides at least 3 * 2**(n_layers - 2); returns logit (N, 1, h, w), cam_logit (N, 2) and
        heatmap (N, 1, h + 1, w + 1), where h = H / 2**(n_layers - 2) - 2.
    """

    def __init__(self, img_ch: int = 3, ch: int = 64, n_layers: int = 7) -> None:
        super().__init__()
        self.img_ch = img_ch
        model = [SpectralNormConv2D(img_ch, ch, 4, stride=2, pad=1), nn.LeakyReLU(0.2)]
        for _ in range(n_layers - 3):
            model += [SpectralNormConv2D(ch, 2 * ch, 4, stride=2, pad=1), nn.LeakyReLU(0.2)]
            ch *= 2
        model += [SpectralNormConv2D(ch, 2 * ch, 4, pad=1), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*model)
        self.cam = CAM(2 * ch, nn.LeakyReLU(0.2), spectral=True)
        self.conv = SpectralNormConv2D(2 * ch, 1, 4, pad=1, bias=False)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        _check_images(x, self.img_ch)
        x, cam_logit, heatmap = self.cam(self.model(x))
        return self.conv(x), cam_logit, heatmap
