"""Operations in two forms that give the same values and gradients: the plain one, as the papers write it, and one that Paddle
runs fast on a CPU.

`use` chooses between them for every operation at once: the plain form on a GPU, the fast one on a CPU. `PLAIN` names the pairs;
tests/test_ops.py holds them equal, and parity with the authors' code is tested in both.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.autograd import PyLayer

import onednn
import winograd

# Up to this many output pixels the weights outweigh the maps, and one product over the whole batch reads them once.
SMALL_MAP_PIXELS = 16

# With fewer output channels Paddle's own convolution, or its transposed one, is fastest.
FEW_CHANNELS = 8
# Above this many times the size of the maps, weights are left in float32.
MOST_WEIGHTS_IN_BFLOAT16 = 16

FORMS = ("plain", "fast")
PLAIN: Dict[Callable, Callable] = {}
CONVOLUTION_TYPES = ("float32", "bfloat16")
_form = "fast"
_convolution_type = "float32"
_second_derivatives = False
# Of the processes that share a batch, which this is, and how many they are.
_rank, _processes = 0, 1


def share_batches(rank: int, processes: int) -> None:
    """From now on every batch is this process's share of a larger one, of which others have the rest."""
    global _rank, _processes
    _rank, _processes = rank, processes


def draw_share(draw: Callable[[List[int]], Tensor], shape: List[int]) -> Tensor:
    """Random numbers for this process's share (N, ...) of a batch: `draw(shape)` draws those of all, the same in every process."""
    samples = shape[0]
    return draw([_processes * samples, *shape[1:]])[_rank * samples : (_rank + 1) * samples]


def use(form: str) -> None:
    """Compute every operation in this form, "plain" or "fast", from now on. Raises ValueError for any other word."""
    global _form
    if form not in FORMS:
        raise ValueError(f"the forms of an operation are {' and '.join(FORMS)}, not {form!r}")
    _form = form


@contextlib.contextmanager
def using(form: str) -> Iterator[None]:
    """Within it operations are computed in this form."""
    previous = _form
    use(form)
    try:
        yield
    finally:
        use(previous)


def convolve_in(type_name: str) -> None:
    """Compute the fast form's convolutions of float32 maps in this type, "float32" or "bfloat16", from now on.

    Double precision stays as it is. Raises ValueError for any other word.
    """
    global _convolution_type
    if type_name not in CONVOLUTION_TYPES:
        raise ValueError(f"convolutions are computed in {' or '.join(CONVOLUTION_TYPES)}, not {type_name!r}")
    _convolution_type = type_name


@contextlib.contextmanager
def convolving_in(type_name: str) -> Iterator[None]:
    """Within it convolutions are computed in this type."""
    previous = _convolution_type
    convolve_in(type_name)
    try:
        yield
    finally:
        convolve_in(previous)


def _in_bfloat16(x: Tensor) -> bool:
    return _convolution_type == "bfloat16" and x.dtype == paddle.float32 and not _second_derivatives


def fast_form_of(plain: Callable) -> Callable[[Callable], Callable]:
    """Decorate the fast form of `plain`: a call runs the form that is in use."""

    def pair(fast: Callable) -> Callable:
        @functools.wraps(fast)
        def operation(*arguments, **options):
            return (plain if _form == "plain" else fast)(*arguments, **options)

        PLAIN[operation] = plain
        return operation

    return pair


@contextlib.contextmanager
def second_derivatives() -> Iterator[None]:
    """Within it convolutions and pads take the plain form, the only one that Paddle differentiates twice, in the maps' own type.

    The other operations cannot be differentiated twice.
    """
    global _second_derivatives
    previous, _second_derivatives = _second_derivatives, True
    try:
        yield
    finally:
        _second_derivatives = previous


# Reflect padding


def plain_reflect_pad(x: Tensor, pad: int) -> Tensor:
    """Mirror `pad` pixels at each border, the border itself not repeated. x (N, C, H, W); raises as `reflect_pad`."""
    _check_pad(x, pad)
    return F.pad(x, [pad] * 4, mode="reflect")


@fast_form_of(plain_reflect_pad)
def reflect_pad(x: Tensor, pad: int) -> Tensor:
    """`plain_reflect_pad`; raises ValueError where the map is not larger than the pad."""
    _check_pad(x, pad)
    return plain_reflect_pad(x, pad) if _second_derivatives else _MirrorPad.apply(x, pad, 1)


