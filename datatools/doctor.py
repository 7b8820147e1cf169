"""The dataset doctor: read every image of a data set, and say what a training would do with it.

python -m datatools.doctor --dataset selfie2anime
python -m datatools.doctor --dataset facades --method pix2pix --json

Takes main.py's flags for the data (--data_root, --img_size, --img_ch, --load_size, --batch_size, --sample_count, --num_workers,
--result_dir). With --method that method decides; without it any will do. Exit code 0: trainable; 1: not; 2: a wrong command. A
contact sheet of each folder, squares as the networks are given them, goes to RESULT_DIR/DATASET/check/FOLDER.png.

--quick reads at most 1000 images of each folder and lists the others. --json prints one object, with the findings from the worst
on, and modes and formats by Pillow's names:

{"dataset": folder, "trainable": as the exit code, "methods": {"ugatit": whether it can be trained, ...}, "disk_bytes": of all files
 in the folders, "folders": {"trainA": {"images": 500, "read": 500, "unreadable": 0, "bytes": 9400000 (of those read), "sizes":
 {"256x256": 500}, "modes": {...}, "formats": {...}}, ...}, "findings": [{"kind", "severity": "error", "warning" or "note",
 "message", "consequence", "stops": methods whose training it would stop, "cases": [{"files", "detail"}, ...], "files": those of
 all cases}, ...], "sheets": paths, "seconds"}
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from command_line import exit_code_of, parse_arguments
from config import CONFIGS, MOST_READ_QUICKLY, Config
from dataset import MOST_LISTED, find_images, is_hidden, open_data_set, read_ahead, train_proportions, walk
from datatools.checks import ERROR, FOLDERS, JOINED, WARNING, Survey, counted, diagnose, examine, training_folders
from engine.progress import track
from utils import contact_sheet, labelled_grid, read_header, read_image, resize, write_image

SHEET_COUNT, SHEET_SIDE = 16, 128
UNKNOWN_TO_PILLOW = (".heic", ".heif", ".avif")
SHARED = ("dataset", "data_root", "result_dir", "img_size", "img_ch", "load_size", "batch_size", "sample_count", "num_workers")


def check(config: Config, as_json: bool = False, any_method: bool = False) -> int:
    """Print the report of the data set and write its contact sheets. Returns 0 where it can be trained on, else 1.

    Args:
        any_method: judge by all methods that the folders suit, of which one is enough; else by that of `config`.

    Raises:
        DataError: there is no folder of the data set, or a folder in it cannot be read.
    """
    started = time.monotonic()
    survey = read_data_set(config, any_method)
    findings, trainable = diagnose(survey)
    report = {
        "dataset": str(survey.root),
        "trainable": bool(trainable),
        "methods": {method: method in trainable for method in survey.configs},
        "disk_bytes": sum(
            os.path.getsize(path) for folder in survey.files for path in walk(survey.root / folder) if os.path.isfile(path)
        ),
        "folders": {folder: summarize(survey, folder) for folder in survey.files},
        "findings": [{**f._asdict(), "files": [file for case in f.cases for file in case["files"]]} for f in findings],
        "sheets": [str(path) for path in write_sheets(survey, Path(config.result_dir) / config.dataset / "check")],
        "seconds": round(time.monotonic() - started, 1),
    }
    text = json.dumps(report, indent=2) if as_json else as_text(report, config)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # names may hold what the terminal cannot show
    return 0 if trainable else 1


# Reading


def read_data_set(config: Config, any_method: bool = False) -> Survey:
    """Read the images of the data set, with --quick some of them, `config.num_workers` at a time.

    Raises:
        DataError: a folder cannot be read.
    """
    root = open_data_set(config)
    files = {folder: find_images(root / folder) for folder in FOLDERS if (root / folder).is_dir()}
    configs = {config.method: config}
    if any_method:
        shared = {name: getattr(config, name) for name in SHARED}
        every = {method: config_class(**shared) for method, config_class in CONFIGS.items()}
        configs = {m: c for m, c in every.items() if files.keys() >= set(training_folders(c, files))} or every
    names = [(folder, name) for folder in files for name in (evenly_spread(files[folder]) if config.quick else files[folder])]
    proportions = train_proportions(root)
    ahead = read_ahead(lambda i: examine(root, *names[i], config, proportions), 0, len(names) - 1, config.num_workers)
    return Survey(root, configs, files, list(track(ahead, "reading", len(names))), passed_over(root, files))


def evenly_spread(names: Sequence[str]) -> List[str]:
    """Up to MOST_READ_QUICKLY of them."""
    places = np.linspace(0, len(names) - 1, min(MOST_READ_QUICKLY, len(names))).round().astype(int)
    return [names[place] for place in places]


def passed_over(root: Path, files: Dict[str, Sequence[str]]) -> List[Tuple[str, str]]:
    """Paths of what no phase reads, relative to `root`, sorted, and the kind of finding."""
    read = {os.path.join(root, folder, name) for folder in files for name in files[folder]}
    beside = [path for path in root.iterdir() if path.name not in files and not path.is_file() and not is_hidden(path.name)]
    inside = [Path(path) for folder in files for path in walk(root / folder) if path not in read]
    return sorted((path.relative_to(root).as_posix(), why_passed_over(path, root)) for path in beside + inside)


def why_passed_over(path: Path, root: Path) -> str:
    """The kind of finding. Opens only regular files: opening a pipe would wait for a writer."""
    if is_hidden(path.name):
        return "hidden"
    if path.is_dir():
        return "other-folder" if path.parent == root else "repeated-link"
    if not path.is_file():
        return "broken-link" if path.is_symlink() else "special-file"
    is_image = path.suffix.lower() in UNKNOWN_TO_PILLOW or read_header(path) is not None
    return "other-extension" if is_image else "no-image"


# The report


def write_sheets(survey: Survey, folder: Path) -> List[Path]:
    """A sheet of 16 images, evenly spread, of each folder that has some; A above B where files hold both."""
    sheets = []
    for part in survey.files:
        images = [image for image in survey.images if image.folder == part and image.size and "not-a-pair" not in image.remarks]
        places = np.linspace(0, len(images) - 1, min(SHEET_COUNT, len(images))).round().astype(int)
        pictures = [read_image(survey.root / images[place].path) for place in places]
        stacks = [np.split(picture, 2, axis=1) if part in JOINED else [picture] for picture in pictures]
        tiles = [[resize(np.ascontiguousarray(image), SHEET_SIDE, SHEET_SIDE) for image in stack] for stack in stacks]
        if tiles:
            sheets.append(folder / f"{part}.png")
            write_image(sheets[-1], labelled_grid([contact_sheet(tiles)], [part]))
    return sheets


def summarize(survey: Survey, folder: str) -> Dict[str, Any]:
    """Counts of one folder."""
    images = [image for image in survey.images if image.folder == folder]
    readable = [image for image in images if image.size]
    return {
        "images": len(survey.files[folder]),
        "read": len(images),
        "unreadable": len(images) - len(readable),
        "bytes": sum((survey.root / image.path).stat().st_size for image in images),
        "sizes": dict(Counter(image.size for image in readable).most_common()),
        "modes": dict(Counter(image.header.mode for image in readable).most_common()),
        "formats": dict(Counter(image.header.format for image in images).most_common()),
    }


def as_text(report: Dict[str, Any], config: Config) -> str:
    """The report for people: what is there, what was found, the sheets, and the verdict."""
    images = counted(sum(folder["images"] for folder in report["folders"].values()), "image")
    lines = [f"{report['dataset']}: {images}, {report['disk_bytes'] / 1e6:.1f} MB on disk, checked in {report['seconds']} s", ""]
    for name, folder in report["folders"].items():
        kinds = "; ".join(shortened(folder[counts]) for counts in ("sizes", "modes", "formats") if folder[counts])
        unreadable = f", {folder['unreadable']} unreadable" if folder["unreadable"] else ""
        some = f", {folder['read']} of them read" if folder["read"] < folder["images"] else ""
        lines.append(f"{name:8}{counted(folder['images'], 'image')}{some}{unreadable}: {kinds}")
    lines.append("")
    for finding in report["findings"]:
        stops = finding["stops"] if len(finding["stops"]) < len(report["methods"]) else []
        of = f" (of {', '.join(stops)})" if stops else ""
        cases = [" = ".join(case["files"]) + (f" ({case['detail']})" if case["detail"] else "") for case in finding["cases"]]
        names = cases[:MOST_LISTED] + ([f"and {len(cases) - MOST_LISTED} more"] if len(cases) > MOST_LISTED else [])
        lines.append(f"{finding['severity']}: {finding['message']}: {finding['consequence']}{of}")
        lines += textwrap.wrap(", ".join(names), 116, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join([*lines, *(f"contact sheet: {sheet}" for sheet in report["sheets"]), verdict(report, config)])


def shortened(counts: Dict[str, int]) -> str:
    """The most frequent values, with their counts where there is more than one."""
    shown = [f"{count} {value}" if len(counts) > 1 else value for value, count in list(counts.items())[:3]]
    return ", ".join(shown) + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")


def verdict(report: Dict[str, Any], config: Config) -> str:
    """The last line: by which methods the set can be trained on, and the command that does it."""
    trainable, others = ([m for m, is_good in report["methods"].items() if is_good == wanted] for wanted in (True, False))
    severities = Counter(finding["severity"] for finding in report["findings"])
    if not trainable:
        return f"not trainable by {', '.join(others)}: repair the {counted(severities[ERROR], 'error')} above"
    where = "" if config.data_root == Config.data_root else f" --data_root {shlex.quote(config.data_root)}"
    command = f"python main.py --method {trainable[0]} --dataset {shlex.quote(config.dataset)}{where}"
    exceptions = f" (not by {', '.join(others)})" if others else ""
    warned = f", with {counted(severities[WARNING], 'warning')}" if severities[WARNING] else ""
    return f"trainable by {', '.join(trainable)}{exceptions}{warned}: {command}"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command `python -m datatools.doctor`; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        print(f"usage: python -m datatools.doctor --dataset NAME [--method METHOD] [--json] [flags]\n\n{__doc__}")
        return 0

    def work() -> int:
        config, typed = parse_arguments(arguments)
        # Without a method only what all share is checked: the sizes that U-GAT-IT's depth needs may not be what is wanted.
        config.check_networks() if "method" in typed else Config.check_networks(config)
        return check(config, config.json, any_method="method" not in typed)

    return exit_code_of(work, see="--result_dir and --data_root")


if __name__ == "__main__":
    sys.exit(main())
