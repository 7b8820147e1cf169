"""The lines that both domains share, in face units. Where they differ, the photograph's come first, the drawing's second."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from typing import List, NamedTuple, Sequence

import numpy as np

from datatools.faces.canvas import Head, Shape, curve, ellipse, mix
from datatools.faces.identity import Identity

# Hair gathered behind the head: x, y and half width along it.
TAIL = np.array([(0.5, -0.8, 0.08), (0.95, -0.92, 0.17), (1.18, -0.35, 0.26), (1.08, 0.35, 0.24), (1.14, 1.0, 0.10)])
# Sweeps of a fringe, each from x at the parting to x at the temple, and how many locks it has.
SWEEPS = {"swept": ((0.40, -0.66, 5), (0.36, 0.70, 2)), "curtain": ((0.08, -0.7, 3), (0.08, 0.7, 3))}

# Half of the outline of the face, from the chin to the crown.
FACE = (
    [(0, 1.02), (0.19, 0.985), (0.40, 0.82), (0.57, 0.52), (0.64, 0.16), (0.66, -0.2), (0.61, -0.6), (0, -0.98)],
    [(0, 0.90), (0.13, 0.86), (0.42, 0.645), (0.635, 0.34), (0.69, 0), (0.69, -0.4), (0.52, -0.85), (0, -1)],
)
SHADOW = np.array((0.80, 0.70, 0.80))  # makes the one shadow tone of a drawn colour: darker, and towards violet
EAR = curve([(0.62, -0.12), (0.70, -0.20), (0.765, -0.12), (0.75, 0.06), (0.66, 0.27), (0.60, 0.2)], 30, True)


class Sheet(NamedTuple):
    """A sheet of hair: `guides` (k, m, 2) are k neighbouring strands of m points each, from root to tip."""

    guides: np.ndarray
    locks: int  # how many pointed locks the drawing cuts it into; 0: it stays smooth
    back: bool = False  # behind the neck

    def strands(self, count: int, samples: int) -> np.ndarray:
        """`count` strands (count, samples, 2)."""
        return curve(curve(self.guides.swapaxes(0, 1), samples).swapaxes(0, 1), count)


def between(inner: Sequence, outer: Sequence, locks: int, back: bool = False) -> Sheet:
    """The sheet between two strands."""
    return Sheet(np.stack([mix(inner, outer, t) for t in (0, 0.33, 0.67, 1)]), locks, back)


def hair_sheets(who: Identity, puff: float) -> List[Sheet]:
    """The sheets of hair from the back to the front; `puff` is extra volume."""
    v, side, style, sheets = 0.05 + 0.09 * who.volume + puff, np.sign(who.part), who.hair_style, []
    low = {"long": 1.75, "bob": 0.8 + 0.2 * who.volume}.get(style)
    if low:
        half = np.array([(0.5, -0.95), (0.88, -0.3), (0.96, 0.3), (0.95, low)]) * (0.88 + v, 1)
        sheets.append(between(half * (-1, 1), half, 6, back=True))
    for s in {"ponytail": [side], "twintails": [-1, 1]}.get(style, []):
        path, normal = TAIL[:, :2] * (s, 1), np.gradient(TAIL[:, :2] * (s, 1), axis=0)[:, ::-1] * (-1, 1)
        normal *= (TAIL[:, 2] / np.linalg.norm(normal, axis=1))[:, None]
        sheets.append(between(path - normal, path + normal, 3, back=True))
    # The cap runs from the hairline to the silhouette, and ends in a point before each ear.
    a = np.linspace(-1.62, 1.62, 13)
    x, y = np.sin(a), -np.cos(a)
    roots = np.stack([0.62 * x, -0.02 - (0.62 - puff) * (-y).clip(0) ** 0.8 - 0.07 * np.sin(2 * a) ** 2], 1)
    outer = mix(np.stack([(0.70 + 0.6 * v) * x, (0.97 + v) * y - 0.05], 1), roots, (np.abs(a) / 1.62)[:, None] ** 7)
    sheets.append(Sheet(np.stack([roots, mix(roots, outer, 0.55) + (0.04 * who.part, 0), outer], 1), 0))
    for s in (-1, 1) if low else ():  # the sides of parted hair, which fall past the temples
        p = 0.42 * who.part
        inner = [(p, -0.66), (mix(p, s * 0.62, 0.6), -0.56), (s * 0.64, -0.16), (s * 0.67, low / 2), (s * 0.58, low)]
        outer = [(p, -0.96 - v), (s * 0.54, -0.86 - v), (s * (0.8 + v), -0.3), (s * (0.86 + v), low / 2), (s * (0.84 + v), low)]
        sheets.append(between(inner, outer, 3))
    if style == "short":  # brushed up from the forehead and to one side
        lean = -0.24 * who.part * y
        tips = np.stack([0.70 * x + lean, (1.0 + 1.3 * v + 0.15 * v * x * who.part) * y - 0.08], 1)
        sheets.append(Sheet(np.stack([roots, mix(roots, tips, 0.8) - (0.5 * lean[:, None] * (1, 0)), tips], 1)[3:-3], 6))
    if who.fringe == "straight":
        left = np.array([(-0.30, -0.98 - v), (-0.60, -0.58), (-0.63, -0.15)])
        sheets.append(between(left, left * (-1, 1), 6))
    for start, end, locks in SWEEPS.get(who.fringe, ()):
        x = side * mix(start, end, np.array((0, 0.12, 0.35, 0.55, 0.7, 1)))
        inner = [(x[0], -0.80), (x[1], -0.62), (x[2], -0.38), (x[3], -0.22)]
        sheets.append(between(inner, [(x[0], -1.0 - v), (x[4], -0.86), (x[5], -0.5), (1.05 * x[5], 0)], locks))
    return sheets


def ring_of_light(head: Head, jag: float) -> np.ndarray:
    """The highlight around the top of the hair, in pixels, with teeth of a height of `jag`."""
    x = np.linspace(-0.36, 0.36, 11) + 0.26 * head.who.light
    swell = np.sin(np.linspace(0, np.pi, 11)).clip(0) ** 0.5
    low = 0.42 * x**2 - 0.84 + np.where(np.arange(11) % 2, jag, 0) * swell
    return head.at(np.concatenate([np.stack([x, low - (0.05 + jag) * swell], 1), np.stack([x, low], 1)[::-1]]), 0.05)


def ink(colour: np.ndarray) -> np.ndarray:
    """The ink that outlines a colour: dark, and a little of its hue."""
    return mix(np.square(colour) * 0.35, (0.16, 0.09, 0.14), 0.55)


def paint_part(head: Head, shape: Shape, colour: np.ndarray, shades: Sequence[Shape] = ()) -> np.ndarray:
    """Paint a part of the person with soft or flat shades on it; returns its mask (side, side)."""
    if head.drawn:
        head.fill(shape, ink(colour), outline=0.022)
    head.fill(shape, colour, blur=head.blur)
    mask = head.mask(shape, head.blur)
    for shade in shades:
        head.fill(shade, colour * (SHADOW if head.drawn else (0.4, 0.3, 0.27)), 1 if head.drawn else 0.5, 18 * head.blur, mask)
    return mask


def paint_background(head: Head, low: Sequence[float], high: Sequence[float], blur: float) -> None:
    """Stripes or round spots on a ramp from one saturation and value to another, out of focus by `blur`."""
    light, side, rng = head.who.light, head.side, np.random.default_rng(head.who.noise_seed)
    y, x = np.ogrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    low, high = (hsv_to_rgb(head.who.background_hue, *colour) for colour in (low, high))
    head.image[:] = mix(low, high, (0.6 * y + 0.4 * x[:, ::light])[..., None])
    shapes = [ellipse(x, y, r, r) * side for x, y, r in rng.uniform((0, 0, 0.02), (1, 1, 0.1), (12, 3))]
    if rng.random() < 0.5:
        stripe = np.array([(0, 0), (0.11, 0), (0.11 - 0.4 * light, 1), (-0.4 * light, 1)])
        shapes = [(stripe + (x, 0)) * side for x in np.arange(-0.7, 1.5, 0.26)]
    head.fill(shapes, (1, 1, 1), 0.3, blur)


def face_outline(head: Head) -> np.ndarray:
    """The outline of the face, in pixels."""
    outline = curve(FACE[head.drawn], 50, mirrored=True)
    outline[:, 0] *= 1 + (0.07 * head.who.jaw + 0.12 * head.who.masculine - 0.05) * outline[:, 1].clip(0, 1)
    return head.at(outline)


def paint_body(head: Head, skin: np.ndarray) -> None:
    """Neck, clothes and ears."""
    who, neck = head.who, (0.34, 0.24)[head.drawn] + 0.06 * head.who.masculine
    wide = 0.5 + 2 * neck + 0.1 * who.masculine
    bare = [(neck, 0.5), (neck, 0.95), (neck * 1.06, 1.1), (neck * 1.6, 1.27), (neck * 1.75, 1.5), (0.3, 2.4)]
    top, edge = 1.02 + 0.28 * who.neckline, neck * (1.04 + 0.36 * who.neckline)
    cloth = [(0, top + 0.04 + 0.3 * who.neckline), (edge * 0.6, top + 0.03 + 0.2 * who.neckline), (edge, top)]
    cloth += [(edge * 1.3, top + 0.04), (wide * 0.72, 1.42), (wide, 1.60), (wide * 1.12, 2.0), (wide * 1.1, 2.6)]
    chin = face_outline(head) + np.array((-0.07 * who.light, 0.16)) * head.unit
    side = head.body(curve([(0.15, 2.6), (0.5, 1.75), (0.6, 1.36), (1.8, 1.2), (1.8, 2.6)], 30, True) * (-who.light, 1))
    colour = np.array(hsv_to_rgb(who.outfit_hue, 0.62 - 0.45 * who.outfit_value, 0.25 + 0.6 * who.outfit_value))
    paint_part(head, head.body(curve(bare, 24, mirrored=True)), skin, [chin])
    outline = curve(cloth, 40, mirrored=True)
    paint_part(head, head.body(outline), colour, [chin, side])
    head.stroke(head.body(np.roll(outline, 15, 0)[:30] + (0, 0.08)), 0.02, colour * 0.4, 0.7, taper=(1, 1))
    for s in (-1, 1):
        ear, hollow = (head.at((shape + (0, 0.12 * head.drawn)) * (s, 1)) for shape in (EAR, ellipse(0.7, 0.03, 0.03, 0.12)))
        paint_part(head, ear, skin, [hollow])


def paint_eye(head: Head, side: int, iris: np.ndarray, lash: np.ndarray, brow: np.ndarray) -> None:
    """White, iris, pupil, the shadow of the lid, a highlight, lashes, the fold above, and the eyebrow."""
    who, blur, (x, y, w, h) = head.who, head.blur, ((0.295, 0, 0.132, 0.066), (0.35, 0.16, 0.21, 0.225))[head.drawn]

    def eye(points: np.ndarray) -> np.ndarray:  # u from the nose to the temple, v down
        return head.at(np.multiply(points, (w * side, h * (1 - 0.2 * who.masculine))) + (x * side, y))

    open_, squint = who.eyelid, 0.2 * max(0, who.smile)
    upper = curve([(-1, 0.12), (-0.65, -0.55 * open_), (-0.05, -open_), (0.6, -0.7 * open_), (1, -0.02)], 24)
    lower = curve([(1, -0.02), (0.7, 0.6 - squint), (0.1, 0.9 - squint), (-0.6, 0.68 - squint), (-1, 0.12)], 24)
    shape = eye(np.concatenate([upper, lower]))
    inside = head.mask(shape)
    head.fill(shape, mix((1, 0.99, 0.98), lash, 30 * blur), blur=blur)
    u, (rx, ry) = (0.25 * who.gaze + 0.1 * who.yaw) * side, ((0.45, 0.92), (0.62, 0.86))[head.drawn]
    head.fill(eye(ellipse(u, 0, rx, ry)), iris**2 * 0.3, 1, blur, inside)
    head.fill(eye(ellipse(u, 0, rx * 0.88, ry * 0.9)), iris * 0.9, 1, blur, inside)
    head.fill(eye(ellipse(u, 0.45 * ry, rx * 0.7, ry * 0.48)), mix(iris, (1, 1, 1), 0.35), 0.8, 0.01, inside)
    head.fill(eye(ellipse(u, 0, rx * 0.42, ry * 0.46)), iris**2 * 0.15, 1, blur, inside)
    head.fill(eye(np.concatenate([upper, upper[::-1] + (0, 0.45)])), iris * 0.2, 0.45, blur, inside)
    head.fill(eye(ellipse(u + 0.38 * rx * who.light * side, -0.36, 0.3 * rx, 0.24)), (1, 1, 1), 0.95, blur)
    line = upper if who.masculine > 0.5 else np.concatenate([upper[:-1], [(1.04, -0.12), (1.28, -0.28)]])
    head.stroke(eye(line - (0, 0.04)), (0.028, 0.07)[head.drawn] * (1 - 0.3 * who.masculine), lash, 1, blur, (0.15, 0.4))
    for fold in (lower[2:-2] + (0, 0.03), upper[4:21] - (0, 0.018 / h + 0.14)):
        head.stroke(eye(fold), 0.018, lash, 0.6, blur)
    raised, (x, y, width) = 0.04 * who.brow, ((0.31, -0.22, 0.06), (0.36, -0.28, 0.045))[head.drawn]
    line = curve([(x - 0.19, y + 0.045 + raised), (x, y - raised), (x + 0.19, y + 0.055 - 0.5 * raised)], 20) * (side, 1)
    head.stroke(head.at(line), width * (0.7 + 0.7 * who.masculine), brow, 0.9, 2 * blur, (0.6, 0))


def paint_mouth(head: Head, dark: np.ndarray, lips: np.ndarray, full: float) -> None:
    """A mouth, open with teeth or closed, with lips of the height `full`."""
    who, (y, w, gape) = head.who, ((0.625, 0.205, 0.085), (0.685, 0.11, 0.17))[head.drawn]
    w, c, gape = w * (1 + 0.35 * max(0, who.smile)), -0.05 * who.smile, gape * who.mouth_open
    line = curve([(-w, c), (-0.45 * w, 0.15 * c), (0, 0.01), (0.45 * w, 0.15 * c), (w, c)], 30) + (0, y)
    swell = np.outer(np.sin(np.linspace(0, np.pi, 30)).clip(0) ** 0.7, (0, 1))
    below = line + gape * swell
    for first, second, colour in (
        (line, below, (0.45, 0.12, 0.14)),
        (line * (0.9, 1), line * (0.8, 1) + 0.4 * gape * swell, (0.97, 0.95, 0.93)),
        (line - full * swell, line, lips * 0.8),
        (below, below + 1.4 * full * swell, lips),
    ):
        head.fill(head.at(np.concatenate([first, second[::-1]]), 0.04), colour, 0.8, head.blur)
    for edge, alpha in ((line, 0.9), (below, 0.3 if full else 0.9)):
        head.stroke(head.at(edge, 0.04), 0.02, dark, alpha, head.blur, (0.4, 0.4))
