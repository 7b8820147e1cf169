"""The dataset doctor: read every image of a data set, and say what a training would do with it.

python -m datatools.doctor --dataset selfie2anime
python -m datatools.doctor --dataset facades --method pix2pix --json

Takes main.py's flags for the data (--data_root, --img_size, --img_ch, --load_size, --batch_size, --sample_count, --num_workers,
--result_dir). With --method that method decides; without it any will do. Exit code 0: trainable; 1: not; 2: a wrong command. A
contact sheet of each folder, squares as the networks are given them, goes to RESULT_DIR/DATASET/check/FOLDER.png.

--json prints one object:

dataset     the folder of the data set
trainable   true or false, as the exit code
methods     {"ugatit": true, ...}, the methods judged
disk_bytes  of all files below the folder
folders     {"trainA": {"images", "unreadable", "bytes": numbers, "sizes", "modes", "formats": {"256x256": 500, ...}}, ...}
findings    [{"kind", "severity": "error", "warning" or "note", "message", "consequence", "stops": methods whose training it would
            stop, "files": paths, "cases": [{"files", "detail"}, ...]}, ...], the worst first
sheets      paths of the contact sheets
seconds     that it took

What it cannot see: bytes changed inside a JPEG that still decode, with wrong colours from there on (libjpeg notices one changed
byte in three, and most longer stretches); near copies that are cropped, moved or turned by more than about 3 parts in 100; whether
a picture belongs to its domain.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from command_line import exit_code_of, parse_arguments
from config import CONFIGS, Config
from dataset import MOST_LISTED, find_images, open_data_set, read_ahead
from datatools.doctor_checks.checks import ERROR, FOLDERS, WARNING, Case, Finding, Survey, counted, diagnose
from datatools.doctor_checks.images import IMAGE_FORMATS, JOINED, Image, decoders_output, examine, is_corrupt_jpeg, sniff
from utils import contact_sheet, labelled_grid, read_image, resize, write_image

SHEET_COUNT, SHEET_SIDE = 16, 128
SHARED = ("dataset", "data_root", "result_dir", "img_size", "img_ch", "load_size", "batch_size", "sample_count", "num_workers")


class Report(NamedTuple):
    """What the doctor says of a data set."""

    survey: Survey
    findings: List[Finding]
    trainable: List[str]
    sheets: List[Path]
    seconds: float


def check(config: Config, as_json: bool = False, any_method: bool = False) -> int:
    """Print the report of the data set that `config` names and write its contact sheets.

    Args:
        config: whose method decides, and where the data set is.
        as_json: print JSON instead of text.
        any_method: judge by every method that the folders suit, and be content with one.

    Returns:
        0 where the set can be trained on, else 1.

    Raises:
        DataError: there is no folder of the data set.
    """
    started = time.perf_counter()
    survey = read_data_set(config, any_method)
    findings, trainable = diagnose(survey)
    with decoders_output():
        sheets = write_sheets(survey, Path(config.result_dir) / config.dataset / "check")
    report = Report(survey, findings, trainable, sheets, time.perf_counter() - started)
    text = json.dumps(as_dict(report), indent=2) if as_json else as_text(report)
    print(text.encode("utf-8", "replace").decode("utf-8"))  # a file's name need not be valid text
    return 0 if trainable else 1


# Reading


def read_data_set(config: Config, any_method: bool = False) -> Survey:
    """Read every image of the data set, `config.num_workers` at a time. Raises DataError where there is no such folder."""
    root = open_data_set(config)
    files = {folder: tuple(find_images(root / folder)) for folder in FOLDERS if (root / folder).is_dir()}
    survey = Survey(root, {config.method: config}, files, (), tuple(passed_over(root, files)))
    if any_method:
        survey = dataclasses.replace(survey, configs=suitable_methods(survey, config))
    names = [(folder, name) for folder in files for name in files[folder]]
    return dataclasses.replace(survey, images=tuple(read_images(root, names, config.num_workers)))


def suitable_methods(survey: Survey, config: Config) -> Dict[str, Config]:
    """Configurations of the methods whose training folders are there; of all where none are."""
    shared = {name: getattr(config, name) for name in SHARED}
    configs = {method: dataclasses.replace(config_class(), **shared) for method, config_class in CONFIGS.items()}
    suited = {m: c for m, c in configs.items() if all(folder in survey.files for folder in survey.training_folders(c))}
    return suited or configs


def read_images(root: Path, names: Sequence[Tuple[str, str]], num_workers: int) -> List[Image]:
    """Examine each (folder, name), in order."""
    with os.fdopen(os.dup(2), "w") as terminal, decoders_output() as printed:
        ahead = read_ahead(lambda index: examine(root, *names[index]), 0, len(names) - 1, num_workers)
        images = list(tqdm(ahead, "reading", len(names), unit="image", disable=None, leave=False, file=terminal))
        complaints = "Corrupt JPEG data" in printed()
    if not complaints:
        return images
    # Somewhere among them; only one at a time can it be told which.
    return [
        dataclasses.replace(image, damaged=image.format == "JPEG" and not image.trouble and is_corrupt_jpeg(root / image.path))
        for image in tqdm(images, "looking for corrupt JPEGs", unit="image", disable=None, leave=False)
    ]


def passed_over(root: Path, files: Dict[str, Tuple[str, ...]]) -> List[Tuple[str, str]]:
    """Paths of what no phase reads, relative to `root`, sorted, and why."""
    read = {f"{folder}/{name}" for folder in files for name in files[folder]}
    strange = [path.name for path in root.iterdir() if path.is_dir() and path.name not in FOLDERS and path.name[0] != "."]
    found = [(f"{name}/", "no folder of a data set") for name in strange]
    for path in (path for folder in files for path in (root / folder).rglob("*") if path.is_file()):
        relative = path.relative_to(root)
        if relative.as_posix() in read:
            continue
        hidden = any(part.startswith((".", "__MACOSX")) for part in relative.parts)
        with path.open("rb") as file:
            kind = sniff(file.read(200))
        other = f"holds {kind}, but the extension is not one that is read" if kind in IMAGE_FORMATS else "no image"
        found.append((relative.as_posix(), "hidden" if hidden else other))
    return sorted(found)


# Sheets


def write_sheets(survey: Survey, folder: Path) -> List[Path]:
    """A sheet of 16 images, evenly spread, of each folder that has some."""
    sheets = []
    for part in survey.files:
        images = [image for image in survey.readable if image.folder == part and (part not in JOINED or image.is_pair)]
        if not images:
            continue
        places = np.linspace(0, len(images) - 1, min(SHEET_COUNT, len(images))).round().astype(int)
        sheet = contact_sheet(_pairs(survey.root, [images[place] for place in places]))
        write_image(folder / f"{part}.png", labelled_grid([sheet], [part]))
        sheets.append(folder / f"{part}.png")
    return sheets


def _pairs(root: Path, images: Sequence[Image]) -> List[Tuple[np.ndarray, np.ndarray]]:
    """A above B where a file holds both; else the first half of the images above the second."""
    pictures = [read_image(root / image.path) for image in images]
    if images[0].folder in JOINED:
        halves = [(both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]) for both in pictures]
        return [(_square(above), _square(below)) for above, below in halves]
    squares = [_square(picture) for picture in pictures]
    columns = -(-len(squares) // 2)
    squares += [np.full((SHEET_SIDE, SHEET_SIDE, 3), 255, np.uint8)] * (2 * columns - len(squares))
    return list(zip(squares[:columns], squares[columns:]))


def _square(picture: np.ndarray) -> np.ndarray:
    return resize(np.ascontiguousarray(picture), SHEET_SIDE, SHEET_SIDE)


# The report


def summarize(survey: Survey) -> Dict[str, Dict[str, Any]]:
    """Counts of each folder."""
    summary = {}
    for folder in survey.files:
        images = [image for image in survey.images if image.folder == folder]
        readable = [image for image in images if not image.trouble]
        summary[folder] = {
            "images": len(images),
            "unreadable": len(images) - len(readable),
            "bytes": sum(image.size for image in images),
            "sizes": _counts([f"{image.width}x{image.height}" for image in readable]),
            "modes": _counts([image.mode + (" 16 bit" if image.white > 255 else "") for image in readable]),
            "formats": _counts([image.format for image in images]),
        }
    return summary


def _counts(values: Sequence[str]) -> Dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def disk_bytes(root: Path) -> int:
    """Size of all files below `root`."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def as_dict(report: Report) -> Dict[str, Any]:
    """The report as --json prints it."""
    survey = report.survey
    return {
        "dataset": str(survey.root),
        "trainable": bool(report.trainable),
        "methods": {method: method in report.trainable for method in survey.configs},
        "disk_bytes": disk_bytes(survey.root),
        "folders": summarize(survey),
        "findings": [_finding_as_dict(finding) for finding in report.findings],
        "sheets": [str(path) for path in report.sheets],
        "seconds": round(report.seconds, 1),
    }


