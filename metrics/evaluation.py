"""The scores of a method on a test set, beside those of its untouched inputs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

import numpy as np

from config import BEST, Config
from dataset import TestSet
from errors import ConfigError, WeightsError
from metrics.distances import fid, kid
from metrics.features import FeatureKey, cached_features, extract_features, images_sha256
from metrics.inception import Inception
from metrics.paired import PALETTE_IMAGES, SSIM_SIDE, PairedScores, find_palette
from metrics.weights import load_inception
from utils import to_colour, to_image

PAIRED_METRICS = ("l1", "psnr", "ssim", "labels")
# The scores of label maps, by the name that --metrics gives them.
METRIC_OF = dict.fromkeys(("pixel_accuracy", "class_accuracy", "class_iou"), "labels")
Scores = Dict[str, float]
# How a metric is printed: its title and what its value is multiplied by.
TITLES = {
    "kid": ("KID x100", 100), "fid": ("FID", 1), "l1": ("L1", 1), "psnr": ("PSNR dB", 1), "ssim": ("SSIM", 1),
    "pixel_accuracy": ("pixel acc.", 1), "class_accuracy": ("class acc.", 1), "class_iou": ("class IoU", 1),
}  # fmt: skip


@dataclass
class Report:
    """Scores by direction and row (translated, untouched), and why what is missing was not computed."""

    scores: Dict[str, Dict[str, Scores]]
    not_computed: Dict[str, str]
    notes: List[str] = field(default_factory=list)

    def flat(self) -> Scores:
        """The scores of the translations as DIRECTION/METRIC, as logs have them."""
        return {
            f"{direction}/{name}": value for direction, rows in self.scores.items() for name, value in rows["translated"].items()
        }

    def table(self) -> str:
        """The scores in columns for people."""
        names = [name for name in TITLES if any(name in rows["translated"] for rows in self.scores.values())]
        lines = [] if not names else [f"{'':16s}" + "".join(f"{TITLES[name][0]:>16s}" for name in names)]
        for direction, rows in self.scores.items() if names else ():
            for row, scores in rows.items():
                label = direction if row == "translated" else f"{direction} {row}"
                lines.append(f"{label:16s}" + "".join(f"{_shown(scores, name):>16s}" for name in names))
        lines += [f"{name}: not computed: {reason}" for name, reason in self.not_computed.items()]
        return "\n".join([*lines, *self.notes])

    def to_json(self, **more: Any) -> str:
        """Everything, and `more`, with null for what is not finite (the PSNR of equal images)."""
        scores = {
            direction: {row: {name: _finite(value) for name, value in values.items()} for row, values in rows.items()}
            for direction, rows in self.scores.items()
        }
        return json.dumps({**more, "scores": scores, "not_computed": self.not_computed, "notes": self.notes}, indent=2) + "\n"


def _shown(scores: Scores, name: str) -> str:
    if name not in scores:
        return "-"
    factor = TITLES[name][1]
    spread = f" ±{scores['kid_std'] * factor:.2f}" if name == "kid" else ""
    digits = 2 if name in ("kid", "fid", "psnr") else 4
    return f"{scores[name] * factor:.{digits}f}{spread}"


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None


class Evaluation:
    """Scores translations of the test set; what does not depend on the method is computed once and, for features, kept.

    Args:
        config: `metrics`, `keep_best`, `kid_*`, `inception_weights` and the images' size.
        test_sets: by direction.
        cache: folder for the features of the real images.

    Raises:
        ConfigError: a metric was asked for by name that this data cannot have.
        WeightsError: KID or FID was asked for by name, and there are no weights.
    """

    def __init__(self, config: Config, test_sets: Mapping[str, TestSet], cache: Path) -> None:
        self.config, self.test_sets, self.cache = config, test_sets, cache
        self.not_computed: Dict[str, str] = {}
        self.network: Optional[Inception] = None
        self.weights = ""
        self.palettes: Dict[str, Optional[np.ndarray]] = {}
        self._paired_names = [name for name in ("l1", "psnr", "ssim") if self._wants(name)]
        self._untouched: Dict[str, Scores] = {}
        self._features: Dict[str, np.ndarray] = {}
        for direction, test_set in test_sets.items():
            self._look_at_truths(direction, test_set)
        if (self._wants("kid") or self._wants("fid")) and self._has_enough_images():
            self._load_network()

    def _wants(self, name: str) -> bool:
        return self.config.metric_names is None or name in self.config.metric_names

    def _named(self) -> List[str]:
        """Metrics that were asked for by name: what cannot be had is then an error."""
        best = [self.config.best[0]] if self.config.keep_best else []
        return [*(self.config.metric_names or []), *(METRIC_OF.get(name, name) for name in best)]

    def _look_at_truths(self, direction: str, test_set: TestSet) -> None:
        """Find out whether there are true counterparts, and whether they are label maps."""
        looked_at = range(min(PALETTE_IMAGES, test_set.count))
        truths = [test_set.read(index).truth for index in looked_at] if test_set.read(0).truth is not None else []
        names = ", ".join(name for name in PAIRED_METRICS if self._wants(name))
        if names and not truths:
            self._cannot(names, "its test images have no true counterparts (docs/data.md says how to declare them)")
        elif self._wants("ssim") and self.config.img_size < SSIM_SIDE:
            self._cannot("ssim", f"its window is {SSIM_SIDE} pixels wide, the images {self.config.img_size}")
            self._paired_names = [name for name in self._paired_names if name != "ssim"]
        pictures = [to_colour(to_image(truth)) for truth in truths]
        self.palettes[direction] = find_palette(pictures) if self._wants("labels") else None
        if "labels" in self._named() and self.palettes[direction] is None:
            raise ConfigError(
                f"--metrics, --keep_best: labels cannot be had for {direction} of {self.config.dataset}: its true images are no "
                "label maps of few flat colours; choose l1, psnr or ssim"
            )

    def _has_enough_images(self) -> bool:
        """Whether KID and FID are defined. Raises ConfigError where they were asked for by name and are not."""
        fewest = min(min(test_set.count, test_set.real_count) for test_set in self.test_sets.values())
        if fewest < 2:
            self._cannot("kid, fid", f"they need at least 2 images in each test folder, and one has {fewest}")
        return fewest >= 2

    def _cannot(self, names: str, reason: str) -> None:
        """Note what is not computed. Raises ConfigError where it was asked for by name."""
        if set(names.split(", ")) & set(self._named()):
            raise ConfigError(f"--metrics, --keep_best: no {names} for {self.config.dataset}: {reason}")
        self.not_computed[names] = reason

    def _load_network(self) -> None:
        file = self.config.inception_weights
        try:
            self.network, self.weights = load_inception(Path(file) if file else None, allow_download=True)
        except WeightsError as error:
            # A file that was named is meant, and so is a metric.
            named = [name for name in ("kid", "fid") if name in self._named()]
            if named:
                raise WeightsError(f"--metrics, --keep_best: {' and '.join(named)} needs weights; {error}") from error
            if file:
                raise
            print(f"no KID and no FID: {error}")
            self.not_computed["kid, fid"] = "there are no Inception weights; --inception_weights FILE names them"

    @property
    def settings(self) -> Dict[str, Any]:
        """What the scores depend on, for evaluation.json."""
        names = ("method", "dataset", "img_size", "kid_subsets", "kid_subset_size", "kid_seed")
        counts = {direction: test_set.count for direction, test_set in self.test_sets.items()}
        return {
            **{name: getattr(self.config, name) for name in names},
            "test_images": counts,
            "inception_weights": self.weights or None,
        }

    def merit(self, report: Report) -> Optional[float]:
        """What --keep_best compares, lower is better; None without it."""
        if not self.config.keep_best:
            return None
        name, directions = self.config.best
        mean = float(np.mean([report.scores[direction]["translated"][name] for direction in directions]))
        return -mean if BEST[name] else mean

    def __call__(self, translate: Callable[[str, np.ndarray], np.ndarray]) -> Report:
        """Translate the test set and score it."""
        scores = {}
        for direction, test_set in self.test_sets.items():
            scores[direction] = {
                "translated": self._translated(translate, direction, test_set),
                "untouched": self._score_untouched(direction, test_set),
            }
        return Report(scores, self.not_computed, self._notes(scores))

    def _notes(self, scores: Dict[str, Dict[str, Scores]]) -> List[str]:
        """What a reader of these KIDs should know."""
        values = [row["kid"] for rows in scores.values() for row in rows.values() if "kid" in row]
        if not values:
            return []
        counts = [count for test_set in self.test_sets.values() for count in (test_set.count, test_set.real_count)]
        size, notes = self.config.kid_subset_size, []
        if min(counts) < size:
            notes.append(f"KID: subsets of {min(counts)} instead of {size} images: the test set has no more")
        if max(counts) <= size and min(counts) == max(counts):
            notes.append("KID: every subset is the whole of both sets, so ± 0 says nothing; a smaller --kid_subset_size does")
        if min(values) < 0:
            notes.append("KID below 0: the estimate is unbiased, so where two sets are alike it falls on either side of 0")
        return notes

    def _translated(self, translate: Callable[[str, np.ndarray], np.ndarray], direction: str, test_set: TestSet) -> Scores:
        paired = PairedScores(self.palettes[direction], self._paired_names)

        def outputs() -> Iterator[np.ndarray]:
            for sample in map(test_set.read, range(test_set.count)):
                output = to_image(translate(direction, sample.image))
                if sample.truth is not None:
                    paired.add(output, to_image(sample.truth))
                yield output

        if self.network is None:
            for _ in outputs():
                pass
            return paired.result()
        features = extract_features(self.network, outputs(), test_set.count, label=f"{direction} features")
        return {**self._distances(features, self._real_features(direction)), **paired.result()}

    def _score_untouched(self, direction: str, test_set: TestSet) -> Scores:
        """What doing nothing scores: the inputs as they are."""
        if direction not in self._untouched:
            paired = PairedScores(self.palettes[direction], self._paired_names)
            for sample in map(test_set.read, range(test_set.count)):
                if sample.truth is not None:
                    paired.add(to_image(sample.image), to_image(sample.truth))
            scores = paired.result()
            if self.network is not None:
                inputs = self._kept_features(direction[0], test_set.count, lambda i: to_image(test_set.read(i).image))
                scores = {**self._distances(inputs, self._real_features(direction)), **scores}
            self._untouched[direction] = scores
        return self._untouched[direction]

    def _distances(self, features: np.ndarray, real: np.ndarray) -> Scores:
        scores: Scores = {}
        if self._wants("kid"):
            config = self.config
            found = kid(features, real, config.kid_subsets, config.kid_subset_size, config.kid_seed)
            scores.update(kid=found.mean, kid_std=found.std)
        if self._wants("fid"):
            scores["fid"] = fid(features, real)
        return scores

    def _real_features(self, direction: str) -> np.ndarray:
        test_set = self.test_sets[direction]
        return self._kept_features(direction[-1], test_set.real_count, test_set.real)

    def _kept_features(self, domain: str, count: int, read: Callable[[int], np.ndarray]) -> np.ndarray:
        """Features of the real images of a domain, computed once in this process and kept in the cache."""
        if domain not in self._features:
            content = images_sha256(map(read, range(count)))
            key = FeatureKey(content, count, self.config.img_size, self.config.img_ch, self.weights)
            self._features[domain] = cached_features(
                self.cache / f"{'pairs' if self.config.paired else 'test'}_{domain}_{self.config.img_size}.safetensors",
                key,
                lambda: extract_features(self.network, map(read, range(count)), count, label=f"real {domain} features"),
            )
        return self._features[domain]
