"""The pictures of the report: curves of losses and scores, and the same test images through every run."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image  # matplotlib stands on it; OpenCV writes no palettes, which make a picture three times smaller

from errors import DataError
from tools.report_runs import Group, Run
from tools.report_tables import METRICS, Column
from utils import labelled_grid, read_image, resize

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow, which is too faint for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "os^Dv<>P"
LINES = ("-", ":", "-.")  # the dashed one is the untouched input's
DPI = 96
COLUMNS, GAP = 8, 4  # of the contact sheets
SIDES = (96, 80, 64, 56, 48, 40, 32, 24)
MOST_BYTES = 700_000
SAME_PICTURE = 2.0  # levels of 255, on average: two readings of one file may round differently


# Curves


def loss_curves(run: Run) -> Optional[bytes]:
    """The loss terms of a run over its iterations, as PNG, terms of one kind in one panel; None where none is logged."""
    panels: Dict[str, List[str]] = {}
    names = dict.fromkeys(name for line in run.losses for name in line)
    for name in [name for name in names if name not in ("iteration", "lr", "images_per_second")]:
        panels.setdefault(re.sub(r"_[GL]?[AB]$", "", name), []).append(name)
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.0 * columns, 1.9 * rows + 0.3)
    for index, (title, terms) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, index)
        for number, term in enumerate(terms):
            iterations, values = _points(run.losses, term)
            marker = "." if len(values) < 40 else None
            axes.plot(iterations, values, color=COLOURS[number % len(COLOURS)], marker=marker, label=term[len(title) + 1 :] or None)
        axes.set_title(title, loc="left")
        _finish(axes, index > len(panels) - columns)
        if len(terms) > 1:  # beside the title, where no line runs
            place = dict(loc="lower right", bbox_to_anchor=(1.02, 0.98), borderpad=0)
            axes.legend(ncol=len(terms), frameon=False, handlelength=1.0, columnspacing=0.8, handletextpad=0.4, **place)
    return _png(figure)


def score_curves(group: Group, metrics: Sequence[str], untouched: Mapping[Column, Optional[float]]) -> Optional[bytes]:
    """The scores of all runs over their iterations, as PNG, or None where no run has logged two of one score.

    Args:
        metrics: a row of panels each.
        untouched: the score of the untouched input, where there is one.
    """
    logged = [Column(direction, metric) for metric in metrics for direction in group.directions]
    if not any(len(_points(run.scores, column.logged)[0]) > 1 for column in logged for run in group.runs):
        return None
    rows, columns = len(metrics), len(group.directions)
    legend_rows = -(-(len(group.runs) + 1) // 2)
    figure = _figure(4.5 * columns, 3.0 * rows + 0.22 * legend_rows)
    lines = {}
    for index, column in enumerate(logged, 1):
        factor = METRICS[column.metric].factor
        axes = figure.add_subplot(rows, columns, index)
        for number, run in enumerate(group.runs):
            iterations, values = _points(run.scores, column.logged, factor)
            if values:
                turn, colour = divmod(number, len(COLOURS))
                style = dict(color=COLOURS[colour], linestyle=LINES[turn % len(LINES)], marker=MARKERS[number % len(MARKERS)])
                lines[_text(run.label)] = axes.plot(iterations, values, markersize=4, **style)[0]
        if untouched.get(column) is not None:
            lines["untouched input"] = axes.axhline(untouched[column] * factor, color="#666666", linestyle="--")
        axes.set_title(column.title)
        _finish(axes, index > len(logged) - columns)
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncol=2, frameon=False)
    return _png(figure)


def _points(lines: Sequence[Mapping[str, float]], name: str, factor: float = 1.0) -> Tuple[List[float], List[float]]:
    """Iterations and values; of several values at one iteration the last."""
    found = sorted({line["iteration"]: line[name] * factor for line in lines if name in line}.items())
    return [iteration for iteration, _ in found], [value for _, value in found]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _finish(axes, is_last_row: bool) -> None:
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if is_last_row:
        axes.set_xlabel("iterations")


def _text(label: str) -> str:
    """Not read as a formula."""
    return label.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # its font has no Chinese: the page's text names such runs
        canvas.draw()
    return _palette_png(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3]))


def plain_style():
    """A context in which the user's own matplotlib settings do not show."""
    style = {**matplotlib.rcParamsDefault, "font.size": 8, "axes.titlesize": 9, "lines.linewidth": 1.3}
    style.pop("backend", None)
    return matplotlib.rc_context(style)


