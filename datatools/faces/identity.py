"""Who is drawn: the values from which both domains draw a face."""

from __future__ import annotations

import numpy as np

# As photographed and as drawn: each natural colour has one bright counterpart, so that the translation is a function both ways.
HAIR = (
    ((0.10, 0.085, 0.09), (0.27, 0.31, 0.58)), ((0.21, 0.135, 0.10), (0.52, 0.33, 0.62)),  # black, indigo; dark brown, violet
    ((0.38, 0.24, 0.15), (0.80, 0.49, 0.30)), ((0.55, 0.24, 0.11), (0.94, 0.38, 0.36)),  # chestnut, amber; auburn, coral
    ((0.80, 0.62, 0.38), (0.99, 0.84, 0.42)), ((0.52, 0.50, 0.49), (0.60, 0.83, 0.84)),  # blond, gold; grey, aqua
    ((0.72, 0.45, 0.36), (0.98, 0.62, 0.73)),  # strawberry, pink
)  # fmt: skip
# Brown and amber, green and emerald, blue and azure.
EYES = (((0.4, 0.23, 0.11), (0.9, 0.55, 0.16)), ((0.26, 0.4, 0.26), (0.1, 0.66, 0.46)), ((0.27, 0.43, 0.58), (0.16, 0.52, 0.92)))
FAIR, DARK = np.array(((0.93, 0.76, 0.67), (1.0, 0.91, 0.84))), np.array(((0.47, 0.31, 0.23), (0.66, 0.44, 0.34)))


class Identity:
    """Everything that is drawn of one person, number `index` of the set that `seed` names; neither may be negative."""

    def __init__(self, seed: int, index: int) -> None:
        rng = np.random.default_rng([seed, index])
        self.yaw, self.pitch, self.roll = rng.normal(0, (0.25, 0.07, 0.09)).clip((-0.48, -0.14, -0.22), (0.48, 0.14, 0.22))
        self.scale = rng.uniform(0.315, 0.355)  # one face unit, as a fraction of the picture's side
        self.centre = rng.uniform((0.46, 0.52), (0.54, 0.56))  # of the head, as fractions of the picture's side
        self.masculine = rng.beta(0.45, 0.45)  # 0 .. 1: jaw, brows, lashes, neck
        self.jaw, self.brow = rng.uniform(-1, 1, 2)  # narrow .. broad, frowning .. raised
        self.hair_style = "short" if self.masculine > 0.6 else rng.choice(("long", "bob", "short", "ponytail", "twintails"))
        self.fringe = rng.choice(("none", "straight", "swept", "curtain"))
        # RGB in [0, 1] (photographed or drawn, skin or hair or irises, channel).
        self.colours = np.stack([FAIR + (DARK - FAIR) * rng.beta(0.9, 1.3), rng.choice(HAIR), rng.choice(EYES)], 1)
        self.part = rng.choice((-1, 1)) * rng.uniform(0.3, 1)  # x of the parting, and the side to which things lean
        self.gaze, self.eyelid = rng.uniform((-0.7, 0.75), (0.7, 1.08))  # where the eyes look, how far they are open
        self.smile = rng.uniform(-0.45, 1)
        self.mouth_open = max(0, self.smile - 0.3) * rng.uniform(0.7, 1.4)  # 0 .. 1
        # 0 .. 1: of the hair; rolled collar .. open neck; dark .. bright; hues.
        self.volume, self.neckline, self.outfit_value, self.outfit_hue, self.background_hue = rng.random(5)
        self.light, self.noise_seed = rng.choice((-1, 1)), rng.integers(2**31)  # where light falls from; of strands and background
