"""Every kind of generator, tiny, with weights as training would leave them: no scale is 1 and no shift 0."""

from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import numpy as np
import paddle
from paddle import nn

from deploy.engines import NetworkEngine, Output
from layers import BatchNorm2D
from networks import CycleGANGenerator, ResnetGenerator, UnetGenerator

UGATIT = dict(ch=4, n_res=1, img_size=16)
CYCLEGAN = dict(ch=4, n_blocks=1)
UNET = dict(ch=4, n_downs=4)
GENERATORS: Dict[str, Callable[[], nn.Layer]] = {
    "light": lambda: ResnetGenerator(light=True, **UGATIT),
    "full": lambda: ResnetGenerator(**UGATIT),
    "grey": lambda: ResnetGenerator(1, light=True, **UGATIT),
    "no_cam": lambda: ResnetGenerator(light=True, cam=False, **UGATIT),
    "full_in": lambda: ResnetGenerator(decoder_norm="in", **UGATIT),
    **{
        f"light_{norm}": lambda norm=norm: ResnetGenerator(light=True, decoder_norm=norm, **UGATIT)
        for norm in ("adain", "ln", "gn")
    },
    **{
        f"cyclegan_{norm}_{upsample}": lambda norm=norm, upsample=upsample: CycleGANGenerator(
            norm=norm, upsample=upsample, dropout=True, **CYCLEGAN
        )
        for norm in ("batch", "instance", "none")
        for upsample in ("transpose", "resize")
    },
    **{f"unet_{norm}": lambda norm=norm: UnetGenerator(norm=norm, **UNET) for norm in ("batch", "instance", "none")},
    "unet_own_statistics": lambda: with_own_statistics(UnetGenerator(**UNET)),
    "unet_no_skip": lambda: UnetGenerator(skip=False, **UNET),
}


def with_own_statistics(network: nn.Layer) -> nn.Layer:
    """The same with the batch norm of Pix2Pix at test time."""
    for layer in network.sublayers():
        if isinstance(layer, BatchNorm2D):
            layer.own_statistics_in_evaluation = True
    return network


def build(name: str) -> nn.Layer:
    """The generator in evaluation mode. Scales, shifts, rho and running statistics are random."""
    paddle.seed(0)
    rng = np.random.default_rng(0)
    network = GENERATORS[name]()
    for key, value in network.state_dict().items():
        if value.ndim == 1 or (value.ndim == 4 and key.split(".")[-1] in ("rho", "gamma", "beta")):
            value.set_value(rng.uniform(0.1, 0.9, value.shape).astype("float32"))
    network.eval()
    return network


def batches(network: nn.Layer) -> List[np.ndarray]:
    """Images in [-1, 1]: one of the smallest size, and a batch of others where the network takes any."""
    rng, multiple = np.random.default_rng(1), network.multiple
    shapes: List[Tuple[int, ...]] = [(1, 16, 16), (3, 16, 16) if network.side else (2, 16 + multiple, 32)]
    return [rng.uniform(-1, 1, (batch, network.img_ch, *sides)).astype(np.float32) for batch, *sides in shapes]


def largest_difference(ours: Output, expected: Output) -> float:
    """Of images, and of heat maps in units of their largest value."""
    difference = np.abs(ours.image - expected.image).max()
    if ours.heatmap is not None:
        difference = max(difference, np.abs(ours.heatmap - expected.heatmap).max() / np.abs(expected.heatmap).max())
    return float(difference)


def has_heatmap(network: nn.Layer) -> bool:
    return getattr(network, "cam", None) is not None


def translated(network: nn.Layer, images: np.ndarray) -> Output:
    """What the network itself gives."""
    return NetworkEngine(network).run(images)
