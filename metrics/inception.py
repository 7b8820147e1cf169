"""The Inception network whose features FID and KID compare (FID, arXiv:1706.08500; KID, arXiv:1801.01401).

It is TensorFlow's graph of 2015-12-05, with the shapes and the order of torch-fidelity's and pytorch-fid's ports: average pools do
not count the padding, and the last block pools by the maximum. Layers bear the names of PaddleGAN's `InceptionV3.pdparams`.

Images are resized as torch-fidelity does it (`interpolate_bilinear_2d_like_tensorflow1x`): bilinear with TensorFlow 1's pixel
grid, where output pixel i reads at i * size / 299, without the half-pixel shift and without a filter against aliasing. clean-fid
instead resizes with Pillow's antialiased bicubic filter; its figures differ, most for images larger than 299, and are not
comparable with these.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, Tuple, Union

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

SIDE = 299
FEATURES = 2048
# Names what turns an image file into the network's input; cached features of another kind are not ours.
RESIZE = "bilinear, TensorFlow 1 grid, 299x299"
Kernel = Union[int, Tuple[int, int]]


class Inception(nn.Layer):
    """Images to the 2048 features before the classifier.

    Shape:
        x (N, 3, H, W) RGB, uint8 or float in [0, 255], of any size; returns (N, 2048) float32.

    Raises:
        ValueError: x is not (N, 3, H, W).
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b = BlockA(192, pooled=32)
        self.Mixed_5c = BlockA(256, pooled=64)
        self.Mixed_5d = BlockA(288, pooled=64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, inner=128)
        self.Mixed_6c = BlockC(768, inner=160)
        self.Mixed_6d = BlockC(768, inner=160)
        self.Mixed_6e = BlockC(768, inner=192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, average_branch)
        self.Mixed_7c = BlockE(2048, maximum_branch)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"Inception takes (N, 3, H, W), not {list(x.shape)}")
        x = (resize(x.astype("float32")) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (N, 64, 147, 147)
        x = F.max_pool2d(x, 3, 2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))  # (N, 192, 71, 71)
        x = F.max_pool2d(x, 3, 2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (N, 288, 35, 35)
        x = self.Mixed_6a(x)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))  # (N, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (N, 2048, 8, 8)
        return x.flatten(2).mean(-1)


def resize(x: Tensor) -> Tensor:
    """Resize (N, C, H, W) float32 to (N, C, 299, 299) as TensorFlow 1's `resize_bilinear` does (see above)."""
    height, width = x.shape[2:]
    if (height, width) == (SIDE, SIDE):
        return x
    rows, columns = (paddle.to_tensor(interpolation(side)) for side in (height, width))
    return paddle.matmul(paddle.matmul(rows, x), columns.t())


@lru_cache(maxsize=8)
def interpolation(side: int) -> np.ndarray:
    """The (299, side) float32 matrix whose product with a column of pixels is the resized column."""
    position = np.arange(SIDE, dtype=np.float32) * np.float32(side / SIDE)
    below = position.astype(np.int64)
    above = np.minimum(below + 1, side - 1)
    share = position - below.astype(np.float32)
    matrix = np.zeros((SIDE, side), np.float32)
    matrix[np.arange(SIDE), below] = 1 - share
    matrix[np.arange(SIDE), above] += share
    return matrix


class ConvNorm(nn.Layer):
    """Convolution without bias, batch norm with running statistics, ReLU.

    The batch norm is not folded into a bias, because Paddle adds a convolution's bias slower on a CPU than it normalizes.
    """

    def __init__(self, channels: int, out_channels: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0) -> None:
        super().__init__()
        # Zeros, because weights are always loaded and drawing 22 million of them takes longer.
        zeros = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.conv = nn.Conv2D(channels, out_channels, kernel, stride, padding, weight_attr=zeros, bias_attr=False)
        self.bn = nn.BatchNorm2D(out_channels, epsilon=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def average_branch(x: Tensor, branch: ConvNorm) -> Tensor:
    """3x3 average that does not count the padding, then `branch`, a 1x1 convolution.

    The two commute, and the convolution leaves fewer maps to average.
    """
    return F.relu(branch.bn(F.avg_pool2d(branch.conv(x), 3, 1, 1, exclusive=True)))


def maximum_branch(x: Tensor, branch: ConvNorm) -> Tensor:
    """3x3 maximum, then `branch`, as the graph's last block has it, where the paper averages."""
    return branch(F.max_pool2d(x, 3, 1, 1))


class BlockA(nn.Layer):
    """1x1, 5x5, two 3x3 and pooled maps of a (N, C, 35, 35)."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(channels, 64, 1)
        self.branch5x5_1 = ConvNorm(channels, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch5x5_2(self.branch5x5_1(x))
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return paddle.concat([self.branch1x1(x), once, twice, average_branch(x, self.branch_pool)], 1)


class BlockB(nn.Layer):
    """Halves the side: (N, C, 35, 35) to (N, 480 + C, 17, 17)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvNorm(channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return paddle.concat([self.branch3x3(x), twice, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Layer):
    """7x7 convolutions as 1x7 and 7x1, once and twice, of a (N, C, 17, 17)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(channels, 192, 1)
        self.branch7x7_1 = ConvNorm(channels, inner, 1)
        self.branch7x7_2 = ConvNorm(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7_3 = ConvNorm(inner, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = ConvNorm(channels, inner, 1)
        self.branch7x7dbl_2 = ConvNorm(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = ConvNorm(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = ConvNorm(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = ConvNorm(inner, 192, (1, 7), padding=(0, 3))
        self.branch_pool = ConvNorm(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return paddle.concat([self.branch1x1(x), once, twice, average_branch(x, self.branch_pool)], 1)


class BlockD(nn.Layer):
    """Halves the side: (N, C, 17, 17) to (N, 512 + C, 8, 8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(channels, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvNorm(channels, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        small = self.branch3x3_2(self.branch3x3_1(x))
        large = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return paddle.concat([small, large, F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Layer):
    """3x3 convolutions split into 1x3 beside 3x1, of a (N, C, 8, 8); `pool` is one of the two branches above."""

    def __init__(self, channels: int, pool: Callable[[Tensor, ConvNorm], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = ConvNorm(channels, 320, 1)
        self.branch3x3_1 = ConvNorm(channels, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvNorm(channels, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvNorm(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [self.branch1x1(x), self.branch3x3_2a(once), self.branch3x3_2b(once)]
        branches += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice), self.pool(x, self.branch_pool)]
        return paddle.concat(branches, 1)
