"""Draw the demo set of faces: photographs (A) and anime portraits (B).

Every face is drawn from an `Identity`: pose, shape, colours, hair and expression. Both domains draw the same identity, so the test
images are true pairs even though the training images are not. The same machine and OpenCV draw the same bytes from the same seed;
other processors and other versions of OpenCV differ in a few pixels.

python -m datatools.demo --out dataset/portraits              trainA, trainB, testA, testB
python -m datatools.demo --out dataset/portraits --paired     train, val, test with A and B side by side
python -m datatools.demo --sheet sheet.png                    only a sheet to look at
python main.py --dataset portraits                            draws what its method needs by itself
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from command_line import OneLineParser, exit_code_of
from dataset import DESCRIPTION
from datatools.faces.anime import draw_anime
from datatools.faces.identity import Identity
from datatools.faces.photograph import draw_photograph
from errors import ConfigError
from utils import contact_sheet, write_bytes, write_image

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

NAME = "portraits"
DRAWN, DRAWN_SIZE = dict(train=400, val=16, test=64), 256  # pictures in each part, and their side in pixels
identity_of = Identity
File = Tuple[str, str, int]  # the path in the set, "A", "B" or "AB", and the number of the identity


def draw_sheet(size: int, count: int, seed: int) -> np.ndarray:
    """The first `count` identities in up to eight columns, each photograph above its portrait: (h, w, 3) uint8 RGB."""
    people = [Identity(seed, index) for index in range(count)]
    return contact_sheet([(draw_photograph(who, size), draw_anime(who, size)) for who in people], gap=0)


def plan(train: int, val: int, test: int, paired: bool) -> List[File]:
    """The files of a set, with as many identities in each part.

    Numbers of identities never overlap: test comes first, then val, then train A, then train B. So both layouts have the same
    test identities.
    """
    parts = [("testA", "A", 0, test), ("testB", "B", 0, test)]
    parts += [("trainA", "A", test + val, train), ("trainB", "B", test + val + train, train)]
    if paired:
        parts = [("test", "AB", 0, test), ("val", "AB", test, val), ("train", "AB", test + val, train)]
    return [(f"{part}/{i:05d}.png", domains, first + i) for part, domains, first, count in parts for i in range(count)]


def draw_missing(folder: Path, paired: bool, workers: int = 2) -> None:
    """Draw the parts that a paired or an unpaired method needs where they are missing; both layouts live in one folder.

    Nothing is added to a folder that this module has not drawn.

    Raises:
        OSError: a file cannot be written; the next call goes on with what is there.
    """
    folder, size, seed = Path(folder), DRAWN_SIZE, 0
    if folder.exists():
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            size, seed = int(description["size"]), int(description["seed"])
        except (OSError, ValueError, KeyError, TypeError):
            return
    draw_dataset(folder, paired, size, seed, workers=workers)


def draw_dataset(
    folder: Path, paired: bool = False, size: int = 0, seed: int = 0, train: int = 0, val: int = 0, test: int = 0, workers: int = 2
) -> None:
    """Draw the parts of a set that are not in `folder`, and say so on stdout. A part is there only when it is whole.

    Unfinished parts wait in a hidden folder beside `folder`; the same call goes on with them, another call discards them.

    Args:
        paired: `train`, `val`, `test` with A and B side by side (size, 2 size, 3), instead of `trainA`, `trainB` with different
            identities and `testA`, `testB` with the same.
        size: side of a picture in pixels, at least 16; here and below 0 stands for what the demo set has.
        seed: of the identities, not negative.
        train, val, test: pictures in each part.
        workers: processes; the pictures do not depend on it. With more than one, a script that calls this needs the usual
            `if __name__ == "__main__"`.

    Raises:
        OSError: a file cannot be written.
    """
    folder, size = Path(folder), size or DRAWN_SIZE
    counts = {"train": train or DRAWN["train"], "val": val or DRAWN["val"], "test": test or DRAWN["test"]}

    def missing() -> List[File]:
        return [file for file in plan(**counts, paired=paired) if not (folder / file[0]).parent.is_dir()]

    if not missing():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent):
        files = missing()  # another process may have drawn them meanwhile
        if files:
            draft = folder.with_name(f".{folder.name}.draft")
            _draw_into(draft, files, size, seed, workers, f"drawing the demo set, {len(files)} pictures, into {folder}")
            folder.mkdir(exist_ok=True)
            for path in [draft / DESCRIPTION, *{(draft / file[0]).parent for file in files}]:
                path.rename(folder / path.name)
            shutil.rmtree(draft)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other processes that draw in `folder`. Without locks, two draw the same bytes, and the first one's stay."""
    descriptor = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if fcntl:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if fcntl:
            os.close(descriptor)


