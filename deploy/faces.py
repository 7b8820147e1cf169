"""Faces in photographs, cropped as selfie2anime's pictures are.

The detector is a cascade of Haar features that comes inside the packages of OpenCV 4; those of OpenCV 5 hold none. Measured on 89
selfies of selfie2anime, alone (50) and pasted at half to three times their size into 28 pictures of noise and building fronts, and
on 40 such pictures without a face:

| detector | faces found | false finds |
|---|---|---|
| OpenCV's frontalface_alt2, as below | 88 % | 7, of them 5 in building fronts that fill the picture |
| scikit-image's LBP cascade, searched and grouped in the same way | 66 % | 7 |

Faces should be upright: of those that were found, it found 71 % when they were turned by 10 degrees, and 29 % by 20. A search takes
0.35 s of one processor, at 1 megapixel as at 5. selfie2anime's crop is the found box: in 300 of its photographs the median box has
0.98 of the photograph's side, half of them 0.94 to 1.04, and its centre 0.50 across and 0.495 down.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

import cv2
import numpy as np

from errors import ConfigError

CASCADE = "haarcascade_frontalface_alt2.xml"
SHORT_SIDE = 300  # pixels, of the picture in which faces are searched
LONG_SIDE = 1200  # at most
SMALLEST = 30  # a face in it
BORDER = 0.25  # of the shorter side, mirrored around the picture: a close portrait lacks what the cascade sees around a face
STEP = 1.1  # between the sizes that are searched
LEAST_FINDS = 10  # of one face, at neighbouring places and sizes, in the picture and in its mirror image
ALIKE = 0.2  # how far, of their sides, those may lie apart


class Box(NamedTuple):
    """A square around a face in pixels of the picture; it may reach beyond it."""

    left: float
    top: float
    side: float
    finds: int  # how often it was found: the more, the surer


def find_faces(image: np.ndarray) -> List[Box]:
    """The faces of an (H, W, 3) uint8 RGB image that look towards the camera, the largest first; empty where none is found.

    Raises:
        ConfigError: this OpenCV has no face detector.
    """
    cascade = detector()
    height, width = image.shape[:2]
    scale = min(SHORT_SIDE / min(height, width), LONG_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    border = int(BORDER * min(size))
    grey = np.pad(grey, border, mode="reflect")
    mirrored = np.ascontiguousarray(grey[:, ::-1])
    finds = [list(find) for find in cascade.detectMultiScale(grey, STEP, 0, 0, (SMALLEST, SMALLEST))]
    for left, top, side, _ in cascade.detectMultiScale(mirrored, STEP, 0, 0, (SMALLEST, SMALLEST)):
        finds.append([grey.shape[1] - left - side, top, side, side])
    squares, counts = cv2.groupRectangles(finds, LEAST_FINDS, ALIKE)
    boxes = [
        Box((left - border) / scale, (top - border) / scale, side / scale, int(count))
        for (left, top, side, _), count in zip(squares, np.ravel(counts))
    ]
    boxes = without_overlaps([box for box in boxes if _is_inside(box, height, width)])
    return sorted(boxes, key=lambda box: -box.side)


def face_crops(image: np.ndarray, margin: float = 0.0) -> List[np.ndarray]:
    """The faces of an (H, W, 3) uint8 RGB image, cut out by `crop`, the largest first.

    Raises:
        ConfigError: this OpenCV has no face detector.
    """
    return [crop(image, box, margin) for box in find_faces(image)]


def crop(image: np.ndarray, box: Box, margin: float = 0.0) -> np.ndarray:
    """The square (S, S, 3) of `box`, moved inwards at the picture's border; what is larger than the picture is mirrored.

    Args:
        margin: added at each side of the box, as a fraction of the box's side. 0 is selfie2anime's; photographs of the drawn set
            have about 0.5.
    """
    side = max(1, round(box.side * (1 + 2 * margin)))
    places, borders = [], []
    for start, length in ((box.top, image.shape[0]), (box.left, image.shape[1])):
        least, most = sorted((0, length - side))
        begin = min(max(round(start - margin * box.side), least), most)
        places.append(slice(max(0, begin), begin + side))
        borders.append((max(0, -begin), max(0, begin + side - length)))
    return np.pad(image[tuple(places)], (*borders, (0, 0)), mode="reflect")


def without_overlaps(boxes: List[Box]) -> List[Box]:
    """Of boxes of which one has its centre in the other, the one that was found more often."""
    kept: List[Box] = []
    for box in sorted(boxes, key=lambda box: -box.finds):
        if not any(_centre_distance(box, other) < max(box.side, other.side) / 2 for other in kept):
            kept.append(box)
    return kept


def _centre_distance(first: Box, second: Box) -> float:
    """The larger of those across and down."""
    across = first.left + first.side / 2 - second.left - second.side / 2
    down = first.top + first.side / 2 - second.top - second.side / 2
    return max(abs(across), abs(down))


def _is_inside(box: Box, height: int, width: int) -> bool:
    """Whether the middle of the face lies in the picture. Across a mirrored border anything is symmetric, as faces are."""
    middle = box.left + box.side / 4, box.top + box.side / 4, box.left + box.side * 3 / 4, box.top + box.side * 3 / 4
    return middle[0] >= 0 and middle[1] >= 0 and middle[2] <= width and middle[3] <= height


def detector() -> cv2.CascadeClassifier:
    """The cascade, a new one each time: two threads cannot share one. Raises ConfigError where this OpenCV has none."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise ConfigError('--face: OpenCV 5 has no face detector, OpenCV 4 has one: pip install "opencv-python-headless<5"')
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / CASCADE))
