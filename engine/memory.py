"""How much memory a training will take, from a few steps on small images (--dry_run)."""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
from typing import Callable, List, NamedTuple, Tuple

import numpy as np
import paddle

from config import Config
from engine.method import Method
from errors import ConfigError

GIB = 2**30
# The process itself, with Paddle imported.
PROCESS = 350 * 2**20
# What a process holds for each byte that its tensors take: memory that was freed comes back in other pieces than it went.
OVERHEAD = 1.35
# The smallest image to measure at, how much larger the other one is at least, and the sides above which none is needed.
SMALLEST_SIDE, LARGER, LARGE_SIDES = 64, 1.3, (170, 256)
# Of a larger batch, the slope is that from half of these images on: below, the maps may not yet count.
MOST_IMAGES = 4


class Peaks(NamedTuple):
    """The most bytes that tensors take at any moment of a step: in the optimizers' updates, and before and after these."""

    updates: int
    passes: int


def estimate_peak(config: Config, build: Callable[[Config], Method]) -> int:
    """The most memory, in bytes, that the process of a training with `config` will hold, on a GPU that of the device.

    The maps grow with the pixels and with the batch, and so do weights that there is one of for each pixel. So each peak is a
    straight line in both, which is measured where it costs little: at two small images, and with up to four in a batch. Networks
    that take no smaller images are measured with their own.

    Args:
        build: makes a method for training.
    """

    def peaks(side: int, batch_size: int = 1) -> Peaks:
        # Whatever the learning rate, no loss becomes infinite at this one.
        return peaks_of_a_step(dataclasses.replace(config.with_side(side), batch_size=batch_size, lr=1e-9), build)

    sides, pixels = _sides(config), config.img_size**2
    of_one_image = [peaks(side) for side in sides]
    batches = sorted({1, min(config.batch_size, MOST_IMAGES), *((MOST_IMAGES // 2,) if config.batch_size > MOST_IMAGES else ())})
    of_batches = [of_one_image[0], *(peaks(sides[0], size) for size in batches[1:])]
    estimates = []
    for kind in range(len(Peaks._fields)):
        small, large = of_one_image[0][kind], of_one_image[-1][kind]
        more_pixels = (large - small) * (pixels - sides[-1] ** 2) // max(1, sides[-1] ** 2 - sides[0] ** 2)
        another_image = (of_batches[-1][kind] - of_batches[-2:][0][kind]) // max(1, batches[-1] - batches[-2:][0])
        more_images = of_batches[-1][kind] - small + (config.batch_size - batches[-1]) * another_image
        estimates.append(large + more_pixels + more_images * pixels // sides[0] ** 2)
    return PROCESS + int(OVERHEAD * max(estimates))


def _sides(config: Config) -> List[int]:
    """Two sides below img_size that the networks take, or img_size alone."""
    smallest = _smallest_side(config, max(SMALLEST_SIDE, min(LARGE_SIDES[0], config.img_size // 3)))
    larger = _smallest_side(config, max(math.ceil(LARGER * smallest), min(LARGE_SIDES[1], config.img_size // 2)))
    return [smallest, larger] if larger < config.img_size else [config.img_size]


def _smallest_side(config: Config, least: int) -> int:
    """The smallest side from `least` on that the networks take, img_size at the most."""
    return next((side for side in range(least, config.img_size) if _takes(config, side)), config.img_size)


def _takes(config: Config, side: int) -> bool:
    try:
        config.with_side(side)
    except ConfigError:
        return False
    return True


def peaks_of_a_step(config: Config, build: Callable[[Config], Method]) -> Peaks:
    """Those of a method's second step, which is the first with all of Adam's moments."""
    gc.collect()
    allocated, reset_peak, peak = _counters()
    before, rng = allocated(), np.random.default_rng(0)
    method, shape = build(config), (config.batch_size, config.img_ch, config.img_size, config.img_size)
    batch = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name in ("real_A", "real_B")}
    method.step(batch)
    updates, passes = [], []

    def measured(update: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            passes.append(peak())
            reset_peak()
            update()
            updates.append(peak())
            reset_peak()

        return run

    for optimizer in method.optimizers.values():
        optimizer.step = measured(optimizer.step)
    reset_peak()
    method.step(batch)
    return Peaks(max(updates) - before, max(*passes, peak()) - before)


def _counters() -> Tuple[Callable[[], int], ...]:
    """Of the bytes that Paddle's tensors take on its device: how many there are, begin anew with their peak, how many that was."""
    if paddle.device.get_device().startswith("gpu"):
        cuda = paddle.device.cuda
        return cuda.memory_allocated, cuda.reset_max_memory_allocated, cuda.max_memory_allocated
    core = paddle.base.core
    of_host = (core.host_memory_stat_current_value, core.host_memory_stat_reset_peak_value, core.host_memory_stat_peak_value)
    return tuple(functools.partial(counter, "Allocated", 0) for counter in of_host)
