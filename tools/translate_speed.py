"""How fast each engine translates, beside the authors' network in PyTorch. Used by tools.benchmark translate."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from statistics import median
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from config import Config, default_blocks
from datatools.faces.domains import draw_photograph
from datatools.faces.identity import Identity
from deploy.engines import FOR_NETWORKS, HALF, Engine, NetworkEngine, engine_of, is_installed
from deploy.model import Model, load_method, models_of
from engine.device import machine
from engine.method import Method
from errors import ConfigError
from methods import build_method
from tools.benchmark import PAUSE, Step, peer_step
from tools.report import table
from utils import resize, to_network

HEADINGS = (
    "size",
    "batch",
    "engine",
    "seconds a batch",
    "fastest to slowest",
    "images a second",
    "of PyTorch's time",
    "difference",
)


def print_speed(
    config: Config,
    sizes: Sequence[int],
    batches: Sequence[int],
    steps: int,
    warmup: int,
    peer: Optional[str],
    peer_python: str,
) -> None:
    """Print a table of every engine at every size and batch.

    Args:
        config: names a checkpoint, or an architecture that stays untrained.
        sizes: sides of the images; empty for the model's own.

    Raises:
        ConfigError: the network does not take such images, or the device does not compute in --amp.
    """
    amp = config.amp
    if config.checkpoint:
        method = load_method(Path(config.checkpoint), config.weights, config.device, amp)
    else:
        config.check_networks()
        method = build_method(config, training=False)
    model = next(iter(models_of(method).values()))
    sizes = sizes or [model.facts.img_size]
    check_sizes(sizes, model)
    print(f"{method.config.method}, ch {method.config.ch}, {machine()}; median of {steps}")
    print("difference: from the network in float32, largest and mean, of values from -1 to 1\n")
    engines = installed_engines(model, amp)
    rows = []
    for size in sizes:
        for batch in batches:
            rows += measure(engines, method, faces(batch, size, model.facts.img_ch), amp, steps, warmup, peer, peer_python)
            print(f"{size}x{size}, batch {batch}", file=sys.stderr, flush=True)
    print(table(HEADINGS, rows))


def check_sizes(sizes: Sequence[int], model: Model) -> None:
    """Raise ConfigError where the network does not take images of such sides."""
    facts = model.facts
    for size in sizes:
        if facts.side not in (None, size):
            raise ConfigError(f"--sizes {size}: this network takes images of {facts.side}x{facts.side} alone")
        if size < 8 or size % facts.multiple:
            raise ConfigError(f"--sizes {size}: this network takes multiples of {facts.multiple}, from 8 on")


def installed_engines(model: Model, amp: Optional[str]) -> Dict[str, Engine]:
    """By name, those of --amp with its name behind theirs."""
    engines: Dict[str, Engine] = {"network": NetworkEngine(model.generator)}
    for name in FOR_NETWORKS:
        if name != "network" and is_installed(name, "onnx"):
            engines[name] = engine_of(model.generator, model.facts, name)
    if amp:
        engines.update({f"{name} {amp}": engine_of(model.generator, model.facts, name, amp) for name in HALF if name in engines})
    return engines


def faces(count: int, size: int, channels: int) -> np.ndarray:
    """Drawn portraits (count, channels, size, size) in [-1, 1]."""
    drawn = [resize(draw_photograph(Identity(0, index), max(16, size)), size, size) for index in range(count)]
    return np.stack([to_network(face)[:channels] for face in drawn])


def measure(
    engines: Dict[str, Engine],
    method: Method,
    images: np.ndarray,
    amp: Optional[str],
    steps: int,
    warmup: int,
    peer: Optional[str],
    peer_python: str,
) -> List[Tuple[str, ...]]:
    """The rows of one size and batch. All take turns."""
    batch, size = images.shape[0], images.shape[2]
    expected = engines["network"].run(images).image
    with contextlib.ExitStack() as stack:
        sides: Dict[str, Step] = {name: _timed(engine, images) for name, engine in engines.items()}
        for peer_amp in [None, amp][: 1 + bool(amp)] if peer else []:
            config = dataclasses.replace(method.config, img_size=size, batch_size=batch, amp=peer_amp, **_blocks(method.config))
            name = f"PyTorch {peer_amp}" if peer_amp else "PyTorch"
            sides[name] = stack.enter_context(peer_step(config, method, peer, peer_python, translate=True))
        seconds: Dict[str, List[float]] = {name: [] for name in sides}
        for _ in range(warmup + steps):
            for name, step in sides.items():
                seconds[name].append(step()[0])
                time.sleep(PAUSE)
    rows = []
    for name, measured in seconds.items():
        times = sorted(measured[warmup:])
        share = f"{median(times) / median(seconds['PyTorch'][warmup:]):.2f}" if peer else ""
        difference = ""
        if name in engines and name != "network":
            distance = np.abs(engines[name].run(images).image - expected)
            difference = f"{distance.max():.1e}, {distance.mean():.1e}"
        figures = (f"{median(times):.3f}", f"{times[0]:.3f} to {times[-1]:.3f}", f"{batch / median(times):.2f}")
        rows.append((str(size), str(batch), name, *figures, share, difference))
    return rows


def _blocks(config: Config) -> Dict[str, int]:
    """CycleGAN's number of blocks, which does not change with the size that is translated."""
    return {"n_blocks": config.n_blocks or default_blocks(config.img_size)} if hasattr(config, "n_blocks") else {}


def _timed(engine: Engine, images: np.ndarray) -> Step:
    def step() -> Tuple[float, int]:
        started = time.perf_counter()
        engine.run(images)
        return time.perf_counter() - started, 0

    return step
