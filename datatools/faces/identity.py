"""Who is drawn: the vector from which both domains draw a face, and the tables of colours it points into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HAIR_STYLES = ("long", "bob", "short", "ponytail", "bun", "curly", "twintails", "tousled")
FRINGES = ("none", "straight", "swept", "curtain")
OUTFITS = ("tee", "shirt", "roll", "hood")
# Each natural colour has one bright counterpart in the drawn world, so that the translation is a function both ways.
HAIR_COLOURS = (
    ((0.10, 0.085, 0.09), (0.27, 0.31, 0.58)),  # black -> indigo
    ((0.21, 0.135, 0.10), (0.52, 0.33, 0.62)),  # dark brown -> violet
    ((0.38, 0.24, 0.15), (0.80, 0.49, 0.30)),  # chestnut -> amber
    ((0.55, 0.24, 0.11), (0.94, 0.38, 0.36)),  # auburn -> coral
    ((0.80, 0.62, 0.38), (0.99, 0.84, 0.42)),  # blond -> gold
    ((0.52, 0.50, 0.49), (0.60, 0.83, 0.84)),  # grey -> aqua
    ((0.72, 0.45, 0.36), (0.98, 0.62, 0.73)),  # strawberry -> pink
)
EYE_COLOURS = (
    ((0.21, 0.12, 0.08), (0.62, 0.24, 0.20)),  # dark brown -> garnet
    ((0.40, 0.23, 0.11), (0.90, 0.55, 0.16)),  # brown -> amber
    ((0.42, 0.37, 0.18), (0.55, 0.70, 0.16)),  # hazel -> lime
    ((0.26, 0.40, 0.26), (0.10, 0.66, 0.46)),  # green -> emerald
    ((0.27, 0.43, 0.58), (0.16, 0.52, 0.92)),  # blue -> azure
    ((0.45, 0.50, 0.54), (0.56, 0.42, 0.86)),  # grey -> violet
)
SKIN_TONES = ((0.93, 0.76, 0.67), (0.88, 0.69, 0.57), (0.78, 0.57, 0.43), (0.64, 0.44, 0.32), (0.47, 0.31, 0.23))

ANIME_SKIN_TONES = ((1.0, 0.91, 0.84), (0.97, 0.80, 0.67), (0.84, 0.60, 0.46), (0.66, 0.44, 0.34))


@dataclass(frozen=True)
class Identity:
    """Everything that is drawn of one person; both domains read the same fields.

    Angles are radians, ``centre`` and ``scale`` are fractions of the picture's side (``scale`` is one face unit),
    the other floats run over [0, 1] or [-1, 1] as their comments say. Colours are indices into the tables above,
    hues are in [0, 1). ``noise_seed`` seeds strands, background and sensor noise.
    """

    yaw: float
    pitch: float
    roll: float
    scale: float
    centre: tuple[float, float]
    masculine: float  # 0 .. 1: jaw, brows, lashes, neck
    jaw: float  # -1 .. 1: narrow .. broad
    age: float  # 0 .. 1
    skin: float  # 0 .. 1: fair .. dark
    beard: float  # 0 none, 0.5 stubble, 1 full
    freckles: bool
    hair_style: str
    fringe: str
    hair_colour: int
    part: float  # -1 .. 1: x of the parting, and the side to which things lean
    volume: float  # 0 .. 1
    wave: float  # 0 .. 1: straight .. wavy
    eye_colour: int
    gaze: float  # -1 .. 1
    smile: float  # -0.5 .. 1
    mouth_open: float  # 0 .. 1
    eyelid: float  # 0.7 .. 1.1
    brow: float  # -1 frowning .. 1 raised
    glasses: str  # "", "round" or "square"
    outfit: str
    outfit_hue: float
    outfit_value: float
    background_hue: float
    background_kind: int  # 0, 1 or 2
    light: float  # -1 or 1: the side from which light falls
    noise_seed: int


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw one identity at random; the same state of ``rng`` gives the same identity."""
    masculine = float(np.clip(rng.beta(0.45, 0.45), 0, 1))
    styles = ("short", "short", "tousled", "tousled", "curly", "long") if masculine > 0.6 else HAIR_STYLES
    style = str(rng.choice(styles))
    fringe = str(rng.choice(FRINGES)) if style != "curly" else "none"
    if style == "short" and fringe == "straight":
        fringe = "swept"
    happy = rng.random() < 0.35
    return Identity(
        yaw=float(np.clip(rng.normal(0, 0.25), -0.48, 0.48)),
        pitch=float(np.clip(rng.normal(0, 0.07), -0.14, 0.14)),
        roll=float(np.clip(rng.normal(0, 0.09), -0.22, 0.22)),
        scale=float(rng.uniform(0.315, 0.355)),
        centre=(float(rng.uniform(0.46, 0.54)), float(rng.uniform(0.52, 0.56))),
        masculine=masculine,
        jaw=float(rng.uniform(-1, 1)),
        age=float(rng.beta(1.3, 2.2)),
        skin=float(rng.beta(0.9, 1.3)),
        beard=float(rng.choice((0.0, 0.5, 1.0))) if masculine > 0.65 else 0.0,
        freckles=bool(rng.random() < 0.18),
        hair_style=style,
        fringe=fringe,
        hair_colour=int(rng.integers(len(HAIR_COLOURS))),
        part=float(rng.choice((-1, 1)) * rng.uniform(0.3, 1.0)),
        volume=float(rng.uniform(0, 1)),
        wave=float(rng.choice((0.0, 0.0, rng.uniform(0.4, 1.0)))),
        eye_colour=int(rng.integers(len(EYE_COLOURS))),
        gaze=float(np.clip(rng.normal(0, 0.35), -1, 1)),
        smile=float(rng.uniform(0.5, 1)) if happy else float(rng.uniform(-0.45, 0.55)),
        mouth_open=float(rng.uniform(0.3, 1)) if happy or rng.random() < 0.12 else 0.0,
        eyelid=float(rng.uniform(0.75, 1.08)),
        brow=float(rng.uniform(-1, 1)),
        glasses=str(rng.choice(("", "", "", "", "round", "square"))),
        outfit=str(rng.choice(OUTFITS)),
        outfit_hue=float(rng.random()),
        outfit_value=float(rng.uniform(0, 1)),
        background_hue=float(rng.random()),
        background_kind=int(rng.integers(3)),
        light=float(rng.choice((-1.0, 1.0))),
        noise_seed=int(rng.integers(2**31)),
    )


def identity_of(seed: int, index: int) -> Identity:
    """Return identity number ``index`` (0, 1, ...) of the set that ``seed`` names; both must not be negative."""
    return draw_identity(np.random.default_rng([seed, index]))
