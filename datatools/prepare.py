"""Prepare pictures for training: split, pair, unpair, resize, edges and grey.

python -m datatools.prepare split --input photos --output dataset/NAME --domain A     trainA and testA of one folder
python -m datatools.prepare pair --A sketches --B photos --output pairs               A|B files of two folders
python -m datatools.prepare unpair --input dataset/facades --output dataset/NAME      trainA, trainB, testA, testB of A|B files
python -m datatools.prepare resize --input photos --output small --size 256           square pictures
python -m datatools.prepare edges --input small --output pairs                        A|B files: edges, photograph
python -m datatools.prepare grey --input small --output pairs                         A|B files: grey, colour

Originals are only read, and nothing is overwritten without --overwrite. The pictures, all PNG except those that split copies, are
moved into place when the last one is done: a command that fails or is stopped leaves nothing behind.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import cv2
import numpy as np

from command_line import OneLineParser, exit_code_of
from dataset import EXTENSIONS, MOST_LISTED, find_images, halves
from engine.cpu import available_cores
from engine.progress import Progress
from errors import ConfigError, DataError
from utils import output_names, read_image, resize, sha256_of, to_colour, write_bytes, write_image

PARTS = ("train", "val", "test")
Options = argparse.Namespace


class Job(NamedTuple):
    """The originals, the files to write (relative to --output), and what makes these: (H, W, C) uint8, or a file's bytes."""

    sources: Tuple[Path, ...]
    targets: Tuple[str, ...]
    make: Callable[..., Sequence[Union[np.ndarray, bytes]]]


# The commands: each lists its jobs


def split_jobs(options: Options) -> List[Job]:
    """Copies of one folder's files in train and test. Raises DataError if there are too few pictures."""
    refuse_domains(options.input)
    paths = {options.input / name: name for name in pictures_in(options.input, "--input")}

    def digest(path: Path) -> str:
        image = read_image(path)
        if options.paired:
            halves(image, path)
        return sha256_of(path)

    digests = in_parallel(digest, list(paths), "reading", options)
    if not options.test > 0 or (options.test > 1 and options.test % 1):
        raise ConfigError(f"--test {options.test}: use a share between 0 and 1, such as 0.1, or a number of pictures")
    count = int(options.test) if options.test >= 1 else max(1, round(options.test * len(digests)))
    in_test = choose_test(digests, count, options.seed)
    if len(in_test) == len(digests):
        raise DataError(f"--test {options.test}: {options.input} has {len(set(digests.values()))} different pictures, too few")
    domain = options.domain or ""
    targets = {path: f"{'test' if path in in_test else 'train'}{domain}/{paths[path]}" for path in digests}
    # A picture that an earlier split put into train, and this one puts into test, would spoil the test.
    present = {f"{part}{domain}/{name}" for part in ("train", "test") for name in find_images(options.output / f"{part}{domain}")}
    if others := sorted(present - set(targets.values())):
        raise ConfigError(f"--output: {options.output} holds {listed(others)} of another split: choose another folder")
    return [Job((path,), (target,), lambda path: [path.read_bytes()]) for path, target in targets.items()]


def choose_test(digests: Dict[Path, str], count: int, seed: int) -> Set[Path]:
    """The `count` files that come first in an order drawn from the seed and their content, and copies of the last one.

    Neither names nor the other files change the order, so few files change their part if others are added later.
    """
    keys = {path: hashlib.sha256(f"{seed} {digest}".encode()).digest() for path, digest in digests.items()}
    first = set(sorted(keys.values())[:count])
    return {path for path, key in keys.items() if key in first}


def pair_jobs(options: Options) -> List[Job]:
    """A|B files of two folders. Raises DataError if pictures have no counterpart."""
    of_A, of_B = pictures_by_stem(options.A, "A"), pictures_by_stem(options.B, "B")
    alone = [str(of_A.get(stem) or of_B.get(stem)) for stem in sorted(set(of_A) ^ set(of_B))]
    if alone:
        raise DataError(f"--A, --B: without a counterpart of the same name: {listed(alone)}; add, rename or remove files")

    def make(path_A: Path, path_B: Path) -> List[np.ndarray]:
        A, B = read_image(path_A), read_image(path_B)
        if A.shape != B.shape and not options.resize:
            sizes = [f"{path} is {image.shape[1]}x{image.shape[0]}" for path, image in ((path_A, A), (path_B, B))]
            raise DataError(f"{', '.join(sizes)}: --resize resizes B to the size of A")
        return side_by_side(A, resize(B, A.shape[1], A.shape[0]), path_A)

    return [Job((of_A[stem], of_B[stem]), (f"{stem}.png",), make) for stem in sorted(of_A)]


