"""How well translated facades find the windows: the intersection over union of window pixels, counted over all pairs.

python -m tools.window_iou results/facades/pix2pix/test/A2B --truth dataset/facades/test

Windows are red on blue in the label maps, so a window pixel has more red than blue, in the translation and in the truth alike.
The truth is the right half of an A|B file, reduced with the nearest filter.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional, Sequence

import cv2

from command_line import OneLineParser, exit_code_of
from dataset import find_images, halves
from errors import DataError
from utils import output_names, read_image


def window_iou(translated: Path, truth: Path) -> float:
    """Raises DataError where there is no truth, a translation is missing, or a truth is no A|B image."""
    intersection = union = 0
    targets = output_names(find_images(truth) if truth.is_dir() else [])
    if not targets:
        raise DataError(f"--truth {truth}: no A|B images there")
    for name, target in targets.items():
        if not (translated / target).is_file():
            raise DataError(f"{translated / target} is missing: run --phase test on the same images first")
        ours = read_image(translated / target)
        _, label = halves(read_image(truth / name), truth / name)
        label = cv2.resize(label, ours.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        found, true = (image[:, :, 0] > image[:, :, 2] for image in (ours, label))
        intersection += int((found & true).sum())
        union += int((found | true).sum())
    return intersection / max(1, union)


def run(arguments: Optional[Sequence[str]]) -> None:
    parser = OneLineParser(prog="python -m tools.window_iou", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("translated", type=Path, help="folder of translated images (test/A2B of a run)")
    parser.add_argument("--truth", type=Path, required=True, help="folder of A|B test images")
    options = parser.parse_args(arguments)
    value = window_iou(options.translated, options.truth)
    print(f"window IoU {value:.3f} over {len(find_images(options.truth))} pairs")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="--truth")


if __name__ == "__main__":
    sys.exit(main())
