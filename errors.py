"""What a user can do wrong, and the exit code each mistake ends with."""

from __future__ import annotations

import re

CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class UserError(Exception):
    """A mistake that the user can correct. Its text is one line naming the flag, the file and the remedy."""

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(UserError):
    """A wrong command or configuration."""

    exit_code = 2


class DataError(UserError):
    """Images that are missing or cannot be read."""


class DownloadError(UserError):
    """A file that cannot be downloaded, or an archive that is damaged or not safe to unpack."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, of another method, or cannot be written."""


class WeightsError(UserError):
    """Weights that are missing, damaged, or of another network."""


class ExportError(UserError):
    """Exported files that do not do what the network does."""


class TrainingError(UserError):
    """A training that cannot go on, such as a loss that is no longer a number."""


class Interrupted(UserError):
    """Ctrl-C or SIGTERM, after the state was saved."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def one_line(text: str) -> str:
    """`text` with line breaks and what else would control a terminal as escapes: names of files may hold them."""
    return CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)
