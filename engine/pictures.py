"""Sample grids: rows of pictures with their labels, one column an image."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import paddle

from dataset import Sample
from engine.method import Method, Row, Translation
from utils import labelled_grid, to_colour, to_heat_map, to_image


def translate_sample(method: Method, direction: str, sample: Sample, draw: int = 0) -> Translation:
    """The method's translation of one sample with its rows, in inference; `draw` numbers the noise, where there is any."""
    with method.inference(draw):
        truth = None if sample.truth is None else paddle.to_tensor(sample.truth[None])
        return method.translate_with_rows(direction, paddle.to_tensor(sample.image[None]), truth)


def strip(rows: Sequence[Row]) -> np.ndarray:
    """The first image of each row, one below the other, as wide as the first row's: (rows * size, size, 3) uint8 RGB."""
    size = rows[0].values.shape[-1]
    cells = [to_heat_map(row.values[0, 0], size, size) if row.is_heat_map else to_colour(to_image(row.values[0])) for row in rows]
    return np.concatenate(cells, axis=0)


def sample_grid(translations: Sequence[Translation]) -> np.ndarray:
    """Labelled rows, one column for each sample's translation.

    A known truth is the last row, and only where all samples have one: training images of unpaired sets have none.
    """
    columns = [translation.rows for translation in translations]
    labels = [row.label for row in min(columns, key=len)]
    return labelled_grid([strip(rows[: len(labels)]) for rows in columns], labels)