def pictures_by_stem(folder: Path, domain: str) -> Dict[str, Path]:
    """Pictures by their name without the extension. Raises DataError if two share one."""
    found: Dict[str, Path] = {}
    for name in pictures_in(folder, f"--{domain}"):
        other = found.setdefault(name.rsplit(".", 1)[0], folder / name)
        if other != folder / name:
            raise DataError(f"--{domain}: {other} and {folder / name} would be the same pair; rename one")
    return found


def unpair_jobs(options: Options) -> List[Job]:
    """The two halves of each A|B file. Raises DataError if there are none."""
    parts = [part for part in PARTS if (options.input / part).is_dir()]
    if not parts:
        raise DataError(f"--input: {options.input} has no folder train, val or test with A and B side by side in each picture")
    jobs = []
    for part in parts:
        for name, target in output_names(pictures_in(options.input / part, "--input")).items():
            targets = (f"{part}A/{target}", f"{part}B/{target}")
            jobs.append(Job((options.input / part / name,), targets, lambda path: halves(read_image(path), path)))
    return jobs


def resize_jobs(options: Options) -> List[Job]:
    """Square pictures, or pairs of such. Raises ConfigError if pairs might be cropped as single pictures."""
    if (options.input / "train").is_dir() and not options.paired:
        raise ConfigError(
            f"--input: {options.input} has a folder train, as pairs have: use --paired, or resize {options.input}/train"
        )

    def make(path: Path) -> List[np.ndarray]:
        pieces = halves(read_image(path), path) if options.paired else [read_image(path)]
        return [np.concatenate([fit(piece, options.size, options.fit) for piece in pieces], axis=1)]

    return one_to_one(options, make)


def edges_jobs(options: Options) -> List[Job]:
    """Edges beside photographs. Raises ConfigError if the thresholds are not in order."""
    if not 0 <= options.low <= options.high or not 0 <= options.blur < 1000:
        raise ConfigError(f"--low {options.low} --high {options.high} --blur {options.blur}: use 0 or more, and --low below --high")
    return photograph_jobs(options, lambda photograph: edges_of(photograph, options.low, options.high, options.blur))


def grey_jobs(options: Options) -> List[Job]:
    """Grey beside colour."""
    return photograph_jobs(options, grey_of)


def photograph_jobs(options: Options, draw: Callable[[np.ndarray], np.ndarray]) -> List[Job]:
    """A|B files: A is drawn from the photograph, B is the photograph."""
    refuse_domains(options.input)

    def make(path: Path) -> List[np.ndarray]:
        photograph = fit(read_image(path), options.size) if options.size else read_image(path)
        return side_by_side(to_colour(draw(photograph)), photograph, path)

    return one_to_one(options, make)


def one_to_one(options: Options, make: Callable[[Path], List[np.ndarray]]) -> List[Job]:
    """One file for each picture of --input, at the same place below --output."""
    names = output_names(pictures_in(options.input, "--input"))
    return [Job((options.input / name,), (target,), make) for name, target in names.items()]


def pictures_in(folder: Path, flag: str) -> List[str]:
    """Names of the pictures, as `find_images`. Raises DataError if there are none."""
    names = find_images(folder) if folder.is_dir() else []
    if not names:
        raise DataError(f"{flag}: {folder} is not a folder with images ({', '.join(EXTENSIONS)})")
    return names


def refuse_domains(folder: Path) -> None:
    """Raise ConfigError if the folder is a data set of two domains: one would be taken for the other."""
    for part in ("trainA", "trainB"):
        if (folder / part).is_dir():
            raise ConfigError(f"--input: {folder} is a data set of two domains: give one of its folders, such as {folder / part}")


