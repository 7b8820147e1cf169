"""The data set that a command names: drawn, downloaded, or asked for."""

from __future__ import annotations

from pathlib import Path

from config import Config
from dataset import layout
from datatools.demo import NAME, draw_missing
from datatools.fetch import fetch
from errors import DataError


def provide_data(config: Config) -> None:
    """Draw what this phase needs of the demo set, or fetch a public one with --download, where it is missing.

    Raises:
        DataError: there is no such data set.
    """
    folder = Path(config.data_root) / config.dataset
    if config.dataset == NAME:
        draw_missing(folder, config.paired, test_alone=config.phase in ("test", "evaluate"))
    elif config.download and not folder.is_dir():
        fetch(config.dataset, config.data_root)
    elif not folder.is_dir():
        raise DataError(
            f"--data_root, --dataset: there is no folder {folder}; expected {layout(config)}; "
            f"or take a known set: {NAME}, which is drawn, or one of python -m datatools.fetch --list"
        )
