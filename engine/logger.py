"""What a run tells: metrics.jsonl, VisualDL, and a progress bar or plain lines."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
import time
from pathlib import Path
from typing import Mapping, Optional, TextIO

import numpy as np
from tqdm import tqdm

from engine.cpu import temporary_home
from engine.progress import time_left
from engine.run import RunFolder, cannot_write
from utils import from_json, write_bytes

RECORDS = "vdlrecords.run.log"
SECONDS_BETWEEN_LINES = 60


class RunLog:
    """metrics.jsonl and the VisualDL log of a run, at the true iteration.

    With `iteration` both are cut back to it when they are opened, so that after a resume they go on without gaps or doubled points.
    Each entry is on disk before the next iteration begins.
    """

    def __init__(self, metrics: Path, log: Path, iteration: Optional[int] = None) -> None:
        self.metrics = metrics
        if iteration is not None:
            _cut_metrics(metrics, iteration)
            _cut_records(log / RECORDS, iteration)
        with temporary_home():
            from visualdl import LogWriter

        with contextlib.redirect_stdout(io.StringIO()):  # it announces that it appends
            self._writer = LogWriter(str(log), file_name=RECORDS)

    def write(self, iteration: int, losses: Mapping[str, float], speed: Mapping[str, float], extra: Mapping[str, float]) -> None:
        """Log one line: losses, `speed` (lr, images_per_second, fp16's loss_scale and skipped_steps) and `extra` scalars.

        The last go to VisualDL only.
        """
        # Totals first: VisualDL shows charts in this order.
        losses = dict(sorted(losses.items(), key=lambda item: not item[0].endswith("_total")))
        line = {"iteration": iteration, **losses, **speed}
        with open(self.metrics, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        named = {
            **{f"loss/{name}": value for name, value in losses.items()},
            **{f"training/{name}": value for name, value in speed.items()},
            **extra,
        }
        for tag, value in named.items():
            self._writer.add_scalar(tag, value, iteration)
        self._writer.flush()

    def write_scores(self, iteration: int, scores: Mapping[str, float]) -> None:
        """Log one line of an evaluation, once for each iteration: scores that are not finite are left out."""
        scores = {name: value for name, value in scores.items() if math.isfinite(value)}
        line = json.dumps({"iteration": iteration, **scores}) + "\n"
        if not scores or self.metrics.exists() and line in self.metrics.read_text(encoding="utf-8"):
            return
        with open(self.metrics, "a", encoding="utf-8") as stream:
            stream.write(line)
        for name, value in scores.items():
            self._writer.add_scalar(f"metric/{name}", value, iteration)
        self._writer.flush()

    def add_image(self, tag: str, image: np.ndarray, iteration: int) -> None:
        """Log an (H, W, 3) uint8 RGB picture."""
        self._writer.add_image(tag, image, iteration)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def open_log(run: RunFolder, iteration: Optional[int] = None) -> RunLog:
    """The run's log, cut back to `iteration`, if it is given. Raises CheckpointError where it cannot be written."""
    try:
        return RunLog(run.metrics, run.log, iteration)
    except OSError as error:
        raise cannot_write(run, error) from error


def _cut_metrics(path: Path, iteration: int) -> None:
    """Keep the whole lines up to `iteration`. A process that is killed while writing leaves half a line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if from_json(line)["iteration"] <= iteration:
                kept.append(line + "\n")
    write_bytes(path, "".join(kept).encode())


def _cut_records(path: Path, iteration: int) -> None:
    """The same for VisualDL's records: each is its length in 8 bytes, then a protocol buffer. They are in order of iterations.

    What follows a damaged record is cut off too.
    """
    if not path.exists():
        return
    with temporary_home():
        from visualdl.proto.record_pb2 import Record

    size = path.stat().st_size
    with open(path, "r+b") as stream:
        while True:
            start = stream.tell()
            length = int.from_bytes(stream.read(8), "little")
            content = stream.read(length) if length <= size - stream.tell() else b""
            if not content:
                break
            try:
                record = Record()
                record.ParseFromString(content)
            except Exception:  # DecodeError of protobuf, whose place differs between versions
                break
            if any(value.id > iteration for value in record.values):
                break
        stream.truncate(start)


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
