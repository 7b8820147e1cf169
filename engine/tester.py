"""The test phase: translate every image of a folder, under its own name."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence

import numpy as np
from tqdm import tqdm

from engine.trainer import Trainer
from utils import Sample, contact_sheet, labelled_grid, output_names, strips, to_image, write_image

MOST_ON_A_SHEET = 200
MOST_IN_A_GRID = 8


class Errors(NamedTuple):
    """Mean absolute errors against the true counterparts, in levels of 0..255: of the translations, and of the untouched inputs."""

    translated: float
    untouched: float


def translate_folder(
    method: Trainer, direction: str, names: Sequence[str], read: Callable[[int], Sample], folder: Path, n_answers: int = 1
) -> Optional[Errors]:
    """Translate images one by one.

    Writes folder/DIRECTION/NAME.png and the strip folder/grid/DIRECTION/NAME.png; folder/contact_DIRECTION.png, where each input
    stands above its translation and its true counterpart, if it has one, for up to 200 images, evenly spread; and
    folder/grid_DIRECTION.png, the labelled strips of 8. With several answers, all of them as
    folder/answers/DIRECTION/NAME_NUMBER.png too.

    Args:
        read: gives sample i.
        n_answers: translations of each image, with different noise.

    Returns:
        The errors, where every image has a true counterpart.
    """
    targets = output_names(names)
    on_sheet, in_grid = (_spread(len(names), most) for most in (MOST_ON_A_SHEET, MOST_IN_A_GRID))
    stacks: List[List[np.ndarray]] = []
    columns: List[np.ndarray] = []
    errors: List[Errors] = []
    for index, name in enumerate(tqdm(names, desc=direction, unit="image", dynamic_ncols=True, disable=None)):
        sample = read(index)
        output, rows = method.render(direction, sample)
        translated = to_image(output[0])
        strip = strips(rows, sample.image.shape[-1])[0]
        write_image(folder / direction / targets[name], translated)
        write_image(folder / "grid" / direction / targets[name], strip)
        if n_answers > 1:
            stem = targets[name][: -len(".png")]
            answers = [output] + [method.render(direction, sample, draw).output for draw in range(1, n_answers)]
            for number, answer in enumerate(answers, 1):
                write_image(folder / "answers" / direction / f"{stem}_{number}.png", to_image(answer[0]))
        stack = [to_image(sample.image), translated]
        if sample.truth is not None:
            stack.append(to_image(sample.truth))
            errors.append(Errors(_absolute_error(translated, stack[-1]), _absolute_error(stack[0], stack[-1])))
        if index in on_sheet:
            stacks.append(stack)
        if index in in_grid:
            columns.append(strip)
    write_image(folder / f"contact_{direction}.png", contact_sheet(stacks))
    write_image(folder / f"grid_{direction}.png", labelled_grid(columns, [row.label for row in rows]))
    return Errors(*np.mean(errors, axis=0).tolist()) if errors else None


def _spread(count: int, most: int) -> set:
    """Up to `most` indices below `count`, evenly spread."""
    return set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist())


def _absolute_error(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(image.astype(np.float32) - truth).mean())
