"""The runs below a results folder, as their files tell them: settings, losses, scores, and a label that says what is special."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from config import CONFIGS

CONFIG, METRICS_FILE, EVALUATION, META = "config.json", "metrics.jsonl", "evaluation.json", "checkpoints/latest/meta.json"
Scores = Dict[str, Dict[str, Optional[float]]]  # direction, metric; None: not finite

NAMES = {"ugatit": "U-GAT-IT", "cyclegan": "CycleGAN", "pix2pix": "Pix2Pix"}
DECODERS = {"in": "IN", "ln": "LN", "gn": "GN", "adain": "AdaIN"}
WITHOUT_CAM = {(True, True): "CAM", (True, False): "generator CAM", (False, True): "discriminator CAM"}
# How a label names a setting in which the runs of a group differ; others are named by field and value.
WORDS = {
    "n_layers_D": {0: "1x1 patches", 1: "16x16 patches", 2: "34x34 patches", 3: "70x70 patches", 5: "286x286 patches"},
    "light": {True: "light", False: "not light"},
}
# Where a run was made and where its files are: no difference between methods.
NOT_SETTINGS = {"method", "dataset", "data_root", "img_size", "benchmark_flag"}
# What `ablations` puts into words: these always, and these loss weights where they are 0.
WORDED = {"decoder_norm", "no_generator_cam", "no_discriminator_cam", "recon_loss", "unconditional", "no_skip", "netG"}
WORDED_IF_0 = {
    *("cycle_weight", "identity_weight", "cam_weight"),
    *("lambda_A", "lambda_B", "lambda_identity", "lambda_L1", "lambda_GAN"),
}


class Damaged(Exception):
    """Why a run, or one of its files, cannot be used."""


@dataclass(frozen=True)
class Evaluation:
    """evaluation.json; `reasons` says of metrics why they were not computed."""

    iteration: int
    translated: Scores
    untouched: Scores
    reasons: Dict[str, str]
    notes: List[str]
    test_images: Dict[str, int]
    kid: str


@dataclass(frozen=True)
class Run:
    """A run; `path` is relative to the results folder. `losses` and `scores` are the lines of metrics.jsonl."""

    folder: Path
    path: str
    settings: Dict[str, Any]
    losses: List[Dict[str, float]] = field(default_factory=list)
    scores: List[Dict[str, float]] = field(default_factory=list)
    evaluation: Optional[Evaluation] = None
    meta: Dict[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def method(self) -> str:
        return self.settings["method"]

    @property
    def variant(self) -> str:
        """The method and its ablation, as the papers would call it."""
        return NAMES[self.method] + ablations(self.settings)

    @property
    def suite(self) -> str:
        """What the runs of one series share: the first folder above DATASET/METHOD, or nothing."""
        above = self.path.split("/")[:-2]
        return above[0] if above else ""

    @property
    def iteration(self) -> int:
        """The iteration that was evaluated, or the last one logged."""
        return self.evaluation.iteration if self.evaluation else max(line["iteration"] for line in self.losses + self.scores)


class Group(NamedTuple):
    """Runs that may be compared: of one series, on one data set, at one image size. Full methods first, then ablations."""

    suite: str
    dataset: str
    size: int
    runs: List[Run]

    @property
    def title(self) -> str:
        suite = f"{self.suite}: " if self.suite else ""
        return f"{suite}{self.dataset}, {self.size}x{self.size}"

    @property
    def directions(self) -> List[str]:
        """Those that runs were evaluated in, or have logged scores of."""
        found = {name.split("/")[0] for run in self.runs for line in run.scores for name in line if "/" in name}
        return sorted(found.union(*[run.evaluation.translated for run in self.runs if run.evaluation]))


# Reading


def read_runs(results: Path) -> Tuple[List[Run], List[str]]:
    """Every run below `results`, in the order of their paths, and what was passed over and why."""
    runs, problems = [], []
    for folder, inside, files in os.walk(results):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        if METRICS_FILE not in files:
            continue
        inside.clear()
        path = Path(folder).relative_to(results).as_posix()
        try:
            run, damages = _read_run(Path(folder), path)
            runs.append(run)
        except Damaged as damage:
            damages = [str(damage)]
        problems += [f"{path}: {text}" for text in damages]
    return runs, problems


def _read_run(folder: Path, path: str) -> Tuple[Run, List[str]]:
    """A run and what is damaged in it. Raises Damaged where nothing is left to report."""
    settings = _read_settings(folder)
    lines, damages = _read_lines(folder)
    if not lines:
        raise Damaged(f"{METRICS_FILE} holds no whole line yet")
    evaluation, meta = None, {}
    try:
        if (folder / EVALUATION).exists():
            evaluation = _to_evaluation(_read_json(folder, EVALUATION))
    except Damaged as damage:
        damages.append(f"{damage}; run --phase evaluate again")
    try:
        if (folder / META).exists():
            meta = _read_json(folder, META)
    except Damaged as damage:
        damages.append(str(damage))
    scores = [line for line in lines if any("/" in name for name in line)]
    losses = [line for line in lines if line not in scores]
    return Run(folder, path, settings, losses, scores, evaluation, meta), damages


def _read_settings(folder: Path) -> Dict[str, Any]:
    """The saved configuration over its method's defaults."""
    if not (folder / CONFIG).is_file():
        raise Damaged(f"{CONFIG} is missing")
    saved = _read_json(folder, CONFIG)
    if saved.get("method") not in NAMES or not isinstance(saved.get("dataset"), str) or not isinstance(saved.get("img_size"), int):
        raise Damaged(f"{CONFIG} is not the configuration of a run (method, dataset, img_size)")
    return {**defaults(saved["method"]), **saved}