# Pictures


def fit(image: np.ndarray, size: int, how: str = "cover") -> np.ndarray:
    """(H, W, 3) uint8 to (size, size, 3), proportions kept.

    cover: the largest square in the centre, resized. contain: the whole picture, between white bars.
    """
    height, width = image.shape[:2]
    if how == "cover":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(image[top : top + side, left : left + side], size, size)
    scale = size / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - height) // 2, (size - width) // 2
    canvas = np.full((size, size, 3), 255, np.uint8)
    canvas[top : top + height, left : left + width] = resize(image, width, height)
    return canvas


def grey_of(photograph: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (H, W, 1)."""
    return cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)[:, :, None]


def edges_of(photograph: np.ndarray, low: float, high: float, blur: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (H, W, 1): Canny's edges, black on white as in edges2shoes (Pix2Pix, section 4).

    An edge has a point where the gradient (L2 norm of 3x3 Sobel filters on 0 to 255) exceeds `high`, and ends where it falls below
    `low`; `blur` is the sigma, in pixels, of the Gaussian before it, 0 for none.
    """
    grey = grey_of(photograph)[:, :, 0]
    if blur:
        grey = cv2.GaussianBlur(grey, (0, 0), blur)
    return 255 - cv2.Canny(grey, low, high, L2gradient=True)[:, :, None]


def side_by_side(A: np.ndarray, B: np.ndarray, path: Path) -> List[np.ndarray]:
    """Two (H, W, 3) as one (H, 2W, 3). Raises DataError if training could not tell it from a single picture."""
    if 2 * A.shape[1] <= A.shape[0]:
        raise DataError(f"{path}: too tall for A and B side by side; crop the pictures with resize first")
    return [np.concatenate([A, B], axis=1)]


# Writing: all files or none, never over an original, over other files only with --overwrite


def write_all(jobs: Sequence[Job], inputs: Iterable[Path], options: Options) -> List[str]:
    """Do the jobs in a hidden folder, then move their files into place; returns the files' names, relative to --output.

    Raises:
        ConfigError: a file would lie in one of `inputs`, over an original, or over another file without --overwrite.
        DataError: a picture cannot be used, or, with --skip_unreadable, none can.
    """
    output = options.output
    _check_places(jobs, inputs, options)
    home = next(place for place in (output, *output.parents) if place.is_dir())  # where moving is renaming
    with TemporaryDirectory(prefix=".prepare.", dir=home) as draft:

        def work(job: Job) -> None:
            for target, content in zip(job.targets, job.make(*job.sources)):
                (write_bytes if isinstance(content, bytes) else write_image)(Path(draft) / target, content)

        written = [target for job in in_parallel(work, jobs, "writing", options) for target in job.targets]
        if not written:
            raise DataError("no picture could be read")
        _refuse_existing(written, options)  # another program may have written some meanwhile
        for target in written:
            (output / target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(draft) / target, output / target)
    return written


def in_parallel(work: Callable[[Any], Any], items: Sequence[Any], label: str, options: Options) -> Dict[Any, Any]:
    """The result of `work` for each item, in threads; with --skip_unreadable without those that raise DataError."""
    results = {}
    pool = ThreadPoolExecutor(available_cores())  # threads suffice: OpenCV releases Python's lock
    try:
        futures = [(item, pool.submit(work, item)) for item in items]
        with Progress(label, len(items), "pictures") as progress:
            for item, future in futures:
                try:
                    results[item] = future.result()
                except DataError as error:
                    if not options.skip_unreadable:
                        raise DataError(f"{error}, or use --skip_unreadable") from error
                    print(f"passed over {error}", file=sys.stderr)
                progress.update()
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def _check_places(jobs: Sequence[Job], inputs: Iterable[Path], options: Options) -> None:
    targets = [target for job in jobs for target in job.targets]
    _refuse_existing(targets, options)
    folders = {folder.resolve() for folder in inputs}
    originals = {source.resolve() for job in jobs for source in job.sources}
    for path in (options.output / target for target in targets):
        place = path.parent.resolve()
        if folders & {place, *place.parents} or path.resolve() in originals:
            raise ConfigError(f"--output: {path} is an original, or among the originals: choose another folder")
        if path.is_dir() or not next(place for place in path.parents if os.path.lexists(place)).is_dir():
            raise ConfigError(f"--output: {path} cannot be written, for a file and a folder have the same name")


def _refuse_existing(targets: Sequence[str], options: Options) -> None:
    existing = [target for target in targets if os.path.lexists(options.output / target)]
    if existing and not options.overwrite:
        raise ConfigError(f"--output: {options.output} holds {listed(existing)} already: choose another folder, or use --overwrite")


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


# The command line

COMMANDS = {
    "split": (split_jobs, "copy one folder of pictures to train and test, chosen by the seed and the content of the files"),
    "pair": (pair_jobs, "put pictures of two folders with the same name side by side in one file"),
    "unpair": (unpair_jobs, "cut the A|B files of train, val and test into trainA, trainB and so on, for the unpaired methods"),
    "resize": (resize_jobs, "make every picture of a folder or a whole data set square"),
    "edges": (edges_jobs, "make A|B files of photographs: A is their edges, black on white; made for about 256 pixels"),
    "grey": (grey_jobs, "make A|B files of photographs, to learn colourisation: A is grey, B in colour"),
}


def build_parser() -> OneLineParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = OneLineParser("python -m datatools.prepare", description=__doc__, formatter_class=form, allow_abbrev=False)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands (COMMAND --help lists the flags)"
    )
    flags = {}
    for name, (_, help) in COMMANDS.items():
        flags[name] = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        for flag in ("--A", "--B") if name == "pair" else ("--input",):
            flags[name].add_argument(flag, type=Path, required=True, metavar="FOLDER", help="the originals, sub-folders too")
        flags[name].add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where to write")
        flags[name].add_argument("--overwrite", action="store_true", help="replace files of the same names in --output")
        flags[name].add_argument("--skip_unreadable", action="store_true", help="pass over pictures that cannot be used")

    def number(name: str, flag: str, kind: type, default: Any, help: str) -> None:
        flags[name].add_argument(flag, type=kind, default=default, metavar="N", help=f"{help} (default: %(default)s)")

    kind = flags["split"].add_mutually_exclusive_group(required=True)
    kind.add_argument("--domain", choices=("A", "B"), help="write trainA and testA, or trainB and testB")
    kind.add_argument("--paired", action="store_true", help="the pictures are A|B files: write train and test")
    number("split", "--test", float, 0.1, "pictures for test: a share or a number")
    number("split", "--seed", int, 0, "another seed, another split")
    flags["pair"].add_argument("--resize", action="store_true", help="resize B to the size of A where they differ")
    number("resize", "--size", int, 256, "side in pixels")
    flags["resize"].add_argument("--fit", choices=("cover", "contain"), default="cover", help="crop (default), or add white bars")
    flags["resize"].add_argument("--paired", action="store_true", help="the pictures are A|B files: resize each half")
    number("edges", "--size", int, None, "crop and resize to this side first")
    number("grey", "--size", int, None, "crop and resize to this side first")
    number("edges", "--low", float, 20, "lower threshold: edges end below it")
    number("edges", "--high", float, 60, "upper threshold: each edge reaches it somewhere")
    number("edges", "--blur", float, 1.4, "sigma in pixels of the blur before; more gives fewer edges, 0 is none")
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="--input and --output")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError or OSError."""
    options = build_parser().parse_args(arguments)
    if getattr(options, "size", None) is not None and not 1 <= options.size <= 16384:
        raise ConfigError(f"--size {options.size}: use a number of pixels from 1 to 16384")
    jobs = COMMANDS[options.command][0](options)
    written = write_all(jobs, [options.A, options.B] if options.command == "pair" else [options.input], options)
    counts = Counter(name.split("/")[0] for name in written if "/" in name)
    parts = f" ({', '.join(f'{part} {count}' for part, count in sorted(counts.items()))})" if counts else ""
    print(f"wrote {len(written)} pictures to {options.output}{parts}")


if __name__ == "__main__":
    sys.exit(main())