def _draw_into(draft: Path, files: List[File], size: int, seed: int, workers: int, message: str) -> None:
    """Draw the files of a plan that are not in the draft yet; a draft of another plan is discarded."""
    made_for, plan_file = json.dumps([size, seed, files]), draft / "plan.json"
    if not plan_file.is_file() or plan_file.read_text() != made_for:
        shutil.rmtree(draft, ignore_errors=True)
        write_bytes(draft / DESCRIPTION, (json.dumps({"test_pairs": True, "size": size, "seed": seed}) + "\n").encode())
        write_bytes(plan_file, made_for.encode())
    for unfinished in draft.rglob(".*.part"):
        unfinished.unlink()
    left = [file for file in files if not (draft / file[0]).is_file()]
    print(message + (f", {len(files) - len(left)} of them are there" if len(left) < len(files) else ""), flush=True)
    spoken, job = time.monotonic(), partial(_draw_file, draft, size, seed)
    bar = tqdm(total=len(files), initial=len(files) - len(left), unit="image", dynamic_ncols=True, disable=None)
    # Processes, because Python holds its lock between many short calls; spawned, because a fork of a process in which OpenCV has
    # started threads may hang; one thread in each, as the cores are busy.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,)) if workers > 1 else None
    try:
        for _ in pool.map(job, left, chunksize=4) if pool else map(job, left):
            bar.update()
            if bar.disable and time.monotonic() - spoken > 5:
                spoken = time.monotonic()
                print(f"{sum((draft / file[0]).is_file() for file in files)} of {len(files)} pictures", flush=True)
    finally:
        bar.close()
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)


def _draw_file(root: Path, size: int, seed: int, file: File) -> None:
    path, domains, index = file
    views = [{"A": draw_photograph, "B": draw_anime}[domain](Identity(seed, index), size) for domain in domains]
    try:
        write_image(root / path, np.hstack(views))
    except OSError as error:  # that of a full disk names no file
        raise OSError(error.errno, error.strerror, str(root / path)) from error


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; returns its exit code."""
    return exit_code_of(lambda: _run(argv), "--out and --sheet", "stopped; the same command goes on")


def _run(argv: Optional[Sequence[str]]) -> None:
    parser = OneLineParser("python -m datatools.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the data set")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw a sheet of 16 identities to look at")
    parser.add_argument("--paired", action="store_true", help="A|B side by side in train, val and test")
    for name, default, lowest, text in (
        ("size", DRAWN_SIZE, 16, "side of a picture in pixels"),
        ("seed", 0, 0, "names the set of faces"),
        ("train", DRAWN["train"], 1, "training pictures per domain"),
        ("val", DRAWN["val"], 1, "validation pairs, with --paired"),
        ("test", DRAWN["test"], 1, "test pictures per domain"),
        ("workers", 2, 1, "processes"),
    ):
        parser.add_argument(f"--{name}", type=partial(_at_least, lowest), default=default, help=f"{text} (default: {default})")
    args = vars(parser.parse_args(argv))
    folder, sheet = args.pop("out"), args.pop("sheet")
    if folder is None and sheet is None:
        raise ConfigError("say where to draw: --out DIR or --sheet FILE.png")
    if folder is not None and folder.exists():
        raise ConfigError(f"--out: {folder} exists already; remove it or choose another folder")
    if sheet is not None:
        write_image(sheet, draw_sheet(args["size"], 16, args["seed"]))
    if folder is not None:
        draw_dataset(folder, **args)


def _at_least(lowest: int, text: str) -> int:
    if not text.isdecimal() or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least {lowest}, not {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