class _MirrorPad(PyLayer):
    """With NumPy, which copies and adds mirrored borders in place, where Paddle makes a map for each slice and its gradient.

    `skip` is 1 for a reflect pad and 0 for one that repeats the border itself.
    """

    @staticmethod
    def forward(ctx, x: Tensor, pad: int, skip: int) -> Tensor:
        ctx.pad, ctx.skip = pad, skip
        batch, channels, height, width = x.shape
        out = paddle.empty([batch, channels, height + 2 * pad, width + 2 * pad], x.dtype)
        inner, padded = _array(x.contiguous()), _array(out)
        rows = padded[:, :, pad:-pad]
        rows[..., pad:-pad] = inner
        rows[..., :pad], rows[..., -pad:] = (side[..., ::-1] for side in _borders(inner, pad, skip))
        top, bottom = _borders(rows.swapaxes(2, 3), pad, skip)
        padded[:, :, :pad], padded[:, :, -pad:] = (side[..., ::-1].swapaxes(2, 3) for side in (top, bottom))
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        pad, skip = ctx.pad, ctx.skip
        batch, channels, height, width = gradient.shape
        out = paddle.empty([batch, channels, height - 2 * pad, width - 2 * pad], gradient.dtype)
        padded, inner = _array(gradient.contiguous()), _array(out)
        rows = padded[:, :, pad:-pad].copy()
        top, bottom = _borders(rows.swapaxes(2, 3), pad, skip)
        top += padded[:, :, :pad].swapaxes(2, 3)[..., ::-1]
        bottom += padded[:, :, -pad:].swapaxes(2, 3)[..., ::-1]
        inner[...] = rows[..., pad:-pad]
        left, right = _borders(inner, pad, skip)
        left += rows[..., :pad][..., ::-1]
        right += rows[..., -pad:][..., ::-1]
        return out


def _borders(maps: np.ndarray, pad: int, skip: int) -> Tuple[np.ndarray, np.ndarray]:
    """The first and the last `pad` columns of maps (N, C, H, W), without the outermost `skip`."""
    width = maps.shape[-1]
    return maps[..., skip : skip + pad], maps[..., width - skip - pad : width - skip]


def _array(x: Tensor) -> np.ndarray:
    """The memory of a contiguous CPU tensor, as an array that must not outlive it."""
    if not x.place.is_cpu_place():
        raise ValueError(f"the fast form is for the CPU, and this tensor is on {x.place}: ops.use('plain')")
    element = {paddle.float32: ctypes.c_float, paddle.float64: ctypes.c_double}[x.dtype]
    return np.ctypeslib.as_array(ctypes.cast(x.data_ptr(), ctypes.POINTER(element)), tuple(x.shape))


def _check_pad(x: Tensor, pad: int) -> None:
    height, width = x.shape[2:]
    # While a static graph is made, sizes are unknown.
    if paddle.in_dynamic_mode() and min(height, width) <= pad:
        raise ValueError(f"a reflect pad of {pad} needs a larger map than {height}x{width}")


# Convolution


def plain_conv2d(
    x: Tensor, weight: Tensor, bias: Optional[Tensor] = None, stride: int = 1, padding: int = 0, reflect: bool = False
) -> Tensor:
    """Convolution with reflect or zero padding. x (N, C, H, W), weight (out, C, k, k), bias (out).

    Raises ValueError where the map is not larger than the reflect pad.
    """
    if reflect and padding:
        x, padding = plain_reflect_pad(x, padding), 0
    return F.conv2d(x, weight, bias, stride=stride, padding=padding)


@fast_form_of(plain_conv2d)
def conv2d(
    x: Tensor, weight: Tensor, bias: Optional[Tensor] = None, stride: int = 1, padding: int = 0, reflect: bool = False
) -> Tensor:
    """`plain_conv2d`, formulated by the sizes."""
    return _add_bias(_conv2d(x, weight, stride, padding, reflect), bias)


def _conv2d(x: Tensor, weight: Tensor, stride: int, padding: int, reflect: bool) -> Tensor:
    if _second_derivatives:
        return plain_conv2d(x, weight, None, stride, padding, reflect)
    in_bfloat16 = _in_bfloat16(x) and _suits_bfloat16(x, weight, out_channels=weight.shape[0])
    if not in_bfloat16 and stride == 1 and winograd.suits(x, weight, padding):
        if reflect:
            _check_pad(x, padding)
        return winograd.conv2d(x, weight, padding, reflect)
    if reflect and padding:
        x, padding = reflect_pad(x, padding), 0
    if in_bfloat16:
        return _bf16_convolution(x, weight, stride, padding)
    if _suits_onednn(x, weight, out_channels=weight.shape[0]):
        return onednn.conv2d(x, weight, stride, padding)
    return _column_conv2d(x, weight, stride, padding)


