"""The two domains: a face as a photograph (A) and as an anime portrait (B)."""

from __future__ import annotations

from typing import List

import cv2
import numpy as np

from datatools.faces import shapes
from datatools.faces.canvas import Head, curve, ellipse, mix, soften
from datatools.faces.identity import Identity
from datatools.faces.shapes import SHADOW, Sheet, ink

# Light on a face: x (on both sides where it is not 0), y, half width and half height of a soft spot, and how much lighter it is.
SPOTS = (
    (0, -0.4, 0.3, 0.2, 0.2), (0.27, -0.06, 0.14, 0.06, -0.4), (0.3, 0.02, 0.08, 0.03, 0.2),  # forehead, sockets, lids
    (0, 0.12, 0.02, 0.22, 0.35), (0, 0.35, 0.045, 0.03, 0.5), (0.12, 0.2, 0.03, 0.14, -0.25),  # nose
    (0.4, 0.26, 0.10, 0.08, 0.25), (0.24, 0.47, 0.02, 0.08, -0.2), (0.45, 0.62, 0.08, 0.12, -0.25),  # cheeks
    (0, 0.50, 0.07, 0.02, -0.35), (0, 0.78, 0.12, 0.02, -0.4), (0, 0.89, 0.09, 0.04, 0.3),  # lip, chin
)  # fmt: skip


def draw_photograph(who: Identity, size: int) -> np.ndarray:
    """A: skin in soft light, hair of strands. Returns (size, size, 3) uint8 RGB; `size` is at least 16."""
    head, (skin, hair, iris) = Head(who, size, drawn=False), who.colours[0]
    shapes.paint_background(head, (0.10, 0.40), (0.06, 0.70), 0.04)
    sheets = shapes.hair_sheets(who, 0)
    _comb(head, [sheet for sheet in sheets if sheet.back], hair * 0.75)
    shapes.paint_body(head, skin * 0.85)
    outline, dark, bright = shapes.face_outline(head), skin * (0.40, 0.27, 0.24), mix(skin, (1, 0.95, 0.9), 0.6)
    away = curve([(0.3, -1.0), (0.42, 0.05), (0.3, 0.5), (0.1, 1.1), (1.2, 1.0), (1.2, -0.8)], 50, True) * (-who.light, 1)
    mask = shapes.paint_part(head, outline, skin * 1.06, [head.at(away)])
    head.blend(0.7 * mask * (1 - head.mask(outline, 0.12)), dark)
    for x, y, rx, ry, light in SPOTS:
        for side in (-1, 1) if x else (1,):
            head.fill(head.at(ellipse(side * x, y, rx, ry), 0.05), (dark, bright)[light > 0], abs(light), 0.035, mask)
    head.stroke(head.at(curve([(-0.15, 0.37), (-0.1, 0.46), (0.1, 0.46), (0.15, 0.37)], 20), 0.04), 0.05, dark, 0.5, 0.02)
    for side in (-1, 1):
        head.fill(head.at(ellipse(0.062 * side, 0.428, 0.036, 0.016), 0.07), dark * 0.6, 0.85, 0.008)
        shapes.paint_eye(head, side, iris, skin * 0.15, hair * 0.4)
    rose = mix(skin * (0.90, 0.60, 0.58), (0.78, 0.30, 0.32), 0.30 * (1 - who.masculine))
    shapes.paint_mouth(head, skin * (0.36, 0.18, 0.17), rose, 0.055 - 0.015 * who.masculine)
    _comb(head, [sheet for sheet in sheets if not sheet.back], hair, mask)
    # As a print: a soft lens, a darker rim, fine grain.
    head.image = soften(head.image, 0.004 * head.unit)
    square = np.linspace(-1, 1, size) ** 2
    return head.print(1.08 - 0.08 * (square[:, None] + square)[..., None], head.rng.normal(0, 0.008, (size, size, 1)))


