"""The Inception network whose features FID and KID compare (FID, arXiv:1706.08500; KID, arXiv:1801.01401).

It is TensorFlow's graph of 2015-12-05, as torch-fidelity and pytorch-fid have it: Paddle's own Inception v3, but average pools do
not count the padding, the last block pools by the maximum, and batch norm adds 0.001 to the variance.

Images are resized as torch-fidelity does it (`interpolate_bilinear_2d_like_tensorflow1x`): bilinear with TensorFlow 1's pixel
grid, where output pixel i reads at i * size / 299, without the half-pixel shift and without a filter against aliasing. clean-fid
resizes with Pillow's antialiased bicubic filter instead. Its figures differ, most for images larger than 299, and cannot be
compared with these.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Dict, List, Mapping

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.vision.models import InceptionV3

SIDE = 299
FEATURES = 2048
# Names what turns an image file into the network's input; cached features of another kind are not ours.
RESIZE = "bilinear, TensorFlow 1 grid, 299x299"
BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


class Inception(InceptionV3):
    """Images to the 2048 features before the classifier.

    Shape:
        x (N, 3, H, W) RGB, uint8 or float in [0, 255], of any size; returns (N, 2048) float32.

    Raises:
        ValueError: x is not (N, 3, H, W).
    """

    def __init__(self) -> None:
        # Zeros, because weights are always loaded: drawing 22 million takes long, and advances the random numbers of a training.
        nn.initializer.set_global_initializer(nn.initializer.Constant(0.0))
        try:
            super().__init__(num_classes=0)
        finally:
            nn.initializer.set_global_initializer(None)
        for layer in self.sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                layer._epsilon = 0.001
        for block in self.inception_block_list:
            if isinstance(block.branch_pool, nn.AvgPool2D):
                block.branch_pool = nn.AvgPool2D(3, 1, 1, exclusive=True)
        self.inception_block_list[-1].branch_pool = nn.MaxPool2D(3, 1, 1)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"Inception takes (N, 3, H, W), not {list(x.shape)}")
        return super().forward((resize(x.astype("float32")) - 128) / 128).flatten(1)

    def published_shapes(self) -> Dict[str, List[int]]:
        """The shape of each parameter and statistic, by its name in `InceptionV3.pdparams`."""
        return {published_name(name): value.shape for name, value in self.state_dict().items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take the arrays, by their published names."""
        self.set_state_dict({name: arrays[published_name(name)] for name in self.state_dict()})


def published_name(name: str) -> str:
    """A name of Paddle's network as PaddleGAN's `InceptionV3.pdparams` has it, such as Mixed_5b.branch1x1.conv.weight."""
    name = name.replace("inception_stem.conv_", "Conv2d_").replace("branch_pool_conv", "branch_pool")
    name = re.sub(r"inception_block_list\.(\d+)", lambda match: f"Mixed_{BLOCKS[int(match[1])]}", name)
    return name.replace(".0.", ".conv.").replace(".1.", ".bn.")


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
