"""Domain B: a face as an anime portrait, in flat colours with one shadow tone, under ink."""

from __future__ import annotations

from typing import List

import cv2
import numpy as np

from . import shapes
from .canvas import Head, curve, ellipse, mix
from .identity import Identity
from .shapes import ink, shadow


def draw_anime(who: Identity, size: int) -> np.ndarray:
    """Draw an identity as an anime portrait: (size, size, 3) uint8 RGB. Raises ValueError where `size` is below 16."""
    head, (skin, hair, iris) = Head(who, size, drawn=True), who.colours(drawn=True)
    shapes.paint_background(head, (0.42, 0.88), (0.2, 1.0), 0)
    sheets = shapes.hair_sheets(who, 0.07)
    back, front = ([lock for sheet in sheets if sheet.back == there for lock in _cut(head, sheet)] for there in (True, False))
    if back:
        _paint_hair(head, back, shadow(hair))
    shapes.paint_body(head, skin)
    # The face has two shades: its side that is turned from the light, and the shadow of the hair.
    side = curve([(0.47, -0.5), (0.58, 0.05), (0.44, 0.5), (0.10, 0.80), (0.1, 1.1), (1.2, 1.0), (1.2, -0.5)], 50, True)
    shades = [head.at(side * (-who.light, 1)), [lock + np.array((-0.03 * who.light, 0.085)) * head.unit for lock in front]]
    mask = shapes.paint_part(head, shapes.face_outline(head), skin, shades)
    for side in (-1, 1):
        head.fill(head.at(ellipse(0.45 * side, 0.46, 0.13, 0.065)), (0.98, 0.42, 0.42), 0.3 + 0.15 * who.smile, 0.045, mask)
        shapes.paint_eye(head, side, iris, ink(hair) * 0.75, ink(hair))
    nose = curve([(0.035, 0.40), (0.055, 0.47), (0.0, 0.475)], 10) * (-who.light, 1)
    head.stroke(head.at(nose, 0.10), 0.018, ink(skin), 0.9, taper=(0, 0.4))
    shapes.paint_mouth(head, ink(skin), skin, 0)
    mask = _paint_hair(head, front, hair)
    head.fill(shapes.ring_of_light(head, 0.12), mix(hair, (1, 1, 1), 0.6), 0.85, clip=mask)
    return head.print()


def _cut(head: Head, sheet: shapes.Sheet) -> List[np.ndarray]:
    """Cut a sheet of hair into pointed locks, each a polygon (44, 2) of pixels, down one edge and up the other."""
    strands = sheet.strands(2 * (sheet.locks or 6) + 1, head.who.wave, 22)
    if not sheet.locks:
        return [head.at(np.concatenate([strands[0], strands[1:-1, -1], strands[-1, ::-1], strands[-2:0:-1, 0]]))]
    blunt = 0.3 + 0.45 * min(1, np.ptp(sheet.guides[..., 1]) / 1.2)  # long hair keeps its width longer
    point = ((np.linspace(0, 1, 22)[:, None] - blunt) / (1 - blunt)).clip(0) ** 1.5
    edges = [mix(strands[first : first + 2 * sheet.locks : 2], strands[1::2], point) for first in (0, 2)]
    return list(head.at(np.concatenate([edges[0], edges[1][:, ::-1]], 1), 0.04))


def _paint_hair(head: Head, locks: List[np.ndarray], colour: np.ndarray) -> np.ndarray:
    """One layer of hair: flat colour, one shadow tone, and ink between the locks; returns its mask (side, side)."""
    mask, light, dark_colour = shapes.paint_part(head, locks, colour), head.who.light, shadow(colour)
    shift = np.array([[1, 0, 0.13 * light * head.unit], [0, 1, -0.07 * head.unit]])
    head.blend(mask * (1 - cv2.warpAffine(mask, shift, mask.shape)), dark_colour)
    for lock in locks:
        if len(lock) == 44:
            dark, lit = sorted((lock[:22], lock[:21:-1]), key=lambda edge: edge[:, 0].mean() * light)
            inner = mix(dark, lit, 0.42 * (2 * np.linspace(0, 1, 22)[:, None] - 0.3).clip(0, 1))
            head.fill(lock, colour)
            head.fill(np.concatenate([dark, inner[::-1]]), dark_colour)
            for edge in (dark, lit):
                head.stroke(edge[4:], 0.013, ink(colour), 0.8, taper=(0, 0.8))
    return mask
