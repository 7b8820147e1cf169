"""The report's tables in Markdown: scores of runs, and the figures that the papers print."""

from __future__ import annotations

import math
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from config import BEST
from tools.report_runs import Group, Run, finite

NOTHING = "–"


class Metric(NamedTuple):
    """How a metric is shown."""

    heading: str
    more_is_better: bool
    decimals: int
    meaning: str
    factor: float = 1.0

    @property
    def title(self) -> str:
        return f"{self.heading} {'↑' if self.more_is_better else '↓'}"

    def text(self, value: float) -> str:
        return f"{value * self.factor:.{self.decimals}f}"


METRICS: Dict[str, Metric] = {
    "l1": Metric("L1", BEST["l1"], 4, "mean absolute difference to the true counterpart, of values in [0, 1]"),
    "psnr": Metric("PSNR", BEST["psnr"], 2, "peak signal-to-noise ratio to the true counterpart, in dB"),
    "ssim": Metric("SSIM", BEST["ssim"], 3, "structural similarity to the true counterpart, at most 1"),
    "kid": Metric(
        "KID x100", BEST["kid"], 2, "kernel Inception distance to the real images of the target domain, times 100", 100.0
    ),
    "fid": Metric("FID", BEST["fid"], 2, "Fréchet Inception distance to the real images of the target domain"),
    "pixel_accuracy": Metric("pixel accuracy", BEST["pixel_accuracy"], 3, "share of the pixels whose label is right"),
    "class_accuracy": Metric("class accuracy", BEST["class_accuracy"], 3, "the same for each label, then the mean"),
    "class_iou": Metric("class IoU", BEST["class_iou"], 3, "intersection over union of each label, then the mean"),
}
NEED_WEIGHTS = ("kid", "fid")  # these have a column even where no run could compute them

# KID x100 as U-GAT-IT's authors report it (arXiv:1907.10830): 256x256 images, 1,000,000 iterations. Each cell A to B, B to A.
# Table 3, means and standard deviations:
TABLE_3: Dict[str, Dict[str, Tuple[str, str]]] = {
    "U-GAT-IT": {
        "selfie2anime": ("11.61 ± 0.57", "11.52 ± 0.57"),
        "horse2zebra": ("7.06 ± 0.80", "7.47 ± 0.71"),
        "cat2dog": ("7.07 ± 0.65", "8.15 ± 0.66"),
        "photo2portrait": ("1.79 ± 0.34", "1.69 ± 0.53"),
        "photo2vangogh": ("4.28 ± 0.33", "5.61 ± 0.32"),
    },
    "CycleGAN": {
        "selfie2anime": ("13.08 ± 0.49", "11.84 ± 0.74"),
        "horse2zebra": ("8.05 ± 0.72", "8.00 ± 0.66"),
        "cat2dog": ("8.92 ± 0.69", "9.94 ± 0.36"),
        "photo2portrait": ("1.84 ± 0.34", "1.82 ± 0.36"),
        "photo2vangogh": ("5.46 ± 0.33", "4.68 ± 0.36"),
    },
}
# Table 1, ablations on selfie2anime:
SELFIES = "selfie2anime"
TABLE_1: Dict[str, Tuple[str, str]] = {
    "U-GAT-IT": ("11.61", "11.52"),
    "U-GAT-IT, decoder IN": ("13.64", "13.58"),
    "U-GAT-IT, decoder LN": ("12.39", "13.17"),
    "U-GAT-IT, decoder AdaIN": ("12.29", "11.81"),
    "U-GAT-IT, decoder GN": ("12.76", "12.30"),
    "U-GAT-IT without CAM": ("12.85", "14.06"),
    "U-GAT-IT without generator CAM": ("12.33", "13.86"),
    "U-GAT-IT without discriminator CAM": ("12.49", "13.33"),
}
DIRECTIONS = ("A2B", "B2A")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """The lines of a Markdown table, its first column to the left and the others to the right."""
    rule = [":--", *["--:"] * (len(headings) - 1)]
    return [f"| {' | '.join(row)} |" for row in (headings, rule, *rows)] + [""]


