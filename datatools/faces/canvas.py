"""The canvas on which a head is painted.

A head is described in face units: x to the right of the picture, y down, the eyes of the photograph on y = 0, the chin near y = 1,
the crown near y = -1. `Head` turns them into pixels of a canvas twice as large as the picture. Colours are RGB floats in [0, 1].
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from datatools.faces.identity import Identity

Shape = Union[np.ndarray, List[np.ndarray]]  # a polygon (n, 2) of pixels, or several, painted as their union


def curve(points: Sequence, count: int, closed: bool = False, mirrored: bool = False) -> np.ndarray:
    """`count` samples (count, ...) of the Catmull-Rom curve through `points` (n, ...), and as many of its mirror image at x = 0."""
    p = np.asarray(points, np.float64)
    p = np.concatenate([p[-1:], p, p[:2]] if closed else [p[:1], p, p[-1:]])
    t = np.linspace(0, len(p) - 3, count, endpoint=not closed)
    i = np.minimum(t.astype(int), len(p) - 4)
    f = (t - i).reshape(-1, *[1] * (p.ndim - 1))
    a, b, c, d = (p[i + step] for step in range(4))
    line = b + f / 2 * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
    return np.concatenate([line, line[::-1] * (-1, 1)]) if mirrored else line


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """The outline (28, 2) of an upright ellipse."""
    angle = np.arange(28) * 2 * np.pi / 28
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def mix(a, b, t):
    """`a` at t = 0, `b` at t = 1."""
    return np.asarray(a) * (1 - t) + np.asarray(b) * t


def soften(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by `sigma` pixels; a wide blur is done on a smaller copy, which looks the same and costs less."""
    if sigma < 4:
        return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.3 else image
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(soften(small, sigma / 2), image.shape[1::-1])


class Head:
    """A canvas (side, side, 3) for a picture of `size` pixels, with the projection of one identity."""

    def __init__(self, who: Identity, size: int, drawn: bool) -> None:
        self.who, self.side, self.drawn = who, 2 * size, drawn
        self.unit, self.blur = who.scale * self.side, 0 if drawn else 0.005  # pixels in one face unit; blur of every edge
        self.image = np.zeros((self.side, self.side, 3), np.float32)
        self.rng = np.random.default_rng(who.noise_seed)

    def at(self, points: Sequence, lift: float = 0.0) -> np.ndarray:
        """Pixels (..., 2) of points of the head, which turns and tilts; `lift` is how far they stand out of the face."""
        who, (x, y) = self.who, np.moveaxis(np.asarray(points, np.float64), -1, 0)
        bulge = np.sqrt((1 - (x / 0.74) ** 2 - np.where(y < 0, 0.83, 0.3) * y**2).clip(0))
        x = x * (1 - (1 - np.cos(who.yaw)) * bulge) + (0.62 * bulge + lift) * np.sin(who.yaw)
        y = y + (0.62 * bulge + lift) * np.sin(who.pitch) - 0.9  # the head tilts about the neck
        cos, sin = np.cos(who.roll), np.sin(who.roll)
        return self.body(np.stack([cos * x - sin * y, sin * x + cos * y + 0.9], -1))

    def body(self, points: Sequence) -> np.ndarray:
        """Pixels (..., 2) of points of the body, which neither turns nor tilts."""
        return np.asarray(points) * self.unit + self.who.centre * self.side

    def mask(self, shape: Shape, blur: float = 0.0, outline: float = 0.0, box: Optional[Sequence[int]] = None) -> np.ndarray:
        """Where a shape, grown by `outline` face units, is: float32 in [0, 1] of the canvas, or of a box (x0, y0, x1, y1) of it."""
        x0, y0, x1, y1 = box or (0, 0, self.side, self.side)
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for polygon in shape if isinstance(shape, list) else [shape]:
            points = np.round((polygon - (x0, y0)) * 16).astype(np.int32)  # OpenCV's fixed-point numbers with 4 fractional bits
            cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
            if outline:
                cv2.polylines(mask, [points], True, 255, round(2 * outline * self.unit) or 1, cv2.LINE_AA, 4)
        return soften(mask, blur * self.unit).astype(np.float32) / 255

    def fill(self, shape: Shape, colour, alpha: float = 1.0, blur: float = 0.0, clip=None, outline: float = 0.0) -> None:
        """Paint a shape with a colour; `clip` is a mask of the canvas that limits the paint."""
        points = np.concatenate(shape) if isinstance(shape, list) else shape
        margin = (3 * blur + outline) * self.unit + 2
        x0, y0 = (points.min(0) - margin).clip(0, self.side).astype(int)
        x1, y1 = (points.max(0) + margin + 1).clip(0, self.side).astype(int)
        if x0 < x1 and y0 < y1:
            weight = alpha * self.mask(shape, blur, outline, (x0, y0, x1, y1))
            self.blend(weight if clip is None else weight * clip[y0:y1, x0:x1], colour, self.image[y0:y1, x0:x1])

    def stroke(self, line: np.ndarray, width: float, colour, alpha=1.0, blur=0.0, taper: Tuple = (0.0, 0.0)) -> None:
        """Paint a brush stroke along pixels `line` (n, 2): `width` in its middle, and the shares `taper` of it at its ends."""
        tangent, t = np.gradient(line, axis=0), np.linspace(0, 1, len(line))
        widths = width * self.unit / 2 * mix(mix(*taper, t), 1, np.sin(np.pi * t).clip(0) ** 0.6)
        side = tangent[:, ::-1] * (-1, 1) * (widths / (np.linalg.norm(tangent, axis=1) + 1e-9))[:, None]
        self.fill(np.concatenate([line + side, (line - side)[::-1]]), colour, alpha, blur)

    def blend(self, weight: np.ndarray, colour, region: Optional[np.ndarray] = None) -> None:
        """Paint a colour, or a picture of the same size, where `weight` says, on the canvas or on a region (h, w, 3) of it."""
        region, colour = self.image if region is None else region, np.asarray(colour, np.float32)
        for channel in range(3):  # one at a time is faster than broadcasting over a last axis of three
            region[..., channel] += (colour[..., channel] - region[..., channel]) * weight

    def print(self, light=1.0, grain=0.0) -> np.ndarray:
        """The picture (size, size, 3) uint8: the canvas reduced, times `light`, plus `grain`."""
        picture = cv2.resize(self.image, (self.side // 2, self.side // 2), interpolation=cv2.INTER_AREA)
        return np.round(np.clip(picture * light + grain, 0, 1) * 255).astype(np.uint8)
