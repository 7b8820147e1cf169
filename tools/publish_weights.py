"""Make a small checkpoint of a run's generators, in half precision, for others to translate with or to start from.

python -m tools.publish_weights results/portraits/ugatit --output weights/portraits_ugatit

The generators are the averaged ones where there are any. The checkpoint has no discriminators and no optimizer: it serves every
command that takes --checkpoint or --init_from, and no --resume.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from command_line import OneLineParser, exit_code_of
from config import AVERAGED, RAW, Config
from engine.checkpoint import Checkpoint, find_checkpoint, save_folder
from engine.run import load_generators
from errors import ConfigError, WeightsError

OF_THE_MACHINE = ("data_root", "device", "num_workers", "inception_weights")


def in_half_precision(checkpoint: Checkpoint) -> Checkpoint:
    """The same generators as float16, with what others need to know of them. Raises WeightsError where a value is too large."""
    with np.errstate(over="ignore"):
        arrays = {part: {name: array.astype(np.float16) for name, array in of.items()} for part, of in checkpoint.arrays.items()}
    for name, array in [item for of in arrays.values() for item in of.items()]:
        if not np.isfinite(array).all():
            raise WeightsError(f"{name} has values that half precision does not hold: nothing was written")
    meta = {name: checkpoint.meta[name] for name in ("method", "iteration", "paddle", "imported_from") if name in checkpoint.meta}
    # Where its data and weights lay says something of the machine and nothing of the model.
    places = {item.name: item.default for item in dataclasses.fields(Config) if item.name in OF_THE_MACHINE}
    return Checkpoint(arrays, {**meta, "config": {**checkpoint.meta["config"], **places}})


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="CHECKPOINT and --output")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError."""
    parser = OneLineParser(
        prog="python -m tools.publish_weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the folder of a run, or a checkpoint folder")
    parser.add_argument("--output", required=True, type=Path, help="the checkpoint folder to make")
    parser.add_argument("--weights", choices=(AVERAGED, RAW), help="of a run with --ema (default: averaged where there are any)")
    options = parser.parse_args(arguments)
    output = options.output
    if output.exists():
        raise ConfigError(f"--output {output}: this is there already; name a new folder")
    checkpoint, _ = load_generators(find_checkpoint(options.checkpoint, "CHECKPOINT"), None, options.weights)
    save_folder(in_half_precision(checkpoint), output, "published")
    meta, megabytes = checkpoint.meta, sum(file.stat().st_size for file in output.iterdir()) / 1e6
    print(f"{output}: generators of --method {meta['method']} at iteration {meta['iteration']}, {megabytes:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
