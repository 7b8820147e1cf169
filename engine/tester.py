"""The test phase: translate every test image, under its own name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Set

import numpy as np

from dataset import Part
from engine.method import Method
from engine.pictures import strip, translate_sample
from engine.progress import track
from utils import contact_sheet, labelled_grid, output_names, to_image, write_bytes, write_image

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
        if translator.errors:
            errors[direction] = Errors(*np.mean(translator.errors, axis=0).tolist())
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
        self.errors: List[Errors] = []
        self.written: Set[Path] = set()

    def run(self) -> None:
        count = len(self.part.names)
        on_sheet, in_grid = (_spread(count, most) for most in (MOST_ON_A_SHEET, MOST_IN_A_GRID))
        stacks, columns = [], []
        for index, name in enumerate(track(self.part.names, self.direction, count)):
            stack, column = self.translate(index, self.targets[name])
            if index in on_sheet:
                stacks.append(stack)
            if index in in_grid:
                columns.append(column)
        write_image(self.folder / f"contact_{self.direction}.png", contact_sheet(stacks))
        write_image(self.folder / f"grid_{self.direction}.png", labelled_grid(columns, self.labels))
        remove_others(self.folder, self.direction, self.written)

    def translate(self, index: int, target: str):
        """Write what belongs to one image; returns its stack for the contact sheet and its column for the grid."""
        sample = self.part.read(index)
        image, rows = translate_sample(self.method, self.direction, sample)
        self.labels = [row.label for row in rows]
        translated, column = to_image(image[0]), strip(rows)
        self.write(self.folder / self.direction / target, translated)
        self.write(self.folder / "grid" / self.direction / target, column)
        for number in range(1, self.method.config.n_answers + 1) if self.method.config.n_answers > 1 else ():
            answer = image if number == 1 else translate_sample(self.method, self.direction, sample, draw=number - 1).image
            stem = target[: -len(".png")]
            self.write(self.folder / "answers" / self.direction / f"{stem}_{number}.png", to_image(answer[0]))
        stack = [to_image(sample.image), translated]
        if sample.truth is not None:
            stack.append(to_image(sample.truth))
            self.errors.append(Errors(_absolute_error(translated, stack[-1]), _absolute_error(stack[0], stack[-1])))
        return stack, column

    def write(self, path: Path, image: np.ndarray) -> None:
        write_image(path, image)
        self.written.add(path)


def remove_others(folder: Path, direction: str, written: Set[Path]) -> None:
    """Remove the translations that an earlier test has left: whoever scores a folder must not mix two tests."""
    for place in (folder / direction, folder / "grid" / direction, folder / "answers" / direction):
        for path in set(place.rglob("*.png")) - written:
            path.unlink()


def _spread(count: int, most: int) -> set:
    """Up to `most` indices below `count`, evenly spread."""
    return set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist())


def _absolute_error(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(image.astype(np.float32) - truth).mean())
