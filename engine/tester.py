"""The test phase: translate every test image, under its own name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Set

import numpy as np

from dataset import Part
from engine import distributed
from engine.method import Method
from engine.pictures import strip, translate_sample
from engine.progress import track
from utils import contact_sheet, labelled_grid, output_names, to_colour, to_image, write_bytes, write_image

MOST_ON_A_SHEET = 200
MOST_IN_A_GRID = 8
RECORD = "test.json"


class Errors(NamedTuple):
    """Mean absolute errors against the true counterparts, in levels of 0..255: of the translations, and of the untouched inputs."""

    translated: float
    untouched: float

    def __str__(self) -> str:
        return (
            f"mean absolute error to the true counterparts {self.translated:.1f} of 255, of the untouched inputs "
            f"{self.untouched:.1f}: ratio {self.translated / max(self.untouched, 1e-9):.3f}"
        )


def translate_test_images(method: Method, parts: Mapping[str, Part], folder: Path) -> Dict[str, Errors]:
    """Translate the images of each direction.

    For each direction writes folder/DIRECTION/NAME.png and the strip folder/grid/DIRECTION/NAME.png, the labelled rows of 8 of
    them as folder/grid_DIRECTION.png, and folder/contact_DIRECTION.png, where each input stands above its translation and its true
    counterpart, if it has one, for up to 200 images, evenly spread. With config.n_answers above 1 all translations of an image are
    written as folder/answers/DIRECTION/NAME_NUMBER.png too. At the end removes other PNG files from these sub-folders, which an
    earlier test of other images has left, and writes folder/test.json: iteration, weights (averaged or raw), and the rows and image
    names of each direction.

    Returns:
        The errors of each direction whose images all have a true counterpart.

    Raises:
        OSError: a file cannot be written.
    """
    record: Dict[str, Any] = {"iteration": method.iteration, "weights": method.weights, "rows": {}, "images": {}}
    errors = {}
    for direction, part in parts.items():
        translator = _Translator(method, direction, part, folder)
        translator.run()
        record["rows"][direction], record["images"][direction] = translator.labels, list(translator.targets.values())
        *sums, count = translator.errors.tolist()
        if count:
            errors[direction] = Errors(*(total / count for total in sums))
    if not distributed.is_first():
        return errors
    for direction in set(method.directions) - set(parts):
        for sheet in (folder / f"contact_{direction}.png", folder / f"grid_{direction}.png"):
            sheet.unlink(missing_ok=True)
        remove_others(folder, direction, written=set())
    write_bytes(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return errors


class _Translator:
    """One direction of a test."""

    def __init__(self, method: Method, direction: str, part: Part, folder: Path) -> None:
        self.method, self.direction, self.part, self.folder = method, direction, part, folder
        self.targets = output_names(part.names)
        self.labels: List[str] = []
        # Of those images that have a truth: the sums of both errors, and how many they are.
        self.errors = np.zeros(3)

    def run(self) -> None:
        count = len(self.part.names)
        # By their places.
        on_sheet, in_grid = (_spread(count, most) for most in (MOST_ON_A_SHEET, MOST_IN_A_GRID))
        stacks: Dict[int, np.ndarray] = {}
        columns: Dict[int, np.ndarray] = {}
        own = distributed.share_of(count)
        for index in track(own, self.direction, len(own)):
            stack, column = self.translate(index, self.targets[self.part.names[index]])
            if index in on_sheet:
                stacks[on_sheet[index]] = np.stack([to_colour(image) for image in stack])
            if index in in_grid:
                columns[in_grid[index]] = column
        distributed.wait_for_all()
        every_stack = distributed.gathered(stacks, len(on_sheet), np.uint8)
        every_column = distributed.gathered(columns, len(in_grid), np.uint8)
        self.errors = distributed.sum_of(self.errors)
        if distributed.is_first():
            write_image(self.folder / f"contact_{self.direction}.png", contact_sheet(every_stack))
            write_image(self.folder / f"grid_{self.direction}.png", labelled_grid(every_column, self.labels))
            remove_others(self.folder, self.direction, {file for target in self.targets.values() for file in self.files_of(target)})

    def translate(self, index: int, target: str):
        """Write what belongs to one image; returns its stack for the contact sheet and its column for the grid."""
        sample = self.part.read(index)
        image, rows = translate_sample(self.method, self.direction, sample)
        self.labels = [row.label for row in rows]
        translated, column = to_image(image[0]), strip(rows)
        translation, grid, *answers = self.files_of(target)
        write_image(translation, translated)
        write_image(grid, column)
        for draw, file in enumerate(answers):
            answer = image if draw == 0 else translate_sample(self.method, self.direction, sample, draw).image
            write_image(file, to_image(answer[0]))
        stack = [to_image(sample.image), translated]
        if sample.truth is not None:
            stack.append(to_image(sample.truth))
            self.errors += (_absolute_error(translated, stack[-1]), _absolute_error(stack[0], stack[-1]), 1)
        return stack, column

    def files_of(self, target: str) -> List[Path]:
        """The files of one image: its translation, its strip, and with config.n_answers above 1 its answers."""
        names = [f"{target[: -len('.png')]}_{number}.png" for number in range(1, self.method.config.n_answers + 1)]
        answers = [self.folder / "answers" / self.direction / name for name in names]
        files = [self.folder / self.direction / target, self.folder / "grid" / self.direction / target]
        return files + (answers if len(answers) > 1 else [])


def remove_others(folder: Path, direction: str, written: Set[Path]) -> None:
    """Remove the translations that an earlier test has left: whoever scores a folder must not mix two tests."""
    for place in (folder / direction, folder / "grid" / direction, folder / "answers" / direction):
        for path in set(place.rglob("*.png")) - written:
            path.unlink()


def _spread(count: int, most: int) -> Dict[int, int]:
    """Up to `most` indices below `count`, evenly spread, with their places among them."""
    return {index: place for place, index in enumerate(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist())}


def _absolute_error(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(image.astype(np.float32) - truth).mean())
