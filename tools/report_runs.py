"""The runs below a results folder, as their files tell them, with a label that says what is special about each."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from config import CONFIGS
from utils import from_json

METRICS_FILE = "metrics.jsonl"
NAMES = {"ugatit": "U-GAT-IT", "cyclegan": "CycleGAN", "pix2pix": "Pix2Pix"}
NOT_SETTINGS = ("method", "dataset", "data_root", "img_size", "benchmark_flag")  # no difference between methods
# The papers' ablations, which are always part of a label.
ABLATIONS: Dict[Tuple[str, Any], str] = {
    **{("decoder_norm", norm.lower()): f"decoder {norm}" for norm in ("IN", "LN", "GN", "AdaIN")},
    ("no_generator_cam", True): "without generator CAM",
    ("no_discriminator_cam", True): "without discriminator CAM",
    ("lambda_GAN", 0): "L1 only",
    ("recon_loss", "none"): "without L1",
    ("unconditional", True): "unconditional",
    ("no_skip", True): "no skips",
}


@dataclasses.dataclass
class Run:
    """What the files of a run say. `path` is that of its folder below the results folder.

    changed: the settings that differ from the method's defaults, and shared: those that all runs beside it have changed alike.
    log: the lines of metrics.jsonl.
    evaluation: evaluation.json, and meta: that of the newest checkpoint; empty where there is none.
    iteration: the one that was evaluated, or the last one logged.
    """

    folder: Path
    path: str
    method: str
    dataset: str
    size: int
    changed: Dict[str, Any]
    log: List[Dict[str, float]]
    evaluation: Dict[str, Any]
    meta: Dict[str, Any]
    iteration: int
    label: str = ""
    shared: Dict[str, Any] = dataclasses.field(default_factory=dict)

    def scores(self, row: str = "translated") -> Dict[str, Optional[float]]:
        """Scores by DIRECTION/METRIC, as in metrics.jsonl; None: not finite. The other row is "untouched"."""
        rows = {direction: rows[row] for direction, rows in self.evaluation.get("scores", {}).items()}
        return {f"{direction}/{name}": value for direction, values in rows.items() for name, value in values.items()}


def read_json(file: Path) -> Dict[str, Any]:
    """The fields in a JSON file; none where it is missing or damaged."""
    try:
        content = from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_runs(results: Path) -> Dict[str, List[Run]]:
    """The runs below `results` by title: those that may be compared, of one series, data set and image size.

    A series is the first folder above DATASET/METHOD, such as that of a suite. Damaged runs are passed over.
    """
    found: Dict[str, List[Run]] = {}
    for file in sorted(results.rglob(METRICS_FILE)):
        path = file.parent.relative_to(results)
        series = f"{path.parts[0]}: " if len(path.parts) > 2 else ""
        try:
            run = _read_run(file.parent, path.as_posix())
            found.setdefault(f"{series}{run.dataset}, {run.size}x{run.size}", []).append(run)
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            print(f"warning: passed over {path}: config.json or {METRICS_FILE} is missing, empty or damaged", file=sys.stderr)
    return {title: _labelled(found[title]) for title in sorted(found)}


def _read_run(folder: Path, path: str) -> Run:
    config, evaluation, log = read_json(folder / "config.json"), read_json(folder / "evaluation.json"), []
    for line in (folder / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):  # a process that was killed leaves half a line
            log.append(from_json(line))
    last = max(line["iteration"] for line in log)
    fields = [item for item in dataclasses.fields(CONFIGS[config["method"]]) if item.metadata["resume"] == "same"]
    defaults = {item.name: item.default for item in fields if item.name not in NOT_SETTINGS}
    changed = {name: config[name] for name, default in defaults.items() if config.get(name, default) != default}
    metas = [read_json(file) for file in folder.glob("checkpoints/*/meta.json")]
    meta = max(metas, key=lambda meta: meta.get("iteration", 0), default={})
    about = (config["method"], config["dataset"], config["img_size"])
    return Run(folder, path, *about, changed, log, evaluation, meta, evaluation.get("iteration", last))


def _labelled(runs: List[Run]) -> List[Run]:
    """Full methods first, then ablations. A label adds to the method the ablations and what not all runs of the method share."""
    for run in runs:
        others = [other.changed.items() for other in runs if other.method == run.method]
        run.shared = dict(item for item in run.changed.items() if all(item in other for other in others))
        special = dict(item for item in run.changed.items() if item in ABLATIONS or item[0] not in run.shared)
        run.label = ", ".join([NAMES[run.method], *in_words(special)])
    counts = Counter(run.label for run in runs)
    ordered = sorted(runs, key=lambda run: ("," in run.label, list(NAMES).index(run.method), run.label, run.path))
    for run in runs:
        run.label += f" ({run.path})" if counts[run.label] > 1 else ""
    return ordered


def in_words(settings: Dict[str, Any]) -> List[str]:
    """Settings as the papers call them, the others by name and value."""
    words = []
    for name, value in settings.items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        words.append(ABLATIONS.get((name, value), name if value is True else f"{name} {shown}"))
    cams = [ABLATIONS["no_generator_cam", True], ABLATIONS["no_discriminator_cam", True]]
    return ["without CAM", *(word for word in words if word not in cams)] if set(cams) <= set(words) else words
