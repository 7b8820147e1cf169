"""Domain A: a face as a photograph, with skin lit over a relief and hair made of strands."""

from __future__ import annotations

from typing import List

import cv2
import numpy as np

from . import shapes
from .canvas import Head, curve, ellipse, mix, soften
from .identity import Identity
from .shapes import PHOTO

# The relief of a face: x (on both sides where it is not 0), y, radius across and down, height.
RELIEF = (
    (0, -0.05, 0.06, 0.15, 0.06), (0, 0.2, 0.06, 0.15, 0.08), (0, 0.36, 0.09, 0.08, 0.12), (0.115, 0.395, 0.06, 0.055, 0.05),  # nose
    (0.27, -0.19, 0.17, 0.06, 0.045), (0.25, -0.02, 0.13, 0.09, -0.075), (0.3, 0, 0.11, 0.055, 0.035),  # brows, sockets, eyes
    (0.40, 0.29, 0.17, 0.13, 0.07), (0.24, 0.47, 0.05, 0.10, -0.025), (0.46, 0.58, 0.12, 0.14, -0.03),  # cheeks
    (0, 0.57, 0.15, 0.035, 0.03), (0, 0.68, 0.13, 0.045, 0.045), (0, 0.765, 0.15, 0.04, -0.03), (0, 0.9, 0.15, 0.09, 0.07),  # chin
)  # fmt: skip
GRID = 160  # pixels of the relief's side


def draw_photograph(who: Identity, size: int) -> np.ndarray:
    """Draw an identity as a photograph: (size, size, 3) uint8 RGB. Raises ValueError where `size` is below 16."""
    head, (skin, hair, iris) = Head(who, size), who.colours(drawn=False)
    shapes.paint_background(head, (0.35, 0.35), (0.2, 0.65), 0.04)
    sheets = shapes.hair_sheets(who, 0.0)
    _paint_hair(head, [sheet for sheet in sheets if sheet.back], hair * 0.75)
    shapes.paint_body(head, PHOTO, skin * 0.85)
    mask, dark = head.mask(shapes.face_outline(head, PHOTO), PHOTO.blur), skin * (0.40, 0.27, 0.24)
    head.blend(mask, cv2.resize(_lit_skin(head, mask, skin), (head.side, head.side)))
    head.stroke(
        head.at(curve([(-0.15, 0.37), (-0.11, 0.45), (0, 0.47), (0.11, 0.45), (0.15, 0.37)], 20), 0.04), 0.05, dark, 0.5, 0.02
    )
    for side in (-1, 1):
        head.fill(head.at(ellipse(0.062 * side, 0.428, 0.036, 0.016), 0.07), dark * 0.6, 0.85, 0.008)
        shapes.paint_eye(head, PHOTO, side, iris, skin * 0.15, hair * 0.4)
    rose = mix(skin * (0.90, 0.60, 0.58), (0.78, 0.30, 0.32), 0.30 * (1 - who.masculine))
    shapes.paint_mouth(head, PHOTO, skin * (0.36, 0.18, 0.17), rose, 0.055 - 0.015 * who.masculine)
    _paint_hair(head, [sheet for sheet in sheets if not sheet.back], hair, mask)
    # As a print: a soft lens, a darker rim, fine grain.
    head.image = soften(head.image, 0.004 * head.unit)
    square = np.linspace(-1, 1, size) ** 2
    return head.print(1.08 - 0.08 * (square[:, None] + square)[..., None], head.rng.normal(0, 0.008, (size, size, 1)))


