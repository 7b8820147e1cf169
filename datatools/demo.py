"""Draw a data set of two domains of faces, photographs (A) and anime portraits (B), from a seed.

Nothing is downloaded: every face is drawn from an `Identity`, a small vector of pose, shape, colours, hair and
expression. The same identity can be drawn in both domains, so the test images are true pairs even though the training
images are not.

python -m datatools.demo --out dataset/portraits              trainA, trainB, testA, testB
python -m datatools.demo --out dataset/portraits --paired     train, val, test with A and B side by side
python main.py --dataset portraits                                  draws what its method needs by itself
python -m datatools.demo --sheet sheet.png                    only a sheet to look at
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from dataset import DESCRIPTION
from datatools.faces import Identity, draw_anime, draw_identity, draw_photograph, identity_of
from utils import write_bytes, write_image

__all__ = [
    "Identity",
    "draw_anime",
    "draw_dataset",
    "draw_identity",
    "draw_missing",
    "draw_photograph",
    "draw_sheet",
    "identity_of",
    "main",
]

NAME = "portraits"
DRAWN_SIZE, DRAWN = 256, dict(train=400, val=16, test=64)  # the set that main.py draws by itself
File = tuple[str, str, int]  # the path in the folder, "A", "B" or "AB", and the number of the identity
Progress = Callable[[int, int], None]  # called with (files written, files in all)


def draw_sheet(size: int, count: int, seed: int) -> np.ndarray:
    """Draw `count` identities in up to eight columns, each photograph above its portrait: (h, w, 3) uint8 RGB.

    Raises ValueError if `size` is below 16 or `count` below 1.
    """
    if count < 1:
        raise ValueError(f"a sheet needs at least one identity, not {count}")
    columns = min(8, count)
    sheet = np.full((2 * size * math.ceil(count / columns), size * columns, 3), 255, np.uint8)
    for i in range(count):
        y, x = 2 * size * (i // columns), size * (i % columns)
        identity = identity_of(seed, i)
        sheet[y : y + size, x : x + size] = draw_photograph(identity, size)
        sheet[y + size : y + 2 * size, x : x + size] = draw_anime(identity, size)
    return sheet


def plan(train: int, val: int, test: int, paired: bool) -> list[File]:
    """List the files of a data set.

    The numbers of identities never overlap: test comes first, then val, then train A, then train B. The test
    identities are therefore the same in both layouts.
    """

    def name(folder: str, i: int) -> str:
        return f"{folder}/{i:05d}.png"

    if paired:
        starts = {"test": (0, test), "val": (test, val), "train": (test + val, train)}
        return [(name(part, i), "AB", start + i) for part, (start, count) in starts.items() for i in range(count)]
    files = [(name(f"test{kind}", i), kind, i) for kind in "AB" for i in range(test)]
    files += [(name("trainA", i), "A", test + val + i) for i in range(train)]
    return files + [(name("trainB", i), "B", test + val + train + i) for i in range(train)]


def draw_dataset(
    folder: Path,
    size: int = 256,
    train: int = 200,
    test: int = 64,
    seed: int = 0,
    paired: bool = False,
    val: int = 16,
    progress: Progress | None = None,
    workers: int = 2,
) -> None:
    """Draw a data set into a new folder.

    Unpaired: `trainA` and `trainB` hold different identities, `testA` and `testB` the same identities under
    the same names. Paired: `train`, `val` and `test` hold A and B side by side, (size, 2 size, 3).

    Args:
        folder: the new folder; its parents are made.
        size: side of a picture in pixels, at least 16.
        train, test, val: pictures per folder, at least 1; `val` is used by the paired layout only.
        seed: the set of identities, not negative.
        paired: write the paired layout instead of the unpaired one.
        progress: called in this thread with (files written, files in all).
        workers: processes, at least 1; the pictures do not depend on it. With more than one, a script that calls this
            needs the usual `if __name__ == "__main__"`.

    Raises:
        FileExistsError: `folder` exists.
        ValueError: a number is out of range.
        OSError: a file cannot be written. The half-drawn set is removed.
    """
    folder = Path(folder)
    _check(folder, size, seed, {"train": train, "test": test, "val": val, "workers": workers})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _draft(folder) as draft:
        _draw_files(draft, plan(train, val, test, paired), size, seed, progress, workers)
        draft.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        draft.rename(folder)


def draw_missing(folder: Path, paired: bool, workers: int = 2) -> None:
    """Draw the parts that a paired or an unpaired method needs where they are missing, with a progress bar.

    Both layouts live in one folder. Nothing is added to a folder that this module has not drawn.

    Raises:
        OSError: a file cannot be written. Half-drawn parts are removed.
    """
    folder = Path(folder)
    try:
        size, seed = _drawn_as(folder) if folder.exists() else (DRAWN_SIZE, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return
    files = [file for file in plan(**DRAWN, paired=paired) if not (folder / _part(file)).is_dir()]
    if not files:
        return
    print(f"drawing the demo set, {len(files)} pictures, into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(files), unit="image", dynamic_ncols=True, disable=None)
    with bar, _draft(folder) as draft:
        _draw_files(draft, files, size, seed, lambda done, _: bar.update(done - bar.n), workers)
        folder.mkdir(exist_ok=True)
        (draft / DESCRIPTION).replace(folder / DESCRIPTION)
        for part in sorted({_part(file) for file in files}):
            if not (folder / part).is_dir():  # another process may have drawn it meanwhile
                (draft / part).rename(folder / part)


def _drawn_as(folder: Path) -> tuple[int, int]:
    """Size and seed of a set that this module has drawn. Raises OSError, ValueError, KeyError or TypeError for any other folder."""
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return int(description["size"]), int(description["seed"])


def _part(file: File) -> str:
    """The folder of a file of a plan, such as trainA."""
    return file[0].split("/")[0]


@contextlib.contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, removed where it is still there at the end, also after Ctrl-C."""
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check(folder: Path, size: int, seed: int, counts: dict[str, int]) -> None:
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; remove it or choose another folder")
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, not {size}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, not {seed}")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")