def _suits_onednn(x: Tensor, weight: Tensor, out_channels: int) -> bool:
    """Whether oneDNN's own convolution is faster: not with few output channels, and not where the maps do not outweigh the weights,
    which it brings into a layout of its own every time."""
    suitable = out_channels >= FEW_CHANNELS and x.size >= weight.size
    return suitable and x.dtype == weight.dtype == paddle.float32 and onednn.available()


def _suits_bfloat16(x: Tensor, weight: Tensor, out_channels: int) -> bool:
    """Whether bfloat16 makes up for bringing the weights into another layout and type every time."""
    return out_channels >= FEW_CHANNELS and x.size * MOST_WEIGHTS_IN_BFLOAT16 >= weight.size


def _column_conv2d(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Through Paddle's CPU convolution, which writes a column buffer of in*k*k rows and multiplies it image by image.

    A transposed convolution buffers out*k*k rows, which is less where the output has few channels; on tiny maps one product serves
    the whole batch.
    """
    batch, channels = x.shape[:2]
    out_channels, _, kernel, _ = weight.shape
    sides = _output_sides(x, kernel, stride, padding)
    tiny = math.prod(sides) <= SMALL_MAP_PIXELS
    if batch > 1 and tiny:
        return _as_maps(paddle.matmul(weight.flatten(1), _patches(x, kernel, stride, padding)), batch, sides)
    if stride == 1 and kernel > 1 and out_channels < channels and not tiny:
        flipped = weight.transpose([1, 0, 2, 3]).flip([2, 3])
        return F.conv2d_transpose(x, flipped, padding=kernel - 1 - padding)
    return F.conv2d(x, weight, stride=stride, padding=padding)


def _output_sides(x: Tensor, kernel: int, stride: int, padding: int) -> List[int]:
    """Height and width of a convolution's output."""
    return [(side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:]]


def _as_maps(columns: Tensor, batch: int, sides: List[int]) -> Tensor:
    """What a product with `_patches` gives, (out, N * places), as maps (N, out, H', W')."""
    return columns.reshape([columns.shape[0], batch, *sides]).transpose([1, 0, 2, 3])


def _patches(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """What the kernel sees at each place of each image, as columns (C * k * k, N * places)."""
    return F.unfold(x, kernel, stride, padding).transpose([1, 0, 2]).reshape([x.shape[1] * kernel**2, -1])


def plain_conv2d_and_product(x: Tensor, weight: Tensor, vector: Tensor, stride: int = 1, padding: int = 0) -> Tuple[Tensor, Tensor]:
    """Reflect-padded convolution, and the product of the weight as a matrix (out, C * k * k) with a vector (C * k * k).

    x (N, C, H, W), weight (out, C, k, k); returns (N, out, H', W') and (out). Under --amp the product stays in the weight's type.
    """
    return plain_conv2d(x, weight, None, stride, padding, reflect=True), matrix_vector_product(weight.flatten(1), vector)


@paddle.amp.auto_cast(False)
def matrix_vector_product(matrix: Tensor, vector: Tensor) -> Tensor:
    """Written as one of matrices: Paddle's own takes 20 times as long backward. (rows, columns), (columns) to (rows)."""
    return paddle.matmul(matrix, vector.unsqueeze(1)).flatten()


@fast_form_of(plain_conv2d_and_product)
def conv2d_and_product(x: Tensor, weight: Tensor, vector: Tensor, stride: int = 1, padding: int = 0) -> Tuple[Tensor, Tensor]:
    """`plain_conv2d_and_product`. On tiny maps the vector is one more column, so the large weight is read once, and its gradient
    is written once."""
    kernel = weight.shape[2]
    sides = _output_sides(x, kernel, stride, padding)
    if math.prod(sides) > SMALL_MAP_PIXELS:
        return _conv2d(x, weight, stride, padding, reflect=True), matrix_vector_product(weight.flatten(1), vector)
    patches = _patches(reflect_pad(x, padding) if padding else x, kernel, stride, 0)
    out = paddle.matmul(weight.flatten(1), paddle.concat([patches, vector.unsqueeze(1)], 1))
    return _as_maps(out[:, :-1], x.shape[0], sides), out[:, -1]


def _add_bias(x: Tensor, bias: Optional[Tensor]) -> Tensor:
    """x + bias, channel by channel. Paddle's own broadcast addition takes as long as the convolution before it."""
    if bias is None:
        return x
    return scale_shift(x, paddle.ones(x.shape[:2], x.dtype), bias.expand(x.shape[:2]))


def plain_conv2d_transpose(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None, output_padding: int = 0) -> Tensor:
    """Transposed convolution of stride 2 and padding 1. x (N, C, H, W), weight (C, out, k, k), bias (out)."""
    return F.conv2d_transpose(x, weight, bias, stride=2, padding=1, output_padding=output_padding)


@fast_form_of(plain_conv2d_transpose)
def conv2d_transpose(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None, output_padding: int = 0) -> Tensor:
    """`plain_conv2d_transpose`, its bias added fast."""
    return _add_bias(_conv2d_transpose(x, weight, 1, output_padding), bias)


def _conv2d_transpose(x: Tensor, weight: Tensor, padding: int, output_padding: int) -> Tensor:
    if _in_bfloat16(x) and _suits_bfloat16(x, weight, out_channels=weight.shape[1]):
        return _bf16_transposed_convolution(x, weight, 2, padding, output_padding)
    if _suits_onednn(x, weight, out_channels=weight.shape[1]):
        return onednn.conv2d_transpose(x, weight, 2, padding, output_padding)
    return F.conv2d_transpose(x, weight, stride=2, padding=padding, output_padding=output_padding)


def plain_upsample_conv2d(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """Nearest x2, reflect pad of 1, 3x3 convolution. x (N, C, H, W), weight (out, C, 3, 3); returns (N, out, 2H, 2W)."""
    return F.conv2d(plain_reflect_pad(F.interpolate(x, scale_factor=2, mode="nearest"), 1), weight, bias)


@fast_form_of(plain_upsample_conv2d)
def upsample_conv2d(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """`plain_upsample_conv2d` as one 4x4 transposed convolution of stride 2 on the small map: 4/9 of the products.

    Each pixel of the doubled map stands for two rows and columns, so a 3x3 kernel on it is the (flipped) kernel smeared over
    4x4, and mirroring the doubled map by one pixel repeats the border of the small one.
    """
    return _add_bias(_conv2d_transpose(_MirrorPad.apply(x, 1, 0), smeared(weight), 3, 0), bias)


def smeared(weight: Tensor) -> Tensor:
    """The kernel (C, out, 4, 4) of `upsample_conv2d`'s transposed convolution, from weight (out, C, 3, 3)."""
    smear = _smear(weight.dtype)
    return paddle.matmul(paddle.matmul(smear, weight), smear.t()).transpose([1, 0, 2, 3])


@functools.lru_cache(maxsize=None)
def _smear(dtype: paddle.dtype) -> Tensor:
    """The (4, 3) matrix that flips three taps and lets each reach two pixels of the doubled map."""
    return paddle.to_tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype)


# Convolution in bfloat16
#
# Inputs, weights and results have the 8 significant bits of bfloat16, in float32 tensors; products are added in float32. Backward
# the same holds of the gradients of results and inputs; those of the weights are float32.


def _bf16_convolution(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    if onednn.has_bfloat16():
        return onednn.conv2d(x, weight, stride, padding, bfloat16=True)
    x, weight = _Rounded.apply(x), _Rounded.apply(weight, round_gradient=False)
    return _Rounded.apply(F.conv2d(x, weight, stride=stride, padding=padding))


def _bf16_transposed_convolution(x: Tensor, weight: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    if onednn.has_bfloat16():
        return onednn.conv2d_transpose(x, weight, stride, padding, output_padding, bfloat16=True)
    x, weight = _Rounded.apply(x), _Rounded.apply(weight, round_gradient=False)
    return _Rounded.apply(F.conv2d_transpose(x, weight, stride=stride, padding=padding, output_padding=output_padding))


class _Rounded(PyLayer):
    """x rounded to bfloat16 (to nearest, ties to even), in float32; its gradient too, unless `round_gradient` is False."""

    @staticmethod
    def forward(ctx, x: Tensor, round_gradient: bool = True) -> Tensor:
        ctx.round_gradient = round_gradient
        return _round(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _round(gradient) if ctx.round_gradient else gradient


def _round(x: Tensor) -> Tensor:
    return x.astype("bfloat16").astype("float32")


# Normalization


def plain_instance_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """x (N, C, H, W) normalized over (H, W), with the variance over n."""
    return F.instance_norm(x, eps=eps)


@fast_form_of(plain_instance_norm)
def instance_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """`plain_instance_norm` through the batch-norm kernel, with every map of every image as a channel of its own."""
    batch, channels, height, width = x.shape
    maps = batch * channels
    # The kernel also updates running statistics, which are not used.
    unread = paddle.zeros([2, maps], x.dtype)
    out = F.batch_norm(x.reshape([1, maps, height, width]), unread[0], unread[1], training=True, epsilon=eps)
    return out.reshape([batch, channels, height, width])


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tuple[Tensor, Tensor, Tensor]:
    """x normalized over (N, H, W), scaled and shifted; also its mean and variance (over n), without a gradient.

    x (N, C, H, W); weight, bias (C); returns (N, C, H, W) and two (C). Momentum 0 makes the running statistics the batch's own.
    """
    mean, variance = paddle.zeros_like(weight).detach(), paddle.ones_like(weight).detach()
    out = F.batch_norm(x, mean, variance, weight, bias, training=True, momentum=0.0, epsilon=eps)
    return out, mean, variance


def plain_moments(x: Tensor) -> Tuple[Tensor, Tensor]:
    """Mean and variance (over n) of each map. x (N, C, H, W); returns two (N, C)."""
    return x.mean([2, 3]), x.var([2, 3], unbiased=False)


class _Moments(PyLayer):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tuple[Tensor, Tensor]:
        batch, channels, height, width = x.shape
        flat = x.reshape([batch * channels, height * width])
        mean = flat.mean(-1, keepdim=True)
        variance = (flat - mean).square().mean(-1)
        ctx.save_for_backward(x, mean)
        return mean.reshape([batch, channels]), variance.reshape([batch, channels])

    @staticmethod
    def backward(ctx, mean_grad: Tensor, variance_grad: Tensor) -> Tensor:
        x, mean = ctx.saved_tensor()
        pixels = x.shape[2] * x.shape[3]
        slope = variance_grad * (2 / pixels)
        return scale_shift(x, slope, mean_grad / pixels - slope * mean.reshape(slope.shape))


@fast_form_of(plain_moments)
def moments(x: Tensor) -> Tuple[Tensor, Tensor]:
    """`plain_moments` with a gradient written as one scale and one shift of each map."""
    return _Moments.apply(x)


def plain_scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift, map by map. x (N, C, H, W); scale, shift (N, C)."""
    return x * scale.unsqueeze([2, 3]) + shift.unsqueeze([2, 3])


@fast_form_of(plain_scale_shift)
def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`plain_scale_shift` through the batch-norm kernel in inference mode, with mean 0 and variance 1."""
    batch, channels, height, width = x.shape
    maps = batch * channels
    if scale.stop_gradient != shift.stop_gradient:
        scale, shift = _with_gradient(scale), _with_gradient(shift)
    out = F.batch_norm(
        x.reshape([1, maps, height, width]),
        paddle.zeros([maps], x.dtype),
        paddle.ones([maps], x.dtype),
        weight=scale.reshape([maps]),
        bias=shift.reshape([maps]),
        training=True,  # with global statistics as in inference; inference mode itself has no second derivative
        use_global_stats=True,
        epsilon=0.0,
    )
    return out.reshape([batch, channels, height, width])


def _with_gradient(x: Tensor) -> Tensor:
    """x, or a copy that takes a gradient that is not used: the batch-norm kernel gives both its gradients or fails."""
    if x.stop_gradient:
        x = x.detach()
        x.stop_gradient = False
    return x


def plain_adalin(x: Tensor, rho: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """U-GAT-IT, equation 1: gamma * (rho * x_I + (1 - rho) * x_L) + beta. x (N, C, H, W); rho (1, C, 1, 1); others (N, C)."""
    x_I = (x - x.mean([2, 3], keepdim=True)) / (x.var([2, 3], keepdim=True) + eps).sqrt()
    x_L = (x - _mean(x)) / (_variance(x) + eps).sqrt()
    return gamma.unsqueeze([2, 3]) * (rho * x_I + (1 - rho) * x_L) + beta.unsqueeze([2, 3])


def _mean(x: Tensor) -> Tensor:
    """Of each image, map by map: over millions of values at once Paddle's sums on a CPU are 0.4 % off. Returns (N, 1, 1, 1)."""
    return x.mean([2, 3], keepdim=True).mean(1, keepdim=True)


def _variance(x: Tensor) -> Tensor:
    """Of each image, over n - 1. Returns (N, 1, 1, 1)."""
    # While a static graph is made, sizes are unknown.
    sides = x.shape if paddle.in_dynamic_mode() else paddle.shape(x)
    values = sides[1] * sides[2] * sides[3]
    return _mean((x - _mean(x)).square()) * (values / (values - 1))


@fast_form_of(plain_adalin)
def adalin(x: Tensor, rho: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """`plain_adalin` as one scale and one shift of each map: both normalizations are affine in x, map by map."""
    channels, pixels = x.shape[1], x.shape[2] * x.shape[3]
    rho = rho.reshape([1, channels])
    mean_I, variance_I = moments(x)
    mean_L = mean_I.mean(1, keepdim=True)
    # Of all pixels of an image: the mean of the maps' variances plus the variance of their means.
    variance_L = variance_I.mean(1, keepdim=True) + (mean_I - mean_L).square().mean(1, keepdim=True)
    scale_I = rho * (variance_I * (pixels / (pixels - 1)) + eps).rsqrt()
    scale_L = (1 - rho) * (variance_L * (channels * pixels / (channels * pixels - 1)) + eps).rsqrt()
    return scale_shift(x, gamma * (scale_I + scale_L), beta - gamma * (scale_I * mean_I + scale_L * mean_L))


def plain_group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float = 1e-5) -> Tensor:
    """x normalized over the channels and pixels of each group, with the variance over n. x (N, C, H, W); weight, bias (C)."""
    return F.group_norm(x, groups, eps, weight, bias)


@fast_form_of(plain_group_norm)
def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float = 1e-5) -> Tensor:
    """`plain_group_norm` as one scale and one shift of each map."""
    batch, channels = x.shape[:2]
    mean, variance = (value.reshape([batch, groups, -1]) for value in moments(x))
    group_mean = mean.mean(-1, keepdim=True)
    group_variance = (variance + (mean - group_mean).square()).mean(-1, keepdim=True)
    scale = weight.reshape([1, groups, -1]) * (group_variance + eps).rsqrt()
    shift = bias.reshape([1, groups, -1]) - scale * group_mean
    return scale_shift(x, scale.reshape([batch, channels]), shift.reshape([batch, channels]))


# Class activation map


def plain_weighted_conv1x1(x: Tensor, first: Tensor, second: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """1x1 convolution of [x * first, x * second]. x (N, C, H, W); first, second (C); weight (out, 2C, 1, 1); bias (out)."""
    weighted = paddle.concat([x * first.reshape([1, -1, 1, 1]), x * second.reshape([1, -1, 1, 1])], 1)
    return F.conv2d(weighted, weight, bias)


@fast_form_of(plain_weighted_conv1x1)
def weighted_conv1x1(x: Tensor, first: Tensor, second: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`plain_weighted_conv1x1` with the weights multiplied into whichever is smaller: the maps or the kernel."""
    batch, channels, height, width = x.shape
    if batch * height * width < weight.shape[0]:
        shape = [batch, 2 * channels, height, width]
        weighted = paddle.stack([x * factor.reshape([1, -1, 1, 1]) for factor in (first, second)], 1).reshape(shape)
        return conv2d(weighted, weight, bias)
    kernel = weight.reshape([-1, 2 * channels])
    kernel = kernel[:, :channels] * first.reshape([1, -1]) + kernel[:, channels:] * second.reshape([1, -1])
    return conv2d(x, kernel.unsqueeze([2, 3]), bias)


def plain_global_max_pool(x: Tensor) -> Tensor:
    """Largest value of each map. x (N, C, H, W); returns (N, C)."""
    return x.max([2, 3])


@fast_form_of(plain_global_max_pool)
def global_max_pool(x: Tensor) -> Tensor:
    """`plain_global_max_pool` through pooling. Where several pixels share the largest value, the gradient goes to one of them."""
    return F.adaptive_max_pool2d(x, 1).flatten(1)
