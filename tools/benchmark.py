"""Time the real training step, alone or beside the authors' PyTorch step; the loader; or single operations.

python -m tools.benchmark train --img_size 128 --ch 64 --light
python -m tools.benchmark train --img_size 128 --ch 64 --light --peer ../UGATIT-pytorch
python -m tools.benchmark data --dataset selfie2anime --img_size 256
python -m tools.benchmark ops

`train` takes any flag of main.py that shapes networks or batches. With --peer both steps run in turn in the same run with the same
number of threads; torch must be installed for the Python that --peer_python names. DIR is a checkout of UGATIT-pytorch, or, for
--method cyclegan and pix2pix, of pytorch-CycleGAN-and-pix2pix or contrastive-unpaired-translation.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Callable, List, Optional, Sequence, Tuple

from engine.cpu import configure_cpu
from errors import ConfigError, UserError

configure_cpu()

import numpy as np  # noqa: E402
import paddle  # noqa: E402

import ops  # noqa: E402
from command_line import OneLineParser, exit_code_of, parse_arguments  # noqa: E402
from config import NETWORKS, Config, default_blocks  # noqa: E402
from dataset import open_training_data, read_ahead  # noqa: E402
from engine.method import Method  # noqa: E402
from methods import build_method  # noqa: E402

NETWORK_FILES = ("networks.py", "models/networks.py")
SIZES = ("img_size", "ch", "n_res", "n_dis", "n_blocks", "n_layers_D", "batch_size")
IRRELEVANT = ("light", "iteration", "n_epochs", "n_epochs_decay", "lr", "lr_policy", "init_type", "init_gain", "direction")
PEER_SCRIPT = Path(__file__).with_name("peer_step.py")
PAUSE = 0.3  # seconds between the two: an idle OpenMP pool spins for 0.2 s before it sleeps


class OurStep:
    """The method's step on one random batch, as the training loop calls it."""

    def __init__(self, config: Config) -> None:
        # A length for methods that otherwise take theirs from the data.
        self.method: Method = build_method(config.with_length(iterations_per_epoch=1000))
        rng = np.random.default_rng(0)
        shape = (config.batch_size, config.img_ch, config.img_size, config.img_size)
        self.batch = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name in ("real_A", "real_B")}

    def seconds(self) -> float:
        started = time.perf_counter()
        self.method.step(self.batch)
        return time.perf_counter() - started

    def peak_kilobytes(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class PeerStep:
    """The authors' step in another process."""

    def __init__(self, config: Config, method: Method, folder: str, python: str) -> None:
        if not any((Path(folder) / name).is_file() for name in NETWORK_FILES):
            raise ConfigError(f"--peer {folder}: no networks.py there; give a checkout of the authors' PyTorch repository")
        default = type(config)()
        for item in dataclasses.fields(config):
            shapes_the_step = (
                item.metadata["group"] in (NETWORKS, "loss weights", "training") and item.name not in SIZES + IRRELEVANT
            )
            if shapes_the_step and getattr(config, item.name) != getattr(default, item.name):
                raise ConfigError(f"--{item.name}: the peer's step knows only {getattr(default, item.name)}; leave the flag out")
        command = [python, str(PEER_SCRIPT), "--method", config.method, "--peer", folder]
        command += ["--light"] * getattr(config, "light", False)
        for name, value in {name: getattr(config, name, None) for name in SIZES}.items():
            command += [f"--{name}", str(value)] if value is not None else []
        if config.method == "pix2pix":
            command += ["--n_downs", str(len(method.G.down))]
        if config.method == "cyclegan" and config.n_blocks is None:
            command += ["--n_blocks", str(default_blocks(config.img_size))]
        command += ["--threads", os.environ["OMP_NUM_THREADS"]]
        # Our settings are for Paddle's libraries; the peer runs as its users run it.
        environment = {k: v for k, v in os.environ.items() if k != "MKL_DEBUG_CPU_TYPE"}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.kilobytes = 0

    def seconds(self) -> float:
        try:
            self.process.stdin.write("step\n")
            self.process.stdin.flush()
            seconds, self.kilobytes = json.loads(self.process.stdout.readline())
        except (OSError, ValueError) as error:
            raise UserError("--peer: the authors' step failed (see above); is torch installed for --peer_python?") from error
        return seconds

    def peak_kilobytes(self) -> int:
        return self.kilobytes

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def benchmark_train(config: Config, steps: int, warmup: int, peer: Optional[str], python: str) -> None:
    ours = OurStep(config)
    others = PeerStep(config, ours.method, peer, python) if peer else None
    times: Tuple[List[float], List[float]] = ([], [])
    for number in range(warmup + steps):
        for side, recorded in zip((ours, others), times):
            if side is not None:
                seconds = side.seconds()
                recorded += [seconds] * (number >= warmup)
                time.sleep(PAUSE if others else 0)
    images = 2 * config.batch_size
    for name, side, recorded in (("ours", ours, times[0]), ("peer", others, times[1])):
        if side is not None:
            spread = f"{min(recorded):.2f} to {max(recorded):.2f}"
            print(
                f"{name}: {median(recorded):.3f} s a step (median of {steps}, {spread}), "
                f"{images / median(recorded):.2f} images a second, peak memory {side.peak_kilobytes() / 2**20:.2f} GiB"
            )
    if others is not None:
        others.close()
        ours_median, peer_median = median(times[0]), median(times[1])
        print(f"ratio {ours_median / peer_median:.2f} (ours {ours_median:.1f} s, peer {peer_median:.1f} s)")


# The sizes that U-GAT-IT's and CycleGAN's steps have at 128x128, ch 64, both domains in one batch.
OPERATIONS = [
    ("instance_norm", [(2, 64, 128, 128)], {}),
    ("adalin", [(2, 256, 32, 32), (1, 256, 1, 1), (2, 256), (2, 256)], {}),
    ("adalin", [(2, 64, 128, 128), (1, 64, 1, 1), (2, 64), (2, 64)], {}),
    ("reflect_pad", [(2, 256, 32, 32)], {"pad": 1}),
    ("reflect_pad", [(2, 64, 128, 128)], {"pad": 3}),
    ("upsample_conv2d", [(2, 256, 32, 32), (128, 256, 3, 3)], {}),
    ("upsample_conv2d", [(2, 128, 64, 64), (64, 128, 3, 3)], {}),
    ("conv2d", [(2, 64, 134, 134), (3, 64, 7, 7)], {}),
    ("conv2d", [(2, 1024, 6, 6), (2048, 1024, 4, 4)], {}),
    ("conv2d", [(2, 256, 34, 34), (256, 256, 3, 3), (256,)], {}),
    ("conv2d_transpose", [(2, 128, 64, 64), (128, 64, 3, 3), (64,)], {"output_padding": 1}),
    ("weighted_conv1x1", [(2, 256, 32, 32), (256,), (256,), (256, 512, 1, 1), (256,)], {}),
    ("global_max_pool", [(2, 256, 32, 32)], {}),
]


def benchmark_ops(steps: int) -> None:
    """Forward and backward of each operation in its plain and its fast form, median milliseconds."""
    for name, shapes, options in OPERATIONS:
        operation = getattr(ops, name)
        figures = []
        for form in ops.FORMS:
            inputs = [paddle.randn(shape) for shape in shapes]
            for tensor in inputs:
                tensor.stop_gradient = False
            with ops.using(form):
                figures.append(median(_milliseconds(operation, inputs, options) for _ in range(steps + 1)))
        print(f"{name:18s} {' '.join('x'.join(map(str, shape)) for shape in shapes):58s} {figures[0]:8.1f} {figures[1]:8.1f}")


def _milliseconds(function: Callable, inputs: list, options: dict) -> float:
    for tensor in inputs:
        tensor.clear_grad()
    started = time.perf_counter()
    out = function(*inputs, **options)
    out.backward(paddle.ones_like(out))
    return (time.perf_counter() - started) * 1000


def benchmark_data(config: Config, steps: int) -> None:
    """Batches a second of the loader alone, on the data set that --dataset names."""
    data = open_training_data(config)
    for workers in sorted({0, config.num_workers}):
        started = time.perf_counter()
        for _ in read_ahead(data.batch, 1, steps, workers):
            pass
        seconds = (time.perf_counter() - started) / steps
        print(f"--num_workers {workers}: {seconds * 1000:.1f} ms a batch, {2 * config.batch_size / seconds:.0f} images a second")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="--data_root")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError."""
    parser = OneLineParser(
        prog="python -m tools.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "data", "ops"))
    parser.add_argument("--steps", type=int, help="steps to time (default: 5, of the loader 200, of operations 9)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them (default: 2)")
    parser.add_argument("--peer", help="checkout of the authors' PyTorch repository")
    parser.add_argument("--peer_python", default=sys.executable, help="Python that has torch (default: this one)")
    options, rest = parser.parse_known_args(arguments)
    config, _ = parse_arguments(rest)
    config.check_networks()
    if min(options.steps or 1, options.warmup + 1) < 1:
        raise ConfigError("--steps needs 1 or more, --warmup 0 or more")
    if options.what == "train":
        benchmark_train(config, options.steps or 5, options.warmup, options.peer, options.peer_python)
    elif options.what == "data":
        benchmark_data(config, options.steps or 200)
    else:
        print(f"{'operation':18s} {'shapes':58s} {'plain ms':>8s} {'fast ms':>8s}")
        benchmark_ops(options.steps or 9)


if __name__ == "__main__":
    sys.exit(main())
