"""The test phase: translate every image of a folder, under its own name."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from engine.trainer import Trainer
from utils import Sample, contact_sheet, output_names, strips, to_image, write_image

MOST_ON_A_SHEET = 200


def translate_folder(
    method: Trainer, direction: str, names: Sequence[str], read: Callable[[int], Sample], folder: Path, n_answers: int = 1
) -> None:
    """Translate images one by one.

    Writes folder/DIRECTION/NAME.png, the strip folder/grid/DIRECTION/NAME.png, and folder/contact_DIRECTION.png with up to 200
    images, evenly spread. With several answers, all of them as folder/answers/DIRECTION/NAME_NUMBER.png too.

    Args:
        read: gives sample i.
        n_answers: translations of each image, with different noise.
    """
    targets = output_names(names)
    on_sheet = set(np.linspace(0, len(names) - 1, min(len(names), MOST_ON_A_SHEET)).round().astype(int).tolist())
    pairs: List[Tuple[np.ndarray, np.ndarray]] = []
    for index, name in enumerate(tqdm(names, desc=direction, unit="image", dynamic_ncols=True, disable=None)):
        sample = read(index)
        output, rows = method.evaluate(direction, sample)
        translated = to_image(output[0])
        write_image(folder / direction / targets[name], translated)
        write_image(folder / "grid" / direction / targets[name], strips(rows, sample.image.shape[-1])[0])
        if n_answers > 1:
            stem = targets[name][: -len(".png")]
            answers = [output] + [method.evaluate(direction, sample, draw).output for draw in range(1, n_answers)]
            for number, answer in enumerate(answers, 1):
                write_image(folder / "answers" / direction / f"{stem}_{number}.png", to_image(answer[0]))
        if index in on_sheet:
            pairs.append((to_image(sample.image), translated))
    write_image(folder / f"contact_{direction}.png", contact_sheet(pairs))