def _finding_as_dict(finding: Finding) -> Dict[str, Any]:
    files = [file for case in finding.cases for file in case.files]
    return {**finding._asdict(), "files": list(dict.fromkeys(files)), "cases": [case._asdict() for case in finding.cases]}


def as_text(report: Report) -> str:
    """The report for people: what is there, what was found, the sheets, and the verdict."""
    survey = report.survey
    count, size = counted(len(survey.images), "image"), disk_bytes(survey.root) / 1e6
    lines = [f"{survey.root}: {count}, {size:.1f} MB on disk, checked in {report.seconds:.1f} s", ""]
    rows = [("folder", "images", "unreadable", "MB", "sizes", "modes", "formats")]
    for folder, row in summarize(survey).items():
        figures = (str(row["images"]), str(row["unreadable"]), f"{row['bytes'] / 1e6:.1f}")
        rows.append((folder, *figures, *(_shortened(row[name]) for name in ("sizes", "modes", "formats"))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if 1 <= column <= 3 else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.append("")
    for finding in report.findings:
        lines += _finding_as_text(finding, survey)
    lines += ["" if report.findings else "nothing to report\n"]
    if report.sheets:
        lines.append(f"contact sheets: {report.sheets[0].parent}/{{{','.join(path.stem for path in report.sheets)}}}.png")
    lines.append(verdict(report))
    return "\n".join(lines)


def _shortened(counts: Dict[str, int]) -> str:
    """The most frequent values, with their counts where there is more than one."""
    if len(counts) == 1:
        return next(iter(counts))
    shown = [f"{count} {value}" for value, count in list(counts.items())[:3]]
    return ", ".join(shown) + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")


def _finding_as_text(finding: Finding, survey: Survey) -> List[str]:
    of = f" of {', '.join(finding.stops)}" if finding.stops and set(finding.stops) != set(survey.configs) else ""
    consequence = finding.consequence.replace("the training", f"the training{of}", 1) if of else finding.consequence
    names = [_case_as_text(case) for case in finding.cases[:MOST_LISTED]]
    if len(finding.cases) > MOST_LISTED:
        names.append(f"and {len(finding.cases) - MOST_LISTED} more")
    listed = textwrap.wrap(", ".join(names), 116, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return [f"{finding.severity}: {finding.message}: {consequence}", *listed]


def _case_as_text(case: Case) -> str:
    names = " = ".join(case.files[:MOST_LISTED]) + (" = ..." if len(case.files) > MOST_LISTED else "")
    return f"{names} ({case.detail})" if case.detail else names


def verdict(report: Report) -> str:
    """The last line: by which methods the set can be trained on, and the command that does it."""
    others = [method for method in report.survey.configs if method not in report.trainable]
    severities = Counter(finding.severity for finding in report.findings)
    if not report.trainable:
        return f"not trainable by {', '.join(others)}: mend the {counted(severities[ERROR], 'error')} above"
    config = report.survey.configs[report.trainable[0]]
    where = "" if config.data_root == Config.data_root else f" --data_root {shlex.quote(config.data_root)}"
    command = f"python main.py --method {config.method} --dataset {shlex.quote(config.dataset)}{where}"
    exceptions = f" (not by {', '.join(others)})" if others else ""
    warned = f", with {counted(severities[WARNING], 'warning')}" if severities[WARNING] else ""
    return f"trainable by {', '.join(report.trainable)}{exceptions}{warned}: {command}"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m datatools.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--method", help="whose training the set is for (default: any)")
    options, rest = parser.parse_known_args(arguments)

    def work() -> int:
        config, _ = parse_arguments([*rest, *(["--method", options.method] if options.method else [])])
        # Without a method only what all share is checked: the sizes that U-GAT-IT's depth needs may not be what is wanted.
        config.check_networks() if options.method else Config.check_networks(config)
        return check(config, options.json, any_method=options.method is None)

    return exit_code_of(work, see="--result_dir and --data_root")


if __name__ == "__main__":
    sys.exit(main())
