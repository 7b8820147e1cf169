"""Curves, colours and the canvas on which a head is painted.

A head is described in *face units*: x to the right of the picture, y down, the eyes of the photograph on y = 0, the
chin near y = 1 and the crown near y = -1. :class:`Head` turns face units into pixels of a canvas that is twice as large
as the picture. Colours are RGB floats in [0, 1].
"""

from __future__ import annotations

import colorsys
import math
from functools import lru_cache

import cv2
import numpy as np

from .identity import Identity


@lru_cache(maxsize=None)
def _catmull_rom(n: int, count: int, closed: bool) -> np.ndarray:
    """Return the weights (count, n) of n points in each sample of the curve through them."""
    t = np.linspace(0, n if closed else n - 1, count, endpoint=not closed)
    i = np.minimum(t.astype(int), n - 1 if closed else n - 2)
    f = t - i
    shares = (-f + 2 * f**2 - f**3, 2 - 5 * f**2 + 3 * f**3, f + 4 * f**2 - 3 * f**3, f**3 - f**2)
    weights = np.zeros((count, n))
    for step, share in enumerate(shares, -1):
        np.add.at(weights, (np.arange(count), (i + step) % n if closed else np.clip(i + step, 0, n - 1)), share / 2)
    return weights


def spline(points, count: int, closed: bool = False) -> np.ndarray:
    """Sample a Catmull-Rom curve through ``points`` (n, ...) at ``count`` places: (count, ...) float64."""
    points = np.asarray(points, np.float64)
    samples = _catmull_rom(len(points), count, closed) @ points.reshape(len(points), -1)
    return samples.reshape((count,) + points.shape[1:])


@lru_cache(maxsize=None)
def _swell(count: int, start: float, end: float, power: float) -> np.ndarray:
    """Return the widths (count, 1) of a brush stroke of width one that narrows towards its ends."""
    t = np.linspace(0, 1, count)[:, None]
    ends = start + (end - start) * t
    return ends + (1 - ends) * np.sin(np.pi * t) ** power


def ribbon(line: np.ndarray, width: float, taper: tuple[float, float] = (0.0, 0.0), power: float = 0.6) -> np.ndarray:
    """Return the outline of a brush stroke along ``line`` (n, 2): ``width`` wide, ``taper`` of it at the two ends."""
    tangent = np.empty_like(line)
    tangent[1:-1], tangent[0], tangent[-1] = line[2:] - line[:-2], line[1] - line[0], line[-1] - line[-2]
    tangent /= np.sqrt((tangent**2).sum(1, keepdims=True)) + 1e-9
    side = tangent[:, ::-1] * (-1, 1) * (width / 2 * _swell(len(line), *taper, power))
    return np.concatenate([line + side, (line - side)[::-1]])


@lru_cache(maxsize=None)
def _circle(count: int) -> np.ndarray:
    a = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(a), np.sin(a)], 1)


def ellipse(x: float, y: float, rx: float, ry: float, count: int = 28) -> np.ndarray:
    """Return ``count`` points (count, 2) of an upright ellipse."""
    return _circle(count) * (rx, ry) + (x, y)