def safe(text: str) -> str:
    """Text out of a file on one line, without Markdown or HTML of its own, and of absolute paths only the last name."""
    text = re.sub(r"(?<![\w.:/~])/(?:[^\s/,;:]+/)+([^\s/,;:]*)", r"\1", " ".join(text.split()))
    return re.sub(r"([|*\[\]`])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


class Footnotes:
    """Numbered texts below a table; equal texts share a number."""

    def __init__(self) -> None:
        self.texts: List[str] = []

    def mark(self, text: str) -> str:
        """The number to put behind a cell."""
        if text not in self.texts:
            self.texts.append(text)
        return f" <sup>{self.texts.index(text) + 1}</sup>"

    def lines(self) -> List[str]:
        numbered = [f"<sup>{number}</sup> {safe(text)}<br>" for number, text in enumerate(self.texts, 1)]
        return [*numbered, ""] if numbered else []


# Scores of runs


class Column(NamedTuple):
    """One metric in one direction."""

    direction: str
    metric: str

    @property
    def title(self) -> str:
        return f"{self.direction} {METRICS[self.metric].title}"

    @property
    def logged(self) -> str:
        """Its name in metrics.jsonl."""
        return f"{self.direction}/{self.metric}"


def scores_table(group: Group) -> List[str]:
    """Runs against metrics, with the untouched input last; its footnotes; and the machine."""
    notes = Footnotes()
    columns = columns_of(group)
    machines = [machine(run) for run in group.runs]
    headings = ["", *[column.title for column in columns], "iterations", "minutes", "size"]
    best = {column: _best(group, column) for column in columns}
    rows = []
    for run, made_on in zip(group.runs, machines):
        cells = [score(run, column, notes, best[column]) for column in columns]
        about = [f"{run.iteration:,}", _minutes(run, notes), f"{group.size}x{group.size}"]
        rows.append([safe(run.label) + _remarks(run, columns, notes), *cells, *about])
        if len(set(machines)) > 1:
            rows[-1].append(safe(made_on))
    if columns:
        cells = [_untouched_cell(group, column, notes) for column in columns]
        rows.append(["*untouched input*", *cells, *[""] * (len(rows[0]) - 1 - len(cells))])
    if len(set(machines)) > 1:
        return [*table([*headings, "machine"], rows), *notes.lines()]
    return [*table(headings, rows), *notes.lines(), f"Machine: {safe(machines[0])}.", ""]


def columns_of(group: Group) -> List[Column]:
    """Metrics that some run has, and those that need weights where a run says why it lacks them."""
    found = []
    for column in [Column(direction, metric) for direction in group.directions for metric in METRICS]:
        evaluations = [run.evaluation for run in group.runs if run.evaluation and column.direction in run.evaluation.translated]
        has_values = any(column.metric in e.translated[column.direction] and column.metric not in e.reasons for e in evaluations)
        has_reasons = any(column.metric in e.reasons for e in evaluations)
        if has_values or (has_reasons and column.metric in NEED_WEIGHTS):
            found.append(column)
    return found


def score(run: Run, column: Column, notes: Footnotes, best: Optional[str] = None) -> str:
    """The cell of a run in a column, bold where its text is `best`."""
    evaluation, (direction, metric) = run.evaluation, column
    if evaluation is None or direction not in evaluation.translated:
        return NOTHING
    scores = evaluation.translated[direction]
    if metric in evaluation.reasons or metric not in scores:
        return "not computed" + notes.mark(f"not computed: {evaluation.reasons.get(metric, 'its evaluation left it out')}")
    text = _text(run, column)
    if text is None:
        return "not finite"
    deviation = scores.get("kid_std") if metric == "kid" else None
    shown = text if deviation is None else f"{text} ± {METRICS[metric].text(deviation)}"
    return f"**{shown}**" if text == best else shown


def _text(run: Run, column: Column) -> Optional[str]:
    """A score as it is shown, or None where there is no finite one."""
    evaluation = run.evaluation
    if evaluation is None or column.metric in evaluation.reasons:
        return None
    value = evaluation.translated.get(column.direction, {}).get(column.metric)
    return None if value is None else METRICS[column.metric].text(value)


def _best(group: Group, column: Column) -> Optional[str]:
    """The best score as it is shown, so that what looks equal ties; None with fewer than two, or where they cannot be compared."""
    texts = [text for text in (_text(run, column) for run in group.runs) if text is not None]
    if len(texts) < 2 or disagreement(group, column):
        return None
    return (max if METRICS[column.metric].more_is_better else min)(texts, key=float)


def untouched(group: Group, column: Column) -> Dict[str, float]:
    """The score of the untouched input as each run has it, by label."""
    evaluations = {
        run.label: run.evaluation for run in group.runs if run.evaluation and column.metric not in run.evaluation.reasons
    }
    values = {label: e.untouched.get(column.direction, {}).get(column.metric) for label, e in evaluations.items()}
    return {label: value for label, value in values.items() if value is not None}


def disagreement(group: Group, column: Column) -> Optional[str]:
    """How runs disagree about the untouched input, which is the same where their test images are; None where they agree."""
    values = untouched(group, column)
    first = next(iter(values.values()), 0.0)
    if all(math.isclose(value, first, rel_tol=1e-4, abs_tol=1e-6) for value in values.values()):
        return None
    by_text: Dict[str, List[str]] = {}
    for label, value in values.items():
        by_text.setdefault(f"{value * METRICS[column.metric].factor:.6g}", []).append(label)
    listed = "; ".join(f"{text}: {', '.join(labels)}" for text, labels in by_text.items())
    return f"{column.title} of the untouched input differs, so these runs were not scored on the same images ({listed})"


def _untouched_cell(group: Group, column: Column, notes: Footnotes) -> str:
    differ = disagreement(group, column)
    if differ:
        return "differs" + notes.mark(differ)
    values = list(untouched(group, column).values())
    return METRICS[column.metric].text(values[0]) if values else NOTHING


def _remarks(run: Run, columns: Sequence[Column], notes: Footnotes) -> str:
    """What an evaluation notes, and why it lacks metrics that have no column."""
    if run.evaluation is None:
        return notes.mark("not evaluated; see below")
    shown = {column.metric for column in columns}
    reasons: Dict[str, List[str]] = {}
    for name, reason in run.evaluation.reasons.items():
        if name not in shown:
            reasons.setdefault(reason, []).append(METRICS[name].heading if name in METRICS else name)
    texts = [f"{', '.join(names)} not computed: {reason}" for reason, names in reasons.items()] + run.evaluation.notes
    if any(_text(run, column) for column in columns if column.metric == "kid"):
        texts.append(f"KID: mean ± standard deviation over {run.evaluation.kid}")
    return "".join(notes.mark(text) for text in texts)


def machine(run: Run) -> str:
    """What a run was trained on, with Paddle's version."""
    paddle = run.meta.get("paddle")
    return f"{run.meta.get('machine', 'not recorded')}{f', Paddle {paddle}' if paddle else ''}"


def _minutes(run: Run, notes: Footnotes) -> str:
    seconds, iteration = finite(run.meta.get("seconds")), run.meta.get("iteration")
    if not seconds:
        return NOTHING
    other = notes.mark(f"minutes of {iteration} iterations") if iteration != run.iteration else ""
    return f"{seconds / 60:.1f}{other}"


# The papers' figures


def beside_the_paper(group: Group) -> List[str]:
    """On selfie2anime, our KID beside the paper's."""
    known = [run for run in group.runs if run.variant in {**TABLE_1, **TABLE_3}] if group.dataset == SELFIES else []
    if not known:
        return []
    notes, rows = Footnotes(), []
    for run in known:
        printed = TABLE_3.get(run.variant, {}).get(SELFIES) or TABLE_1[run.variant]
        cells = [(score(run, Column(direction, "kid"), notes), figure) for direction, figure in zip(DIRECTIONS, printed)]
        rows.append([safe(run.label), *[cell for pair in cells for cell in pair]])
    headings = ["KID x100", *[f"{direction} {whose}" for direction in DIRECTIONS for whose in ("here", "in the paper")]]
    return [*table(headings, rows), *notes.lines()]


def papers(groups: Sequence[Group]) -> List[str]:
    """The papers' tables, as far as their methods and ablations are among the runs."""
    variants = {run.variant for group in groups for run in group.runs}
    methods = {name: row for name, row in TABLE_3.items() if name in variants}
    ablated = {name: row for name, row in TABLE_1.items() if name in variants}
    if not methods and not ablated:
        return []
    lines = [
        "## The paper's figures, for orientation",
        "",
        "KID x100 ↓ as U-GAT-IT's authors print it (arXiv:1907.10830), at 256x256 after 1,000,000 iterations, on other data than "
        "most runs above: they show what differences to expect, and are not comparable number by number.",
        "",
    ]
    if methods:
        sets = list(next(iter(methods.values())))
        rows = [
            [f"{name}, {direction}", *[row[dataset][index] for dataset in sets]]
            for index, direction in enumerate(DIRECTIONS)
            for name, row in methods.items()
        ]
        lines += ["Table 3, mean ± standard deviation:", "", *table(["", *sets], rows)]
    if set(ablated) - {"U-GAT-IT"}:
        rows = [[name, *row] for name, row in ablated.items()]
        lines += [f"Table 1, ablations on {SELFIES}:", "", *table(["", *DIRECTIONS], rows)]
    return lines
