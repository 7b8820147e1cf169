"""Draw the demo set of faces: photographs (A) and anime portraits (B) of the same drawn people.

The test images are true pairs, the training images are not. The same machine and OpenCV draw the same bytes from the same seed;
other processors and versions of OpenCV differ in a few pixels. `python main.py --dataset portraits` draws what its method needs.

python -m datatools.demo --out dataset/portraits              trainA, trainB, testA, testB
python -m datatools.demo --out dataset/portraits --paired     train, val, test with A and B side by side
python -m datatools.demo --sheet sheet.png                    only a sheet to look at
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from command_line import OneLineParser, exit_code_of
from config import MOST_SIDE
from dataset import DESCRIPTION
from datatools.faces.domains import draw_anime, draw_photograph
from datatools.faces.identity import Identity
from engine.progress import track
from errors import ConfigError
from utils import contact_sheet, from_json, write_bytes, write_image

NAME = "portraits"
DRAWN = dict(size=256, train=400, val=16, test=64)  # side of a picture in pixels, pictures in each part
# What a description may say of a set that was drawn.
POSSIBLE = {"size": range(16, MOST_SIDE), "seed": range(2**31)}
identity_of = Identity


def draw_sheet(size: int, count: int, seed: int) -> np.ndarray:
    """The first `count` identities in up to eight columns, each photograph above its portrait: (h, w, 3) uint8 RGB."""
    people = (Identity(seed, index) for index in range(count))
    return contact_sheet([(draw_photograph(who, size), draw_anime(who, size)) for who in people], gap=0)


def plan(train: int, val: int, test: int, paired: bool) -> List[Tuple[str, str, range]]:
    """The name, the domains and the identities of each part. Both layouts have the same test identities, and none twice."""
    spans = {"test": range(test), "val": range(test, test + val), "train": range(test + val, test + val + train)}
    if paired:
        return [(part, "AB", people) for part, people in spans.items()]
    spans = {"A": spans["train"], "B": range(test + val + train, test + val + 2 * train)}
    return [(f"test{domain}", domain, range(test)) for domain in "AB"] + [
        (f"train{domain}", domain, spans[domain]) for domain in "AB"
    ]


def drawn_as(folder: Path) -> Optional[Dict[str, int]]:
    """Size and seed of a set that this module has drawn, {} where there is nothing yet, None for any other folder."""
    if not any(folder.glob("[!.]*")):
        return {}
    try:
        description = from_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        known = {name: description[name] for name in POSSIBLE}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if all(type(value) is int and value in POSSIBLE[name] for name, value in known.items()) else None


def draw_missing(folder: Path, paired: bool, test_alone: bool = False, workers: int = 2) -> None:
    """Draw the parts that a paired or an unpaired method needs, where they are missing; both layouts live in one folder.

    Nothing is added to a folder that this module has not drawn. Raises OSError where a file cannot be written.
    """
    known = drawn_as(Path(folder))
    if known is not None:
        draw_dataset(folder, paired, test_alone=test_alone, workers=workers, **known)


def draw_dataset(
    folder: Path, paired: bool = False, seed: int = 0, workers: int = 2, test_alone: bool = False, **numbers: int
) -> None:
    """Draw the parts of a set that `folder` lacks. A part is there only when it is whole.

    Until then its pictures wait in a hidden folder, and the same call goes on with them; a call for other identities discards them.

    Args:
        paired: `train`, `val` and `test` with A and B side by side (size, 2 size, 3), instead of `trainA` and `trainB` with
            different identities and `testA` and `testB` with the same.
        seed: of the identities, not negative.
        workers: processes; the pictures do not depend on it.
        test_alone: draw the test pictures and no others.
        numbers: what differs from DRAWN; the size is at least 16.

    Raises:
        OSError: a file cannot be written.
    """
    folder, counts = Path(folder), {**DRAWN, **numbers}
    size = counts.pop("size")
    wanted = [part for part in plan(**counts, paired=paired) if part[0].startswith("test") or not test_alone]
    missing = [part for part in wanted if not (folder / part[0]).is_dir()]
    if not missing:
        return
    print(f"drawing the demo set, {sum(len(people) for _, _, people in missing)} pictures, into {folder}", flush=True)
    if not (folder / DESCRIPTION).is_file():
        write_bytes(folder / DESCRIPTION, (json.dumps({"test_pairs": True, "size": size, "seed": seed}) + "\n").encode())
    with ExitStack() as stack:
        with suppress(ImportError, OSError):  # where there are no locks, two processes write the same bytes
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        run = map
        if workers > 1:
            # Processes, because Python holds its lock between many short calls; spawned, because a fork of a process in which
            # OpenCV has started threads may hang.
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_parent)
            stack.callback(pool.shutdown, cancel_futures=True)
            run = partial(pool.map, chunksize=4)
        for part, domains, people in missing:
            draft = folder / f".{part}.{people.start}-{people.stop}"
            for other in [*folder.glob(f".{part}.*"), *draft.glob(".*")]:  # of another plan, and half written files
                if other != draft:
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
            left = [index for index in range(len(people)) if not (draft / f"{index:05d}.png").is_file()]
            if (folder / part).is_dir():  # another process has drawn it meanwhile
                continue
            job = partial(_draw_file, draft, domains, size, seed, people.start)
            for _ in track(run(job, left), part, len(left), "pictures"):
                pass
            draft.rename(folder / part)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent of this process, and end when it has ended, even by a kill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()


def _draw_file(draft: Path, domains: str, size: int, seed: int, first: int, index: int) -> None:
    who, path = Identity(seed, first + index), draft / f"{index:05d}.png"
    views = [draw_photograph(who, size) if domain == "A" else draw_anime(who, size) for domain in domains]
    write_image(path, np.hstack(views))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line; returns its exit code."""
    return exit_code_of(lambda: _run(arguments), "--out and --sheet", "stopped; the same command goes on")


def _run(arguments: Optional[Sequence[str]]) -> None:
    parser = OneLineParser("python -m datatools.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the data set")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw a sheet of 16 identities to look at")
    parser.add_argument("--paired", action="store_true", help="A|B side by side in train, val and test")
    for name, default in {**DRAWN, "seed": 0, "workers": 2}.items():
        text = {"size": "side of a picture", "seed": "of the faces", "workers": "processes"}.get(name, "pictures in each such part")
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    options = vars(parser.parse_args(arguments))
    for name, lowest in {"size": 16, "seed": 0, "train": 1, "val": 1, "test": 1, "workers": 1}.items():
        if options[name] < lowest:
            raise ConfigError(f"--{name} must be at least {lowest}, not {options[name]}")
    folder, sheet = options.pop("out"), options.pop("sheet")
    if not folder and not sheet:
        raise ConfigError("say where to draw: --out DIR or --sheet FILE.png")
    if folder and drawn_as(folder) not in ({}, {"size": options["size"], "seed": options["seed"]}):
        raise ConfigError(f"--out: {folder} exists already and holds something else; remove it or choose another folder")
    if sheet:
        write_image(sheet, draw_sheet(options["size"], 16, options["seed"]))
    if folder:
        draw_dataset(folder, **options)


if __name__ == "__main__":
    sys.exit(main())
