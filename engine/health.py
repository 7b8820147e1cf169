"""Signs that a training goes wrong: each kind is said once, in one line that names the place in docs/tips.md. Nothing is stopped.

The limits come from runs that went well: six of the demo (three seeds, 900 iterations), the demo of each method over 3000
iterations, unpaired and paired ones at 128x128, and paired photographs (facades, 1500 iterations). Beside each limit stands how
near a line of their logs came to it. Of some of them tests/golden/health.json keeps what is looked at here.
"""

from __future__ import annotations

from typing import Callable, Dict, Mapping, NamedTuple, Sequence, Set, Tuple

import numpy as np

# A sign must stay for this many iterations, and at this many lines of the log, before it is said. Grids of one colour in the first
# hundred iterations are normal, and so is a single odd line.
PATIENCE, LINES = 500, 3
# A discriminator's loss as a share of that of one that answers 1/2 to everything. Pairs at 128x128: 0.35, and 0.08 after 6000
# iterations of a run with a stronger discriminator, where it still fell. Facades: 0.17 at the first line, then above 0.4. Demo:
# 0.44. Trainings that users report as failed: less than 0.01.
NEAR_0 = 0.03
# Contrast and variety of the translations as a share of those of real images. Facades: 0.41 at the first line; 128x128: 0.71;
# demo: 0.75.
FADED = 0.2
# Correlation of the translations with what they were made from. Demo: 0.59. Facades, whose photographs and labels have nothing in
# common, in pairs: -0.04 on average, -0.23 for the worst of 400 pairs.
INVERTED = -0.3
# How near the mean of all channels of a statistic such as rho may be to a bound. Demo and 128x128: 0.10 from it.
AT_BOUND = 0.01
# How far the ratio of two directions' losses may go from that of the first line, while the worse one is not below this share of
# its own first value. Demo: 1.5 in 3000 iterations, where the worse one had fallen to 0.54; 1.1 where it had not fallen.
APART, NOT_FALLEN = 2.5, 0.9
# Images in a domain. The README advises a few hundred; the demo and facades have 400.
FEW = 100
# Below the step between two levels of 8 bits, differences between real images say nothing.
LEVEL = 1 / 127.5


class Watched(NamedTuple):
    """What there is to watch in a method.

    discriminators: by name, the loss terms that it lowers, and their sum where it answers 1/2 to everything.
    directions: pairs of loss terms, the same term of either direction.
    mixtures: by tag, statistics in [0, 1] that are a mean over channels, with the bounds that they should keep away from.
    """

    discriminators: Mapping[str, Tuple[Sequence[str], float]] = {}
    directions: Sequence[Tuple[str, str]] = ()
    mixtures: Mapping[str, Sequence[float]] = {}


class Look(NamedTuple):
    """What translations look like.

    contrast: standard deviation within an image, as a share of that of real images.
    variety: the same from image to image.
    likeness: mean correlation with the true counterparts or, where there are none, with the inputs; -1 for negatives of them.
    """

    contrast: float
    variety: float
    likeness: float


def look_of(
    translations: Sequence[np.ndarray], inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray], models: Sequence[np.ndarray]
) -> Look:
    """The look of some images' translations; every image is (C, H, W) in [-1, 1].

    Args:
        targets: real images of the domain that they are translated to.
        models: for each translation its true counterpart, or its input.
    """
    found = np.stack(translations)
    # A domain may have less contrast than the other, or images that are all alike: the lower of both is what one can expect.
    real = [np.stack(images) for images in (inputs, targets)]
    return Look(
        _share(_contrast(found), min(map(_contrast, real))),
        _share(_variety(found), min(map(_variety, real))),
        float(np.mean([_correlation(image, model) for image, model in zip(found, models)])),
    )


def _contrast(images: np.ndarray) -> float:
    return float(images.std(axis=(2, 3)).mean())


def _variety(images: np.ndarray) -> float:
    return float(images.std(axis=0).mean())


def _share(value: float, real: float) -> float:
    return value / real if real > LEVEL else 1.0


