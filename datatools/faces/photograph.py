"""Domain A: a face as a photograph, with skin lit over a relief and hair made of strands."""

from __future__ import annotations

from typing import List

import cv2
import numpy as np

from . import shapes
from .canvas import Head, curve, ellipse, mix, soften
from .identity import Identity

# Light on a face: x (on both sides where it is not 0), y, half width and half height of a soft spot, and how much lighter it is.
SPOTS = (
    (0, -0.4, 0.3, 0.2, 0.2), (0.27, -0.06, 0.14, 0.06, -0.4), (0.3, 0.02, 0.08, 0.03, 0.2),  # forehead, sockets, lids
    (0, 0.12, 0.02, 0.22, 0.35), (0, 0.35, 0.045, 0.03, 0.5), (0.12, 0.2, 0.03, 0.14, -0.25),  # nose
    (0.4, 0.26, 0.10, 0.08, 0.25), (0.24, 0.47, 0.02, 0.08, -0.2), (0.45, 0.62, 0.08, 0.12, -0.25),  # cheeks
    (0, 0.50, 0.07, 0.02, -0.35), (0, 0.78, 0.12, 0.02, -0.4), (0, 0.89, 0.09, 0.04, 0.3),  # lip, chin
)  # fmt: skip


def draw_photograph(who: Identity, size: int) -> np.ndarray:
    """Draw an identity as a photograph: (size, size, 3) uint8 RGB. Raises ValueError where `size` is below 16."""
    head, (skin, hair, iris) = Head(who, size, drawn=False), who.colours(drawn=False)
    shapes.paint_background(head, (0.35, 0.35), (0.2, 0.65), 0.04)
    sheets = shapes.hair_sheets(who, 0.0)
    _paint_hair(head, [sheet for sheet in sheets if sheet.back], hair * 0.75)
    shapes.paint_body(head, skin * 0.85)
    outline, dark = shapes.face_outline(head), skin * (0.40, 0.27, 0.24)
    away = curve([(0.3, -1.0), (0.42, 0.05), (0.3, 0.5), (0.1, 1.1), (1.2, 1.0), (1.2, -0.8)], 50, True) * (-who.light, 1)
    mask = shapes.paint_part(head, outline, skin * 1.03, [head.at(away)])
    head.blend(0.7 * mask * (1 - head.mask(outline, 0.12)), dark)
    for x, y, rx, ry, light in SPOTS:
        for side in (-1, 1) if x else (1,):
            colour = mix(skin, (1, 0.95, 0.9), 0.6) if light > 0 else dark
            head.fill(head.at(ellipse(side * x, y, rx, ry), 0.05), colour, abs(light), 0.035, mask)
    nose = curve([(-0.15, 0.37), (-0.11, 0.45), (0, 0.47), (0.11, 0.45), (0.15, 0.37)], 20)
    head.stroke(head.at(nose, 0.04), 0.05, dark, 0.5, 0.02)
    for side in (-1, 1):
        head.fill(head.at(ellipse(0.062 * side, 0.428, 0.036, 0.016), 0.07), dark * 0.6, 0.85, 0.008)
        shapes.paint_eye(head, side, iris, skin * 0.15, hair * 0.4)
    rose = mix(skin * (0.90, 0.60, 0.58), (0.78, 0.30, 0.32), 0.30 * (1 - who.masculine))
    shapes.paint_mouth(head, skin * (0.36, 0.18, 0.17), rose, 0.055 - 0.015 * who.masculine)
    _paint_hair(head, [sheet for sheet in sheets if not sheet.back], hair, mask)
    # As a print: a soft lens, a darker rim, fine grain.
    head.image = soften(head.image, 0.004 * head.unit)
    square = np.linspace(-1, 1, size) ** 2
    return head.print(1.08 - 0.08 * (square[:, None] + square)[..., None], head.rng.normal(0, 0.008, (size, size, 1)))


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
