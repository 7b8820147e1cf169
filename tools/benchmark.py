"""Time the real training step or the translation, alone or beside the authors' PyTorch code; the step's growth; the loader; or
single operations.

python -m tools.benchmark train --img_size 128 --ch 64 --light
python -m tools.benchmark train --img_size 128 --ch 64 --light --peer ../UGATIT-pytorch
python -m tools.benchmark train --img_size 128 --ch 64 --light --profile
python -m tools.benchmark growth
python -m tools.benchmark growth --method cyclegan --img_size 256
python -m tools.benchmark translate --light --peer ../UGATIT-pytorch
python -m tools.benchmark translate --checkpoint results/selfie2anime/ugatit --sizes 256 512 --batches 1 4
python -m tools.benchmark data --dataset selfie2anime --img_size 256
python -m tools.benchmark ops

`train` takes any flag of main.py that shapes networks or batches. With --peer both steps run in turn in the same run with the same
number of threads, with --amp bf16 the peer under torch.autocast; torch must be installed for the Python that --peer_python names.
DIR is a checkout of UGATIT-pytorch, or, for --method cyclegan and pix2pix, of pytorch-CycleGAN-and-pix2pix or
contrastive-unpaired-translation.

--profile adds two tables: the step by operation, and an iteration of the training loop by part; its data is that of --dataset.

`growth` measures steps of other sizes, widths and batches than the base, which is --img_size 128 --ch 32 --batch_size 1 unless
given, of every method or of --method alone; progress goes to stderr. Each is a process of its own. Those for which memory or time
would not do, as the smaller ones predict, are skipped. Linux only.

`translate` takes the same flags as `train`, or a checkpoint, and runs every engine that is installed in turn on drawn faces; with
--amp bf16 also those that compute in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from statistics import median
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from engine.cpu import configure_cpu, thread_count
from errors import ConfigError, UserError

configure_cpu()

import numpy as np  # noqa: E402
import paddle  # noqa: E402

import ops  # noqa: E402
from command_line import OneLineParser, exit_code_of, parse_arguments  # noqa: E402
from config import NETWORKS, Config, default_blocks  # noqa: E402
from dataset import Batch, open_training_data, read_ahead  # noqa: E402
from engine.method import Method  # noqa: E402
from methods import build_method  # noqa: E402

DEFAULT_STEPS = {"train": 5, "growth": 3, "translate": 5, "data": 200, "ops": 9}
SIZES = ("img_size", "ch", "n_res", "n_dis", "light", "n_blocks", "n_layers_D", "batch_size")
IRRELEVANT = ("iteration", "n_epochs", "n_epochs_decay", "lr", "lr_policy", "init_type", "init_gain", "direction")
PEER_SCRIPT = Path(__file__).with_name("peer_step.py")
PAUSE = 0.3  # seconds between the two: an idle OpenMP pool spins for 0.2 s before it sleeps

# Runs one step; returns its seconds and the peak memory of its process so far, in KiB.
Step = Callable[[], Tuple[float, int]]


def random_batch(config: Config) -> Batch:
    rng = np.random.default_rng(0)
    shape = (config.batch_size, config.img_ch, config.img_size, config.img_size)
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name in ("real_A", "real_B")}


def our_step(method: Method, batch: Batch) -> Step:
    """The method's step on a batch, as the training loop calls it."""

    def step() -> Tuple[float, int]:
        started = time.perf_counter()
        method.step(batch)
        return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    return step