def _correlation(image: np.ndarray, other: np.ndarray) -> float:
    """Of the differences from each channel's mean; 0 where one of the images is of one colour."""
    image, other = (values - values.mean(axis=(1, 2), keepdims=True) for values in (image, other))
    size = np.sqrt(float((image**2).sum()) * float((other**2).sum()))
    return float((image * other).sum()) / size if size else 0.0


class Health:
    """Watches one training.

    Args:
        watched: what there is to watch in its method.
        warn: prints one line.
    """

    def __init__(self, watched: Watched, warn: Callable[[str], None]) -> None:
        self.watched, self.warn = watched, warn
        self.said: Set[str] = set()
        # Of each sign that is there, since which iteration and for how many lines.
        self.since: Dict[Tuple[str, str], Tuple[int, int]] = {}
        self.first_losses: Mapping[str, float] = {}

    def check_domains(self, counts: Mapping[str, int]) -> None:
        """At the start: `counts` images in each training folder."""
        few = {folder: count for folder, count in counts.items() if count < FEW}
        if few:
            counted = " and ".join(f"{count} in {folder}" for folder, count in few.items())
            self._say("a-small-domain", f"few images ({counted}): with fewer than {FEW} the discriminators learn them by heart")

    def check_line(self, iteration: int, losses: Mapping[str, float], statistics: Mapping[str, float]) -> None:
        """At a line of the log: the means of the losses since the last one, and the method's statistics."""
        self.first_losses = self.first_losses or dict(losses)
        for name, (terms, undecided) in self.watched.discriminators.items():
            if all(term in losses for term in terms):
                loss = sum(losses[term] for term in terms)
                sums = " + ".join(terms)
                text = f"the loss of {name} ({sums}) stays near 0 ({loss:.2g}): it knows every translation from a real image"
                self._judge("a-discriminator-wins", name, iteration, loss < NEAR_0 * undecided, text)
        for pair in self.watched.directions:
            if all(self.first_losses.get(term) and term in losses for term in pair):
                self._compare(pair, iteration, losses)
        for tag, bounds in self.watched.mixtures.items():
            for bound in bounds if tag in statistics else ():
                value = statistics[tag]
                text = f"{tag} stays at {bound:g} (it is {value:.3f}): nearly all channels are at that bound"
                self._judge("rho-at-a-bound", f"{tag} {bound}", iteration, abs(value - bound) < AT_BOUND, text)

    def check_look(self, iteration: int, direction: str, look: Look) -> None:
        """At a sample grid: what the translations in this direction look like."""
        for share, what in ((look.contrast, "the contrast within an image"), (look.variety, "the difference between images")):
            text = f"the translations {direction} are nearly one: {what} is {share:.0%} of that of real images"
            self._judge("translations-without-variety", direction + what, iteration, share < FADED, text)
        text = f"the translations {direction} look like negatives (correlation {look.likeness:.2f})"
        self._judge("inverted-colours", direction, iteration, look.likeness < INVERTED, text)

    def _compare(self, pair: Tuple[str, str], iteration: int, losses: Mapping[str, float]) -> None:
        """Loss terms that mean the same in both directions, by what has become of each since the first line."""
        better, worse = sorted(pair, key=lambda term: losses[term] / self.first_losses[term])
        shares = [losses[term] / self.first_losses[term] for term in (better, worse)]
        is_apart = shares[1] > max(APART * shares[0], NOT_FALLEN)
        text = f"{worse} does not fall ({shares[1]:.0%} of its first value) while {better} does ({shares[0]:.0%})"
        self._judge("one-direction-falls-behind", pair[0], iteration, is_apart, text)

    def _judge(self, kind: str, subject: str, iteration: int, is_bad: bool, text: str) -> None:
        """Say it where it has been bad for long enough without a break."""
        if not is_bad:
            self.since.pop((kind, subject), None)
            return
        first, lines = self.since.get((kind, subject), (iteration, 0))
        self.since[kind, subject] = first, lines + 1
        if lines + 1 >= LINES and iteration - first >= PATIENCE:
            self._say(kind, f"iteration {iteration}: since iteration {first} {text}")

    def _say(self, kind: str, text: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            self.warn(f"warning: {text}; see docs/tips.md#{kind}")
