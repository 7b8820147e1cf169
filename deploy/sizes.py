"""Pictures of any size through a network that takes certain sides: padded, or in overlapping tiles without visible seams."""

from __future__ import annotations

import math
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

OVERLAP = 1 / 4  # of a tile's side, with its neighbour
# Of an overlap, at each of its ends: given to one tile alone, as the network saw a mirrored picture beyond a tile's border.
DISCARDED = 1 / 8
Run = Callable[[np.ndarray], Sequence[np.ndarray]]


class Axis(NamedTuple):
    """How one side of a picture is parted; all in pixels of the padded picture."""

    before: int  # padding before the picture
    length: int  # of the picture with its padding
    tile: int  # the side of every tile
    starts: List[int]  # where each tile begins


def translate_at_own_size(
    image: np.ndarray, run: Run, multiple: int, most_pixels: int, smallest: Optional[int] = None
) -> List[np.ndarray]:
    """Translate a picture of any size, mirrored at its borders as far as the network needs, and cropped back.

    With more than `most_pixels`, it goes through the network in overlapping tiles, one at a time. They are blended with weights
    that rise smoothly and sum to 1. All tiles of a picture have one shape, and begin at multiples of `multiple`, so that a
    network's strides fall on the same pixels in each.

    Args:
        image: (C, H, W) float32 in [-1, 1]; H and W are at least 1.
        run: takes (1, C, h, w), gives arrays (1, c, h, w), or smaller ones such as a heat map (1, 1, h / 4, w / 4).
        multiple: h and w are multiples of it.
        most_pixels: of h * w. Where it allows less, tiles still have sides of `smallest` and of 2 * multiple.
        smallest: of h and w, a multiple of `multiple`; default 2 * multiple, for networks that mirror at their narrowest place too.

    Returns:
        What `run` gives, each array (c, H, W) float32; smaller arrays are enlarged linearly.
    """
    _, height, width = image.shape
    rows, columns = plan(height, width, multiple, most_pixels, smallest)
    padded = np.pad(image, ((0, 0), _padding(rows, height), _padding(columns, width)), mode="reflect")
    results: List[np.ndarray] = []
    for top, weights_down in zip(rows.starts, blending_weights(rows)):
        for left, weights_across in zip(columns.starts, blending_weights(columns)):
            place = np.s_[:, top : top + rows.tile, left : left + columns.tile]
            outputs = [_enlarged(output[0], rows.tile, columns.tile) for output in run(padded[place][None])]
            if not results:
                results = [np.zeros((len(output), rows.length, columns.length), np.float32) for output in outputs]
            weights = np.outer(weights_down, weights_across)
            for result, output in zip(results, outputs):
                result[place] += weights * output
    picture = np.s_[:, rows.before : rows.before + height, columns.before : columns.before + width]
    return [result[picture] for result in results]


def count_tiles(height: int, width: int, multiple: int, most_pixels: int, smallest: Optional[int] = None) -> int:
    """How often `translate_at_own_size` calls `run` for a picture of this size."""
    rows, columns = plan(height, width, multiple, most_pixels, smallest)
    return len(rows.starts) * len(columns.starts)


def plan(height: int, width: int, multiple: int, most_pixels: int, smallest: Optional[int] = None) -> Tuple[Axis, Axis]:
    """The rows and the columns of tiles for a picture of this size: one of each where it goes through the network whole.

    Tiles are about square. A side that is shorter than such a square is not parted, and lets the tiles be longer along the other.
    """
    smallest = smallest or 2 * multiple
    padded = [max(smallest, _up(side, multiple)) for side in (height, width)]
    tile = list(padded)
    if padded[0] * padded[1] > most_pixels:
        short, long = sorted((0, 1), key=lambda axis: padded[axis])
        least = max(smallest, 2 * multiple)  # so that a tile is longer than its overlap
        tile[short] = min(padded[short], max(least, math.isqrt(most_pixels) // multiple * multiple))
        tile[long] = min(padded[long], max(least, most_pixels // tile[short] // multiple * multiple))
    rows, columns = (_axis(*sides, multiple) for sides in zip((height, width), padded, tile))
    return rows, columns


def _axis(side: int, length: int, largest_tile: int, multiple: int) -> Axis:
    """The fewest tiles that cover `length`, then the smallest that do so with as many."""
    before = (length - side) // 2
    if length == largest_tile:
        return Axis(before, length, length, [0])
    overlap = _up(largest_tile * OVERLAP, multiple)
    count = 1 + math.ceil((length - largest_tile) / (largest_tile - overlap))
    tile = _up((length + (count - 1) * overlap) / count, multiple)
    starts = [index * (length - tile) // (count - 1) // multiple * multiple for index in range(count)]
    return Axis(before, length, tile, starts)


def blending_weights(axis: Axis) -> np.ndarray:
    """(tiles, axis.tile) float32: at each pixel of the axis the weights of the tiles that cover it sum to 1."""
    weights = np.ones((len(axis.starts), axis.tile))
    for index in range(1, len(axis.starts)):
        overlap = axis.starts[index - 1] + axis.tile - axis.starts[index]
        position = ((np.arange(overlap) + 0.5) / overlap - DISCARDED) / (1 - 2 * DISCARDED)
        rising = np.sin(np.pi / 2 * np.clip(position, 0, 1)) ** 2
        weights[index, :overlap] *= rising
        weights[index - 1, axis.tile - overlap :] *= 1 - rising
    # Where tiles are so small that three meet.
    total = np.zeros(axis.length)
    for start, weight in zip(axis.starts, weights):
        total[start : start + axis.tile] += weight
    return np.stack([weight / total[start : start + axis.tile] for start, weight in zip(axis.starts, weights)]).astype(np.float32)


def _padding(axis: Axis, side: int) -> Tuple[int, int]:
    return axis.before, axis.length - side - axis.before


def _enlarged(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """(c, h, w) to (c, height, width)."""
    if maps.shape[1:] == (height, width):
        return maps
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps])


def _up(number: float, multiple: int) -> int:
    """The smallest multiple that is not less."""
    return math.ceil(number / multiple) * multiple
