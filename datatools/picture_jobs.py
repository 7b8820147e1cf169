"""Write many pictures as one: in parallel, never over anything by surprise, all of them or none.

The functions take a command's options: `output` (Path), `overwrite` and `skip_unreadable` (bool), `num_workers` (int) and `stop`
(a StopRequest).
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import numpy as np
from tqdm import tqdm

from dataset import MOST_LISTED
from errors import ConfigError, DataError, Interrupted
from utils import read_image, write_bytes

Item, Result = TypeVar("Item"), TypeVar("Result")


class Unreadable(DataError):
    """A picture that --skip_unreadable passes over."""


class Job(NamedTuple):
    """One step of a command: the originals, the files it writes (relative to --output), and what makes their bytes."""

    sources: Tuple[Path, ...]
    targets: Tuple[str, ...]
    make: Callable[[], Sequence[bytes]]


def read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises Unreadable."""
    try:
        return read_image(path)
    except DataError as error:
        raise Unreadable(str(error)) from error


def write_all(jobs: Sequence[Job], options: argparse.Namespace) -> List[str]:
    """Do the jobs in a hidden folder, then move all files to their places; returns their names, relative to --output.

    Raises:
        DataError: a picture cannot be read, or, with --skip_unreadable, none can.
        ConfigError: files have appeared in their places in the meantime.
    """
    output = options.output
    home = output if output.is_dir() else output.parent  # on the file system of the output, where moving is renaming
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".prepare_dataset.", dir=home) as hidden:
        draft = Path(hidden) / "draft"

        def work(job: Job) -> Tuple[str, ...]:
            for target, content in zip(job.targets, job.make()):
                write_bytes(draft / target, content)
            return job.targets

        done = in_parallel(work, jobs, "writing", options)
        written = [target for targets in done if targets for target in targets]
        if not written:
            raise DataError("no picture could be read")
        if not os.path.lexists(output):
            draft.rename(output)
            return written
        refuse_overwriting(written, options)
        for target in written:
            (output / target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft / target, output / target)
    return written


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, options: argparse.Namespace
) -> List[Optional[Result]]:
    """`work` of each item, in their order; with --skip_unreadable, None for those that cannot be read.

    Threads suffice: OpenCV releases Python's lock while it decodes, resizes and encodes.

    Raises:
        Interrupted: Ctrl-C or SIGTERM.
    """
    pool = ThreadPoolExecutor(options.num_workers, thread_name_prefix="pictures")

    def result(future: Future) -> Optional[Result]:
        try:
            value = future.result()
        except Unreadable as error:
            if not options.skip_unreadable:
                raise Unreadable(f"{error}, or say --skip_unreadable") from error
            tqdm.write(f"passed over {error}", file=sys.stderr)
            value = None
        if options.stop.exit_code is not None:
            raise Interrupted("stopped; nothing was written", options.stop.exit_code)
        return value

    try:
        futures = [pool.submit(work, item) for item in items]
        return [result(future) for future in tqdm(futures, desc=what, unit="picture", disable=None)]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def check_places(jobs: Sequence[Job], inputs: Sequence[Path], options: argparse.Namespace) -> None:
    """Raise ConfigError where a file could not be written, or would lie in one of `inputs`, or over another without --overwrite."""
    names = [target for job in jobs for target in job.targets]
    targets = [options.output / name for name in names]
    for parent in sorted({target.parent for target in targets}):
        nearest = next(place for place in (parent, *parent.parents) if os.path.lexists(place))
        if not nearest.is_dir():
            raise ConfigError(f"--output: {nearest} is not a folder")
        for folder in inputs:
            if is_within(parent, folder):
                raise ConfigError(f"--output: {parent} is inside {folder}, where the originals are: choose a folder outside")
    refuse_overwriting(names, options)
    originals = {identity(source) for job in jobs for source in job.sources}
    for target in targets:
        if target.exists() and (target.is_dir() or identity(target) in originals):
            raise ConfigError(f"--output: {target} is {'a folder' if target.is_dir() else 'an original'}: choose another folder")


def refuse_overwriting(targets: Sequence[str], options: argparse.Namespace) -> None:
    """Raise ConfigError where a file is in the way and --overwrite was not said."""
    existing = [target for target in targets if os.path.lexists(options.output / target)]
    if existing and not options.overwrite:
        raise ConfigError(f"--output: {options.output} holds {listed(existing)} already: choose another folder, or say --overwrite")


def is_within(path: Path, folder: Path) -> bool:
    """Whether `path`, which need not exist, is `folder` or lies in it, links followed."""
    resolved = path.resolve()
    return any(place.exists() and place.samefile(folder) for place in (resolved, *resolved.parents))


def identity(path: Path) -> Tuple[int, int]:
    """The same for two names of one file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more
