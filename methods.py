"""The three methods by name."""

from __future__ import annotations

from typing import Dict, Type

import ops
from config import Config
from CycleGAN import CycleGAN
from engine import distributed
from engine.device import choose_device
from engine.method import Method
from engine.precision import refuse_amp
from engine.recompute import recompute_passes
from Pix2Pix import Pix2Pix
from UGATIT import UGATIT

METHODS: Dict[str, Type[Method]] = {"ugatit": UGATIT, "cyclegan": CycleGAN, "pix2pix": Pix2Pix}


def build_method(config: Config, training: bool = True) -> Method:
    """The method that `config` names, on its device; without `training` its generators alone.

    Raises:
        ConfigError: the device is not there, or does not compute in --amp.
    """
    device = choose_device(config.device, config.benchmark_flag)
    refuse_amp(config.amp, device)
    ops.use("fast" if device == "cpu" else "plain")
    ops.share_batches(distributed.rank(), distributed.processes())
    ops.convolve_in("bfloat16" if device == "cpu" and config.amp == "bf16" else "float32")
    method = METHODS[config.method](config, training)
    if training and config.ema:
        method.average_generators()
    if training and config.recompute:
        for generator in method.generators.values():
            recompute_passes(generator, method.precision.forward)
    return method
