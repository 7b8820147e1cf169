"""How time and memory of a step grow with the images' size, the networks' width and the batch. Used by tools.benchmark growth.

Each setting of the three is measured in a process of its own, because peak memory belongs to a process. One that is predicted to
take more memory or time than allowed is not started, and one that does so all the same is stopped.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

from command_line import parse_arguments
from config import CONFIGS, UGATITConfig, proportionate_depth
from engine.device import machine
from errors import UserError
from tools.report import table

VARIANTS = (["--method", "ugatit", "--light"], *(["--method", method] for method in CONFIGS))  # where no --method is given
BASE = {"img_size": 128, "ch": 32, "batch_size": 1}
# Multiples of the base: one of the three varies at a time, then size and width together.
MULTIPLES = [(1, 1, 1), (0.5, 1, 1), (2, 1, 1), (1, 0.5, 1), (1, 2, 1), (1, 1, 2), (1, 1, 4), (0.5, 0.5, 1), (2, 2, 1)]
MOST_SECONDS = 300  # of a process
FREE_SHARE = 0.8  # of the free memory, that a process may take
Sizes = Tuple[int, ...]  # img_size, ch, batch_size
Figures = Tuple[float, ...]  # median seconds of a step, peak memory in GiB


def print_growth(flags: Sequence[str], steps: int, warmup: int, most_gib: Optional[float]) -> None:
    """Print a table for each variant, and progress on stderr. Raises ConfigError where a flag is wrong."""
    variants = [[*variant, *flags] for variant in ([[]] if "method" in parse_arguments(flags)[1] else VARIANTS)]
    parsed = [parse_arguments(variant) for variant in variants]
    print(
        f"Median of {steps} steps, {machine()}. Size, width and batch vary one at a time around the first row, "
        "in the last two rows size and width together. U-GAT-IT's `--n_dis`, unless given, is in proportion to the size: 6 at 256."
    )
    for variant, (config, typed) in zip(variants, parsed):
        base = [getattr(config, name) if name in typed else value for name, value in BASE.items()]
        settings = [tuple(int(value * multiple) for value, multiple in zip(base, multiples)) for multiples in MULTIPLES]
        measured: Dict[Sizes, Figures] = {}
        rows = {}
        for sizes in sorted(settings, key=cost):
            try:
                measured[sizes] = measure(sizes, variant, predicted(sizes, measured), steps, warmup, most_gib)
                rows[sizes] = [*map(str, sizes), *(f"{figure:.2f}" for figure in measured[sizes])]
            except UserError as error:
                rows[sizes] = [*map(str, sizes), f"skipped: {error}", ""]
            print(*variant, *rows[sizes], file=sys.stderr, flush=True)
        headings = (*BASE, "seconds a step", "peak memory, GiB")
        print(f"\n`{' '.join(variant)}`\n\n{table(headings, [rows[sizes] for sizes in settings])}", flush=True)


def cost(sizes: Sizes) -> int:
    """What time and memory are at most proportional to: products and weights grow with the square of the width, maps with it."""
    img_size, ch, batch_size = sizes
    return img_size**2 * ch**2 * batch_size


def predicted(sizes: Sizes, measured: Dict[Sizes, Figures]) -> Figures:
    """The most that a step will take, by those measured that are smaller in every respect; zeros where there are none."""
    smaller = [other for other in measured if all(low <= high for low, high in zip(other, sizes))]
    bounds = [[figure * cost(sizes) / cost(other) for figure in measured[other]] for other in smaller]
    return tuple(map(min, zip(*bounds))) if bounds else (0, 0)


def measure(sizes: Sizes, flags: Sequence[str], bound: Figures, steps: int, warmup: int, most_gib: Optional[float]) -> Figures:
    """The figures of one setting. Raises UserError, saying why there are none."""
    flags = [*flags, *(f"--{name}={value}" for name, value in zip(BASE, sizes))]
    config, typed = parse_arguments(flags)
    if isinstance(config, UGATITConfig) and "n_dis" not in typed:
        flags.append(f"--n_dis={proportionate_depth(config.img_size)}")
    parse_arguments(flags)[0].check_networks()
    allowed = min(FREE_SHARE * free_gib(), most_gib or float("inf"))
    if bound[1] > allowed:
        raise UserError(f"may take {bound[1]:.1f} GiB, {allowed:.1f} allowed")
    if bound[0] * (warmup + steps) > MOST_SECONDS:
        raise UserError(f"may take {bound[0]:.0f} s a step")
    command = [sys.executable, "-m", "tools.benchmark", "train", *flags, "--steps", str(steps), "--warmup", str(warmup)]
    limited = ["sh", "-c", f'ulimit -d {int(allowed * 2**20)}; exec "$@"', "sh", *command]
    try:
        done = subprocess.run(limited, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"stopped after {MOST_SECONDS} s") from None
    if done.returncode:
        out_of_memory = done.returncode < 0 or "MemoryError" in done.stderr
        raise UserError(f"takes more than {allowed:.1f} GiB" if out_of_memory else done.stderr.strip().rpartition("\n")[2])
    return tuple(map(float, re.search(r"([\d.]+) s a step .* peak memory ([\d.]+)", done.stdout).groups()))


def free_gib() -> float:
    """Memory that Linux can give without swapping."""
    kib = re.search(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())
    return int(kib[1]) / 2**20
