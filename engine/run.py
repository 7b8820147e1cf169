"""Where a run's files are, and the checks before one is started."""

from __future__ import annotations

from pathlib import Path

from errors import CheckpointError, ConfigError
from utils import write_bytes


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
        self.evaluation = self.path / "evaluation.json"
        # Of the real images, for all methods on this data set.
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


def cannot_write(run: RunFolder, error: OSError) -> CheckpointError:
    """The user's error behind an OSError."""
    return CheckpointError(f"--result_dir: cannot write to {run.path} ({error.strerror or error})")