@contextlib.contextmanager
def peer_step(config: Config, method: Method, folder: str, python: str, translate: bool = False) -> Iterator[Step]:
    """The authors' step, in a process that ends with the context. Raises ConfigError where it cannot be the same as ours.

    Args:
        translate: not a training step but a batch through the generator.
    """
    if not any(Path(folder, name).is_file() for name in ("networks.py", "models/networks.py")):
        raise ConfigError(f"--peer {folder}: no networks.py there; give a checkout of the authors' PyTorch repository")
    groups = (NETWORKS,) if translate else (NETWORKS, "loss weights", "training")
    for item in dataclasses.fields(config):
        shapes_the_step = item.metadata["group"] in groups and item.name not in SIZES + IRRELEVANT
        if shapes_the_step and getattr(config, item.name) != item.default:
            raise ConfigError(f"--{item.name}: the peer's step knows only {item.default}; leave the flag out")
    settings = {name: getattr(config, name, None) for name in SIZES}
    settings.update(method=config.method, amp=config.amp, peer=folder, threads=thread_count(), translate=translate)
    settings["n_blocks"] = settings["n_blocks"] or default_blocks(config.img_size)
    if config.method == "pix2pix":
        settings["n_downs"] = len(method.G.down)
    # Our settings are for Paddle's libraries; the peer runs as its users run it.
    environment = {name: value for name, value in os.environ.items() if name != "MKL_DEBUG_CPU_TYPE"}
    command = [python, str(PEER_SCRIPT), json.dumps(settings)]
    # Without a buffer, nothing is left to be written to a process that failed.
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:

        def step() -> Tuple[float, int]:
            try:
                process.stdin.write(b"step\n")
                return tuple(json.loads(process.stdout.readline()))
            except (OSError, ValueError) as error:
                raise UserError("--peer: the authors' step failed (see above); is torch installed for --peer_python?") from error

        yield step


def benchmark_train(config: Config, steps: int, warmup: int, peer: Optional[str], python: str, profile: bool) -> None:
    """Run the steps, ours and the peer's in turn, and print the figures of those after the warm-up; then the profile of ours."""
    # A length for methods that otherwise take theirs from the data.
    config = config.with_length(iterations_per_epoch=1000)
    method, batch = build_method(config), random_batch(config)
    with contextlib.ExitStack() as stack:
        sides = {"ours": our_step(method, batch)}
        if peer:
            sides["peer"] = stack.enter_context(peer_step(config, method, peer, python))
        figures: Dict[str, List[Tuple[float, int]]] = {name: [] for name in sides}
        for _ in range(warmup + steps):
            for name, step in sides.items():
                figures[name].append(step())
                time.sleep(PAUSE if peer else 0)
    medians = {}
    for name, measured in figures.items():
        times = [seconds for seconds, _ in measured[warmup:]]
        medians[name] = median(times)
        print(
            f"{name}: {medians[name]:.3f} s a step (median of {steps}, {min(times):.2f} to {max(times):.2f}), "
            f"{2 * config.batch_size / medians[name]:.2f} images a second, peak memory {measured[-1][1] / 2**20:.2f} GiB"
        )
    if peer:
        print(f"ratio {medians['ours'] / medians['peer']:.2f} (ours {medians['ours']:.1f} s, peer {medians['peer']:.1f} s)")
    if profile:
        from tools.profile_step import print_profile

        print_profile(config, method, batch, steps)


# The sizes that U-GAT-IT's and CycleGAN's steps have at 128x128, ch 64, both domains in one batch.
OPERATIONS = [
    ("instance_norm", [(2, 64, 128, 128)], {}),
    ("adalin", [(2, 256, 32, 32), (1, 256, 1, 1), (2, 256), (2, 256)], {}),
    ("adalin", [(2, 64, 128, 128), (1, 64, 1, 1), (2, 64), (2, 64)], {}),
    ("reflect_pad", [(2, 256, 32, 32)], {"pad": 1}),
    ("reflect_pad", [(2, 64, 128, 128)], {"pad": 3}),
    ("upsample_conv2d", [(2, 256, 32, 32), (128, 256, 3, 3)], {}),
    ("upsample_conv2d", [(2, 128, 64, 64), (64, 128, 3, 3)], {}),
    ("conv2d", [(2, 3, 128, 128), (64, 3, 7, 7)], {"padding": 3, "reflect": True}),
    ("conv2d", [(2, 64, 128, 128), (128, 64, 3, 3)], {"stride": 2, "padding": 1, "reflect": True}),
    ("conv2d", [(2, 256, 32, 32), (256, 256, 3, 3)], {"padding": 1, "reflect": True}),
    ("conv2d", [(2, 256, 16, 16), (512, 256, 4, 4)], {"padding": 1, "reflect": True}),
    ("conv2d", [(2, 64, 128, 128), (3, 64, 7, 7)], {"padding": 3, "reflect": True}),
    ("conv2d_and_product", [(2, 1024, 4, 4), (2048, 1024, 4, 4), (16384,)], {"padding": 1}),
    ("conv2d_transpose", [(2, 128, 64, 64), (128, 64, 3, 3), (64,)], {"output_padding": 1}),
    ("weighted_conv1x1", [(2, 256, 32, 32), (256,), (256,), (256, 512, 1, 1), (256,)], {}),
    ("weighted_conv1x1", [(2, 2048, 3, 3), (2048,), (2048,), (2048, 4096, 1, 1), (2048,)], {}),
    ("global_max_pool", [(2, 256, 32, 32)], {}),
]