def mix(a, b, t):
    """Blend two colours or numbers: ``a`` at t = 0, ``b`` at t = 1."""
    return np.asarray(a) * (1 - t) + np.asarray(b) * t


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Return the RGB colour (3,) of a hue, a saturation and a value in [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def grey(colour) -> float:
    """Return the lightness in [0, 1] of an RGB colour."""
    return float(np.dot(colour, (0.3, 0.59, 0.11)))


def fixed(points: np.ndarray) -> np.ndarray:
    """Return points as OpenCV's fixed-point integers with four fractional bits."""
    return np.round(np.asarray(points) * 16).astype(np.int32)


def soften(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a mask; a wide blur is done on a reduced copy, which looks the same and costs a fraction."""
    if sigma < 0.3:
        return mask
    if sigma < 6:
        return cv2.GaussianBlur(mask, (0, 0), sigma)
    factor = 3 / sigma
    height, width = mask.shape[:2]
    reduced = max(2, round(width * factor)), max(2, round(height * factor))
    small = cv2.resize(mask, reduced, interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), 3), (width, height), interpolation=cv2.INTER_LINEAR)


class Head:
    """A canvas with the projection of one identity: ``image`` is (side, side, 3) float32, RGB in [0, 1]."""

    def __init__(self, identity: Identity, size: int) -> None:
        self.who = identity
        self.side = 2 * size
        self.unit = identity.scale * self.side
        self.origin = np.array(identity.centre) * self.side
        self.image = np.zeros((self.side, self.side, 3), np.float32)
        self.rng = np.random.default_rng(identity.noise_seed)
        self.matrix = self._matrix()

    def turn(self, points, lift: float = 0.0) -> np.ndarray:
        """Turn points (..., 2) of the frontal face by yaw and pitch; ``lift`` is how far they stand out of the face."""
        p = np.array(points, np.float64)
        x, y = p[..., 0], p[..., 1]
        high, low = np.minimum(y, 0) / 1.1, np.maximum(y, 0)
        bulge = np.sqrt(np.maximum(0, 1 - (x / 0.74) ** 2 - high * high - 0.3 * low * low))
        depth = 0.62 * bulge + lift
        x *= 1 - (1 - math.cos(self.who.yaw)) * bulge
        x += depth * math.sin(self.who.yaw)
        y += depth * math.sin(self.who.pitch)
        return p

    def _matrix(self) -> np.ndarray:
        """Return the 2 x 3 matrix from turned face units to pixels: roll about the neck, scale, shift."""
        c, s = math.cos(self.who.roll) * self.unit, math.sin(self.who.roll) * self.unit
        pivot = np.array([0.0, 0.9])
        linear = np.array([[c, -s], [s, c]])
        return np.hstack([linear, (self.origin + pivot * self.unit - linear @ pivot)[:, None]])

    def at(self, points, lift: float = 0.0) -> np.ndarray:
        """Return the pixels (..., 2) of points of the head."""
        return self.turn(points, lift) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def body(self, points) -> np.ndarray:
        """Return the pixels (..., 2) of points of the body, which neither turns nor tilts."""
        return np.asarray(points, np.float64) * self.unit + self.origin

    def mask(self, *polygons: np.ndarray, blur: float = 0.0) -> np.ndarray:
        """Return a (side, side) float32 mask in [0, 1] of the union of polygons in pixels; ``blur`` in face units."""
        mask = np.zeros((self.side, self.side), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [fixed(polygon)], 255, cv2.LINE_AA, 4)
        return soften(mask, blur * self.unit).astype(np.float32) / 255

    def fill(self, shape, colour, alpha: float = 1.0, blur: float = 0.0, clip=None, outline: float = 0.0) -> None:
        """Paint a polygon (n, 2) of pixels, or the union of a list of them.

        ``colour`` is a colour or a picture (side, side, 3) that shines through the shape; ``blur`` and ``outline``, by
        which the shape grows, are in face units; ``clip`` is a mask of the canvas that limits the paint.
        """
        polygons = shape if isinstance(shape, list) else [shape]
        points = np.concatenate(polygons) if isinstance(shape, list) else shape
        sigma, thick = blur * self.unit, max(1, round(2 * outline * self.unit))
        margin = 3 * sigma + outline * self.unit + 2
        (x0, y0), (x1, y1) = points.min(0) - margin, points.max(0) + margin
        x0, y0, x1, y1 = (min(max(int(v), 0), self.side) for v in (x0, y0, x1 + 1, y1 + 1))
        if x1 <= x0 or y1 <= y0:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [fixed(polygon - (x0, y0))], 255, cv2.LINE_AA, 4)
            if outline:
                cv2.polylines(mask, [fixed(polygon - (x0, y0))], True, 255, thick, cv2.LINE_AA, 4)
        weight = soften(mask, sigma) * np.float32(alpha / 255)
        if clip is not None:
            weight *= clip[y0:y1, x0:x1]
        colour = np.asarray(colour, np.float32)
        self.mix_in(self.image[y0:y1, x0:x1], colour[y0:y1, x0:x1] if colour.ndim == 3 else colour, weight)

    @staticmethod
    def mix_in(region: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> None:
        """Move a region (h, w, 3) towards a colour or a picture by a weight (h, w), in place."""
        if colour.ndim == 1:  # for each channel by itself, which is faster than broadcasting over a last axis of three
            for channel, value in enumerate(colour):
                plane = region[..., channel]
                plane += (value - plane) * weight
        else:
            region += (colour - region) * weight[..., None]

    def stroke(self, line, width: float, colour, alpha=1.0, blur=0.0, taper=(0.0, 0.0), clip=None, power=0.6) -> None:
        """Paint a brush stroke along pixels ``line`` (n, 2); ``width`` and ``blur`` in face units."""
        self.fill(ribbon(line, width * self.unit, taper, power), colour, alpha, blur, clip)

    def blend(self, mask: np.ndarray, colour) -> None:
        """Paint a colour, or a picture (side, side, 3), where ``mask`` (side, side) says."""
        self.mix_in(self.image, np.asarray(colour, np.float32), mask)

    def glow(self, x: float, y: float, rx: float, ry: float) -> np.ndarray:
        """Return a (side, side) float32 soft spot of light around a point of the body, in face units."""
        axis = np.arange(self.side, dtype=np.float32) / self.unit
        gx = np.exp(-(((axis - self.origin[0] / self.unit - x) / rx) ** 2))
        gy = np.exp(-(((axis - self.origin[1] / self.unit - y) / ry) ** 2))
        return np.outer(gy, gx).astype(np.float32)

    def finish(self) -> np.ndarray:
        """Return the canvas reduced to the picture: (size, size, 3) float32."""
        return cv2.resize(self.image, (self.side // 2, self.side // 2), interpolation=cv2.INTER_AREA)


def new_head(identity: Identity, size: int) -> Head:
    if size < 16:
        raise ValueError(f"a portrait needs a size of at least 16 pixels, not {size}")
    return Head(identity, size)
