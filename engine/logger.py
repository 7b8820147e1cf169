"""What a run tells: metrics.jsonl, VisualDL, and a progress bar or plain lines."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, TextIO

import numpy as np
from tqdm import tqdm

from engine.cpu import temporary_home
from engine.progress import time_left
from engine.run import RunFolder, cannot_write
from errors import one_line
from utils import append_bytes, from_json, write_bytes, write_image

RECORDS = "vdlrecords.run.log"
SECONDS_BETWEEN_LINES = 60


class RunLog:
    """metrics.jsonl, the VisualDL log and the sample grids of a run, at the true iteration.

    Both logs are cut back to `iteration` when they are opened, so that after a resume they go on without gaps or doubled points. A
    half-written end is cut off in any case. Each entry is on disk before the next iteration begins.

    Records are appended here, not by VisualDL's LogWriter: its thread prints and forgets what it could not write, and leaves half a
    record, behind which nothing can be read.

    Args:
        warn: called with a text, once, where a file cannot be written. What cannot be written is left out; the next entry is tried.

    Raises:
        OSError: the logs cannot be cut, or their folder not made.
    """

    def __init__(self, run: RunFolder, warn: Callable[[str], None], iteration: float = math.inf) -> None:
        self.run, self._warn = run, warn
        with temporary_home():
            from visualdl.component.base_component import image, scalar
        self._image, self._scalar = image, scalar
        run.log.mkdir(parents=True, exist_ok=True)  # visualdl may be started before the first line
        _cut_metrics(run.metrics, iteration)
        _cut_records(run.log / RECORDS, iteration)

    def write(self, iteration: int, losses: Mapping[str, float], speed: Mapping[str, float], extra: Mapping[str, float]) -> None:
        """Log one line: losses, `speed` (lr, images_per_second, fp16's loss_scale and skipped_steps) and `extra` scalars.

        The last go to VisualDL only.
        """
        # Totals first: VisualDL shows charts in this order.
        losses = dict(sorted(losses.items(), key=lambda item: not item[0].endswith("_total")))
        self._append_line({"iteration": iteration, **losses, **speed})
        named = {
            **{f"loss/{name}": value for name, value in losses.items()},
            **{f"training/{name}": value for name, value in speed.items()},
            **extra,
        }
        self._append_scalars(named, iteration)

    def write_scores(self, iteration: int, scores: Mapping[str, float]) -> None:
        """Log one line of an evaluation, once for each iteration: scores that are not finite are left out."""
        scores = {name: value for name, value in scores.items() if math.isfinite(value)}
        line = {"iteration": iteration, **scores}
        with self.tolerant():
            if not scores or self.run.metrics.exists() and _as_line(line) in self.run.metrics.read_bytes():
                return
        self._append_line(line)
        self._append_scalars({f"metric/{name}": value for name, value in scores.items()}, iteration)

    def write_samples(self, direction: str, grid: np.ndarray, iteration: int) -> None:
        """Write and log the sample grid of a direction, (H, W, 3) uint8 RGB."""
        with self.tolerant():
            write_image(self.run.samples / f"{direction}_{iteration:07d}.png", grid)
        self._append_records(self._image(f"samples/{direction}", grid, iteration, _milliseconds()))

    @contextlib.contextmanager
    def tolerant(self) -> Iterator[None]:
        """Within it a file that cannot be written is left out: a training does not end for it."""
        try:
            yield
        except OSError as error:
            self._warn(one_line(f"{error.filename} cannot be written ({error.strerror or error})"))
            self._warn = lambda text: None

    def _append_line(self, values: Mapping[str, float]) -> None:
        with self.tolerant():
            append_bytes(self.run.metrics, _as_line(values))

    def _append_scalars(self, values: Mapping[str, float], iteration: int) -> None:
        now = _milliseconds()
        self._append_records(*(self._scalar(tag, value, iteration, now) for tag, value in values.items()))

    def _append_records(self, *records: Any) -> None:
        contents = [record.SerializeToString() for record in records]
        with self.tolerant():
            append_bytes(self.run.log / RECORDS, b"".join(len(content).to_bytes(8, "little") + content for content in contents))


def open_log(run: RunFolder, warn: Callable[[str], None], iteration: float = math.inf) -> RunLog:
    """The run's log, as `RunLog`. Raises CheckpointError where it cannot be cut back to `iteration`."""
    try:
        return RunLog(run, warn, iteration)
    except OSError as error:
        raise cannot_write(run, error) from error


def _as_line(values: Mapping[str, float]) -> bytes:
    return (json.dumps(values) + "\n").encode()


def _milliseconds() -> int:
    """VisualDL's time of a record."""
    return round(time.time() * 1000)


def _cut_metrics(path: Path, iteration: float) -> None:
    """Keep the whole lines up to `iteration`. A process that is killed while writing leaves half a line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if from_json(line)["iteration"] <= iteration:
                kept.append(line + "\n")
    write_bytes(path, "".join(kept).encode())


def _cut_records(path: Path, iteration: float) -> None:
    """The same for VisualDL's records: each is its length in 8 bytes, then a protocol buffer.

    What follows a damaged record is cut off too.
    """
    if not path.exists():
        return
    with temporary_home():
        from visualdl.proto.record_pb2 import Record

    size = path.stat().st_size
    with open(path, "r+b") as stream:
        # An evaluation may have logged an earlier iteration behind a later one.
        cut, kept_behind = None, []
        while True:
            start = stream.tell()
            head = stream.read(8)
            length = int.from_bytes(head, "little")
            content = stream.read(length) if length <= size - stream.tell() else b""
            if not content:
                break
            try:
                record = Record()
                record.ParseFromString(content)
            except Exception:  # DecodeError of protobuf, whose place differs between versions
                break
            if any(value.id > iteration for value in record.values):
                cut = start if cut is None else cut
            elif cut is not None:
                kept_behind.append(head + content)
        stream.truncate(start if cut is None else cut)
        stream.seek(0, os.SEEK_END)
        stream.write(b"".join(kept_behind))


class Progress:
    """A bar on a terminal; on anything else plain lines, at each report and at least once a minute."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total
        self.started = self.last_line = time.monotonic()
        self.bar: Optional[tqdm] = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=first, unit="it", dynamic_ncols=True)

    def update(self, iteration: int, values: Mapping[str, float], report: bool) -> None:
        """`iteration` is done and gave these values; `report` asks for a line of its own."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.bar is not None:
            self.bar.update(iteration - self.bar.n)
            self.bar.set_postfix_str(text, refresh=False)
        now = time.monotonic()
        if report or (self.bar is None and now - self.last_line > SECONDS_BETWEEN_LINES):
            self.last_line = now
            self.say(f"[{iteration}/{self.total}]  {text}  {self._speed(iteration, now)}")

    def say(self, text: str) -> None:
        """Print a line without tearing the bar."""
        self._print(text, sys.stdout)

    def warn(self, text: str) -> None:
        """The same on stderr."""
        self._print(text, sys.stderr)

    def _print(self, text: str, stream: TextIO) -> None:
        if self.bar is not None:
            self.bar.write(text, file=stream)
        else:
            print(text, file=stream, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _speed(self, iteration: int, now: float) -> str:
        seconds = (now - self.started) / max(1, iteration - self.first)
        return f"{seconds:.3g} s/it  {time_left(seconds * (self.total - iteration))}"
