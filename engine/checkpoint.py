"""Checkpoints: folders step_N of safetensors files and a JSON file that says what they are and how to check them.

    generators.safetensors       what translates; test, evaluation and export need nothing else
    discriminators.safetensors
    optimizer.safetensors        Adam's moments, and what else a method carries along
    averaged.safetensors         with --ema: the averaged generators, which then translate
    meta.json                    iteration, configuration, checksums of the files

Every save is a new folder: written under a temporary name, put in place by one rename, and only then are older ones removed, each
after one rename too. So whatever moment the process is killed at, there is a whole checkpoint, and none that has lost a file.
Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from config import AVERAGED
from errors import CheckpointError, ConfigError, TrainingError
from utils import from_json, sha256_of

FORMAT_VERSION = 2
PARTS = ("generators", "discriminators", "optimizer")
META = "meta.json"
# Format 1, of version 0.1, has both kinds of networks in one file, and folders named latest and best.
FILES_OF_FORMAT = {
    1: {"generators": "model.safetensors", "discriminators": "model.safetensors", "optimizer": "optimizer.safetensors"},
    # AVERAGED is a further part, of runs with --ema alone.
    2: {part: f"{part}.safetensors" for part in (*PARTS, AVERAGED)},
}
# Folders that are being written or removed, or were when the process was killed.
WRITING, REMOVING = ".writing-", ".removing-"
ANOTHER = "use another checkpoint of the run"
# Checkpoints that come with the project.
SHIPPED = Path(__file__).parents[1] / "weights"
Arrays = Dict[str, np.ndarray]


@dataclass
class Checkpoint:
    """The state of a run: arrays by part and name, and `meta` (iteration, method, config, ...)."""

    arrays: Dict[str, Arrays]
    meta: Dict[str, Any]


class CheckpointFolder:
    """The `checkpoints` folder of a run.

    Args:
        folder: made when the first checkpoint is saved.
        keep: how many periodic checkpoints stay; older ones are removed.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder, self.keep = Path(folder), keep

    def save(self, checkpoint: Checkpoint, periodic: bool = False) -> None:
        """Write step_ITERATION, then remove older ones: of those that are not periodic only this one stays.

        Raises:
            CheckpointError: it cannot be written; what was there before stays.
            TrainingError: a value is not finite; what was there before stays.
        """
        kind = "periodic" if periodic else "latest"
        with self._writing(checkpoint, kind) as written:
            self._put_in_place(written, f"step_{checkpoint.meta['iteration']:07d}")
            self.remove_older(checkpoint.meta["iteration"])

    def remove_older(self, newest: int) -> None:
        """Remove all but the checkpoint of iteration `newest`, the periodic ones that are kept, and the best.

        `save` does so; after the last one of a run, a process that was killed may have left some. Raises OSError.
        """
        self._clear()
        kinds = {path: _kind(path) for path in self._ours("step")}
        periodic_ones = [path for path, kind in kinds.items() if kind == "periodic"]
        passing_ones = [path for path, kind in kinds.items() if kind == "latest"]
        older = [path for path in (*periodic_ones[: -self.keep], *passing_ones) if path.name != f"step_{newest:07d}"]
        self._remove([*older, self.folder / "latest"])

    def save_best(self, checkpoint: Checkpoint) -> None:
        """Write best_ITERATION in the place of the earlier best. Raises as `save` does."""
        with self._writing(checkpoint, "best") as written:
            target = self._put_in_place(written, f"best_{checkpoint.meta['iteration']:07d}")
            self._remove([*(path for path in self._ours("best") if path != target), self.folder / "best"])

    def has_best(self) -> bool:
        return any("best" in path.name for _, path in _with_iterations(self.folder)[0])

    @contextlib.contextmanager
    def _writing(self, checkpoint: Checkpoint, kind: str) -> Iterator[Path]:
        """The checkpoint written under a temporary name."""
        _refuse_unfinite(checkpoint)
        written = self.folder / f"{WRITING}{os.getpid()}"
        try:
            self._clear()
            written.mkdir(parents=True)
            _write(checkpoint, kind, written)
            yield written
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CheckpointError(
                f"--result_dir: cannot save a checkpoint in {self.folder} ({reason}); what was saved earlier is untouched: "
                "make the folder writable or make room, then go on with --resume"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                self._clear()

    def _put_in_place(self, written: Path, name: str) -> Path:
        target, replaced = self.folder / name, self.folder / f".replaced-{name}"
        if target.exists():
            # A run that went on from an older checkpoint comes by this iteration again. `_with_iterations` finds it in both places.
            self._remove([replaced])
            os.rename(target, replaced)
        os.rename(written, target)
        self._remove(self.folder.glob(f".replaced-{name.split('_')[0]}_*"))
        return target

    def _ours(self, kind: str) -> List[Path]:
        """Our folders step_N or best_N, oldest first; folders that a user named otherwise are left alone."""
        found = [path for path in self.folder.glob(f"{kind}_*") if re.fullmatch(rf"{kind}_\d{{7,}}", path.name) and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name.split("_")[1]))

    def _clear(self) -> None:
        """Remove what is half written or half removed."""
        self._remove([path for prefix in (WRITING, REMOVING) for path in self.folder.glob(f"{prefix}*")])

    def _remove(self, folders: Iterable[Path]) -> None:
        for folder in [folder for folder in folders if folder.is_dir()]:
            if not folder.name.startswith((WRITING, REMOVING)):
                folder = folder.rename(self.folder / f"{REMOVING}{folder.name}")
            shutil.rmtree(folder)

    def newest_valid(self, method: Optional[str] = None) -> Tuple[Optional[Checkpoint], List[str]]:
        """The valid checkpoint of the highest iteration, or None where there is none at all; and why others were passed over.

        Raises:
            CheckpointError: there are checkpoints and not one is valid.
            ConfigError: it was made by another method than `method`.
        """
        found, problems = _with_iterations(self.folder)
        for _, path in reversed(found):
            try:
                return load(path, method), problems
            except CheckpointError as error:
                problems.append(str(error))
        if problems:
            raise CheckpointError(f"--resume: no valid checkpoint in {self.folder}: {'; '.join(problems)}")
        return None, problems


