"""How far a long job is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Optional

from tqdm import tqdm

SECONDS = 5  # at least, between two plain lines


class Progress:
    """Counts `unit`s up to `total`, where that is known. A job of less than SECONDS prints no plain line."""

    def __init__(self, label: str, total: Optional[int] = None, unit: str = "files", done: int = 0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self.bar = tqdm(desc=label, total=total, initial=done, unit=unit, unit_scale=True, dynamic_ncols=True, disable=None)
        self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, count: int = 1) -> None:
        self.done += count
        self.bar.update(count)
        if self.bar.disable and time.monotonic() - self.printed >= SECONDS:
            total = f" of {self.total:,}" if self.total else ""
            print(f"{self.label}: {self.done:,}{total} {self.unit}", file=sys.stderr, flush=True)
            self.printed = time.monotonic()
