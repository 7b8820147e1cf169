"""The shapes that both domains share, in face units: hair, outlines, clothes, spectacles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import Head, ellipse, mix, spline
from .identity import Identity


@dataclass(frozen=True)
class Sheet:
    """A sheet of hair: ``guides`` (k, m, 2) are k neighbouring strands of m points each, from root to tip."""

    guides: np.ndarray
    back: bool = False  # behind the neck
    locks: int = 0  # how many pointed locks the drawn version is cut into; 0: a smooth sheet

    def strands(self, count: int, wave: float, samples: int = 26) -> np.ndarray:
        """Return ``count`` strands (count, samples, 2); ``wave`` bends them more and more towards the tips."""
        along = spline(np.swapaxes(self.guides, 0, 1), samples).swapaxes(0, 1)
        strands = spline(along, count)
        t = np.linspace(0, 1, samples)
        length = np.linalg.norm(np.diff(strands, axis=1), axis=2).sum(1)[:, None]
        strands[..., 0] += 0.05 * wave * np.minimum(1, t * 2) * np.sin(7.5 * t * length)
        return strands


def hair_sheets(who: Identity, puff: float) -> list[Sheet]:
    """Return the sheets of hair from the back to the front; ``puff`` is the extra volume in face units."""
    v = 0.05 + 0.09 * who.volume + puff
    sheets = _back_hair(who, v)
    a = np.linspace(-1.62, 1.62, 13)
    short = who.hair_style in ("short", "tousled")
    high = 0.60 + 0.06 * who.masculine * who.age - puff
    arch = np.sign(np.cos(a)) * np.abs(np.cos(a)) ** 0.8
    roots = np.stack([0.62 * np.sin(a), -0.02 - high * arch - 0.07 * np.sin(2 * a) ** 2], 1)
    lean = 0.10 * who.part
    crown = 1.0 if who.hair_style not in ("long", "bob", "twintails") else 0.92  # there it stays under the sides
    outer = np.stack([(0.70 + 0.6 * v) * np.sin(a), -0.05 - (crown + v) * np.cos(a)], 1)
    outer = mix(outer, roots, (np.abs(a) / 1.62)[:, None] ** 7)  # the cap ends in a point before each ear
    middle = mix(roots, outer, 0.55) * [1.04, 1.0] + [lean * 0.4, 0]
    sheets.append(Sheet(np.stack([roots, middle, outer], 1)))
    if who.hair_style not in ("long", "bob", "curly"):
        sheets += [_wisp(who, s, puff) for s in (-1, 1)]
    if who.hair_style == "short":
        sheets.append(_quiff(who, v))
    elif who.hair_style == "tousled":
        sheets += _tousled(who, v)
    if not short and who.hair_style in ("long", "bob", "twintails"):
        sheets += _curtains(who, v)
    return sheets + _fringe(who, v)


def _back_hair(who: Identity, v: float) -> list[Sheet]:
    """Return what hangs behind the head: the mass of long hair and bobs, tails."""
    side = math.copysign(1, who.part)
    if who.hair_style in ("long", "bob"):
        low, wide = (1.75, 0.92 + v) if who.hair_style == "long" else (0.82 + 0.2 * who.volume, 0.84 + v)
        x = np.linspace(-1, 1, 7)
        bend = 1.0 if who.hair_style == "long" else 0.9
        rows = [(0.5, -0.95), (0.88, -0.3), (0.96, 0.3), (bend, low)]
        guides = np.stack([np.stack([x * wide * f, np.full(7, y)], 1) for f, y in rows], 1)
        return [Sheet(guides, back=True, locks=6)]
    if who.hair_style == "ponytail":
        tail = [(0.30, -0.80), (0.95, -1.02), (1.20, -0.35), (1.08, 0.35), (1.16, 0.95)]
        widths = [0.08, 0.17, 0.26, 0.24, 0.10]
        return [_tail(tail, widths, side)]
    if who.hair_style == "twintails":
        tail = [(0.66, -0.25), (0.98, -0.12), (1.08, 0.45), (0.96, 1.05), (1.02, 1.5)]
        widths = [0.06, 0.15, 0.21, 0.20, 0.08]
        return [_tail(tail, widths, s) for s in (-1, 1)]
    return []


def _tail(path: list[tuple[float, float]], widths: list[float], side: float) -> Sheet:
    """Return a tail of hair along ``path``, as wide as ``widths``, on one side of the head."""
    line, half = np.array(path) * [side, 1], np.array(widths)[:, None]
    tangent = np.gradient(line, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / np.linalg.norm(tangent, axis=1, keepdims=True)
    return Sheet(np.stack([line + normal * half * k for k in (-1, -0.4, 0.4, 1)]), back=True, locks=3)


def _curtains(who: Identity, v: float) -> list[Sheet]:
    """Return the two sides of parted hair, which fall past the temples."""
    p = 0.42 * who.part
    low = {"long": 1.65, "bob": 0.78 + 0.2 * who.volume, "twintails": -0.1}[who.hair_style]
    sheets = []
    for s in (-1, 1):
        turn_in = 0.10 if who.hair_style == "bob" else 0.0
        inner = [(p, -0.66), (mix(p, s * 0.62, 0.6), -0.56), (s * 0.64, -0.16)]
        inner += [(s * 0.67, low / 2), (s * (0.62 - turn_in), low)]
        outer = [(p * 0.8, -0.96 - v), (s * 0.54, -0.82 - v), (s * (0.80 + v), -0.3)]
        outer += [(s * (0.86 + v), low / 2), (s * (0.88 + v - turn_in), low)]
        if who.hair_style == "twintails":  # gathered into the root of the tail
            inner[3:] = [(s * 0.67, -0.10), (s * 0.71, 0.0)]
            outer[2:] = [(s * 0.82, -0.36), (s * 0.80, -0.18), (s * 0.75, -0.06)]
        inner, outer = np.array(inner), np.array(outer)
        arch = np.array([0, -0.13 * abs(outer[1, 0] - outer[0, 0])])  # over the crown
        inner = np.insert(inner, 1, mix(inner[0], inner[1], 0.5), 0)
        outer = np.insert(outer, 1, mix(outer[0], outer[1], 0.5) + arch, 0)
        sheets.append(Sheet(np.stack([mix(inner, outer, t) for t in (0, 0.33, 0.66, 1)]), locks=3))
    return sheets


def _wisp(who: Identity, side: float, puff: float) -> Sheet:
    """Return the short hair in front of an ear: a sideburn, or a loose lock."""
    wide = 1 + puff  # the drawn face is broader and its eyes reach further out
    low = 0.16 if who.hair_style in ("short", "tousled") else 0.42
    inner = np.array([(0.56, -0.42), (0.625, -0.16), (0.655, mix(-0.16, low, 0.6)), (0.675, low)])
    outer = np.array([(0.66, -0.50), (0.695, -0.16), (0.70, mix(-0.16, low, 0.6)), (0.675, low)])
    return Sheet(np.stack([inner, (inner + outer) / 2, outer]) * [side * wide, 1], locks=1)


def _quiff(who: Identity, v: float) -> Sheet:
    """Return hair brushed up from the forehead and to one side."""
    a = np.linspace(-0.95, 0.95, 9)
    roots = np.stack([0.60 * np.sin(a), -0.02 - 0.60 * np.cos(a)], 1)
    lean = 0.24 * who.part * np.cos(a)
    middle = np.stack([0.72 * np.sin(a) + 0.3 * lean, -0.06 - (0.95 + 0.8 * v) * np.cos(a)], 1)
    tips = np.stack([0.72 * np.sin(a) + lean, -0.08 - (1.0 + 1.3 * v) * np.cos(a) - 0.2 * v * np.sin(a) * who.part], 1)
    return Sheet(np.stack([roots, middle, tips], 1), locks=6)


def _tousled(who: Identity, v: float) -> list[Sheet]:
    """Return short layers that fall outward from the crown on all sides."""
    a = np.linspace(-1.95, 1.95, 9)
    crown = np.array([0.12 * who.part, -0.92 - v])
    outer = np.stack([(0.80 + v) * np.sin(a), -0.12 - (0.92 + v) * np.cos(a)], 1)
    roots = crown + (outer - crown) * 0.12
    return [Sheet(np.stack([roots, mix(roots, outer, 0.6) + [0, -0.06], outer], 1), locks=9)]


def _fringe(who: Identity, v: float) -> list[Sheet]:
    """Return the hair that falls over the forehead."""
    side = math.copysign(1, who.part)
    if who.fringe == "straight":
        x = np.linspace(-1, 1, 7)
        roots = np.stack([x * 0.30 + 0.1 * who.part, np.full(7, -0.98 - v)], 1)
        middle = np.stack([x * 0.56, -0.68 + 0.12 * x**2], 1)
        tips = np.stack([x * 0.63, -0.19 + 0.16 * x**2], 1)
        return [Sheet(np.stack([roots, middle, tips], 1), locks=6)]
    if who.fringe == "swept":
        return [_sweep(side * 0.40, -side * 0.66, 0.05, v, 5), _sweep(side * 0.36, side * 0.70, -0.1, v, 2)]
    if who.fringe == "curtain":
        return [_sweep(side * 0.08, s * 0.70, 0.02, v, 3) for s in (-1, 1)]
    return []


def _sweep(start: float, end: float, low: float, v: float, locks: int) -> Sheet:
    """Return a sheet that sweeps from x = ``start`` at the parting to x = ``end`` at the temple."""
    inner = [(start, -0.80), (mix(start, end, 0.12), -0.62)]
    inner += [(mix(start, end, 0.35), -0.38), (mix(start, end, 0.55), -0.22)]
    outer = [(start, -1.0 - v), (mix(start, end, 0.7), -0.86), (mix(start, end, 1.0), -0.5), (end * 1.05, low)]
    return Sheet(np.stack([mix(np.array(inner), np.array(outer), t) for t in (0, 0.35, 0.7, 1)]), locks=locks)


def curls(who: Identity, puff: float, rng: np.random.Generator) -> np.ndarray:
    """Return the circles (n, 3) of x, y, radius that make a cloud of curls, or a bun: from the back to the front."""
    if who.hair_style == "bun":
        return np.array([[0.16 * who.part, -1.26 - puff, 0.31 + 0.05 * who.volume]])
    if who.hair_style != "curly":
        return np.zeros((0, 3))
    long = 0 if who.masculine > 0.6 else 0.75 * who.volume
    rings = []
    for reach in (1.0, 0.84, 0.66):
        a = np.linspace(-1.75 - long, 1.75 + long, 19 if reach > 0.9 else 15)
        a = a + rng.normal(0, 0.05, len(a))
        grow = reach * (0.86 + 0.16 * who.volume + puff)
        x, y = grow * np.sin(a) * 0.98, -0.16 - grow * np.cos(a)
        shown = 0.69 - 0.3 * np.maximum(0, -np.sign(x) * who.yaw) * (y < 0.2)  # a turned head shows more of one side
        keep = (y < -0.47) | (np.abs(x) > shown)
        radius = rng.uniform(0.12, 0.18, len(a)) * (0.8 + 0.3 * who.volume)
        rings.append(np.stack([x, y, radius], 1)[keep])
    return np.concatenate(rings)


def face_outline(who: Identity, anime: bool) -> np.ndarray:
    """Return the closed outline (n, 2) of the face, in face units: a jaw and chin of bone, or a drawn point."""
    m, j = who.masculine, (0.03 if anime else 0.045) * who.jaw
    if anime:
        right = [(0.0, 0.90 + 0.04 * m), (0.13 + 0.04 * m, 0.855 + 0.04 * m), (0.42 + j + 0.05 * m, 0.645)]
        right += [(0.635 + j, 0.34), (0.69 + j, 0.0), (0.69, -0.4), (0.52, -0.85), (0.0, -1.0)]
    else:
        right = [(0.0, 1.02), (0.17 + 0.05 * m, 0.985 + 0.01 * m), (0.38 + 0.06 * m + j, 0.82)]
        right += [(0.555 + 0.04 * m + j, 0.52), (0.635 + j, 0.16)]
        right += [(0.66, -0.2), (0.61, -0.6), (0.36, -0.9), (0.0, -0.98)]
    right = np.array(right)
    left = right[-2:0:-1] * [-1, 1]
    return spline(np.concatenate([right, left]), 90, closed=True)


def ear_outline(side: float) -> np.ndarray:
    """Return the outline of one ear, in face units."""
    points = [(0.62, -0.12), (0.70, -0.20), (0.765, -0.12), (0.755, 0.06), (0.71, 0.20), (0.66, 0.27), (0.60, 0.2)]
    return spline(np.array(points) * [side, 1], 30, closed=True)


def body_outlines(who: Identity, anime: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the outlines of the neck with the bare chest, and of the clothes, in face units of the body."""
    neck = (0.24 + 0.06 * who.masculine) if anime else (0.34 + 0.07 * who.masculine)
    wide = (1.0 + 0.2 * who.masculine) if anime else (1.2 + 0.25 * who.masculine)
    half = np.array([(neck, 0.5), (neck, 0.95), (neck * 1.06, 1.1), (neck * 1.6, 1.27), (neck * 1.75, 1.5), (0.3, 2.4)])
    skin = np.concatenate([spline(half, 24), spline(half * [-1, 1], 24)[::-1]])
    collar = {"tee": (1.32, 1.52), "shirt": (1.16, 1.66), "roll": (1.02, 1.06), "hood": (1.22, 1.42)}[who.outfit]
    dip, edge = collar[1], neck * (1.04 if who.outfit == "roll" else 1.35)
    top = [(0.0, dip), (edge * 0.6, mix(dip, collar[0], 0.35)), (edge, collar[0]), (edge * 1.3, collar[0] + 0.04)]
    top += [(wide * 0.72, 1.42), (wide, 1.60), (wide * 1.12, 2.0), (wide * 1.1, 2.6)]
    right = spline(np.array(top), 40)
    return skin, np.concatenate([right, (right * [-1, 1])[::-1]])