# Finding one


def has_checkpoints(checkpoints: Path) -> bool:
    """Whether there are any in a run's `checkpoints` folder, be they damaged."""
    return any(not meta.parent.name.startswith((WRITING, REMOVING)) for meta in checkpoints.glob(f"*/{META}"))


def newest_iteration(checkpoints: Path) -> int:
    """The iteration of the newest checkpoint in a run's `checkpoints` folder, 0 where there is none."""
    found, _ = _with_iterations(checkpoints)
    return found[-1][0] if found else 0


def shipped(path: Path) -> Path:
    """`path`; where it names weights/NAME and there is no such folder, NAME among the checkpoints that come with the project."""
    ours = SHIPPED / path.name
    return ours if path.parent.name == SHIPPED.name and not path.exists() and ours.is_dir() else path


def find_checkpoint(path: Path, flag: str = "--checkpoint") -> Path:
    """The checkpoint folder that `path`, given with `flag`, names; what is wrong with newer ones is said on stderr.

    That is the folder itself, or the newest checkpoint in the folder of a run or in its `checkpoints`. There, `latest` and `best`
    name the newest of all and the one that --keep_best kept. weights/NAME is found from any folder (`shipped`).

    Raises:
        CheckpointError: there is none, or none can be read.
    """
    path = shipped(path)
    if (path / META).is_file():
        return path
    by_name = path.name in ("latest", "best") and not path.is_dir()
    folder = path.parent if by_name else path / "checkpoints" if (path / "checkpoints").is_dir() else path
    found, problems = _with_iterations(folder)
    if by_name and path.name == "best":
        found = [(iteration, checkpoint) for iteration, checkpoint in found if "best" in checkpoint.name]
    if not found:
        nothing = f"{flag}: {path} is not a checkpoint folder, it has no {META}, nor the folder of a run"
        if by_name:
            nothing = f"{flag}: {path.parent} has no checkpoint" + " kept by --keep_best" * (path.name == "best")
        raise CheckpointError("; ".join(problems) or nothing)
    for problem in problems:
        print(f"passed over {problem}", file=sys.stderr)
    return found[-1][1]


def _with_iterations(checkpoints: Path) -> Tuple[List[Tuple[int, Path]], List[str]]:
    """The checkpoints in a folder whose meta.json is whole, oldest first, with their iterations; and what is wrong with others."""
    found, problems = [], []
    for meta in checkpoints.glob(f"*/{META}"):
        if meta.parent.name.startswith((WRITING, REMOVING)):
            continue
        try:
            found.append((read_meta(meta.parent)["iteration"], meta.parent))
        except CheckpointError as error:
            problems.append(str(error))
    return sorted(found), sorted(problems)


def _kind(path: Path) -> str:
    """Why a checkpoint was saved: latest, periodic or best; empty where that cannot be read."""
    try:
        meta = read_meta(path)
    except CheckpointError:
        return ""
    return meta.get("kind", "periodic")  # format 1 has folders step_N for periodic ones alone


# One checkpoint


def parts_of(meta: Mapping[str, Any]) -> List[str]:
    """The parts of the checkpoint with this meta.json."""
    return [part for part, file in FILES_OF_FORMAT[meta["format_version"]].items() if file in meta["checksums"]]


