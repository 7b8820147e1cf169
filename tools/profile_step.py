"""Where the time of a training step goes, by operation and by part. Used by tools.benchmark train --profile."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import tempfile
import time
from collections import defaultdict
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Iterator, List

import paddle
from paddle.profiler import Profiler, ProfilerTarget

from config import Config
from dataset import Batch, Sample, open_training_data
from engine.method import Method
from engine.run import RunFolder
from engine.training import Training
from errors import ConfigError
from tools.report import table

BETWEEN = "outside Paddle's operations (Python, oneDNN, NumPy)"
LEAST_SHARE = 0.005  # operations with a smaller share stand in one row together


def print_profile(config: Config, method: Method, batch: Batch, steps: int) -> None:
    """Print both tables, medians of `steps`. Raises ConfigError on a GPU, which works on while the clock is read."""
    if paddle.device.get_device() != "cpu":
        raise ConfigError("--profile measures on a CPU: add --device cpu")
    print_operations([own_times(lambda: method.step(batch)) for _ in range(steps)])
    print_parts(config, method, batch, steps)


def own_times(step: Callable[[], Any]) -> Dict[str, List[float]]:
    """Calls and milliseconds of each operation of one step, without the operations that it calls."""
    profiler = Profiler(targets=[ProfilerTarget.CPU], on_trace_ready=lambda _: None)  # by default it writes a file
    with profiler:
        step()
    found: Dict[str, List[float]] = defaultdict(lambda: [0, 0.0])

    def add(node: Any, operation: str) -> None:
        if node.type.name == "Operator":
            operation = operation_name(node.name)
            found[operation][0] += 1
        inner = sum(child.end_ns - child.start_ns for child in node.children_node)
        found[operation][1] += (node.end_ns - node.start_ns - inner) / 1e6
        for child in node.children_node:
            add(child, operation)

    for thread in profiler.profiler_result.get_data().values():
        for node in thread.children_node:
            add(node, BETWEEN)
    return found


def operation_name(event: str) -> str:
    """conv2d of "conv2d dygraph", conv2d backward of "Global_Conv2dGradNodeFinal"; the backward of a PyLayer by its class."""
    if backward := re.fullmatch(r"(?:Global_)?(?:(\w+)GradNode(?:Final)?|GradNode(?:PyLayer_)?(\w+))", event):
        return (backward[2] or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", backward[1]).lower()) + " backward"
    return event.removesuffix(" dygraph").rstrip("_")  # a last _ means in place


def print_operations(runs: List[Dict[str, List[float]]]) -> None:
    """The table by operation, of what `own_times` gave."""
    rows = [(name, *(median(run[name][column] for run in runs) for column in (0, 1))) for name in {*runs[0]}.union(*runs)]
    rows.sort(key=lambda row: -row[2])
    total = sum(row[2] for row in rows)
    rare = [row for row in rows if row[2] < LEAST_SHARE * total]
    rows = [*rows[: len(rows) - len(rare)], (f"{len(rare)} others", sum(row[1] for row in rare), sum(row[2] for row in rare))]
    print(
        f"\nBy operation, under Paddle's profiler (median of {len(runs)}, {total:.0f} ms a step). Each counts its own time alone, "
        "without the operations that it calls, so the shares add up to 100 %.\n"
    )
    cells = [(name, f"{calls:.0f}", f"{ms:.2f}", f"{100 * ms / total:.1f} %") for name, calls, ms in rows]
    print(table(("operation", "calls", "ms a step", "share"), cells))


def print_parts(config: Config, method: Method, batch: Batch, steps: int) -> None:
    """The table by part, from the real training loop, on the data set where there is one, else on `batch`."""
    has_data = (Path(config.data_root) / config.dataset).is_dir()
    batches, samples = repeat(batch), {way: [Sample(batch["real_A"][0])] * (2 * config.sample_count) for way in config.directions}
    if has_data:
        data = open_training_data(config)
        batches, samples = data.batches(method.iteration + 1, method.iteration + 1 + steps), data.samples()
    laps = laps_of(method, batches, samples, steps + 1)
    # The first iteration waits for the first batch. The last one alone writes a line and draws samples.
    seconds = {part: median(lap[part] for lap in laps[1:]) for part in ("data", "D", "G", "step")}
    logging = median(lap["logging"] for lap in laps[:-1]) + laps[-1]["logging"] / config.print_freq
    parts = {
        f"data: waiting for the loader (--num_workers {config.num_workers})": seconds["data"],
        "D update: losses, backward, optimizer": seconds["D"],
        "G update: losses, backward, optimizer": seconds["G"],
        "rest of the step: the generators' first pass, losses to the host": seconds["step"] - seconds["D"] - seconds["G"],
        f"logging: window; every {config.print_freq} iterations (--print_freq) line and sample grids": logging,
    }
    total = sum(parts.values())
    print(f"\nBy part, without the profiler (median of {steps}, {1000 * total:.0f} ms an iteration).\n")
    rows = [(part, f"{1000 * value:.2f}", f"{100 * value / total:.1f} %") for part, value in parts.items()]
    print(table(("part", "ms", "share"), rows if has_data else [("data", "not measured: no data set", ""), *rows[1:]]))


def laps_of(method: Method, batches: Iterator[Batch], samples: Dict[str, List[Sample]], count: int) -> List[Dict[str, float]]:
    """Seconds by part of each of `count` iterations of the training loop, which logs at the last one and saves nothing."""
    laps: List[Dict[str, float]] = []

    def timed(function: Callable, part: str = "") -> Callable:
        def call(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            laps[-1][part or arguments[0]] += time.perf_counter() - started  # the first argument of `update` is D or G
            return result

        return call

    def waited_for() -> Iterator[Batch]:
        for _ in range(count):
            laps.append(defaultdict(float))
            yield timed(next, "data")(batches)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        training = Training(method, RunFolder(folder), samples)
        training.config = dataclasses.replace(method.config, print_freq=method.iteration + count)
        training.save_checkpoint = lambda asked=False: None
        training.log_losses, training.draw_samples = timed(training.log_losses, "logging"), timed(training.draw_samples, "logging")
        method.discriminator_losses, method.generator_losses = (
            timed(method.discriminator_losses, "D"),
            timed(method.generator_losses, "G"),
        )
        method.update, method.step = timed(method.update), timed(method.step, "step")
        training.fit(waited_for())
    return laps
