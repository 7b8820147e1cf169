"""Where a run's files are, and the checks before one is started."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Iterator

from errors import CheckpointError, ConfigError
from utils import write_bytes

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


class RunFolder:
    """RESULT_DIR/DATASET/METHOD and the names inside it."""

    def __init__(self, result_dir: str, dataset: str, method: str) -> None:
        self.path = Path(result_dir) / dataset / method
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.latest = self.checkpoints / "latest"
        self.samples = self.path / "samples"
        self.log = self.path / "log"
        self.test = self.path / "test"
        self.translated = self.test / "test.json"  # written last: of which iteration the translations are
        self.evaluation = self.path / "evaluation.json"
        # Inception features of the real images, for all methods with this result_dir and data set.
        self.features = self.path.parent / "features"

    def refuse_if_used(self) -> None:
        """Raise ConfigError where there is something of a run to lose."""
        if self.metrics.exists() or self.checkpoints.exists():
            raise ConfigError(f"{self.path} holds a run already: add --resume to go on with it, or name another --result_dir")

    def create(self, config_json: str) -> None:
        """Make the folder and save the configuration.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_bytes(self.config, config_json.encode())
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


def cannot_write(run: RunFolder, error: OSError) -> CheckpointError:
    """The user's error behind an OSError."""
    return CheckpointError(f"--result_dir: cannot write to {run.path} ({error.strerror or error})")