# Comparison


# The first line of a contact sheet: of each test image input, translation and perhaps truth, (size, size, 3) uint8 RGB.
Contact = List[List[np.ndarray]]


def read_contact(file: Path, size: int) -> Contact:
    """The first test images of a run.

    Raises:
        DataError: the file cannot be read, or is no contact sheet of images of this size.
    """
    sheet = read_image(file)
    height = next((parts * size for parts in (2, 3) if _is_line(sheet, parts * size)), 0)
    columns, rest = divmod(sheet.shape[1] + GAP, size + GAP)
    if not height or rest or not columns:
        raise DataError(f"{file}: not a contact sheet of {size}x{size} images; run --phase test again")
    lefts = [number * (size + GAP) for number in range(min(columns, COLUMNS))]
    return [[sheet[top : top + size, left : left + size] for top in range(0, height, size)] for left in lefts]


def _is_line(sheet: np.ndarray, height: int) -> bool:
    """Whether the sheet can be lines of this height with a white gap below each."""
    if sheet.shape[0] == height:
        return True
    return (sheet.shape[0] + GAP) % (height + GAP) == 0 and bool((sheet[height : height + GAP] == 255).all())


def comparison(group: Group, direction: str) -> Tuple[Optional[bytes], List[str]]:
    """The same test images through all runs, one below the other: input, a row for each run, truth. PNG below 700 kB.

    Returns:
        The picture, or None where no run has translated its test images in this direction; and what was passed over.
    """
    contacts: Dict[str, Contact] = {}
    problems = []
    for run in group.runs:
        file = run.folder / "test" / f"contact_{direction}.png"
        if not file.exists():
            continue
        try:
            contact = read_contact(file, group.size)
        except DataError:
            problems.append(f"{run.path}: test/{file.name} is damaged or of another size; run --phase test again")
            continue
        if contacts and not _same_inputs(contact, next(iter(contacts.values()))):
            problems.append(f"{run.path}: test/{file.name} shows other test images than the first run's")
            continue
        contacts[run.label] = contact
    return (_draw(contacts) if contacts else None), problems


def _same_inputs(one: Contact, other: Contact) -> bool:
    inputs = [np.array([stack[0] for stack in contact], np.float32) for contact in (one, other)]
    return inputs[0].shape == inputs[1].shape and float(np.abs(inputs[0] - inputs[1]).mean()) <= SAME_PICTURE


def _draw(contacts: Mapping[str, Contact]) -> bytes:
    first = next(iter(contacts.values()))
    truth = next((contact for contact in contacts.values() if len(contact[0]) == 3), None)
    rows = [("input", first, 0), *((label, contact, 1) for label, contact in contacts.items())]
    if truth is not None:
        rows.append(("truth", truth, 2))
    own = first[0][0].shape[0]
    for side in [side for side in SIDES if side <= own] or [own]:
        columns = [
            np.concatenate([resize(contact[index][part], side, side) for _, contact, part in rows]) for index in range(len(first))
        ]
        content = _full_colour_png(labelled_grid(columns, [label for label, _, _ in rows]))
        if len(content) <= MOST_BYTES:
            break
    return content


def _full_colour_png(image: np.ndarray) -> bytes:
    """In all its colours: a palette's bands would look like the networks' faults."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _palette_png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).quantize(256).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
