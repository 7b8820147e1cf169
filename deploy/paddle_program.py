"""Generators as programs for Paddle Inference."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Tuple, Union

import paddle
from paddle import Tensor, nn

import layers
import networks
import ops
from deploy.facts import IMAGE

# Their code is run while a program is made. Paddle would translate it, although no path in it depends on a tensor's values.
paddle.jit.ignore_module([layers, networks, ops])


class _Exported(nn.Layer):
    """The outputs of an exported model: the translation alone, or with the heat map."""

    def __init__(self, generator: nn.Layer, heatmap: bool) -> None:
        super().__init__()
        self.generator, self.heatmap = generator, heatmap

    def forward(self, image: Tensor) -> Union[Tensor, Tuple[Tensor, ...]]:
        output = self.generator(image)
        if isinstance(output, tuple):
            return (output.image, output.heatmap) if self.heatmap else output.image
        return output


def save_program(generator: nn.Layer, path: Path, heatmap: bool = False) -> Path:
    """Write a generator in evaluation mode to PATH.json and PATH.pdiparams; returns the former.

    Batch, height and width are free, but for the generators that take images of one size alone. The operations are those of the
    plain form.
    """
    shape = [None, generator.img_ch, generator.side, generator.side]
    with ops.using("plain"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = _Exported(generator, heatmap)
        exported.eval()
        spec = [paddle.static.InputSpec(shape, "float32", IMAGE)]
        paddle.jit.save(paddle.jit.to_static(exported, input_spec=spec, full_graph=True), str(path))
    return path.with_suffix(".json")
