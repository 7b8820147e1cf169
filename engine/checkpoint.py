"""Checkpoints: a folder of two safetensors files and a JSON file that says what they are and how to check them.

Each is written under a temporary name and put in place by a rename, so that whatever moment the process is killed at, `latest`
is a whole checkpoint. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from errors import CheckpointError, ConfigError, TrainingError
from utils import sha256_of

FORMAT_VERSION = 1
MODEL, OPTIMIZER, META = "model.safetensors", "optimizer.safetensors", "meta.json"
LATEST, BEST = "latest", "best"
ANOTHER = "take another one of the run with --checkpoint"
Arrays = Dict[str, np.ndarray]

# Linux: exchange two names at once (renameat2, linux/fs.h).
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@dataclass
class Checkpoint:
    """The state of a run: `model` and `optimizer` arrays by name, and `meta` (iteration, method, config, ...)."""

    model: Arrays
    optimizer: Arrays
    meta: Dict[str, Any]


class CheckpointFolder:
    """The `checkpoints` folder of a run.

    Args:
        folder: made when the first checkpoint is saved.
        keep: how many periodic checkpoints stay; older ones are removed.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder, self.keep = Path(folder), keep
        self.latest, self.best = self.folder / LATEST, self.folder / BEST

    def save(self, checkpoint: Checkpoint, periodic: bool = False) -> None:
        """Write `latest` and, where `periodic`, step_ITERATION as well.

        Raises:
            CheckpointError: it cannot be written; what was there before stays.
            TrainingError: a value is not finite; what was there before stays.
        """
        with self._writing(checkpoint) as written:
            if periodic:
                step = self.folder / f"step_{checkpoint.meta['iteration']:07d}"
                # A copy and not a link: a damaged disk block should not take both.
                shutil.copytree(written, copy := self.folder / f".copying-{os.getpid()}")
                _put_in_place(copy, step)
            _put_in_place(written, self.latest)
            self._prune()

    @contextlib.contextmanager
    def _writing(self, checkpoint: Checkpoint) -> Iterator[Path]:
        """The checkpoint written under a temporary name."""
        _refuse_unfinite(checkpoint)
        written = self.folder / f".writing-{os.getpid()}"
        try:
            self._remove_leftovers()
            written.mkdir(parents=True)
            _write(checkpoint, written)
            yield written
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CheckpointError(
                f"--result_dir: cannot save a checkpoint in {self.folder} ({reason}); make room there. "
                "The older checkpoints are untouched: go on with --resume"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                self._remove_leftovers()

    def save_best(self, checkpoint: Checkpoint) -> None:
        """Write `best`. Raises as `save` does."""
        with self._writing(checkpoint) as written:
            _put_in_place(written, self.best)

    def newest_valid(self, method: Optional[str] = None) -> Tuple[Optional[Checkpoint], List[str]]:
        """The valid checkpoint of the highest iteration, or None where there is none at all; and why others were passed over.

        Raises:
            CheckpointError: there are checkpoints and not one is valid.
            ConfigError: it was made by another method than `method`.
        """
        found, problems = [], []
        for path in self._all():
            try:
                found.append((read_meta(path)["iteration"], path.name == LATEST, path))
            except CheckpointError as error:
                problems.append(str(error))
        for _, _, path in sorted(found, reverse=True):
            try:
                return load(path, method), problems
            except CheckpointError as error:
                problems.append(str(error))
        if problems:
            raise CheckpointError(f"--resume: no valid checkpoint in {self.folder}: {'; '.join(problems)}")
        return None, problems

    def _all(self) -> List[Path]:
        found = (self.latest, self.best, *self._periodic(), *self.folder.glob(".replaced-*"))
        return [path for path in found if path.is_dir()]

    def _periodic(self) -> List[Path]:
        """Our periodic checkpoints, oldest first; folders that a user named otherwise are left alone."""
        found = [path for path in self.folder.glob("step_*") if re.fullmatch(r"step_\d{7,}", path.name) and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name[len("step_") :]))

    def _prune(self) -> None:
        for old in self._periodic()[: -self.keep]:
            shutil.rmtree(old)

    def _remove_leftovers(self) -> None:
        for pattern in (".writing-*", ".copying-*") + ((".replaced-*",) if self.latest.exists() else ()):
            for leftover in self.folder.glob(pattern):
                shutil.rmtree(leftover)


# One checkpoint


def load(path: Path, method: Optional[str] = None) -> Checkpoint:
    """Read and verify a checkpoint folder.

    Raises:
        CheckpointError: it is missing, incomplete or changed.
        ConfigError: it was made by another method than `method`.
    """
    meta = read_meta(path)
    if method is not None and meta["method"] != method:
        raise ConfigError(f"--method {method}: {path} was made by --method {meta['method']}")
    for name, checksum in meta["checksums"].items():
        try:
            changed = sha256_of(path / name) != checksum
        except OSError as error:
            raise CheckpointError(f"{path / name}: cannot be read ({error.strerror}); {ANOTHER}") from error
        if changed:
            raise CheckpointError(f"{path / name}: its bytes have changed since it was saved; {ANOTHER}")
    return Checkpoint(load_file(path / MODEL), load_file(path / OPTIMIZER), meta)


def read_meta(path: Path) -> Dict[str, Any]:
    """The verified meta.json of a checkpoint folder. Raises CheckpointError."""
    file = path / META
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        checksum = meta.pop("checksum")
        version = meta["format_version"]
    except FileNotFoundError as error:
        raise CheckpointError(f"--checkpoint: {path} is not a checkpoint folder, it has no {META}") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read; {ANOTHER}") from error
    if checksum != _checksum(meta):
        raise CheckpointError(f"{file}: its bytes have changed since it was saved; {ANOTHER}")
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{file}: made by a newer version of this project (format {version}); update")
    return meta


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    save_file(checkpoint.model, folder / MODEL)
    save_file(checkpoint.optimizer, folder / OPTIMIZER)
    meta = {
        "format_version": FORMAT_VERSION,
        **checkpoint.meta,
        "checksums": {name: sha256_of(folder / name) for name in (MODEL, OPTIMIZER)},
    }
    text = json.dumps({**meta, "checksum": _checksum(meta)}, indent=2)
    (folder / META).write_text(text + "\n", encoding="utf-8")
    for name in (MODEL, OPTIMIZER, META):
        _to_disk(folder / name)


def _refuse_unfinite(checkpoint: Checkpoint) -> None:
    for name, array in [*checkpoint.model.items(), *checkpoint.optimizer.items()]:
        if not np.isfinite(array).all():
            iteration = checkpoint.meta["iteration"]
            raise TrainingError(
                f"{name} is not finite at iteration {iteration}: nothing was saved over; "
                "start a new run with a lower --lr and another --result_dir"
            )


def _checksum(meta: Dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _to_disk(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(written: Path, target: Path) -> None:
    """Rename a folder to `target`. Where `target` exists, both names are exchanged at once, so it is never missing."""
    if target.exists():
        replaced = target.with_name(f".replaced-{os.getpid()}")
        if _exchange(written, target):
            os.rename(written, replaced)
        else:
            # `newest_valid` also looks at .replaced-*, should the process die between these two.
            os.rename(target, replaced)
            os.rename(written, target)
        shutil.rmtree(replaced)
    else:
        os.rename(written, target)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names atomically; False where the system or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0
