r"""Convolutions of stride 1 with a quarter of the multiplications (Lavin and Gray, arXiv:1509.09308, section 4).

A tile of m x m outputs of a k x k kernel needs (m + k - 1)^2 products an input and output channel instead of m^2 k^2:

    Y = A^T [ sum over channels of (G w G^T) * (B^T x B) ] A

where x, the padded input's tile, and w, the kernel, become points of their polynomials, whose product is taken point by point.
Here the matrices of all tiles of a map stand in one, with the padding inside: `cut` (points * tiles, side) takes a map's rows to
their points, `join` (points * tiles, outputs) takes the products to the output rows. What is left is (m + k - 1)^2 matrix products
over the channels, and permutations of axes around them. All of it is linear in x and in w, so the gradients are the transposes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, Optional, Tuple

import numpy as np
import paddle
from paddle import Tensor
from paddle.autograd import PyLayer

import onednn

# Where the polynomials are evaluated, beside infinity. More points would save more products and lose more digits.
POINTS = (0, 1, -1, 2, -2)
POINTS_OF_TILE = len(POINTS) + 1
KERNELS = (3, 4)
# With fewer tiles each weight is read for too few products; the gain must also pay for the passes over the maps.
FEWEST_TILES = 16
LARGEST_SHARE = 0.6


class Axis(NamedTuple):
    """The matrices of one axis of a map, as arrays in double precision.

    cut (points * tiles, side), join (points * tiles, outputs), kernel (points, k).
    """

    cut: np.ndarray
    join: np.ndarray
    kernel: np.ndarray
    tiles: int


def minimal_filter(outputs: int, taps: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (points, outputs), G (points, taps) and B^T (points, points) of F(outputs, taps), after Toom and Cook.

    outputs + taps - 1 must be `POINTS_OF_TILE`.
    """
    A, G = np.zeros((POINTS_OF_TILE, outputs)), np.zeros((POINTS_OF_TILE, taps))
    B = np.zeros((POINTS_OF_TILE, POINTS_OF_TILE))
    points = np.array(POINTS, np.float64)
    for row, point in enumerate(points):
        others = np.delete(points, row)
        A[row] = point ** np.arange(outputs)
        G[row] = point ** np.arange(taps) / np.prod(point - others)
        B[row, :-1] = np.poly(others)[::-1]
    # The point at infinity: the polynomials' highest coefficients.
    A[-1, -1] = G[-1, -1] = 1
    B[-1] = np.poly(points)[::-1]
    return A, G, B