def _draw_file(root: Path, file: File, size: int, seed: int) -> None:
    path, kind, index = file
    identity = identity_of(seed, index)
    views = [draw_photograph(identity, size)] if "A" in kind else []
    if "B" in kind:
        views.append(draw_anime(identity, size))
    write_image(root / path, np.hstack(views))


def _draw_files(root: Path, files: list[File], size: int, seed: int, progress: Progress | None, workers: int) -> None:
    """Draw and write every file of a plan, in this process if one worker is asked for."""
    for name in {_part(file) for file in files}:
        (root / name).mkdir()
    # testA and testB show the same identities: true counterparts, which the test phase then measures against.
    write_bytes(root / DESCRIPTION, (json.dumps({"test_pairs": True, "size": size, "seed": seed}) + "\n").encode())
    job = partial(_draw_file, root, size=size, seed=seed)
    if workers == 1:
        _count(map(job, files), len(files), progress)
        return
    # Processes, because most of the time goes into short calls between which Python holds its lock; spawned ones,
    # because a fork of a process in which OpenCV has started threads may hang; one thread in each, as cores are busy.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,))
    try:
        _count(pool.map(job, files, chunksize=4), len(files), progress)
    finally:
        # After an error or Ctrl-C nothing more shall be drawn, and nothing be written once the folder is removed.
        pool.shutdown(wait=True, cancel_futures=True)


def _count(results: Iterator[None], total: int, progress: Progress | None) -> None:
    for done, _ in enumerate(results, 1):
        if progress:
            progress(done, total)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Draw a demo data set: photographs (A) and anime portraits (B).")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the data set")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw a sheet of 16 identities to look at")
    parser.add_argument("--size", type=int, default=256, help="side of a picture in pixels (default %(default)s)")
    parser.add_argument("--train", type=int, default=200, help="training pictures per domain (default %(default)s)")
    parser.add_argument("--test", type=int, default=64, help="test pictures per domain (default %(default)s)")
    parser.add_argument("--val", type=int, default=16, help="validation pairs, with --paired (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="names the set of faces (default %(default)s)")
    parser.add_argument("--paired", action="store_true", help="write A|B side by side into train, val and test")
    parser.add_argument("--workers", type=int, default=2, help="processes (default %(default)s)")
    return parser


def _show_progress(done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        print(f"\r{done}/{total} files", end="\n" if done == total else "", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after one line on stderr if the user asked for something impossible."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.out is None and args.sheet is None:
            raise ValueError("say where to draw: --out DIR or --sheet FILE.png")
        if args.sheet is not None:
            if args.seed < 0:
                raise ValueError(f"seed must not be negative, not {args.seed}")
            write_image(args.sheet, draw_sheet(args.size, 16, args.seed))
        if args.out is not None:
            counts = {"train": args.train, "test": args.test, "val": args.val}
            options = {"size": args.size, "seed": args.seed, "paired": args.paired, "workers": args.workers}
            draw_dataset(args.out, progress=_show_progress, **counts, **options)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
