"""Domain A: a face as a photograph, with skin lit over a relief and hair made of strands."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Head, ellipse, fixed, grey, hsv, mix, new_head, ribbon, soften, spline
from .identity import EYE_COLOURS, HAIR_COLOURS, SKIN_TONES, Identity
from .shapes import (
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


def skin_tone(who: Identity) -> np.ndarray:
    """Return the colour of lit skin in the photograph."""
    return spline(SKIN_TONES, 101)[round(100 * who.skin)]


def tint(colour: np.ndarray, light) -> np.ndarray:
    """Return skin under light (...): shadows keep more red than blue, as blood under skin does."""
    light = np.maximum(np.asarray(light, np.float32), 0.02)[..., None]
    return np.asarray(colour, np.float32) * light ** np.array([0.82, 1.05, 1.16], np.float32)


class Relief:
    """The landscape of a face on a small grid of turned face units, from which its shading follows."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.x = np.linspace(-1.1, 1.1, 132, dtype=np.float32)
        self.y = np.linspace(-1.2, 1.2, 144, dtype=np.float32)
        self.height = np.zeros((144, 132), np.float32)

    def bump(self, x: float, y: float, sx: float, sy: float, lift: float = 0.0) -> np.ndarray:
        """Return a round hill of height one at a point of the face."""
        cx, cy = self.head.turn((x, y), lift)
        return np.outer(np.exp(-(((self.y - cy) / sy) ** 2)), np.exp(-(((self.x - cx) / sx) ** 2)))

    def skull(self, outline: np.ndarray) -> None:
        """Raise an egg over the turned outline (n, 2) of the face."""
        low, high = int(outline[:, 1].argmin()), int(outline[:, 1].argmax())
        first = np.roll(outline, -high, 0)[: (low - high) % len(outline) + 1]
        second = np.roll(outline, -low, 0)[: (high - low) % len(outline) + 1]
        a = np.interp(self.y, first[::-1, 1], first[::-1, 0])
        b = np.interp(self.y, second[:, 1], second[:, 0])
        centre, half = (a + b) / 2, np.maximum(np.abs(a - b) / 2, 0.02)
        across = np.abs(self.x[None] - centre[:, None]) / (half[:, None] * 1.04)
        egg = np.sqrt(np.clip(1 - across**2.3, 0, 1))
        self.height += egg * 0.85 * np.sqrt(np.clip(1 - (self.y / 1.22) ** 2, 0, 1))[:, None]

    def features(self) -> None:
        """Raise nose, brows, cheeks, lips and chin, and sink the eye sockets."""
        who, h = self.head.who, self.height
        m, smile = who.masculine, max(0.0, who.smile)
        for y, s, tall in ((-0.08, 0.060, 0.05), (0.04, 0.060, 0.06), (0.15, 0.064, 0.07), (0.26, 0.070, 0.075)):
            h += tall * self.bump(0, y, s, 0.10, 0.05)
        h += 0.12 * self.bump(0, 0.355, 0.088, 0.08, 0.10)
        for s in (-1, 1):
            h += 0.055 * self.bump(0.115 * s, 0.395, 0.06, 0.055, 0.05)
            h += (0.03 + 0.035 * m) * self.bump(0.27 * s, -0.19, 0.17, 0.06)
            h -= 0.075 * self.bump(0.25 * s, -0.02, 0.13, 0.09)
            h += 0.035 * self.bump(0.30 * s, 0.0, 0.11, 0.055)
            h += (0.05 + 0.035 * smile) * self.bump(0.40 * s, 0.30 - 0.03 * smile, 0.17, 0.13)
            h -= (0.012 + 0.03 * smile + 0.02 * who.age) * self.bump(0.24 * s, 0.47, 0.05, 0.10)
            h -= 0.03 * self.bump(0.46 * s, 0.58, 0.12, 0.14)
        h += 0.03 * self.bump(0, 0.57, 0.15, 0.035) + 0.045 * self.bump(0, 0.68, 0.13, 0.045)
        h -= 0.03 * self.bump(0, 0.765, 0.15, 0.04) + 0.014 * self.bump(0, 0.49, 0.025, 0.05)
        h += 0.07 * self.bump(0, 0.90, 0.15, 0.09)

    def shade(self) -> tuple[np.ndarray, np.ndarray]:
        """Return diffuse light (144, 132) around 1 and the shine of the skin in [0, 1]."""
        step = self.x[1] - self.x[0]
        dy, dx = np.gradient(cv2.GaussianBlur(self.height, (0, 0), 1.4) / step)
        length = np.sqrt(dx**2 + dy**2 + 1)
        key = np.array([0.62 * self.head.who.light, -0.42, 0.66])
        key /= np.linalg.norm(key)
        facing = (-dx * key[0] - dy * key[1] + key[2]) / length
        fill = (dx * key[0] - 0.25 * dy + 0.8) / length
        diffuse = 0.42 + 0.76 * np.maximum(0, (facing + 0.18) / 1.18) + 0.12 * np.maximum(0, fill)
        half = key + [0, 0, 1]
        half /= np.linalg.norm(half)
        shine = np.maximum(0, (-dx * half[0] - dy * half[1] + half[2]) / length) ** 26
        return cv2.GaussianBlur(diffuse, (0, 0), 1.2), shine

    def skin(self) -> np.ndarray:
        """Return the lit skin (144, 132, 3)."""
        who = self.head.who
        light, shine = self.shade()
        blush = sum(self.bump(s * 0.40, 0.30, 0.18, 0.13) for s in (-1, 1)) + 0.8 * self.bump(0, 0.37, 0.10, 0.09, 0.1)
        hollow = sum(self.bump(s * 0.27, 0.10, 0.12, 0.05) + self.bump(s * 0.20, -0.06, 0.10, 0.06) for s in (-1, 1))
        colour = skin_tone(who) * (1 - blush[..., None] * np.array([0.0, 0.11, 0.10]))
        colour = colour * (1 - hollow[..., None] * np.array([0.07, 0.10, 0.08]) * (0.6 + 0.6 * who.age))
        gloss = (0.09 + 0.07 * who.skin) * (1 - 0.4 * who.age)
        return (tint(colour, light) + gloss * shine[..., None] * np.array([1.0, 0.95, 0.9])).astype(np.float32)

    def warp(self, field: np.ndarray) -> np.ndarray:
        """Return a field of the grid on the canvas: (side, side, ...)."""
        step = float(self.x[1] - self.x[0])
        to_units = np.array([[step, 0, self.x[0]], [0, float(self.y[1] - self.y[0]), self.y[0]], [0, 0, 1]])
        side, matrix = self.head.side, self.head.matrix @ to_units
        return cv2.warpAffine(field, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def draw_photograph(identity: Identity, size: int) -> np.ndarray:
    """Draw an identity as a photograph: (size, size, 3) uint8 RGB, the same for the same arguments.

    Raises ValueError if ``size`` is below 16.
    """
    head = new_head(identity, size)
    _photo_background(head)
    _photo_hair(head, back=True)
    _photo_body(head)
    face = head.at(face_outline(identity, False))
    _photo_skin(head, face)
    for side in (-1.0, 1.0):
        _photo_eye(head, side)
        _photo_brow(head, side)
    _photo_nose(head)
    _photo_mouth(head)
    if identity.glasses:
        frame = mix((0.09, 0.08, 0.08), hsv(identity.outfit_hue, 0.6, 0.35), 0.5)
        paint_glasses(head, 0.03, 0.215, 0.19 if identity.glasses == "round" else 0.16, 0.30, frame, 0.026)
    _photo_hair(head, back=False, face=face)
    return _develop(head)


def _photo_background(head: Head) -> None:
    """Paint a room or a garden far out of focus, on a small picture that is enlarged."""
    who, rng, n = head.who, head.rng, 64
    low = hsv(who.background_hue, rng.uniform(0.15, 0.45), rng.uniform(0.25, 0.5))
    high = hsv(who.background_hue + rng.uniform(-0.06, 0.06), rng.uniform(0.08, 0.35), rng.uniform(0.5, 0.85))
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    across = ramp[None, :, None] if who.light > 0 else ramp[None, ::-1, None]
    small = mix(low, high, 0.55 * across + 0.45 * (1 - ramp[:, None, None])).astype(np.float32)
    for _ in range((6, 14, 5)[who.background_kind]):
        x, y = rng.uniform(0, n, 2)
        bright = who.background_kind == 1 or rng.random() < 0.5
        shade = mix(high, (1, 0.97, 0.9), rng.uniform(0, 0.6)) if bright else low * rng.uniform(0.5, 1)
        layer = np.zeros((n, n), np.uint8)
        if who.background_kind == 1:
            cv2.circle(layer, (int(x * 16), int(y * 16)), int(rng.uniform(2, 6) * 16), 255, -1, cv2.LINE_AA, 4)
        else:
            w, h = rng.uniform(5, 16), rng.uniform(12, 50)
            cv2.rectangle(layer, (int(x - w / 2), int(y - h / 2)), (int(x + w / 2), int(y + h / 2)), 255, -1)
        weight = cv2.GaussianBlur(layer, (0, 0), 0.8 if who.background_kind == 1 else 2.6)[..., None] / np.float32(255)
        small += (shade.astype(np.float32) - small) * weight * 0.45
    head.image = cv2.resize(small, (head.side, head.side), interpolation=cv2.INTER_CUBIC)


def _photo_body(head: Head) -> None:
    """Paint neck, chest and clothes with the shadow of the head on them."""
    who = head.who
    skin, clothes = body_outlines(who, False)
    cloth = hsv(who.outfit_hue, 0.15 + 0.4 * (1 - who.outfit_value), 0.16 + 0.6 * who.outfit_value).astype(np.float32)
    side = np.clip((np.arange(head.side) - head.origin[0]) / head.unit * who.light, -1, 1)
    light = (0.72 + 0.22 * side - 0.14 * side**2).astype(np.float32)[None]
    shadow = head.mask(head.at(face_outline(who, False)) + [-0.10 * who.light * head.unit, 0.15 * head.unit], blur=0.07)
    bare = head.mask(head.body(skin))
    head.blend(bare, tint(skin_tone(who), light * (1 - 0.45 * shadow)))
    for s in (-1, 1):
        cord = spline(np.array([(0.32 * s, 0.8), (0.2 * s, 1.1), (0.06 * s, 1.32)]), 12)
        head.stroke(head.body(cord), 0.05, skin_tone(who) * 0.5, 0.16, 0.03)
        bone = spline(np.array([(0.07 * s, 1.36), (0.3 * s, 1.33), (0.7 * s, 1.27)]), 12)
        head.stroke(head.body(bone), 0.04, skin_tone(who) * 0.5, 0.2, 0.02)
    mask = head.mask(head.body(clothes))
    head.fill(head.body(clothes) - [0, 0.03 * head.unit], skin_tone(who) * 0.3, 0.35, 0.03, bare)
    head.blend(mask, cloth * (light * 1.15 * (1 - 0.25 * shadow))[..., None])
    for _ in range(9):
        x, lean = head.rng.uniform(-1.2, 1.2), head.rng.uniform(-0.4, 0.4)
        fold = spline([(x, 1.35), (x + 0.5 * lean, 1.6), (x + lean, 2.0)], 8)
        tone = cloth * 1.5 if head.rng.random() < 0.4 else cloth * 0.3
        head.stroke(head.body(fold), 0.12, np.minimum(1, tone), head.rng.uniform(0.1, 0.3), 0.035, clip=mask)
    paint_collar(head, clothes, cloth * 0.55, cloth * 1.15, 0.35)


def _photo_skin(head: Head, face: np.ndarray) -> None:
    """Paint ears and face, lit from the relief."""
    who = head.who
    for s in (-1.0, 1.0):
        ear = head.at(ear_outline(s))
        light = 0.9 if s == who.light else 0.62
        head.fill(ear, tint(skin_tone(who) * [1, 0.93, 0.93], light), blur=0.006)
        head.fill(head.at(ellipse(0.70 * s, 0.02, 0.03, 0.13)), tint(skin_tone(who), light * 0.6), 0.7, 0.02)
    relief = Relief(head)
    relief.skull(head.turn(face_outline(who, False)))
    relief.features()
    lit = relief.warp(relief.skin())
    mask = head.mask(face, blur=0.006)
    head.blend(mask, lit)
    if who.freckles:
        spots = head.rng.normal(0, 1, (40, 3)) * [0.30, 0.08, 0.003] + [0, 0.22, 0.011]
        spots = list(head.at([ellipse(x, y, r, r, 8) for x, y, r in spots]))
        head.fill(spots, skin_tone(who) * [0.62, 0.42, 0.32], 0.4, 0.003, mask)
    if who.beard:
        _photo_beard(head, face)


def _photo_beard(head: Head, face: np.ndarray) -> None:
    """Paint stubble or a beard: hairs on a soft shadow."""
    who, rng = head.who, head.rng
    colour = np.array(HAIR_COLOURS[who.hair_colour][0]) * 0.75
    full = who.beard > 0.7
    mask = head.mask(head.at(beard_outline()), blur=0.035)
    mask *= head.mask(face + [0, 0.03 * head.unit * full], blur=0.015)
    lip = head.mask(head.at(ellipse(0, 0.64, 0.16, 0.06)), blur=0.025)
    grain = cv2.resize(rng.random((160, 160), np.float32), (head.side, head.side), interpolation=cv2.INTER_LINEAR)
    weight = mask * (1 - 0.9 * lip) * ((0.62 + 0.5 * grain) if full else (0.08 + 0.38 * grain))
    head.blend(np.clip(weight, 0, 0.96), colour)


def _photo_eye(head: Head, side: float) -> None:
    """Paint one small, shaded eye."""
    who = head.who
    o = who.eyelid
    squint = 0.25 * max(0.0, who.smile)
    eye = eye_frame(head, 0.295, 0.0, 0.132, 0.066, side)
    upper = np.array([(-1, 0.22), (-0.55, -0.48 * o), (0.05, -0.92 * o), (0.6, -0.62 * o), (1, -0.02)])
    lower = np.array([(1, -0.02), (0.55, 0.52 - squint), (0, 0.68 - squint), (-0.6, 0.5 - squint), (-1, 0.22)])
    upper, lower = spline(upper, 20), spline(lower, 20)
    shape = eye(np.concatenate([upper, lower]))
    inside = head.mask(shape)
    skin = skin_tone(who)
    light = 1.0 if side == who.light else 0.88
    head.fill(shape, np.array([0.90, 0.87, 0.85]) * light * (0.93 - 0.12 * who.skin), blur=0.003)
    head.fill(eye(ellipse(-0.95, 0.2, 0.18, 0.3)), (0.75, 0.48, 0.44), 0.7, 0.008, inside)
    x = 0.0 + 0.28 * who.gaze * side + 0.15 * who.yaw * side
    iris = np.array(EYE_COLOURS[who.eye_colour][0])
    for radius, colour, blur in ((1.0, iris * 0.35, 0.004), (0.86, iris * 1.05, 0.008)):
        head.fill(eye(ellipse(x, -0.12, 0.47 * radius, 0.94 * radius)), colour, 0.97, blur, inside)
    head.fill(eye(ellipse(x, 0.2, 0.28, 0.32)), np.minimum(1, iris * 1.9 + 0.05), 0.55, 0.012, inside)
    head.fill(eye(ellipse(x, -0.12, 0.19, 0.38)), (0.03, 0.025, 0.025), 1, 0.003, inside)
    head.fill(eye(np.concatenate([upper, upper[::-1] + [0, 0.42]])), (0.12, 0.07, 0.06), 0.5, 0.012, inside)
    head.fill(eye(ellipse(x + 0.17 * who.light * side, -0.38, 0.10, 0.2)), (1, 1, 1), 0.95, 0.003)
    lash = mix((0.06, 0.04, 0.04), skin * 0.3, 0.35 * who.masculine)
    head.stroke(eye(upper + [0, -0.04]), 0.032 - 0.010 * who.masculine, lash, 0.95, 0.003, (0.25, 0.5))
    if who.masculine < 0.5:
        wing = spline(np.array([(0.55, -0.62 * o), (0.95, -0.2), (1.18, -0.34)]), 10)
        head.stroke(eye(wing), 0.024, lash, 0.9, 0.003, (0.8, 0))
    head.stroke(eye(lower + [0, 0.05]), 0.014, skin * 0.38, 0.6, 0.005)
    crease = upper * [1.02, 1.0] + [0.02, -0.42]
    head.stroke(eye(crease), 0.020, skin * [0.45, 0.36, 0.34], 0.62, 0.008)
    head.stroke(eye(lower * [0.9, 1] + [0, 0.55]), 0.03, skin * [0.55, 0.45, 0.42], 0.15 + 0.3 * who.age, 0.014)


def _photo_brow(head: Head, side: float) -> None:
    """Paint an eyebrow of short hairs."""
    who, rng = head.who, head.rng
    colour = mix(np.array(HAIR_COLOURS[who.hair_colour][0]) * 0.6, (0.10, 0.07, 0.06), 0.35)
    raised = -0.03 * who.brow
    line = [(0.12, -0.175 - 0.8 * raised), (0.26, -0.225 + raised), (0.38, -0.235 + raised)]
    line = spline(np.array(line + [(0.49, -0.175 + 0.4 * raised)]) * [side, 1], 24)
    width = 0.05 + 0.03 * who.masculine
    head.stroke(head.at(line), width, colour, 0.62, 0.012, (0.75, 0.1), power=0.4)
    i = rng.integers(0, 23, 26)
    fade = width * (1 - i / 30)
    roots = line[i] + np.stack([0 * fade, rng.uniform(-0.1, 0.45, 26) * fade], 1)
    tips = roots + np.stack([side * rng.uniform(0.02, 0.05, 26), -rng.uniform(0.15, 0.65, 26) * fade], 1)
    hairs = head.at(np.stack([roots, (roots + tips) / 2, tips], 1))
    head.fill([ribbon(hair, 0.010 * head.unit) for hair in hairs], colour * 0.8, 0.5)


def _photo_nose(head: Head) -> None:
    """Paint nostrils and the soft shadow beside and below the nose; the relief has done the rest."""
    who = head.who
    dark = skin_tone(who) * [0.40, 0.27, 0.24]
    shade = spline(np.array([(-0.13, 0.42), (0, 0.475), (0.13, 0.42)]), 12) - [0.02 * who.light, 0]
    head.stroke(head.at(shade, 0.04), 0.07, dark, 0.34, 0.022)
    for s in (-1, 1):
        head.fill(head.at(ellipse(0.062 * s, 0.428, 0.036, 0.016), 0.07), dark * 0.6, 0.85, 0.008)
        wing = spline(np.array([(0.13, 0.335), (0.158, 0.39), (0.135, 0.437), (0.10, 0.44)]) * [s, 1], 12)
        head.stroke(head.at(wing, 0.04), 0.024, dark, 0.42 if s == who.light else 0.6, 0.008)
        fold = spline(np.array([(0.17, 0.40), (0.25, 0.50), (0.29, 0.62)]) * [s, 1], 12)
        head.stroke(head.at(fold, 0.02), 0.03, dark, 0.10 + 0.3 * who.age + 0.2 * max(0.0, who.smile), 0.016)
    tip = ellipse(0.03 * who.light, 0.335, 0.03, 0.028)
    head.fill(head.at(tip, 0.12), mix(skin_tone(who), (1, 1, 1), 0.6), 0.38, 0.018)


def _photo_mouth(head: Head) -> None:
    """Paint lips, teeth if the mouth is open, and the corners of a smile."""
    who = head.who
    gape = 0.085 * who.mouth_open
    w = 0.205 + 0.045 * max(0.0, who.smile) - 0.01 * who.mouth_open
    c = -0.045 * who.smile
    rose = mix(skin_tone(who) * [0.90, 0.60, 0.58], (0.78, 0.30, 0.32), 0.30 * (1 - who.masculine))
    full = 0.85 if who.masculine > 0.5 else 1.1
    y = 0.625
    corners = np.array([(-w, y + c)]), np.array([(w, y + c)])

    def lip(points: list[tuple[float, float]]) -> np.ndarray:
        return spline(np.concatenate([corners[0], points, corners[1]]), 30)

    t = full * 0.052
    line = lip([(-0.10, y + 0.002 + 0.2 * c), (0, y + 0.010), (0.10, y + 0.002 + 0.2 * c)])
    below = line + np.stack([np.zeros(30), gape * np.sin(np.linspace(0, np.pi, 30)) ** 0.8], 1)
    top = lip([(-0.11, y - 0.7 * t), (-0.035, y - t), (0, y - 0.72 * t), (0.035, y - t), (0.11, y - 0.7 * t)])
    low = lip([(-0.12, y + gape + 1.05 * t), (0, y + gape + 1.55 * t), (0.12, y + gape + 1.05 * t)])
    if gape:
        hole = head.at(np.concatenate([line, below[::-1]]), 0.04)
        inside = head.mask(hole)
        head.fill(hole, (0.22, 0.07, 0.07), 1, 0.003)
        teeth = np.concatenate([line * [0.93, 1], (line * [0.86, 1] + [0, 0.050])[::-1]])
        head.fill(head.at(teeth, 0.04), (0.93, 0.90, 0.86), 0.95, 0.005, inside)
    head.fill(head.at(np.concatenate([top, line[::-1]]), 0.04), rose * 0.80, 0.72, 0.008)
    head.fill(head.at(np.concatenate([below, low[::-1]]), 0.04), rose, 0.72, 0.009)
    gloss = ellipse(0.03 * who.light, y + gape + 0.75 * t, 0.06, 0.010)
    head.fill(head.at(gloss, 0.04), mix(rose, (1, 1, 1), 0.55), 0.5, 0.010)
    dark = skin_tone(who) * [0.36, 0.18, 0.17]
    head.stroke(head.at(line, 0.04), 0.017, dark, 0.85, 0.004, (0.5, 0.5))
    for s in (-1, 1):
        head.fill(head.at(ellipse(s * (w + 0.005), y + c, 0.018, 0.016), 0.03), dark, 0.55, 0.010)
    head.stroke(head.at(low[6:24] + [0, 0.028], 0.03), 0.04, dark, 0.18, 0.014)


def _photo_hair(head: Head, back: bool, face: np.ndarray | None = None) -> None:
    """Paint one layer of hair: thousands of strands are hinted at by maps of tone and shine along the sheets."""
    who, rng, n = head.who, head.rng, head.side
    maps = np.stack([np.zeros((n, n), np.uint8), np.full((n, n), 80, np.uint8), np.zeros((n, n), np.uint8)])
    thick = max(1, round(0.007 * head.unit))
    for sheet in hair_sheets(who, 0.0):
        if sheet.back == back:
            strands = head.at(sheet.strands(128, who.wave if sheet.locks else 0), 0.03 if sheet.locks else 0.0)
            t = np.linspace(0, 1, strands.shape[1])[:, None]
            strands += rng.normal(0, 0.020 * head.unit, (128, 1, 2)) * t**2
            strands += (strands[:, :1] - strands[:, 1:2]) * rng.normal(0, 0.45, (128, 1, 1)) * (1 - t) ** 3
            _comb(maps, strands, rng, thick)
    for circle in curls(who, 0.0, np.random.default_rng(who.noise_seed)):  # the same curls as in the drawn world
        if (who.hair_style == "bun") == back:
            _curl(head, maps, circle, thick)
    if not maps[0].any():
        return
    cover = soften(maps[0], 0.009 * head.unit).astype(np.float32) / 255
    if face is not None:
        shift = np.array([[1, 0, -0.03 * who.light * head.unit], [0, 1, 0.06 * head.unit]])
        shade = soften(cv2.warpAffine(cover, shift, (n, n)), 0.03 * head.unit)
        head.blend(shade * head.mask(face) * 0.45, skin_tone(who) * [0.32, 0.2, 0.17])
    head.blend(cover, _hair_light(head, maps[1], maps[2], back))


def _hair_light(head: Head, tone: np.ndarray, shine: np.ndarray, back: bool) -> np.ndarray:
    """Return the lit hair (side, side, 3) from the maps of its strands."""
    who = head.who
    base = np.array(HAIR_COLOURS[who.hair_colour][0], np.float32)
    light = 0.60 + 0.45 * head.glow(0.45 * who.light, -0.7, 0.9, 0.8) + 0.2 * head.glow(0.9 * who.light, 0.5, 0.7, 1.0)
    if back:
        light *= (0.95 if who.hair_style == "bun" else 0.72) - 0.3 * head.glow(0, 0.75, 0.6, 0.6)
    strand = soften(tone, 0.004 * head.unit).astype(np.float32) / 92
    gloss = soften(shine, 0.045 * head.unit).astype(np.float32) / 255 * light * strand**2
    value = strand * light * (1 + 0.35 * gloss) * (1.05 - 0.2 * grey(base))
    tips = mix(base, (0.95, 0.88, 0.80), 0.45 if grey(base) < 0.45 else 0.7).astype(np.float32)
    gloss *= 0.34 - 0.30 * grey(base)  # black hair mirrors the light, blond hair scatters it
    return np.minimum(1, base * value[..., None] + tips * gloss[..., None])


def _comb(maps: np.ndarray, strands: np.ndarray, rng: np.random.Generator, thick: int) -> None:
    """Draw strands (n, m, 2) of pixels into the maps (3, side, side) of the cover, the tone and the shine of hair."""
    cover, tone, shine = maps
    for i in range(0, len(strands) - 1, 4):
        edge = strands[min(i + 5, len(strands) - 1)][::-1]
        cv2.fillPoly(cover, [fixed(np.concatenate([strands[i], edge]))], 255, cv2.LINE_AA, 4)
    points, m = fixed(strands), strands.shape[1]
    cv2.polylines(cover, list(points[::3]), False, 255, thick, cv2.LINE_AA, 4)
    kinds = rng.integers(0, 6, len(strands))
    for kind, value in enumerate((58, 74, 88, 100, 114, 130)):
        cv2.polylines(tone, list(points[kinds == kind]), False, value, thick, cv2.LINE_AA, 4)
    start = np.round(m * (0.26 + rng.normal(0, 0.05, len(points)))).astype(int).clip(1, m - 4)
    band = [p[a : a + max(3, m // 4)] for p, a in zip(points, start)]
    cv2.polylines(shine, band, False, 255, 2 * thick, cv2.LINE_AA, 4)


def _curl(head: Head, maps: np.ndarray, circle: tuple[float, float, float], thick: int) -> None:
    """Draw one curl, or a bun, as rings of hair around a centre."""
    rng, (cover, tone, _), (x, y, r) = head.rng, maps, circle
    disc = [fixed(head.at(ellipse(x, y, r, r)))]
    cv2.fillPoly(cover, disc, 255, cv2.LINE_AA, 4)
    cv2.fillPoly(tone, disc, 70, cv2.LINE_AA, 4)
    count = 12 if r < 0.25 else 44
    start, span = rng.uniform(0, 6.3, (count, 1)), rng.uniform(1.2, 3.2, (count, 1))
    reach = r * rng.uniform(0.25, 1.08, (count, 1))
    a = start + span * np.linspace(0, 1, 10)
    rings = fixed(head.at(np.stack([x + reach * np.cos(a), y + reach * np.sin(a) * 0.92], 2)))
    middle = start[:, 0] + span[:, 0] / 2
    lit = 0.35 * head.who.light * np.cos(middle) - 0.5 * np.sin(middle)
    values = np.clip(88 + 62 * lit + rng.normal(0, 18, count), 35, 190)
    for i in range(count):
        cv2.polylines(tone, [rings[i]], False, float(values[i]), thick, cv2.LINE_AA, 4)
    cv2.polylines(cover, list(rings), False, 255, thick, cv2.LINE_AA, 4)


def _develop(head: Head) -> np.ndarray:
    """Turn the canvas into a print: vignette, a warm or cool cast, a soft lens, fine noise."""
    who = head.who
    rng = np.random.default_rng([who.noise_seed, 1])
    head.image = soften(head.image, 0.004 * head.unit)
    image = head.finish()
    size = len(image)
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    image *= (1.04 - 0.16 * (axis[:, None] + axis[None]) / 2)[..., None]
    cast = rng.uniform(-0.03, 0.03)
    image *= np.array([1 + cast, 1, 1 - cast], np.float32) * np.float32(rng.uniform(1.0, 1.14))
    image += rng.standard_normal((size, size, 1), np.float32) * 0.008  # of lightness
    image += rng.standard_normal((size, size, 3), np.float32) * 0.005  # of colour
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
