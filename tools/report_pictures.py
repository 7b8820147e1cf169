"""The pictures of the report, as PNG: curves of losses and scores, and the same test images through every run."""

from __future__ import annotations

import io
import re
import sys
from typing import Dict, Mapping, Optional, Sequence

import cv2
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from errors import DataError
from metrics.facts import METRICS
from tools.report_runs import Run, read_json
from utils import labelled_grid, read_image, resize

# A palette that colour-blind readers can tell apart; a $ in a name begins no formula.
STYLE = ["tableau-colorblind10", {"font.size": 8, "axes.grid": True, "grid.color": "#DDDDDD", "text.parse_math": False}]
COLUMNS = 8  # test images in a comparison
MOST_PIXELS = 300_000  # of it: about 650 kB
SAME_PICTURE = 2.0  # levels of 255, on average: machines may round differently
UNTOUCHED = "untouched input"
Points = Dict[int, float]  # values by iteration


def loss_curves(run: Run) -> Optional[bytes]:
    """The loss terms of a run over its iterations, terms of one kind in one panel; None where none is logged."""
    panels: Dict[str, Dict[str, Points]] = {}
    for name in dict.fromkeys(name for line in run.log for name in line):
        if "/" not in name and name not in ("iteration", "lr", "images_per_second"):
            kind = re.sub(r"_[GL]?[AB]$", "", name)
            panels.setdefault(kind, {})[name[len(kind) + 1 :]] = _points(run, name)
    return _curves(panels, n_columns=3) if panels else None


def score_curves(runs: Sequence[Run], columns: Sequence[str], untouched: Mapping[str, float]) -> Optional[bytes]:
    """The scores of all runs, and the untouched input's, over iterations; columns are DIRECTION/METRIC. None without curves."""
    panels: Dict[str, Dict[str, Points]] = {}
    for column in columns:
        direction, metric = column.split("/")
        lines = {run.label: _points(run, column, METRICS[metric].factor) for run in runs}
        level = untouched.get(column, np.nan) * METRICS[metric].factor
        lines[UNTOUCHED] = {iteration: level for points in lines.values() for iteration in points}
        panels[f"{direction} {METRICS[metric].title}"] = lines
    is_drawn = any(len(lines[run.label]) > 1 for lines in panels.values() for run in runs)
    return _curves(panels, n_columns=2, one_legend=True) if is_drawn else None


def _points(run: Run, name: str, factor: float = 1.0) -> Points:
    """Of several values at one iteration the last."""
    return {line["iteration"]: line[name] * factor for line in run.log if name in line}


@matplotlib.style.context(STYLE)
def _curves(panels: Mapping[str, Mapping[str, Points]], n_columns: int, one_legend: bool = False) -> bytes:
    """A panel for each title, with a line for each label."""
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(9, 6 / n_columns * n_rows + 0.8 * one_legend), layout="constrained")
    for index, (title, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(n_rows, n_columns, index)
        for label, points in lines.items():
            style = dict(color="black", linestyle="--") if label == UNTOUCHED else dict(marker="." if one_legend else "")
            axes.plot(*zip(*sorted(points.items())) if points else ([], []), label=label, **style)
        axes.set_title(title)
        axes.set_xlabel("iterations")
        if len(lines) > 1 and not one_legend:
            axes.legend()
    if one_legend:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncol=2)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=96)
    return stream.getvalue()


def comparison(runs: Sequence[Run], direction: str) -> Optional[bytes]:
    """The first test images through all runs: a row of inputs, one for each run, and one of the truths where they are known.

    None where no run has translated in this direction. Runs that cannot be shown are passed over.
    """
    rows: Dict[str, np.ndarray] = {}
    truth = None
    for run in runs:
        told = read_json(run.folder / "test" / "test.json")
        if not told or direction not in told.get("rows", direction):
            continue  # not translated
        try:
            labels, names = told["rows"][direction], told["images"][direction][:COLUMNS]
            strips = np.stack([read_image(run.folder / "test" / "grid" / direction / name) for name in names])
            translated = np.stack([read_image(run.folder / "test" / direction / name) for name in names])
            squares = dict(zip(labels, np.split(strips, len(labels), axis=1)))
            inputs = rows.get("input", squares[labels[0]])
            is_same = np.abs(squares[labels[0]].astype(np.float32) - inputs).mean() <= SAME_PICTURE
            problem = "" if is_same else "are not those of the runs above it"
        except (DataError, KeyError, TypeError, ValueError, AttributeError):
            problem = "are incomplete or of an older version; run --phase test again"
        if problem:
            print(f"warning: passed over {run.path}: its test images {direction} {problem}", file=sys.stderr)
            continue
        rows.update({"input": inputs, run.label: translated})
        truth = squares.get(f"real_{direction[-1]}", truth)
    if not rows:
        return None
    rows.update({} if truth is None else {"truth": truth})
    side = min(rows["input"].shape[1], int((MOST_PIXELS / COLUMNS / len(rows)) ** 0.5))
    columns = [np.concatenate([resize(image, side, side) for image in column]) for column in zip(*rows.values())]
    grid = labelled_grid(columns, list(rows))[:, :, ::-1]
    return cv2.imencode(".png", grid, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
