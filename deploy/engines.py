"""What computes a translation, each behind the same call."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np
import paddle
from paddle import nn

from networks import GeneratorOutput


class Output(NamedTuple):
    """Translated images (N, C, H, W) float32 in [-1, 1], and heat maps (N, 1, h, w) of any range where the model has a CAM."""

    image: np.ndarray
    heatmap: Optional[np.ndarray]


class NetworkEngine:
    """The network itself."""

    name = "network"

    def __init__(self, network: nn.Layer) -> None:
        self.network = network

    def run(self, images: np.ndarray) -> Output:
        """Translate images (N, C, H, W) float32 in [-1, 1]."""
        with paddle.no_grad():
            output = self.network(paddle.to_tensor(images))
        if isinstance(output, GeneratorOutput):
            return Output(output.image.numpy(), None if output.heatmap is None else output.heatmap.numpy())
        return Output(output.numpy(), None)
