"""Choosing the device."""

from __future__ import annotations

import os
import platform
from functools import lru_cache

import paddle

from engine.cpu import processor_description
from errors import ConfigError


def choose_device(name: str, benchmark: bool) -> str:
    """Make `name` (auto, cpu, gpu or cuda) Paddle's device and return what was chosen, cpu or gpu.

    Raises:
        ConfigError: a GPU was asked for and this Paddle or this machine has none.
    """
    has_gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if name in ("gpu", "cuda") and not has_gpu:
        raise ConfigError(
            f"--device {name}: this installation of Paddle sees no GPU; use --device cpu, "
            "or install paddlepaddle-gpu (requirements-gpu.txt)"
        )
    chosen = "gpu" if has_gpu and name != "cpu" else "cpu"
    paddle.set_device(chosen)
    if chosen == "gpu":
        # An exact resume needs kernels that add in a fixed order; searching for the fastest gives that up.
        paddle.set_flags({"FLAGS_cudnn_exhaustive_search": benchmark, "FLAGS_cudnn_deterministic": not benchmark})
    elif benchmark:
        print("--benchmark_flag means nothing on a CPU")
    return chosen


def machine() -> str:
    """What the networks run on, for reports: the GPU's name, or the processor's with the cores in use."""
    if paddle.device.get_device().startswith("gpu"):
        return paddle.device.cuda.get_device_name()
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return f"{_processor()}, {threads} {'thread' if threads == '1' else 'threads'}"


@lru_cache(maxsize=None)  # asked for with every checkpoint
def _processor() -> str:
    for line in processor_description().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
