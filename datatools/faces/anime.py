"""Domain B: a face as an anime portrait, in flat colours with one shadow tone, under ink."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Head, ellipse, hsv, mix, new_head, spline
from .identity import ANIME_SKIN_TONES, EYE_COLOURS, HAIR_COLOURS, Identity
from .shapes import (
    Sheet,
    beard_outline,
    body_outlines,
    curls,
    ear_outline,
    eye_frame,
    face_outline,
    hair_sheets,
    paint_collar,
    paint_glasses,
)

INK_WIDTH = 0.022
CAP, LOCK, CURL = 50, 44, 28  # how many points the outline of a cap, a lock and a curl has


def draw_anime(identity: Identity, size: int) -> np.ndarray:
    """Draw an identity as an anime portrait: (size, size, 3) uint8 RGB, the same for the same arguments.

    Raises ValueError if ``size`` is below 16.
    """
    head = new_head(identity, size)
    hair = [(sheet.back, _locks(head, sheet)) for sheet in hair_sheets(identity, 0.07)]
    _anime_background(head)
    _anime_hair(head, [lock for back, locks in hair if back for lock in locks], back=True)
    _anime_body(head)
    front = [lock for back, locks in hair if not back for lock in locks] + _cloud(head)
    _anime_face(head, front)
    for side in (-1.0, 1.0):
        _anime_eye(head, side)
    _anime_mouth(head)
    _anime_hair(head, front, back=False)
    for side in (-1.0, 1.0):
        _anime_brow(head, side)
    if identity.glasses:
        round_ = identity.glasses == "round"
        paint_glasses(head, 0.16, 0.30, 0.30 if round_ else 0.25, 0.36, hsv(identity.outfit_hue, 0.6, 0.35), 0.03)
    return np.round(np.clip(head.finish(), 0, 1) * 255).astype(np.uint8)


def ink(colour) -> np.ndarray:
    """Return the ink that outlines a colour: dark, and a little of its hue."""
    return mix(np.asarray(colour) ** 2 * 0.35, (0.16, 0.09, 0.14), 0.55)


def shadow_of(colour) -> np.ndarray:
    """Return the single shadow tone of a flat colour: darker and towards violet."""
    return np.asarray(colour) * (0.80, 0.70, 0.80)


def anime_skin(who: Identity) -> np.ndarray:
    """Return the flat skin colour of the drawn face."""
    return spline(ANIME_SKIN_TONES, 101)[round(100 * who.skin)]


def anime_hair(who: Identity) -> np.ndarray:
    """Return the bright counterpart of the natural colour of the hair."""
    return np.array(HAIR_COLOURS[who.hair_colour][1])


def _outlined(head: Head, shape, colour, width: float = INK_WIDTH) -> np.ndarray:
    """Paint a polygon, or the union of a list of them, with one outline around it; return its mask (side, side)."""
    head.fill(shape, ink(colour), outline=width)
    head.fill(shape, colour)
    return head.mask(*(shape if isinstance(shape, list) else [shape]))


def _anime_background(head: Head) -> None:
    """Paint a flat sky with one pattern: stripes, bubbles or a window of light."""
    who, rng, unit = head.who, head.rng, head.side
    low, high = hsv(who.background_hue, 0.42, 0.88), hsv(who.background_hue + 0.03, 0.16, 1.0)
    ramp = np.linspace(0, 1, head.side, dtype=np.float32)[:, None, None]
    head.image[:] = mix(low, high, ramp)
    if who.background_kind == 0:
        for i in range(-3, 6):
            x = (i + 0.2) * 0.26
            stripe = np.array([(x, 0), (x + 0.11, 0), (x + 0.11 - 0.4 * who.light, 1), (x - 0.4 * who.light, 1)])
            head.fill(stripe * unit, high, 0.45)
    elif who.background_kind == 1:
        for _ in range(12):
            x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.02, 0.09)
            head.fill(ellipse(x, y, r, r) * unit, (1, 1, 1), 0.35)
    else:
        head.fill(ellipse(0.5, 0.48, 0.43, 0.43, 60) * unit, high, 0.75)
        head.fill(ellipse(0.5, 0.48, 0.37, 0.37, 60) * unit, mix(low, high, 0.35), 0.8)


def _anime_body(head: Head) -> None:
    """Paint neck and clothes in two tones."""
    who = head.who
    skin, clothes = body_outlines(who, True)
    tone = anime_skin(who)
    neck = _outlined(head, head.body(skin), tone)
    chin = head.at(face_outline(who, True)) + [-0.05 * who.light * head.unit, 0.17 * head.unit]
    head.fill(chin, shadow_of(tone), clip=neck)
    cloth = hsv(who.outfit_hue, 0.18 + 0.5 * (1 - who.outfit_value), 0.42 + 0.53 * who.outfit_value)
    mask = _outlined(head, head.body(clothes), cloth)
    s = -who.light
    shade = np.array([(0.15, 2.6), (0.55, 1.75), (0.62, 1.36), (1.8, 1.2), (1.8, 2.6)]) * [s, 1]
    head.fill(head.body(spline(shade, 30, closed=True)), shadow_of(cloth), clip=mask)
    paint_collar(head, clothes, ink(cloth), mix(cloth, (1, 1, 1), 0.55), 0.8)


def _anime_face(head: Head, front: list[np.ndarray]) -> None:
    """Paint ears and face, the shadow of the hair, blush and a nose that is hardly there."""
    who = head.who
    tone = anime_skin(who)
    for s in (-1.0, 1.0):
        ear = ear_outline(s) * [1.0, 0.9] + [0.02 * s, 0.12]
        _outlined(head, head.at(ear), tone)
        head.fill(head.at(ellipse(0.72 * s, 0.13, 0.028, 0.11)), shadow_of(tone), 0.9)
    mask = _outlined(head, head.at(face_outline(who, True)), tone)
    dark = shadow_of(tone)
    s = -who.light
    side = [(0.47, -0.5), (0.58, 0.05), (0.44, 0.5), (0.10, 0.80), (0.1, 1.1), (1.2, 1.0), (1.2, -0.5)]
    head.fill(head.at(spline(np.array(side) * [s, 1], 50, closed=True)), dark, 0.75, clip=mask)
    drop = np.array([-0.03 * who.light, 0.085]) * head.unit
    head.blend(head.mask(*(lock + drop for lock in front)) * mask, dark)
    for x in (-0.45, 0.45):
        flush = 0.16 + 0.26 * max(0.0, who.smile)
        head.fill(head.at(ellipse(x, 0.46, 0.13, 0.065)), (0.98, 0.42, 0.42), flush, 0.045, mask)
    if who.freckles:
        for x, y in ((-0.51, 0.43), (-0.43, 0.47), (-0.36, 0.43), (0.51, 0.43), (0.43, 0.47), (0.36, 0.43)):
            head.fill(head.at(ellipse(x, y, 0.013, 0.013, 10)), tone * (0.78, 0.55, 0.48))
    if who.beard > 0.7:
        beard = head.mask(head.at(beard_outline() * [0.98, 0.92]))
        mouth = head.mask(head.at(ellipse(0, 0.66, 0.17, 0.075)))
        head.blend(beard * mask * (1 - mouth) * 0.62, anime_hair(who) * 0.70)
    elif who.beard:
        head.fill(head.at(beard_outline() * [0.98, 0.92]), (0.50, 0.42, 0.55), 0.2, 0.06, mask)
    nose = np.array([(0.035 * s, 0.40), (0.055 * s, 0.47), (0.0, 0.475)])
    head.stroke(head.at(spline(nose, 10), 0.10), 0.016 + 0.008 * who.masculine, ink(tone), 0.9, taper=(0, 0.4))


def _anime_eye(head: Head, side: float) -> None:
    """Paint one large eye: white, iris with a bright foot, pupil, two highlights, lashes."""
    who = head.who
    o, m = who.eyelid, who.masculine
    eye = eye_frame(head, 0.35, 0.16, 0.205 + 0.01 * m, 0.245 - 0.075 * m, side)
    upper = spline(np.array([(-1, 0.02), (-0.72, -0.62 * o), (-0.1, -1.0 * o), (0.55, -0.80 * o), (1, -0.02)]), 24)
    lower = spline(np.array([(1, -0.02), (0.80, 0.62), (0.25, 0.96), (-0.4, 0.88), (-0.82, 0.5), (-1, 0.02)]), 24)
    shape = eye(np.concatenate([upper, lower]))
    inside = head.mask(shape)
    dark_ink = ink(anime_hair(who)) * 0.75
    head.fill(shape, (1.0, 0.99, 0.98))
    x = 0.02 + 0.2 * who.gaze * side + 0.08 * who.yaw * side
    iris = np.array(EYE_COLOURS[who.eye_colour][1])
    rx, ry = 0.64, 0.86
    head.fill(eye(ellipse(x, 0.05, rx, ry)), iris**2 * 0.28, clip=inside)
    head.fill(eye(ellipse(x, 0.05, rx * 0.88, ry * 0.91)), iris * 0.80, clip=inside)
    head.fill(eye(ellipse(x, 0.42, rx * 0.74, ry * 0.52)), np.minimum(1, iris * 1.12 + 0.08), 0.95, 0.012, inside)
    head.fill(eye(ellipse(x, 0.64, rx * 0.50, ry * 0.22)), mix(iris, (1, 1, 1), 0.62), 0.9, 0.008, inside)
    head.fill(eye(ellipse(x, 0.05, rx * 0.42, ry * 0.46)), iris**2 * 0.16, 0.95, 0.004, inside)
    shade = np.concatenate([upper, upper[::-1] + [0, 0.46]])
    head.fill(eye(shade), iris * 0.25 + (0.05, 0.03, 0.12), 0.42, 0.004, inside)
    toward = who.light * side
    head.fill(eye(ellipse(x + 0.25 * toward, -0.32, 0.20, 0.24)), (1, 1, 1))
    head.fill(eye(ellipse(x - 0.26 * toward, 0.46, 0.10, 0.12)), (1, 1, 1), 0.9)
    lash = np.concatenate([upper[1:], spline(np.array([(1.02, -0.02), (1.16, -0.10), (1.3, -0.28)]), 6)[1:]])
    lash = eye(lash[: 24 if m > 0.5 else None] + [0, -0.04])
    head.stroke(lash, 0.075 - 0.022 * m, dark_ink, taper=(0.1, 0.35), power=0.8)
    if m < 0.5:
        for u, v in ((0.80, -0.50), (1.0, -0.18)):
            flick = np.array([(u - 0.05, v), (u + 0.16, v - 0.10), (u + 0.30, v - 0.28)])
            head.stroke(eye(spline(flick, 8)), 0.035, dark_ink, taper=(0.9, 0))
    head.stroke(eye(lower[3:14] + [0, 0.02]), 0.022, dark_ink, 0.9, taper=(0.3, 0))
    head.stroke(eye(upper[4:21] * [0.95, 1] + [0.02, -0.24]), 0.016, ink(anime_skin(who)), 0.75)


def _anime_brow(head: Head, side: float) -> None:
    """Paint a thin eyebrow, over the hair as is the custom."""
    who = head.who
    raised = -0.045 * who.brow
    line = np.array([(0.17, -0.23 - 1.0 * raised), (0.33, -0.30 + raised), (0.54, -0.22 + 0.6 * raised)])
    line = head.at(spline((line - [0, 0.05 * (1 - who.masculine)]) * [side, 1], 14))
    head.stroke(line, 0.030 + 0.035 * who.masculine, ink(anime_hair(who)), 0.95, taper=(0.5, 0))


def _anime_mouth(head: Head) -> None:
    """Paint a small mouth: a line, or an open shape with a tongue."""
    who = head.who
    y, w = 0.685, 0.085 + 0.06 * max(0.0, who.smile) + 0.01 * who.masculine
    c = -0.05 * who.smile
    dark = ink(anime_skin(who))
    line = spline(np.array([(-w, y + c), (-0.4 * w, y - 0.1 * c), (0.4 * w, y - 0.1 * c), (w, y + c)]), 20)
    if not who.mouth_open:
        head.stroke(head.at(line, 0.04), 0.024, dark, taper=(0.35, 0.35))
        under = np.array([(-0.035, y + 0.065), (0.0, y + 0.072), (0.035, y + 0.065)])
        head.stroke(head.at(spline(under, 8), 0.03), 0.012, dark, 0.6)
        return
    deep = 0.05 + 0.11 * who.mouth_open
    low = y + 0.75 * deep
    bowl = spline([(w, y + c), (0.62 * w, low), (0, y + deep), (-0.62 * w, low), (-w, y + c)], 24)
    shape = head.at(np.concatenate([line, bowl]), 0.04)
    inside = _outlined(head, shape, (0.62, 0.16, 0.20), 0.011)
    head.fill(head.at(ellipse(0, y + deep, 0.75 * w, 0.55 * deep), 0.04), (0.95, 0.48, 0.48), clip=inside)
    teeth = np.concatenate([line, (line * [0.9, 1] + [0, 0.025])[::-1]])
    head.fill(head.at(teeth, 0.04), (1, 1, 1), clip=inside)


def _locks(head: Head, sheet: Sheet) -> list[np.ndarray]:
    """Cut a sheet of hair into pointed locks, each a polygon (n, 2) of pixels."""
    who, samples = head.who, LOCK // 2
    if not sheet.locks:
        edge = head.at(sheet.strands(CAP // 2, 0, 6))
        return [np.concatenate([edge[:, -1], edge[::-1, 0]])]
    rng = np.random.default_rng([who.noise_seed, 2, sheet.locks])
    count = 12 * sheet.locks + 1
    strands = sheet.strands(count, who.wave, samples)
    cuts = np.arange(sheet.locks + 1) * 12 + np.concatenate([[0], rng.integers(-3, 4, sheet.locks - 1), [0]])
    t = np.linspace(0, 1, samples)[:, None]
    sharp = 0.45 * min(1.0, np.ptp(sheet.guides[..., 1]) / 1.2)  # long hair keeps its width longer
    point = np.clip((t - 0.4 - sharp) / (0.6 - sharp), 0, 1) ** 1.5
    locks = []
    for a, b in np.stack([cuts[:-1], cuts[1:]], 1):
        reach = rng.uniform(0.86, 1.0)
        part = np.round(np.linspace(0, 199 * reach, samples)).astype(int)
        left, right, tip = (spline(strands[k], 200)[part] for k in (a, b, (a + b) // 2))
        locks.append(head.at(np.concatenate([mix(left, tip, point), mix(right, tip, point)[::-1]]), 0.04))
    return locks


def _cloud(head: Head) -> list[np.ndarray]:
    """Return the curls of curly hair as polygons (n, 2) of pixels: none for the other styles."""
    if head.who.hair_style != "curly":
        return []
    rng = np.random.default_rng(head.who.noise_seed)
    return [head.at(ellipse(x, y, r, r, CURL)) for x, y, r in curls(head.who, 0.05, rng)]


def _anime_hair(head: Head, locks: list[np.ndarray], back: bool) -> None:
    """Paint one layer of hair: flat colour, one shadow tone, ink between the locks and a ring of light."""
    who = head.who
    colour = anime_hair(who)
    if back:
        colour = shadow_of(colour)
        if who.hair_style == "bun":
            x, y, r = curls(who, 0.05, head.rng)[0]
            _anime_bun(head, head.at(ellipse(x, y, r, r)))
    if not locks:
        return
    mask = _outlined(head, locks, colour)
    shift = np.array([[1, 0, 0.13 * who.light * head.unit], [0, 1, -0.07 * head.unit]])
    turned = mask * (1 - cv2.warpAffine(mask, shift, mask.shape[::-1]))
    flat = np.empty_like(head.image)
    flat[:] = colour
    head.mix_in(flat, shadow_of(colour).astype(np.float32), turned)
    for lock in locks:
        head.fill(lock, flat)
        _shade_lock(head, lock, colour)
    if not back:
        _ring_of_light(head, mask, colour)


def _anime_bun(head: Head, ball: np.ndarray) -> None:
    """Paint a bun with two lines of wound hair."""
    colour, centre = anime_hair(head.who), ball.mean(0)
    mask = _outlined(head, ball, colour)
    head.fill(ball + np.array([-0.10 * head.who.light, 0.16]) * head.unit, shadow_of(colour), clip=mask)
    for k in (0.75, 0.45):
        a = np.linspace(-2.6, 0.5, 14)
        arc = np.stack([np.cos(a), np.sin(a)], 1) * k * np.ptp(ball[:, 0]) / 2 + centre
        head.stroke(arc, 0.018, ink(colour), 0.9)


def _shade_lock(head: Head, lock: np.ndarray, colour) -> None:
    """Paint the shadow tone on the side of a lock that is turned from the light, and ink on its edges."""
    if len(lock) == CURL:
        head.stroke(np.roll(lock, 6 if head.who.light < 0 else -6, 0)[:14], 0.018, ink(colour), 0.8)
        return
    half = len(lock) // 2
    left, right = lock[:half], lock[half:][::-1]
    if len(lock) == CAP:
        for k in (5, 9, 12, 15, 19):
            line = spline(np.stack([right[k], mix(right[k], left[k], 0.6)]), 8)
            head.stroke(line, 0.013, ink(colour), 0.6, taper=(0.9, 0))
        return
    if np.mean(right[:, 0]) < np.mean(left[:, 0]):
        left, right = right, left
    lit, dark = (left, right) if head.who.light < 0 else (right, left)
    inner = mix(dark, lit, 0.42 * np.clip((np.linspace(0, 1, half)[:, None] - 0.15) / 0.5, 0, 1))
    head.fill(np.concatenate([dark, inner[::-1]]), shadow_of(colour))
    for edge in (left, right):
        head.stroke(edge[4:], 0.013, ink(colour), 0.8, taper=(0, 0.8))


def _ring_of_light(head: Head, mask: np.ndarray, colour) -> None:
    """Paint the zigzag highlight that runs around the top of drawn hair."""
    light = head.who.light
    for middle, half, count in ((0.26 * light, 0.36, 11), (-0.40 * light, 0.12, 5)):
        x = np.linspace(middle - half, middle + half, count)
        swell = np.sin(np.linspace(0, np.pi, count)) ** 0.5
        jag = np.where(np.arange(count) % 2, 0.13, 0.0) * swell
        low = np.stack([x, -0.84 + 0.42 * x**2 + jag], 1)
        top = np.stack([x, -0.84 + 0.42 * x**2 - 0.045 * swell - 0.5 * jag], 1)
        head.fill(head.at(np.concatenate([top, low[::-1]]), 0.05), mix(colour, (1, 1, 1), 0.6), 0.85, clip=mask)
