"""How far a long job is: a bar on a terminal, plain lines with speed and time left elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Iterable, Iterator, Optional, TypeVar

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5
Item = TypeVar("Item")


class Progress:
    """Counts `unit`s up to `total`, where that is known. Lines go to stderr; a short job prints none."""

    def __init__(self, label: str, total: Optional[int] = None, unit: str = "images", done: int = 0) -> None:
        self.label, self.total, self.unit, self.first, self.done = label, total, unit, done, done
        self.bar = tqdm(
            desc=label, total=total, initial=done, unit=unit, unit_scale=True, dynamic_ncols=True, disable=None, leave=False
        )
        self.started = self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        """Print a line on stderr, above the bar where there is one."""
        self.bar.write(line, file=sys.stderr)

    def update(self, count: int = 1) -> None:
        self.done += count
        self.bar.update(count)
        now = time.monotonic()
        if self.bar.disable and now - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = now
            speed = (self.done - self.first) / (now - self.started)
            text = f"{self.label}: {self.done:,} {self.unit}, {speed:,.1f} a second"
            if self.total:
                text += f", {self.total:,} in all, {time_left((self.total - self.done) / speed)}"
            print(text, file=sys.stderr, flush=True)


def track(items: Iterable[Item], label: str, total: int, unit: str = "images") -> Iterator[Item]:
    """The items, with a Progress that counts those that are done."""
    with Progress(label, total, unit) as progress:
        for item in items:
            yield item
            progress.update()


def time_left(seconds: float) -> str:
    """Such as 1:02:03 left."""
    seconds = int(seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
