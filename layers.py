"""The layers that the networks are made of: convolutions, normalizations, spectral normalization."""

from __future__ import annotations

import math
from typing import Optional, Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.nn.initializer import Constant, Uniform

import ops


def _uniform(layer: nn.Layer, shape: Sequence[int], fan_in: int, is_bias: bool = False) -> Tensor:
    bound = 1 / math.sqrt(fan_in)
    return layer.create_parameter(list(shape), is_bias=is_bias, default_initializer=Uniform(-bound, bound))


class Conv2D(nn.Layer):
    """Convolution with reflect padding, or zero padding (`zeros`).

    Shape:
        x (N, in_channels, H, W); returns (N, out_channels, (H + 2 pad - kernel) // stride + 1, ...).

    Raises:
        ValueError: the map is not larger than the reflect pad.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        bias: bool = False,
        zeros: bool = False,
    ) -> None:
        super().__init__()
        fan_in = in_channels * kernel**2
        self.stride, self.pad, self.zeros = stride, pad, zeros
        self.weight = _uniform(self, [out_channels, in_channels, kernel, kernel], fan_in)
        self.bias = _uniform(self, [out_channels], fan_in, is_bias=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.pad, reflect=not self.zeros)


class TransposedConv2D(nn.Layer):
    """Transposed convolution of stride 2 that doubles the map: 3x3 with output padding 1, or 4x4.

    Shape:
        x (N, in_channels, H, W), weight (in_channels, out_channels, k, k); returns (N, out_channels, 2H, 2W).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool = False) -> None:
        super().__init__()
        fan_in = out_channels * kernel**2
        self.output_padding = kernel % 2
        self.weight = _uniform(self, [in_channels, out_channels, kernel, kernel], fan_in)
        self.bias = _uniform(self, [out_channels], fan_in, is_bias=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d_transpose(x, self.weight, self.bias, self.output_padding)


class UpsampleConv2D(nn.Layer):
    """Nearest x2, reflect pad of 1, 3x3 convolution. Shape: (N, in_channels, H, W) to (N, out_channels, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = _uniform(self, [out_channels, in_channels, 3, 3], in_channels * 9)
        self.bias = _uniform(self, [out_channels], in_channels * 9, is_bias=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample_conv2d(x, self.weight, self.bias)


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


class BatchNorm2D(nn.Layer):
    """Batch normalization. Shape: (N, C, H, W) to the same.

    In training it uses the batch's statistics and keeps running ones, whose variance divides by n - 1 as in PyTorch. In evaluation
    it uses those of each image by itself (`own_statistics_in_evaluation`, as Pix2Pix does at test time with batches of one image,
    section 3.4) or the running ones.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.own_statistics_in_evaluation = False
        self.weight = self.create_parameter([channels], default_initializer=Constant(1.0))
        self.bias = self.create_parameter([channels], default_initializer=Constant(0.0), is_bias=True)
        self.register_buffer("running_mean", paddle.zeros([channels], self.weight.dtype))
        self.register_buffer("running_var", paddle.ones([channels], self.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.own_statistics_in_evaluation:
            return ops.group_norm(x, self.weight, self.bias, x.shape[1], self.eps)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, epsilon=self.eps)
        out, mean, variance = ops.batch_norm(x, self.weight, self.bias, self.eps)
        values = x.size // x.shape[1]
        unbiased = variance * (values / max(1, values - 1))
        for name, now in (("running_mean", mean), ("running_var", unbiased)):
            self._buffers[name] = self._buffers[name] * (1 - self.momentum) + now * self.momentum
        return out


class Dropout(nn.Layer):
    """Dropout of half the values, in training and, with `active_in_evaluation` (Pix2Pix, section 3.4), in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.active_in_evaluation = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.dropout(x, 0.5, training=self.active_in_evaluation)
        return x * ops.draw_share(lambda shape: F.dropout(paddle.ones(shape, x.dtype), 0.5), x.shape)


def norm_layer(kind: str, channels: int) -> nn.Layer:
    """The normalization that `--norm` names: batch, instance or none."""
    if kind == "batch":
        return BatchNorm2D(channels)
    return InstanceNorm2D() if kind == "instance" else nn.Identity()


def init_weights(network: nn.Layer, init_type: str, gain: float) -> None:
    """Initialise convolutions in place, with biases 0 and the scales of batch norm at N(1, gain).

    normal is N(0, gain); xavier, kaiming (which takes no gain) and orthogonal are PyTorch's normal variants.
    """
    for layer in network.sublayers(include_self=True):
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if weight is None or not weight._is_initialized():  # in a paddle.LazyGuard weights have shapes alone
            continue
        if isinstance(layer, BatchNorm2D):
            weight.set_value(1 + gain * paddle.randn(weight.shape, weight.dtype))
        else:
            weight.set_value(_initial(weight, init_type, gain))
        if bias is not None:
            bias.set_value(paddle.zeros_like(bias))


def _initial(weight: Tensor, init_type: str, gain: float) -> Tensor:
    noise = paddle.randn(weight.shape, weight.dtype)
    receptive_field = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * receptive_field, weight.shape[0] * receptive_field
    if init_type == "normal":
        return gain * noise
    if init_type == "xavier":
        return gain * math.sqrt(2 / (fan_in + fan_out)) * noise
    if init_type == "kaiming":
        return math.sqrt(2 / fan_in) * noise
    # Orthogonal: rows (or columns, whichever are fewer) of unit length, at right angles to each other.
    matrix = noise.flatten(1)
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = paddle.linalg.qr(matrix.t() if wide else matrix)
    q = q * paddle.sign(paddle.diag(r))
    return gain * (q.t() if wide else q).reshape(weight.shape)


# Normalization of U-GAT-IT


class AdaLIN(nn.Layer):
    r"""Adaptive layer-instance normalization (U-GAT-IT, section 2.1.1, equation 1).

    y = gamma * (rho * x_I + (1 - rho) * x_L) + beta, where x_I is x normalized over (H, W) and x_L over (C, H, W).
    rho near 1 keeps each channel's own statistics (content), near 0 mixes the channels (style).

    Args:
        channels: C, the number of feature maps.
        eps: added to both variances before the square root.
        learn_rho: False fixes rho at 1, which leaves adaptive instance normalization (the paper's AdaIN ablation).

    Shape:
        x (N, C, H, W) with H * W > 1; gamma, beta (N, C); returns (N, C, H, W).

    Raises:
        ValueError: gamma or beta is not (N, C).

    Note:
        Variances divide by n - 1, as in the authors' PyTorch code. `clip_rho` keeps rho in [0, 1] after each generator step.
    """

    def __init__(self, channels: int, eps: float = 1e-5, learn_rho: bool = True) -> None:
        super().__init__()
        self.eps = eps
        _add_rho(self, channels, 0.9 if learn_rho else None)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        # While a static graph is made, sizes are unknown.
        if paddle.in_dynamic_mode() and not list(gamma.shape) == list(beta.shape) == list(x.shape[:2]):
            raise ValueError(f"gamma {gamma.shape} and beta {beta.shape} must both be (N, C) of x {x.shape}")
        return ops.adalin(x, self.rho, gamma, beta, self.eps)


class ILN(nn.Layer):
    """Layer-instance normalization (U-GAT-IT, section 2.1.1): AdaLIN with a gamma and beta of its own.

    Shape:
        x (N, C, H, W) with H * W > 1; returns the same. rho starts at 0, layer normalization alone, or is fixed at 1.
    """

    def __init__(self, channels: int, eps: float = 1e-5, learn_rho: bool = True) -> None:
        super().__init__()
        self.eps = eps
        _add_rho(self, channels, 0.0 if learn_rho else None)
        self.gamma = self.create_parameter([1, channels, 1, 1], default_initializer=Constant(1.0))
        self.beta = self.create_parameter([1, channels, 1, 1], default_initializer=Constant(0.0))

    def forward(self, x: Tensor) -> Tensor:
        per_image = list(x.shape[:2])
        gamma, beta = (value.flatten(1).expand(per_image) for value in (self.gamma, self.beta))
        return ops.adalin(x, self.rho, gamma, beta, self.eps)


def _add_rho(layer: nn.Layer, channels: int, start: Optional[float]) -> None:
    """A parameter that starts at `start`, or, for None, a constant 1 that no checkpoint holds."""
    if start is None:
        layer.register_buffer("rho", paddle.ones([1, channels, 1, 1]), persistable=False)
    else:
        layer.rho = layer.create_parameter([1, channels, 1, 1], default_initializer=Constant(start))


class GroupNorm(nn.Layer):
    """Group normalization (arXiv:1803.08494) with its own scale and shift of each channel.

    As many groups as channels are instance normalization, one is layer normalization: the other decoders of U-GAT-IT's table 1.

    Shape:
        (N, channels, H, W) to the same; channels a multiple of groups.
    """

    def __init__(self, channels: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = self.create_parameter([channels], default_initializer=Constant(1.0))
        self.bias = self.create_parameter([channels], default_initializer=Constant(0.0), is_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.weight, self.bias, self.groups, self.eps)


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

    @paddle.amp.auto_cast(False)
    def _right_vector(self, matrix: Tensor) -> Tensor:
        """v, after half a power iteration in training. The caller gives `matrix` @ v to `_sigma`. Under --amp all in float32."""
        if self.training:
            with paddle.no_grad():
                self._buffers["weight_v"] = _unit(paddle.matmul(self.weight_u.unsqueeze(0), matrix).flatten())
        return self.weight_v

    @paddle.amp.auto_cast(False)
    def _sigma(self, product: Tensor) -> Tensor:
        """The largest singular value, differentiable in the weight through `product`."""
        if self.training:
            self._buffers["weight_u"] = _unit(product.detach())
        return paddle.dot(self.weight_u, product)


def _unit(vector: Tensor) -> Tensor:
    return vector / paddle.clip(vector.square().sum().sqrt(), min=1e-12)


class SpectralNormConv2D(_SpectralNorm):
    """Reflect-padded convolution with a spectral-normalised weight; shapes as `Conv2D`.

    The output is divided instead of the weight: the same values, fewer passes over large weights.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, pad: int = 0, bias: bool = True) -> None:
        super().__init__()
        fan_in = in_channels * kernel**2
        self.stride, self.pad = stride, pad
        self._add_weight([out_channels, in_channels, kernel, kernel], out_channels, fan_in)
        self.bias = _uniform(self, [out_channels], fan_in, is_bias=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        vector = self._right_vector(self.weight_orig.flatten(1))
        out, product = ops.conv2d_and_product(x, self.weight_orig, vector, self.stride, self.pad)
        sigma, maps = self._sigma(product), list(out.shape[:2])
        shift = paddle.zeros([1], out.dtype) if self.bias is None else self.bias
        return ops.scale_shift(out, (1 / sigma).expand(maps), shift.expand(maps))


class SpectralNormLinear(_SpectralNorm):
    """x @ weight / sigma without bias. Shape: x (N, in_features), weight_orig (in_features, out_features)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self._add_weight([in_features, out_features], out_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.weight_orig.t()
        product = ops.matrix_vector_product(matrix, self._right_vector(matrix))
        return F.linear(x, self.weight_orig) / self._sigma(product)