def eye_frame(head: Head, x: float, y: float, w: float, h: float, side: float) -> Callable[..., np.ndarray]:
    """Return the function from local coordinates of an eye (u from nose to temple, v down) to pixels."""
    return lambda points, lift=0.0: head.at(np.asarray(points, float) * [w * side, h] + [x * side, y], lift)


def paint_glasses(head: Head, y: float, w: float, h: float, x: float, colour, width: float) -> None:
    """Paint spectacles around eyes at (+-x, y); lenses are 2w by 2h."""
    who = head.who
    square = [(-0.95, -0.75), (0, -0.88), (1.05, -0.8), (1.0, 0.2), (0.62, 0.85), (-0.55, 0.85), (-0.9, 0.2)]
    lens = (ellipse(0, 0, 1, 1) if who.glasses == "round" else spline(square, 40, closed=True)) * [w, h]
    for side in (-1, 1):
        rim = head.at(lens * [side, 1] + [x * side, y], 0.05)
        head.fill(rim, (1, 1, 1), 0.07)
        shine = np.array([(-0.5, 0.55), (0.1, -0.75), (0.4, -0.75), (-0.2, 0.55)]) * [w, h] + [x * side, y]
        head.fill(head.at(shine, 0.05), (1, 1, 1), 0.12, 0.01)
        rim = np.concatenate([rim, rim[:2]])
        head.stroke(rim, width, colour, taper=(1, 1))
        temple = np.array([(x + w, y - 0.3 * h), (0.72, y - 0.25 * h)]) * [side, 1]
        head.stroke(head.at(spline(temple, 8)), width, colour, taper=(1, 1))
    bridge = np.array([(-(x - w), y - 0.1), (0, y - 0.1 - 0.35 * h), (x - w, y - 0.1)])
    head.stroke(head.at(spline(bridge + [0, 0.07], 10), 0.08), width, colour, taper=(1, 1))


