"""Averaged generators beside the trained ones (--ema)."""

from __future__ import annotations

import contextlib
import copy
from typing import Iterator, List, Mapping, NamedTuple

import paddle
from paddle import Tensor, nn


class _Place(NamedTuple):
    """A layer's parameter by name, as it is trained and as the average that takes its place."""

    layer: nn.Layer
    name: str
    trained: Tensor
    average: Tensor


class Averages:
    r"""Running averages of the parameters of networks, as in ProGAN (Karras et al., arXiv:1710.10196, appendix A.1).

    average += (1 - d) * (trained - average), with d = min(decay, (1 + t) / (10 + t)) at iteration t. The smaller d of the first
    iterations is that of TensorFlow's tf.train.ExponentialMovingAverage with num_updates = t: a short run is not held back by its
    initial weights. d follows from t, so that the averages are all there is to save.

    Args:
        networks: their parameters are averaged, in float32 as they are trained. Buffers, such as batch norm's running statistics,
            are shared by both.
        decay: in [0, 1).
    """

    def __init__(self, networks: Mapping[str, nn.Layer], decay: float) -> None:
        self.decay = decay
        self._places: List[_Place] = []
        for network in networks.values():
            for layer in network.sublayers(include_self=True):
                for name, trained in layer.named_parameters(include_sublayers=False):
                    average = copy.deepcopy(trained)
                    average.stop_gradient = True
                    self._places.append(_Place(layer, name, trained, average))

    @paddle.no_grad()
    def update(self, iteration: int) -> None:
        """Take in the weights of iteration 1..N."""
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        for place in self._places:
            # As one operation, `lerp_`, this takes nine times as long on a CPU.
            place.average.add_((place.trained - place.average).scale_(1 - decay))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the networks hold the averages. No value is copied, and the optimizers keep the trained parameters."""
        try:
            for place in self._places:
                setattr(place.layer, place.name, place.average)
            yield
        finally:
            for place in self._places:
                setattr(place.layer, place.name, place.trained)
