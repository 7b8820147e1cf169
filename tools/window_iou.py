"""How well translated facades find the windows: the intersection over union of window pixels.

python -m tools.window_iou results/facades/pix2pix/test/A2B --truth dataset/facades/test

Windows are red on blue in the label maps, so a window pixel is one with more red than blue, in the translation and in the truth
alike. The truth (the right halves of A|B files) is reduced with the nearest filter; pixels are counted over all pairs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence

import cv2
import numpy as np

from dataset import find_images
from errors import DataError, UserError
from utils import output_names, read_image


def is_window(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB to (H, W) truth values."""
    return image[:, :, 0] > image[:, :, 2]


def window_iou(translated: Path, truth: Path) -> float:
    """Pooled intersection over union of window pixels.

    Raises:
        DataError: a translation is missing, or there is no truth.
    """
    intersection = union = 0
    targets = output_names(find_images(truth) if truth.is_dir() else [])
    if not targets:
        raise DataError(f"--truth {truth}: no A|B images there")
    for name, target in targets.items():
        if not (translated / target).is_file():
            raise DataError(f"{translated / target} is missing: run --phase test on the same images first")
        ours = read_image(translated / target)
        label = read_image(truth / name)
        if label.shape[1] != 2 * label.shape[0]:
            raise DataError(f"{truth / name}: {label.shape[1]}x{label.shape[0]} is not two square images side by side")
        label = cv2.resize(label[:, label.shape[1] // 2 :], ours.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        intersection += int((is_window(ours) & is_window(label)).sum())
        union += int((is_window(ours) | is_window(label)).sum())
    return intersection / max(1, union)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.window_iou", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("translated", type=Path, help="folder of translated images (test/A2B of a run)")
    parser.add_argument("--truth", type=Path, required=True, help="folder of A|B test images")
    options = parser.parse_args(arguments)
    try:
        value = window_iou(options.translated, options.truth)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"window IoU {value:.3f} over {len(find_images(options.truth))} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
