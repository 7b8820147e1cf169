"""Where a run's files are, and the checks before one is started."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence, Tuple, Union

from config import AVERAGED, RAW, Config
from engine.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    find_checkpoint,
    has_checkpoints,
    load,
    newest_iteration,
    parts_of,
    read_meta,
)
from errors import CheckpointError, ConfigError, DataError, one_line
from utils import from_json, write_bytes

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


class RunFolder:
    """The folder of a run, RESULT_DIR/DATASET/METHOD, and the names inside it."""

    def __init__(self, *parts: Union[str, Path]) -> None:
        self.path = Path(*parts)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.log = self.path / "log"
        # Names and sizes of the training files.
        self.data = self.path / "data.json"
        # What an evaluation knows of the real images, for all methods with this result_dir and data set.
        self.features = self.path.parent / "features"

    def newest_checkpoint(self, method: str) -> Checkpoint:
        """The newest valid checkpoint, to resume from; what is wrong with newer ones is said on stderr.

        Raises:
            CheckpointError: there is none.
            ConfigError: it was made by another method.
        """
        checkpoint, problems = CheckpointFolder(self.checkpoints).newest_valid(method)
        if checkpoint is None:
            raise CheckpointError(
                f"--resume: there is no checkpoint in {self.checkpoints}: see --dataset, --method and --result_dir, "
                "or leave out --resume to start a run"
            )
        for problem in problems:
            print(f"passed over {problem}", file=sys.stderr)
        return checkpoint

    def remove_older_checkpoints(self, newest: int, keep: int) -> None:
        """Remove what is not to be kept beside the newest one, where a killed process has left some; nothing is said of errors."""
        with contextlib.suppress(OSError, CheckpointError), self.only_one():
            CheckpointFolder(self.checkpoints, keep).remove_older(newest)

    def test(self, name: str = "") -> Path:
        """Where the test phase writes; translations of a checkpoint or of weights that were named have a folder of their own."""
        return self.path / (f"test_{name}" if name else "test")

    def evaluation(self, name: str = "") -> Path:
        """The scores of the newest checkpoint, or of one, or of weights, that were named."""
        return self.path / (f"evaluation_{name}.json" if name else "evaluation.json")

    def write_evaluation(self, content: bytes, name: str = "") -> None:
        """Write the file of `evaluation`. Raises OSError."""
        write_bytes(self.evaluation(name), content)

    def refuse_if_used(self) -> None:
        """Raise ConfigError where there are checkpoints of a run, be they damaged."""
        if has_checkpoints(self.checkpoints):
            raise ConfigError(f"{self.path} holds a run already: add --resume to go on with it, or name another --result_dir")

    def create(self, config_json: str) -> None:
        """Make the folder and save the configuration.

        The logs of a run that has no checkpoint, and so cannot go on, are renamed, if there is anything in them.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not has_checkpoints(self.checkpoints) and self.metrics.exists():
                for path in (self.metrics, self.log):
                    if path.exists():
                        path.rename(_free_name(path))
            write_bytes(self.config, config_json.encode())
        except OSError as error:
            raise cannot_write(self, error) from error

    def newest_iteration(self) -> int:
        """The iteration of the newest checkpoint, 0 where there is none."""
        return newest_iteration(self.checkpoints)

    def refuse_if_trained_beyond(self, iteration: int) -> None:
        """Raise CheckpointError where another process has saved a checkpoint since this one looked."""
        if self.newest_iteration() != iteration:
            raise CheckpointError(f"{self.path}: another process has trained this run meanwhile; repeat the command")

    def check_data(self, sizes: Mapping[str, int], accept: bool) -> None:
        """Compare the training files with those that the run began with.

        Args:
            sizes: bytes by path in the data set.
            accept: go on with other files, and record them (--accept_changed_data).

        Raises:
            DataError: files were added, removed or have other sizes, or the record is damaged, and that is not accepted.
            CheckpointError: the record cannot be written.
        """
        try:
            recorded = from_json(self.data.read_text(encoding="utf-8"))["files"]
            changes = _differences(recorded, sizes)
        except FileNotFoundError:  # a run of version 0.1
            return self.record_data(sizes)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            changes = f"{self.data} is damaged"
        if not changes:
            return None
        if not accept:
            raise DataError(
                f"--resume: the training files are not those the run began with: {changes}; "
                "restore them, or go on with --accept_changed_data"
            )
        print(f"going on with other training files: {changes}")
        return self.record_data(sizes)

    def record_data(self, sizes: Mapping[str, int]) -> None:
        """Record the names and sizes of the training files. Raises CheckpointError where that cannot be written."""
        try:
            write_bytes(self.data, (json.dumps({"files": sizes}, indent=0) + "\n").encode())
        except OSError as error:
            raise cannot_write(self, error) from error

    @contextlib.contextmanager
    def only_one(self) -> Iterator[None]:
        """Within it no other process can train the same run or write its logs.

        Raises:
            CheckpointError: another process does so now, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise cannot_write(self, error) from error
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise CheckpointError(
                f"{self.path}: another process is working on this run; wait for it, or name another --result_dir"
            ) from error
        try:
            yield
        finally:
            os.close(lock)  # which releases it, as the end of the process does


def open_checkpoint(config: Config, typed: Sequence[str]) -> Tuple[RunFolder, Checkpoint, str]:
    """The checkpoint that test and evaluate read, with the generators that --weights names, alone.

    Args:
        typed: the flags that were given. A checkpoint's translations belong to the run that it lies in, unless --result_dir or
            another --dataset was given.

    Returns:
        The run to write to, the checkpoint, and the name of what is made of it: that of the checkpoint where --checkpoint named it,
        with "raw" where its trained generators were chosen over averaged ones; empty for what a run is known by.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: it was made by another method, or has no averaged generators and --weights asks for them.
    """
    run = RunFolder(config.result_dir, config.dataset, config.method)
    if not config.checkpoint:
        if not has_checkpoints(run.checkpoints):
            raise CheckpointError(
                f"there is no run in {run.path}: train one first, or see --result_dir, --dataset, --method and --checkpoint"
            )
        return run, *load_generators(find_checkpoint(run.checkpoints), config.method, config.weights)
    given = Path(config.checkpoint).resolve()
    path = find_checkpoint(given)
    checkpoint, raw = load_generators(path, config.method, config.weights)
    trained_on = dataclasses.replace(config, dataset=checkpoint.meta["config"].get("dataset")).dataset
    dataset = config.dataset if "dataset" in typed else trained_on
    run = RunFolder(config.result_dir, dataset, config.method)
    if path.parent.name == "checkpoints" and dataset == trained_on and "result_dir" not in typed:
        run = RunFolder(path.parent.parent)
    name = (given if given.parent == path.parent else path).name
    return run, checkpoint, f"{name}_{raw}" if raw else name


def method_of(path: Path) -> str:
    """The method of the checkpoint that --checkpoint names. Raises CheckpointError where there is none."""
    return read_meta(find_checkpoint(path))["method"]


def open_networks(path: Path, flag: str, method: Optional[str] = None) -> Checkpoint:
    """The networks of a checkpoint that was named with `flag`, the averaged generators where there are any.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: it was made by another method than `method`.
    """
    path = find_checkpoint(path, flag)
    has = parts_of(read_meta(path))
    return load(path, method, [AVERAGED if AVERAGED in has else "generators", *{"discriminators"}.intersection(has)])


def load_generators(path: Path, method: Optional[str], weights: Optional[str]) -> Tuple[Checkpoint, str]:
    """A checkpoint with the generators that --weights names, and "raw" where these were chosen over averaged ones, else "".

    Raises:
        CheckpointError: it is damaged.
        ConfigError: it was made by another method than `method`, or has no averaged generators and `weights` asks for them.
    """
    has_averaged = AVERAGED in parts_of(read_meta(path))
    if weights == AVERAGED and not has_averaged:
        raise ConfigError(f"--weights {AVERAGED}: {path} was trained without --ema and has no averaged weights: leave the flag out")
    if has_averaged and weights != RAW:
        return load(path, method, [AVERAGED]), ""
    return load(path, method, ["generators"]), RAW if has_averaged else ""


def _free_name(path: Path) -> Path:
    """A name beside `path` that nothing has: NAME_earlier1.SUFFIX and so on."""
    names = (path.with_name(f"{path.stem}_earlier{number}{path.suffix}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _differences(recorded: Mapping[str, int], sizes: Mapping[str, int]) -> str:
    kinds = {
        "added": sorted(sizes.keys() - recorded.keys()),
        "missing": sorted(recorded.keys() - sizes.keys()),
        "of another size": sorted(name for name in recorded.keys() & sizes.keys() if recorded[name] != sizes[name]),
    }
    return ", ".join(f"{len(names)} {kind} ({names[0]}{', ...' if names[1:] else ''})" for kind, names in kinds.items() if names)


def cannot_write(run: RunFolder, error: OSError) -> CheckpointError:
    """The user's error behind an OSError."""
    return CheckpointError(one_line(f"--result_dir: cannot write to {error.filename or run.path} ({error.strerror or error})"))