@functools.lru_cache(maxsize=256)
def axis(side: int, kernel: int, padding: int, reflect: bool) -> Axis:
    """The matrices for maps of this side."""
    rows = np.arange(-padding, side + padding)
    if reflect:
        rows = (side - 1) - np.abs(np.abs(rows) - (side - 1))
    outputs = len(rows) - kernel + 1
    tile = POINTS_OF_TILE - kernel + 1
    tiles = -(-outputs // tile)
    A, G, B = minimal_filter(tile, kernel)
    # Rows below the padded map, which the last tile may reach, are 0.
    padded = np.zeros((tiles * tile + kernel, side))
    inside = (rows >= 0) & (rows < side)
    padded[np.flatnonzero(inside), rows[inside]] = 1
    cut, join = np.zeros((POINTS_OF_TILE, tiles, side)), np.zeros((POINTS_OF_TILE, tiles, tiles * tile))
    for index in range(tiles):
        first = index * tile
        cut[:, index] = B @ padded[first : first + POINTS_OF_TILE]
        join[:, index, first : first + tile] = A
    return Axis(cut.reshape(-1, side), join.reshape(-1, tiles * tile)[:, :outputs], G, tiles)


def suits(x: Tensor, weight: Tensor, padding: int) -> bool:
    """Whether a convolution of stride 1 is faster this way: it must have 3x3 or 4x4 kernels, and its products must outweigh
    the passes over maps and weights. Without oneDNN the permutations of axes would take longer than the products saved."""
    batch, channels, height, width = x.shape
    out_channels, _, kernel, _ = weight.shape
    if kernel not in KERNELS or not onednn.available():
        return False
    outputs = [side + 2 * padding - kernel + 1 for side in (height, width)]
    tile = POINTS_OF_TILE - kernel + 1
    rows = [POINTS_OF_TILE * -(-output // tile) for output in outputs]
    products = rows[0] * rows[1] * channels * out_channels
    # Of cut and join, one axis after the other.
    passes = channels * (rows[0] * height * width + rows[0] * rows[1] * width)
    passes += out_channels * (outputs[0] * rows[0] * rows[1] + outputs[0] * rows[1] * outputs[1])
    direct = outputs[0] * outputs[1] * kernel**2 * channels * out_channels
    enough_tiles = batch * rows[0] * rows[1] >= FEWEST_TILES * POINTS_OF_TILE**2
    return enough_tiles and products + passes <= LARGEST_SHARE * direct


class _Plan:
    """The steps of one convolution's shape, and their transposes."""

    def __init__(self, height: int, width: int, kernel: int, padding: int, reflect: bool, dtype: paddle.dtype) -> None:
        rows, columns = (axis(side, kernel, padding, reflect) for side in (height, width))
        self.kernel, self.tiles = kernel, (rows.tiles, columns.tiles)
        self.cuts = [paddle.to_tensor(of_axis.cut, dtype) for of_axis in (rows, columns)]
        self.joins = [paddle.to_tensor(of_axis.join, dtype) for of_axis in (rows, columns)]
        self.both_kernels = paddle.to_tensor(np.kron(rows.kernel, columns.kernel), dtype)

    def cut(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to their points (points^2, C, N * tiles)."""
        return self._by_points(paddle.matmul(paddle.matmul(self.cuts[0], x), self.cuts[1], transpose_y=True))

    def cut_transposed(self, points: Tensor, batch: int) -> Tensor:
        """Gradients of points (points^2, C, N * tiles) to those of maps (N, C, H, W)."""
        by_image = self._by_images(points, batch)
        return paddle.matmul(paddle.matmul(self.cuts[0], by_image, transpose_x=True), self.cuts[1])

    def join(self, products: Tensor, batch: int) -> Tensor:
        """Products (points^2, O, N * tiles) to the output (N, O, H', W')."""
        by_image = self._by_images(products, batch)
        return paddle.matmul(paddle.matmul(self.joins[0], by_image, transpose_x=True), self.joins[1])

    def join_transposed(self, gradient: Tensor) -> Tensor:
        """The output's gradient (N, O, H', W') to that of the products (points^2, O, N * tiles)."""
        return self._by_points(paddle.matmul(paddle.matmul(self.joins[0], gradient), self.joins[1], transpose_y=True))

    def weights(self, weight: Tensor) -> Tensor:
        """Kernels (O, C, k, k) to their points (points^2, O, C)."""
        rows = weight.reshape([-1, self.kernel**2])
        return paddle.matmul(self.both_kernels, rows, transpose_y=True).reshape([-1, *weight.shape[:2]])

    def weights_transposed(self, gradient: Tensor) -> Tensor:
        """Gradients of the kernels' points (points^2, O, C) to those of the kernels (O, C, k, k)."""
        rows = gradient.reshape([POINTS_OF_TILE**2, -1])
        return paddle.matmul(rows, self.both_kernels, transpose_x=True).reshape([*gradient.shape[1:], self.kernel, self.kernel])

    def _by_points(self, maps: Tensor) -> Tensor:
        batch, channels = maps.shape[:2]
        shape = [batch, channels, POINTS_OF_TILE, self.tiles[0], POINTS_OF_TILE, self.tiles[1]]
        result = [POINTS_OF_TILE**2, channels, batch * self.tiles[0] * self.tiles[1]]
        return onednn.permute(maps, shape, [2, 4, 1, 0, 3, 5], result)

    def _by_images(self, points: Tensor, batch: int) -> Tensor:
        channels = points.shape[1]
        shape = [POINTS_OF_TILE, POINTS_OF_TILE, channels, batch, *self.tiles]
        result = [batch, channels, POINTS_OF_TILE * self.tiles[0], POINTS_OF_TILE * self.tiles[1]]
        return onednn.permute(points, shape, [3, 2, 0, 4, 1, 5], result)


_plan = functools.lru_cache(maxsize=256)(_Plan)


class _Convolution(PyLayer):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, plan: _Plan) -> Tensor:
        # The points are made again in backward: they are several times as large as what they are made of.
        ctx.save_for_backward(x, weight)
        ctx.plan, ctx.need_gradient = plan, (not x.stop_gradient, not weight.stop_gradient)
        return plan.join(paddle.matmul(plan.weights(weight), plan.cut(x)), x.shape[0])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tuple[Optional[Tensor], Optional[Tensor]]:
        (x, weight), plan = ctx.saved_tensor(), ctx.plan
        products = plan.join_transposed(gradient)
        x_gradient = weight_gradient = None
        if ctx.need_gradient[0]:
            x_gradient = plan.cut_transposed(paddle.matmul(plan.weights(weight), products, transpose_x=True), x.shape[0])
        if ctx.need_gradient[1]:
            weight_gradient = plan.weights_transposed(paddle.matmul(products, plan.cut(x), transpose_y=True))
        return x_gradient, weight_gradient


def conv2d(x: Tensor, weight: Tensor, padding: int, reflect: bool) -> Tensor:
    """Convolution of stride 1, with reflect or zero padding. x (N, C, H, W), weight (O, C, k, k), k of `KERNELS`.

    Differentiable by `backward`, once.
    """
    return _Convolution.apply(x, weight, _plan(*x.shape[2:], weight.shape[2], padding, reflect, x.dtype))