def benchmark_ops(steps: int) -> None:
    """Forward and backward of each operation in its plain and its fast form, median milliseconds."""
    print(f"{'operation':18s} {'shapes':58s} {'plain ms':>8s} {'fast ms':>8s}")
    for name, shapes, options in OPERATIONS:
        inputs = [paddle.randn(shape) for shape in shapes]
        for tensor in inputs:
            tensor.stop_gradient = False
        figures = []
        for form in ops.FORMS:
            with ops.using(form):
                figures.append(median(_milliseconds(getattr(ops, name), inputs, options) for _ in range(steps + 1)))
        print(f"{name:18s} {' '.join('x'.join(map(str, shape)) for shape in shapes):58s} {figures[0]:8.1f} {figures[1]:8.1f}")


def _milliseconds(function: Callable, inputs: list, options: dict) -> float:
    for tensor in inputs:
        tensor.clear_grad()
    started = time.perf_counter()
    outputs = function(*inputs, **options)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    paddle.autograd.backward(list(outputs), [paddle.ones_like(out) for out in outputs])
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
    parser = OneLineParser(prog="python -m tools.benchmark", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=DEFAULT_STEPS)
    parser.add_argument("--steps", type=int, help="steps to time (default: 5, growth 3, data 200, ops 9)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them (default: 2)")
    parser.add_argument("--profile", action="store_true", help="train: where the time goes, by operation and by part of the step")
    parser.add_argument("--most_gib", type=float, help="growth: memory that a step may take (default: 80 %% of what is free)")
    parser.add_argument("--sizes", type=int, nargs="+", help="translate: sides of the images (default: --img_size)")
    parser.add_argument("--batches", type=int, nargs="+", help="translate: images at once (default: 1)")
    parser.add_argument("--peer", metavar="DIR", help="checkout of the authors' PyTorch repository")
    parser.add_argument("--peer_python", default=sys.executable, help="Python that has torch (default: this one)")
    options, rest = parser.parse_known_args(arguments)
    config, _ = parse_arguments(rest)
    if options.what == "train":
        config.check_networks()
    owners = {"profile": ["train"], "peer": ["train", "translate"], "most_gib": ["growth"], "sizes": ["translate"]}
    owners["batches"] = owners["sizes"]
    for name, owner in owners.items():
        if getattr(options, name) and options.what not in owner:
            raise ConfigError(f"--{name} belongs to {' and '.join(owner)}, not to {options.what}: leave it out")
    if options.most_gib is not None and not options.most_gib > 0:
        raise ConfigError("--most_gib needs more than 0")
    steps = DEFAULT_STEPS[options.what] if options.steps is None else options.steps
    if steps < 1 or options.warmup < 0:
        raise ConfigError("--steps needs 1 or more, --warmup 0 or more")
    if min(options.batches or [1]) < 1:
        raise ConfigError("--batches needs 1 or more")
    if options.what == "train":
        benchmark_train(config, steps, options.warmup, options.peer, options.peer_python, options.profile)
    elif options.what == "growth":
        from tools.growth import print_growth

        print_growth(rest, steps, options.warmup, options.most_gib)
    elif options.what == "translate":
        from tools.translate_speed import print_speed

        sizes, batches = options.sizes or [], options.batches or [1]
        print_speed(config, sizes, batches, steps, options.warmup, options.peer, options.peer_python)
    elif options.what == "data":
        benchmark_data(config, steps)
    else:
        benchmark_ops(steps)


if __name__ == "__main__":
    sys.exit(main())