def beard_outline() -> np.ndarray:
    """Return the closed outline (n, 2) of a beard around the mouth, in face units."""
    right = [(0.0, 0.47), (0.2, 0.5), (0.34, 0.66), (0.50, 0.52), (0.63, 0.1)]
    right = np.array(right + [(0.75, 0.15), (0.70, 0.7), (0.45, 1.02), (0.0, 1.12)])
    return spline(np.concatenate([right, right[-2:0:-1] * [-1, 1]]), 80, closed=True)


def paint_collar(head: Head, clothes: np.ndarray, dark, bright, alpha: float) -> None:
    """Paint the hem or the lapels that tell one outfit from another; both domains use it."""
    who = head.who
    n = len(clothes) // 2
    if who.outfit == "shirt":
        for s in (-1, 1):
            edge = clothes[:n] * [s, 1]
            x, y = edge[14]
            flap = np.array([edge[0], edge[6], (x, y - 0.04), (x * 1.25, y + 0.08), (x * 0.95, y + 0.32)])
            head.fill(head.body(flap), bright)
            head.stroke(head.body(flap[[0, 4, 3]]), 0.02, dark, alpha * 2, taper=(1, 1))
        head.stroke(head.body(np.array([(0, 1.66), (0, 2.6)])), 0.02, dark, alpha * 2, taper=(1, 1))
    else:
        for offset in (0.06, 0.10 if who.outfit == "tee" else 0.2):
            edge = np.concatenate([clothes[:15][::-1], clothes[:15] * [-1, 1]]) + [0, offset]
            head.stroke(head.body(edge), 0.018, dark, alpha, taper=(1, 1))