def load(path: Path, method: Optional[str] = None, parts: Optional[Sequence[str]] = None) -> Checkpoint:
    """Read and verify the `parts` of a checkpoint folder, by default all that a run goes on with; nothing else is read.

    Weights that are stored in half precision, as those of tools.publish_weights, are given in float32.

    Raises:
        CheckpointError: it is missing, incomplete or changed, or has not all of these parts.
        ConfigError: it was made by another method than `method`.
    """
    meta = read_meta(path)
    if method is not None and meta["method"] != method:
        raise ConfigError(f"--method {method}: {path} was made by --method {meta['method']}; name that one, or another checkpoint")
    files, has = FILES_OF_FORMAT[meta["format_version"]], parts_of(meta)
    parts = sorted({*PARTS, *has}) if parts is None else parts
    missing = sorted(set(parts) - set(has))
    if missing:
        raise CheckpointError(f"{path} has no {' and no '.join(missing)}: a new run can start from it, with --init_from {path}")
    contents = {name: _load_file(path / name, meta["checksums"].get(name)) for name in {files[part] for part in parts}}
    return Checkpoint({part: contents[files[part]] for part in parts}, meta)


def _load_file(file: Path, checksum: Optional[str]) -> Arrays:
    try:
        if sha256_of(file) != checksum:
            raise CheckpointError(f"{file}: its bytes have changed since it was saved; {ANOTHER}")
        return {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error}); {ANOTHER}") from error


def read_meta(path: Path) -> Dict[str, Any]:
    """The verified meta.json of a checkpoint folder. Raises CheckpointError."""
    file = path / META
    try:
        meta = from_json(file.read_text(encoding="utf-8"))
        checksum = meta.pop("checksum")
        is_whole = _is_whole(meta)
    except FileNotFoundError as error:
        raise CheckpointError(f"--checkpoint: {path} is not a checkpoint folder, it has no {META}") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read; {ANOTHER}") from error
    if checksum != _checksum(meta):
        raise CheckpointError(f"{file}: its bytes have changed since it was saved; {ANOTHER}")
    if not is_whole:
        raise CheckpointError(f"{file}: not the meta.json of a checkpoint; {ANOTHER}")
    if meta["format_version"] not in FILES_OF_FORMAT:
        raise CheckpointError(f"{file}: made by a newer version of this project (format {meta['format_version']}); update")
    return {"config": {}, "window": {}, **meta}


def _is_whole(meta: Dict[str, Any]) -> bool:
    """Whether the values that are used unasked are of the types that are saved. Raises KeyError or AttributeError as well."""
    window, precision, best = (meta.get(name, {}) for name in ("window", "precision", "best"))
    texts = (meta["method"], meta.get("kind", ""), best.get("kind") or "")
    counts = (meta["format_version"], meta["iteration"], window.get("count", 0))
    numbers = (meta.get("seconds", 0), best.get("merit", 0), *window.get("sums", {}).values(), *precision.values())
    return (
        isinstance(meta.get("config", {}), dict)
        and isinstance(meta["checksums"], dict)
        and all(isinstance(text, str) for text in texts)
        and all(type(count) is int and 0 <= count < 2**63 for count in counts)
        and all(type(number) is float or (type(number) is int and abs(number) < 2**63) for number in numbers)
        and set(window) <= {"sums", "count"}
        and (not precision or set(precision) == {"loss_scale", "skipped_steps", "iterations"})
    )


def save_folder(checkpoint: Checkpoint, path: Path, kind: str = "imported") -> None:
    """Write a checkpoint that belongs to no run as the new folder `path`, whole or not at all.

    Args:
        kind: where it comes from: "imported" or "published".

    Raises:
        CheckpointError: it cannot be written, or there is such a folder already.
    """
    written = path.with_name(f"{WRITING}{os.getpid()}")
    try:
        written.mkdir(parents=True)
        _write(checkpoint, kind, written)
        os.rename(written, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    finally:
        shutil.rmtree(written, ignore_errors=True)


def _write(checkpoint: Checkpoint, kind: str, folder: Path) -> None:
    names = {part: FILES_OF_FORMAT[FORMAT_VERSION][part] for part in checkpoint.arrays}
    for part, arrays in checkpoint.arrays.items():
        save_file(arrays, folder / names[part])
    meta = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        **checkpoint.meta,
        "checksums": {name: sha256_of(folder / name) for name in names.values()},
    }
    text = json.dumps({**meta, "checksum": _checksum(meta)}, indent=2)
    (folder / META).write_text(text + "\n", encoding="utf-8")
    mode = (folder / META).stat().st_mode
    for name in (*names.values(), META):
        # safetensors makes files that only their owner can read.
        (folder / name).chmod(mode)
        _to_disk(folder / name)


def _refuse_unfinite(checkpoint: Checkpoint) -> None:
    for name, array in [item for arrays in checkpoint.arrays.values() for item in arrays.items()]:
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
