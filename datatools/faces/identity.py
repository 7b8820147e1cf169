"""Who is drawn: the values from which both domains draw a face."""

from __future__ import annotations

from typing import Tuple

import numpy as np

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
    ((0.40, 0.23, 0.11), (0.90, 0.55, 0.16)),  # brown -> amber
    ((0.26, 0.40, 0.26), (0.10, 0.66, 0.46)),  # green -> emerald
    ((0.27, 0.43, 0.58), (0.16, 0.52, 0.92)),  # blue -> azure
)
FAIR_AND_DARK = (((0.93, 0.76, 0.67), (1.0, 0.91, 0.84)), ((0.47, 0.31, 0.23), (0.66, 0.44, 0.34)))


class Identity:
    """Everything that is drawn of one person, number `index` of the set that `seed` names; neither may be negative."""

    def __init__(self, seed: int, index: int) -> None:
        rng = np.random.default_rng([seed, index])
        self.yaw, self.pitch, self.roll = rng.normal(0, (0.25, 0.07, 0.09)).clip((-0.48, -0.14, -0.22), (0.48, 0.14, 0.22))
        self.scale = rng.uniform(0.315, 0.355)  # one face unit, as a fraction of the picture's side
        self.centre = rng.uniform((0.46, 0.52), (0.54, 0.56))  # of the head, as fractions of the picture's side
        self.masculine = rng.beta(0.45, 0.45)  # 0 .. 1: jaw, brows, lashes, neck
        self.skin = rng.beta(0.9, 1.3)  # 0 .. 1: fair .. dark
        self.jaw, self.brow = rng.uniform(-1, 1, 2)  # narrow .. broad, frowning .. raised
        self.hair_style = "short" if self.masculine > 0.6 else rng.choice(("long", "bob", "short", "ponytail", "twintails"))
        self.fringe = rng.choice(("none", "straight", "swept", "curtain"))
        self.hair_colour, self.eye_colour = rng.integers((len(HAIR_COLOURS), len(EYE_COLOURS)))
        self.part = rng.choice((-1, 1)) * rng.uniform(0.3, 1)  # x of the parting, and the side to which things lean
        self.wave = rng.choice((0, rng.uniform(0.4, 1)))  # 0 .. 1: straight .. wavy
        self.gaze, self.eyelid = rng.uniform((-0.7, 0.75), (0.7, 1.08))  # where the eyes look, how far they are open
        self.smile = rng.uniform(-0.45, 1)
        self.mouth_open = rng.uniform(0.3, 1) if self.smile > 0.45 else 0.0
        # 0 .. 1: of the hair; rolled collar .. open neck; dark .. bright; hues.
        self.volume, self.neckline, self.outfit_value, self.outfit_hue, self.background_hue = rng.random(5)
        self.light = rng.choice((-1, 1))  # the side from which light falls
        self.noise_seed = rng.integers(2**31)  # of strands, background and grain

    def colours(self, drawn: bool) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """RGB in [0, 1] of skin, hair and irises, photographed or drawn."""
        tones = (FAIR_AND_DARK, HAIR_COLOURS[self.hair_colour], EYE_COLOURS[self.eye_colour])
        (fair, dark), hair, iris = (np.array(pair)[..., int(drawn), :] for pair in tones)
        return fair + (dark - fair) * self.skin, hair, iris