def _lit_skin(head: Head, mask: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """The skin (GRID, GRID, 3) of a face that covers `mask` (side, side)."""
    who, axis, unit = head.who, np.arange(GRID), head.who.scale * GRID
    small = cv2.resize(mask, (GRID, GRID), interpolation=cv2.INTER_AREA) > 0.5
    # An egg over the outline: round across each row, and from the first row to the last.
    rows, left, right = np.flatnonzero(small.any(1)), small.argmax(1), GRID - small[:, ::-1].argmax(1)
    across = (2 * axis - (left + right)[:, None]) / (right - left)[:, None] / 1.04
    down = 2 * (axis - rows.mean()) / len(rows) / 1.1
    height = 0.85 * np.sqrt((1 - np.abs(across) ** 2.3).clip(0) * (1 - down**2).clip(0)[:, None])

    def bump(x: float, y: float, rx: float, ry: float) -> np.ndarray:
        cx, cy = head.at((x, y), 0.05) * GRID / head.side
        return np.outer(np.exp(-(((axis - cy) / ry / unit) ** 2)), np.exp(-(((axis - cx) / rx / unit) ** 2)))

    for x, y, rx, ry, tall in RELIEF:
        for side in (-1, 1) if x else (1,):
            height += tall * bump(side * x, y, rx, ry)
    dy, dx = np.gradient(soften(height, 1.2) * unit)
    normal = np.stack([-dx, -dy, np.ones_like(dx)], -1) / np.sqrt(dx**2 + dy**2 + 1)[..., None]
    diffuse = 0.5 + 0.66 * (normal @ (0.62 * who.light, -0.42, 0.66) + 0.18).clip(0) + 0.1 * normal[..., 2]
    shine = (0.08 + 0.07 * who.skin) * (normal @ (0.35 * who.light, -0.23, 0.91)).clip(0) ** 26
    blush = bump(-0.4, 0.3, 0.18, 0.13) + bump(0.4, 0.3, 0.18, 0.13) + 0.8 * bump(0, 0.37, 0.1, 0.09)
    # Shadows keep more red than blue, as blood under skin does.
    lit = skin * (1 - blush[..., None] * (0, 0.11, 0.10)) * soften(diffuse, 1)[..., None] ** np.array((0.82, 1.05, 1.16))
    return (lit + shine[..., None]).astype(np.float32)


def _paint_hair(head: Head, sheets: List[shapes.Sheet], colour: np.ndarray, below: float = 0.0) -> None:
    """One layer of hair, of strands in six tones, with its shadow on what is `below`, a mask (side, side)."""
    who, rng, n, t = head.who, head.rng, head.side, np.linspace(0, 1, 26)[:, None]
    cover, tone, thick = np.zeros((n, n), np.uint8), np.full((n, n), 80, np.uint8), round(0.007 * head.unit) or 1
    for sheet in sheets:
        strands = head.at(sheet.strands(128, who.wave, 26), 0.03)
        strands += rng.normal(0, 0.020 * head.unit, (128, 1, 2)) * t**2
        strands += (strands[:, :1] - strands[:, 1:2]) * rng.normal(0, 0.45, (128, 1, 1)) * (1 - t) ** 3
        points, kinds = np.round(strands * 16).astype(np.int32), rng.integers(0, 6, 128)
        for first, second in zip(points[::3], points[4::3]):
            cv2.fillPoly(cover, [np.concatenate([first, second[::-1]])], 255, cv2.LINE_AA, 4)
        cv2.polylines(cover, list(points[::3]), False, 255, thick, cv2.LINE_AA, 4)
        for kind, value in enumerate((58, 74, 88, 100, 114, 130)):
            cv2.polylines(tone, list(points[kinds == kind]), False, value, thick, cv2.LINE_AA, 4)
    cover = soften(cover, 0.009 * head.unit).astype(np.float32) / 255
    shift = np.array([[1, 0, -0.03 * who.light * head.unit], [0, 1, 0.06 * head.unit]])
    head.blend(0.5 * soften(cv2.warpAffine(cover, shift, (n, n)), 0.03 * head.unit) * below, (0.12, 0.06, 0.04))
    strand = soften(tone, 0.004 * head.unit).astype(np.float32) / 92
    down, across = np.ogrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j]
    light = strand * (0.85 + 0.25 * across * who.light - 0.25 * down).astype(np.float32)
    gloss = head.mask(shapes.ring_of_light(head, 0), 0.06) * strand**2 * np.float32(0.42 - 0.35 * colour.mean())
    head.blend(cover, np.minimum(1, colour.astype(np.float32) * light[..., None] + gloss[..., None]))