def _read_json(folder: Path, name: str) -> Dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise Damaged(f"{name} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise Damaged(f"{name} is not JSON") from error
    if not isinstance(content, dict):
        raise Damaged(f"{name} holds no fields")
    return content


def _read_lines(folder: Path) -> Tuple[List[Dict[str, float]], List[str]]:
    """The whole lines of metrics.jsonl, with only their finite numbers, and what is wrong with the others."""
    lines, damages = [], []
    try:
        content = (folder / METRICS_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Damaged(f"{METRICS_FILE} cannot be read ({error.strerror})") from error
    for number, text in enumerate(content.splitlines(), 1):
        try:
            line = json.loads(text)
            values = {name: finite(value) for name, value in line.items()}
            values["iteration"] = int(line["iteration"])
            lines.append({name: value for name, value in values.items() if value is not None})
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            damages.append(f"line {number} of {METRICS_FILE} is damaged and left out")
    return lines, damages


def _to_evaluation(content: Mapping[str, Any]) -> Evaluation:
    try:
        halves = [
            {
                direction: {name: finite(value) for name, value in (kinds.get(kind) or {}).items()}
                for direction, kinds in content["scores"].items()
            }
            for kind in ("translated", "untouched")
        ]
        reasons = {
            name.strip(): str(reason) for names, reason in content.get("not_computed", {}).items() for name in names.split(",")
        }
        return Evaluation(
            int(content["iteration"]),
            *halves,
            reasons,
            [str(note) for note in content.get("notes", [])],
            {direction: int(count) for direction, count in content.get("test_images", {}).items()},
            f"{content.get('kid_subsets')} random subsets of up to {content.get('kid_subset_size')} images",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"{EVALUATION} does not hold the scores of an evaluation") from error


def finite(value: Any) -> Optional[float]:
    """A number that is finite, else None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


# Groups and labels


def group_runs(runs: Sequence[Run]) -> List[Group]:
    """Runs that may be compared, labelled and in order."""
    keys = sorted({(run.suite, run.settings["dataset"], run.settings["img_size"]) for run in runs})
    return [
        Group(*key, _labelled([run for run in runs if (run.suite, run.settings["dataset"], run.settings["img_size"]) == key]))
        for key in keys
    ]


def _labelled(runs: Sequence[Run]) -> List[Run]:
    labels = {run.path: run.variant + _differences(run, runs) for run in runs}
    counts, methods = Counter(labels.values()), list(NAMES)

    def place(run: Run) -> Tuple[bool, int, str, str]:
        return labels[run.path] != NAMES[run.method], methods.index(run.method), labels[run.path], run.path

    def unique(run: Run) -> str:
        return labels[run.path] + (f" ({run.path})" if counts[labels[run.path]] > 1 else "")

    return [dataclasses.replace(run, label=unique(run)) for run in sorted(runs, key=place)]


def ablations(settings: Mapping[str, Any]) -> str:
    """The papers' ablations that a configuration makes, in words."""
    return {"ugatit": _of_ugatit, "cyclegan": _of_cyclegan, "pix2pix": _of_pix2pix}[settings["method"]](settings)


def _of_ugatit(settings: Mapping[str, Any]) -> str:
    decoder = DECODERS.get(str(settings.get("decoder_norm")))
    cams = WITHOUT_CAM.get((bool(settings.get("no_generator_cam")), bool(settings.get("no_discriminator_cam"))))
    words = [f", decoder {decoder}"] if decoder else []
    words += [f" without {cams}"] if cams else []
    return "".join(words) + _without(settings, cycle_weight="cycle loss", identity_weight="identity loss", cam_weight="CAM loss")


def _of_cyclegan(settings: Mapping[str, Any]) -> str:
    return _without(settings, lambda_A="cycle loss of A", lambda_B="cycle loss of B", lambda_identity="identity loss")


def _of_pix2pix(settings: Mapping[str, Any]) -> str:
    """The paper's objectives (L1, GAN, cGAN and their sums) and generators."""
    reconstruction = settings.get("recon_loss", "l1") if settings.get("lambda_L1") != 0 else "none"
    parts = [] if reconstruction == "none" else [str(reconstruction).upper()]
    if settings.get("lambda_GAN") != 0:
        parts.append("GAN" if settings.get("unconditional") else "cGAN")
    words = [] if parts == ["L1", "cGAN"] else [f", {parts[0]} only" if len(parts) == 1 else f", {'+'.join(parts)}"]
    words += [", no skips"] if settings.get("no_skip") else []
    words += [", ResNet generator"] if settings.get("netG") == "resnet" else []
    return "".join(words)


def _without(settings: Mapping[str, Any], **weights: str) -> str:
    return "".join(f" without {loss}" for name, loss in weights.items() if settings.get(name) == 0)


def defaults(method: str) -> Dict[str, Any]:
    """The method's defaults, which are its paper's."""
    return {item.name: item.default for item in dataclasses.fields(CONFIGS[method])}


def _settings(runs: Sequence[Run]) -> List[str]:
    """The fields that say what runs of one method compute, in the configuration's order, but those in words."""
    free = {item.name for item in dataclasses.fields(CONFIGS[runs[0].method]) if item.metadata["resume"] != "same"}
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [name for name in names if name not in free | NOT_SETTINGS | WORDED]


def _usual(name: str, runs: Sequence[Run]) -> Any:
    """What most runs of a method have in a setting; of equally frequent values the default, or None."""
    counts = Counter(json.dumps(run.settings.get(name)) for run in runs).most_common()
    tied = [json.loads(value) for value, count in counts if count == counts[0][1]]
    default = defaults(runs[0].method).get(name)
    return tied[0] if len(tied) == 1 else default if default in tied else None


def _differences(run: Run, runs: Sequence[Run]) -> str:
    """What a label adds to method and ablation: the settings in which this run differs from most runs of its method."""
    same_method = [other for other in runs if other.method == run.method]
    found = []
    for name in _settings(same_method):
        value = run.settings.get(name)
        differ = any(other.settings.get(name) != value for other in same_method)
        if differ and value != _usual(name, same_method) and not (value == 0 and name in WORDED_IF_0):
            found.append(f", {_words(name, value)}")
    return "".join(found)


def _words(name: str, value: Any) -> str:
    shown = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, float):
        shown = f"{value:g}"
    known = WORDS.get(name, {})
    return known[value] if isinstance(value, (bool, int)) and value in known else f"{name} {shown}"


def common_settings(group: Group) -> Dict[str, str]:
    """For each method of a group, the settings of most of its runs that are not the paper's."""
    found = {}
    for method in NAMES:
        runs = [run for run in group.runs if run.method == method]
        if not runs:
            continue
        usual = {name: _usual(name, runs) for name in _settings(runs)}
        changed = [
            _words(name, value)
            for name, value in usual.items()
            if value not in (None, defaults(method).get(name)) and not (value == 0 and name in WORDED_IF_0)
        ]
        found[NAMES[method]] = ", ".join(changed) or "all the paper's"
    return found


def slug(text: str) -> str:
    """A file name made of a title."""
    return re.sub(r"\W+", "_", text.lower()).strip("_")