def _comb(head: Head, sheets: List[Sheet], colour: np.ndarray, below: float = 0.0) -> None:
    """One layer of hair, of strands in six tones, with its shadow on what is `below`, a mask (side, side)."""
    who, rng, n, t = head.who, head.rng, head.side, np.linspace(0, 1, 26)[:, None]
    cover, tone, thick = np.zeros((n, n), np.uint8), np.full((n, n), 80, np.uint8), round(0.007 * head.unit) or 1
    for sheet in sheets:
        strands = head.at(sheet.strands(128, 26), 0.03)
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


def draw_anime(who: Identity, size: int) -> np.ndarray:
    """B: flat colours with one shadow tone, under ink. Returns (size, size, 3) uint8 RGB; `size` is at least 16."""
    head, (skin, hair, iris) = Head(who, size, drawn=True), who.colours[1]
    shapes.paint_background(head, (0.16, 0.92), (0.06, 1.0), 0)
    sheets = shapes.hair_sheets(who, 0.07)
    back, front = ([lock for sheet in sheets if sheet.back == there for lock in _cut(head, sheet)] for there in (True, False))
    if back:
        _ink_locks(head, back, hair * SHADOW)
    shapes.paint_body(head, skin)
    # The face has two shades: its side that is turned from the light, and the shadow of the hair.
    side = curve([(0.47, -0.5), (0.58, 0.05), (0.44, 0.5), (0.10, 0.80), (0.1, 1.1), (1.2, 1.0), (1.2, -0.5)], 50, True)
    shades = [head.at(side * (-who.light, 1)), [lock + np.array((-0.03 * who.light, 0.085)) * head.unit for lock in front]]
    mask = shapes.paint_part(head, shapes.face_outline(head), skin, shades)
    for side in (-1, 1):
        head.fill(head.at(ellipse(0.45 * side, 0.46, 0.13, 0.065)), (0.98, 0.42, 0.42), 0.3 + 0.15 * who.smile, 0.045, mask)
        shapes.paint_eye(head, side, iris, ink(hair) * 0.75, ink(hair))
    nose = head.at(curve([(0.035, 0.40), (0.055, 0.47), (0, 0.475)], 10) * (-who.light, 1), 0.1)
    head.stroke(nose, 0.018, ink(skin), 0.9, taper=(0, 0.4))
    shapes.paint_mouth(head, ink(skin), skin, 0)
    mask = _ink_locks(head, front, hair)
    head.fill(shapes.ring_of_light(head, 0.12), mix(hair, (1, 1, 1), 0.6), 0.85, clip=mask)
    return head.print()


def _cut(head: Head, sheet: Sheet) -> List[np.ndarray]:
    """Cut a sheet of hair into pointed locks, each a polygon (44, 2) of pixels, down one edge and up the other."""
    strands = sheet.strands(2 * (sheet.locks or 6) + 1, 22)
    if not sheet.locks:
        return [head.at(np.concatenate([strands[0], strands[1:-1, -1], strands[-1, ::-1], strands[-2:0:-1, 0]]))]
    blunt = 0.3 + 0.45 * min(1, np.ptp(sheet.guides[..., 1]) / 1.2)  # long hair keeps its width longer
    point = ((np.linspace(0, 1, 22)[:, None] - blunt) / (1 - blunt)).clip(0) ** 1.5
    edges = [mix(strands[first : first + 2 * sheet.locks : 2], strands[1::2], point) for first in (0, 2)]
    return list(head.at(np.concatenate([edges[0], edges[1][:, ::-1]], 1), 0.04))


def _ink_locks(head: Head, locks: List[np.ndarray], colour: np.ndarray) -> np.ndarray:
    """One layer of hair: flat colour, one shadow tone, and ink between the locks; returns its mask (side, side)."""
    mask, light, dark_colour = shapes.paint_part(head, locks, colour), head.who.light, colour * SHADOW
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
