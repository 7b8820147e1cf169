"""Where this project keeps what it downloads for the user."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Where this project keeps what it downloads for the user: ~/.cache/ugatit-paddle, or where the system has it instead."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join("~", "AppData", "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.join("~", ".cache")  # a relative one is to be ignored
    return Path(os.path.expanduser(base)) / "ugatit-paddle"


def inception_cache() -> Path:
    """The file of the Inception weights."""
    return cache_folder() / "inception.safetensors"
