"""The scores of translations of the test set, beside those of its untouched inputs."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np

from config import Config
from dataset import TestSet
from engine import distributed
from engine.progress import track
from errors import ConfigError, DataError, UserError, WeightsError
from metrics.distances import fid, kid
from metrics.facts import FLAG_NAMES, METRICS, names_in_flags
from metrics.features import FeatureKey, cached_features, extract_features, images_sha256
from metrics.inception import Inception
from metrics.paired import MEASURES, PALETTE_IMAGES, SSIM_SIDE, PairedScores, find_palette
from metrics.weights import load_inception
from utils import to_colour, to_image

WITH_WEIGHTS = names_in_flags("weights")
WITH_TRUTHS = names_in_flags("truth", "labels")
NO_WEIGHTS = "there are no Inception weights; --inception_weights FILE names them"
# Translates an image (C, H, W) in [-1, 1] in a direction such as A2B; returns the same shape and range.
Translate = Callable[[str, np.ndarray], np.ndarray]
Scores = Dict[str, float]
# By direction, why names of --metrics are not computed.
Reasons = Dict[str, Dict[str, str]]


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
        names = [name for name in METRICS if any(name in rows["translated"] for rows in self.scores.values())]
        lines = [f"{'':16s}" + "".join(f"{METRICS[name].heading:>16s}" for name in names)]
        for direction, rows in self.scores.items():
            for row, scores in rows.items():
                label = direction if row == "translated" else f"{direction} {row}"
                lines.append(f"{label:16s}" + "".join(f"{_shown(scores, name):>16s}" for name in names))
        lines += [f"{name}: not computed: {reason}" for name, reason in self.not_computed.items()]
        return "\n".join([*lines, *self.notes])

    def to_json(self, **more: Any) -> str:
        """Everything, and `more`, with null for what is not finite (the PSNR of equal images)."""
        scores = {
            direction: {
                row: {name: value if math.isfinite(value) else None for name, value in values.items()}
                for row, values in rows.items()
            }
            for direction, rows in self.scores.items()
        }
        return json.dumps({**more, "scores": scores, "not_computed": self.not_computed, "notes": self.notes}, indent=2) + "\n"


def _shown(scores: Scores, name: str) -> str:
    if name not in scores:
        return "-"
    spread = f" ±{METRICS[name].text(scores['kid_std'])}" if name == "kid" else ""
    return METRICS[name].text(scores[name]) + spread


class Evaluation:
    """Scores translations of the test set; what does not depend on the method is computed once and, for features, kept.

    A metric or a direction that cannot be computed is left out, and the report says why.

    Args:
        config: `metrics`, `keep_best`, `kid_*`, `inception_weights` and the images' size.
        test_sets: by direction; None, or missing, where a direction has no test images.
        cache: folder for the features of the real images.
        directions: those to score, by default all of the method.

    Raises:
        ConfigError: a metric was asked for by name that this data cannot have.
        WeightsError: KID or FID was asked for by name, and there are no weights; or --inception_weights names a bad file.
        DataError: nothing at all can be scored.
    """

    def __init__(
        self,
        config: Config,
        test_sets: Mapping[str, Optional[TestSet]],
        cache: Path,
        directions: Optional[Sequence[str]] = None,
    ) -> None:
        self.config, self.cache = config, cache
        self.directions = config.directions if directions is None else directions
        self.test_sets = {direction: test_set for direction, test_set in test_sets.items() if test_set is not None}
        self.network: Optional[Inception] = None
        self.weights = ""
        self.palettes: Dict[str, Optional[np.ndarray]] = {}
        self._untouched: Dict[str, Scores] = {}
        self._features: Dict[str, np.ndarray] = {}
        wanted = config.metric_names or FLAG_NAMES
        missing: Reasons = {}
        for direction in self.directions:
            reasons = self._look_at(direction)
            missing[direction] = {name: reasons[name] for name in wanted if name in reasons}
        self._refuse_named(missing)
        problem = self._load_network(missing, [name for name in wanted if name in WITH_WEIGHTS])
        self.not_computed = explain(missing, wanted)
        computed = {direction: [name for name in wanted if name not in reasons] for direction, reasons in missing.items()}
        self.names = {direction: names for direction, names in computed.items() if names}
        if not self.names:
            reasons = "; ".join(f"{what}: {reason}" for what, reason in self.not_computed.items())
            raise DataError(f"--dataset {config.dataset}: nothing can be scored: {reasons}{problem}")
        if problem:
            print(f"warning: KID and FID are not computed{problem}", file=sys.stderr)

    def _named(self) -> List[Tuple[str, str, Sequence[str]]]:
        """The metrics that were asked for by name: the flag, the metric's name for --metrics, and the directions."""
        named = [("--metrics", name, self.directions) for name in self.config.metric_names or ()]
        if self.config.keep_best:
            name, directions = self.config.best
            named.append(("--keep_best", METRICS[name].name_in_flags, directions))
        return named

    def _look_at(self, direction: str) -> Dict[str, str]:
        """Which metrics the images of a direction do not allow, and why; finds the palette of label maps."""
        source, target = direction[0], direction[-1]
        test_set = self.test_sets.get(direction)
        if test_set is None:
            return dict.fromkeys(FLAG_NAMES, f"there are no test images of domain {source}")
        reasons: Dict[str, str] = {}
        fewest = min(test_set.count, test_set.real_count)
        if not test_set.real_count:
            reasons.update(dict.fromkeys(WITH_WEIGHTS, f"there are no real test images of domain {target} to compare with"))
        elif fewest < 2:
            reasons.update(dict.fromkeys(WITH_WEIGHTS, f"they need at least 2 images in each test folder, and one has {fewest}"))
        if test_set.read(0).truth is None:
            no_truths = "the test images have no true counterparts (docs/data.md says how to declare them)"
            return {**reasons, **dict.fromkeys(WITH_TRUTHS, no_truths)}
        truths = [test_set.read(index).truth for index in range(min(PALETTE_IMAGES, test_set.count))]
        self.palettes[direction] = find_palette([to_colour(to_image(truth)) for truth in truths])
        # Most sets have no label maps: say so only where they were asked for.
        if self.palettes[direction] is None and any(name == "labels" for _, name, _ in self._named()):
            reasons["labels"] = "the true images are not label maps (few flat colours)"
        if self.config.img_size < SSIM_SIDE:
            reasons["ssim"] = f"its window is {SSIM_SIDE} pixels wide, the images {self.config.img_size}"
        return reasons

    def _refuse_named(self, missing: Reasons, kind: Type[UserError] = ConfigError, detail: str = "") -> None:
        """Raise where a metric that was asked for by name cannot be computed for any of its directions."""
        for flag, name, directions in self._named():
            reasons = dict.fromkeys(missing[direction].get(name, "") for direction in directions)
            if all(reasons):
                raise kind(f"{flag}: no {name} for {self.config.dataset}: {' and '.join(reasons)}{detail}")

    def _load_network(self, missing: Reasons, names: Sequence[str]) -> str:
        """Load the weights where one of `names` can use them. Without weights, note it in `missing` and return the problem."""
        if all(name in reasons for reasons in missing.values() for name in names):
            return ""
        file = self.config.inception_weights
        try:
            self.network, self.weights = load_inception(Path(file) if file else None)
        except WeightsError as error:
            for reasons in missing.values():
                reasons.update({name: NO_WEIGHTS for name in names if name not in reasons})
            self._refuse_named(missing, WeightsError, f" ({error})")
            if file:
                raise
            return f" ({error})"
        return ""

    @property
    def settings(self) -> Dict[str, Any]:
        """What the scores depend on, for evaluation.json."""
        names = ("method", "dataset", "img_size", "amp", "kid_subsets", "kid_subset_size", "kid_seed")
        return {
            **{name: getattr(self.config, name) for name in names},
            "test_images": {direction: self.test_sets[direction].count for direction in self.names},
            "inception_weights": self.weights or None,
        }

    def merit(self, report: Report) -> Optional[float]:
        """What --keep_best compares, lower is better; None without it."""
        if not self.config.keep_best:
            return None
        name, directions = self.config.best
        rows = [report.scores[direction]["translated"] for direction in directions if direction in report.scores]
        mean = float(np.mean([scores[name] for scores in rows if name in scores]))
        return -mean if METRICS[name].more_is_better else mean

    def __call__(self, translate: Translate) -> Report:
        """Translate the test set and score it."""
        scores = {}
        for direction in self.names:
            translated = self._score(direction, translate)
            if direction not in self._untouched:
                self._untouched[direction] = self._score(direction, None)
            scores[direction] = {"translated": translated, "untouched": self._untouched[direction]}
        return Report(scores, self.not_computed, self._notes(scores))

    def _notes(self, scores: Dict[str, Dict[str, Scores]]) -> List[str]:
        """What a reader of these KIDs should know."""
        test_sets = [self.test_sets[direction] for direction, rows in scores.items() if "kid" in rows["translated"]]
        if not test_sets:
            return []
        values = [row["kid"] for rows in scores.values() for row in rows.values() if "kid" in row]
        counts = [count for test_set in test_sets for count in (test_set.count, test_set.real_count)]
        size, notes = self.config.kid_subset_size, []
        if min(counts) < size:
            notes.append(f"KID: subsets of {min(counts)} instead of {size} images: the test set has no more")
        if max(counts) <= size and min(counts) == max(counts):
            notes.append("KID: every subset is the whole of both sets, so ± 0 says nothing; a smaller --kid_subset_size does")
        if min(values) < 0:
            notes.append("KID below 0: the estimate is unbiased, so where two sets are alike it falls on either side of 0")
        return notes

    def _score(self, direction: str, translate: Optional[Translate]) -> Scores:
        """Scores of the translations of a direction, or, without `translate`, of its inputs as they are."""
        names, test_set = self.names[direction], self.test_sets[direction]
        paired = PairedScores(self.palettes[direction] if "labels" in names else None, [name for name in names if name in MEASURES])
        needs_features = any(name in WITH_WEIGHTS for name in names)
        outputs = self._outputs(direction, translate, paired)
        if translate is not None and needs_features:
            features = extract_features(self.network, outputs)
        for _ in outputs:  # those of which no features were needed are compared all the same
            pass
        distributed.wait_for_all()
        paired.combine(distributed.sum_of)
        if not needs_features:
            return paired.result()
        if translate is not None:
            features = distributed.gathered(dict(zip(distributed.share_of(test_set.count), features)), test_set.count)
        else:
            features = self._kept_features(direction[0], test_set.count, lambda index: to_image(test_set.read(index).image))
        return {**self._distances(direction, features), **paired.result()}

    def _outputs(self, direction: str, translate: Optional[Translate], paired: PairedScores) -> Iterator[np.ndarray]:
        """This process's translations (H, W, C) uint8 one by one, each compared with its true image on the way."""
        test_set = self.test_sets[direction]
        label = f"{direction} untouched" if translate is None else direction
        own = distributed.share_of(test_set.count)
        for sample in track(map(test_set.read, own), label, len(own)):
            output = to_image(sample.image if translate is None else translate(direction, sample.image))
            if sample.truth is not None:
                paired.add(output, to_image(sample.truth))
            yield output

    def _distances(self, direction: str, features: np.ndarray) -> Scores:
        config, test_set = self.config, self.test_sets[direction]
        real = self._kept_features(direction[-1], test_set.real_count, test_set.real)
        scores: Scores = {}
        if "kid" in self.names[direction]:
            found = kid(features, real, config.kid_subsets, config.kid_subset_size, config.kid_seed)
            scores.update(kid=found.mean, kid_std=found.std)
        if "fid" in self.names[direction]:
            scores["fid"] = fid(features, real)
        return scores

    def _kept_features(self, domain: str, count: int, read: Callable[[int], np.ndarray]) -> np.ndarray:
        """Features of the real images of a domain, computed once in this process and kept in the cache."""
        if domain not in self._features:
            config = self.config
            file = self.cache / f"{'pairs' if config.paired else 'test'}_{domain}_{config.img_size}.safetensors"
            key = FeatureKey(images_sha256(map(read, range(count))), count, config.img_size, config.img_ch, self.weights)

            def compute() -> np.ndarray:
                return extract_features(self.network, track(map(read, range(count)), f"features of real {domain}", count))

            self._features[domain] = cached_features(file, key, compute)
        return self._features[domain]


def explain(missing: Reasons, wanted: Sequence[str]) -> Dict[str, str]:
    """What is not computed, and why: metrics by name where it holds for all directions, else with the direction; or a direction.

    {"kid, fid": "there are no Inception weights; ...", "A2B l1, ssim": "...", "B2A": "there are no test images of domain B"}
    """
    explained: Dict[str, str] = {}
    for direction, reasons in missing.items():
        for reason in dict.fromkeys(reasons.values()):
            names = [name for name, other in reasons.items() if other == reason]
            if all(others.get(name) == reason for others in missing.values() for name in names):
                explained[", ".join(names)] = reason
            elif set(names) == set(wanted):
                explained[direction] = reason
            else:
                explained[f"{direction} {', '.join(names)}"] = reason
    return explained
