"""How much memory a training will take, from a few steps on small images (--dry_run)."""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
from typing import Callable, List, Sequence, Tuple

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
# The batches to measure with, as far as the training's is as large.
BATCHES = (1, 2, 4)


def estimate_peak(config: Config, build: Callable[[Config], Method]) -> int:
    """The most memory, in bytes, that the process of a training with `config` will hold, on a GPU that of the device.

    The maps grow with the pixels and with the batch, and so do weights that there is one of for each pixel. So the peak is a
    straight line in both, which is measured where it costs little: at two small images, and with up to four in a batch. Networks
    that take no smaller images are measured with their own.

    Args:
        build: makes a method for training.
    """

    def peak(side: int, batch_size: int = 1) -> int:
        # Whatever the learning rate, no loss becomes infinite at this one.
        return peak_of_a_step(dataclasses.replace(config.with_side(side), batch_size=batch_size, lr=1e-9), build)

    sides, batches = _sides(config), [size for size in BATCHES if size <= config.batch_size]
    by_side = [peak(side) for side in sides]
    by_batch = [by_side[0], *(peak(sides[0], size) for size in batches[1:])]
    pixels, areas = config.img_size**2, [side**2 for side in sides]
    more_images = _on_line(config.batch_size, batches, by_batch) - by_batch[0]
    return PROCESS + int(OVERHEAD * (_on_line(pixels, areas, by_side) + more_images * pixels / areas[0]))


def _on_line(x: int, places: Sequence[int], values: Sequence[int]) -> float:
    """The value at x on the straight line through the last two of the values."""
    if len(places) == 1:
        return values[0]
    return values[-1] + (values[-1] - values[-2]) * (x - places[-1]) / (places[-1] - places[-2])


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


def peak_of_a_step(config: Config, build: Callable[[Config], Method]) -> int:
    """The most bytes that tensors take at any moment of a method's second step, which is the first with all of Adam's moments."""
    gc.collect()
    allocated, reset_peak, most_allocated = _counters()
    before, rng = allocated(), np.random.default_rng(0)
    method, shape = build(config), (config.batch_size, config.img_ch, config.img_size, config.img_size)
    batch = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name in ("real_A", "real_B")}
    method.step(batch)
    reset_peak()
    method.step(batch)
    return most_allocated() - before


def _counters() -> Tuple[Callable[[], int], ...]:
    """Of the bytes that Paddle's tensors take on its device: how many there are, begin anew with their peak, how many that was."""
    if paddle.device.get_device().startswith("gpu"):
        cuda = paddle.device.cuda
        return cuda.memory_allocated, cuda.reset_max_memory_allocated, cuda.max_memory_allocated
    core = paddle.base.core
    of_host = (core.host_memory_stat_current_value, core.host_memory_stat_reset_peak_value, core.host_memory_stat_peak_value)
    return tuple(functools.partial(counter, "Allocated", 0) for counter in of_host)
