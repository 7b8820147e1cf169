"""Prepare pictures for training: split, pair, unpair, resize, edges and grey.

python -m datatools.prepare split --input photos --output dataset/NAME --domain A     trainA and testA of one folder
python -m datatools.prepare pair --A sketches --B photos --output pairs               A|B files of two folders
python -m datatools.prepare unpair --input dataset/facades --output dataset/NAME      trainA, trainB, testA, testB of A|B files
python -m datatools.prepare resize --input photos --output small --size 256           square pictures
python -m datatools.prepare edges --input small --output pairs                        A|B files: edges, photograph
python -m datatools.prepare grey --input small --output pairs                         A|B files: grey, colour

Originals are only read, and nothing is overwritten without --overwrite. A command gathers its pictures in a hidden folder and moves
them into place when the last one is done: if it fails or is stopped, it leaves nothing behind.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
import textwrap
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import cv2
import numpy as np

from command_line import OneLineParser, exit_code_of
from config import Config, UGATITConfig, smallest_image
from dataset import EXTENSIONS, find_images, halves
from datatools.picture_jobs import Job, check_places, in_parallel, listed, read, write_all
from engine.cpu import available_cores
from engine.signals import StopRequest
from errors import ConfigError, DataError
from utils import output_names, resize, to_colour

PROGRAM = "python -m datatools.prepare"
PARTS = ("train", "val", "test")
DOMAIN_PARTS = tuple(f"{part}{domain}" for part in PARTS for domain in "AB")
COLOURS = {"white": (255, 255, 255), "grey": (127, 127, 127), "black": (0, 0, 0)}


# The commands: each lists its jobs


def split_jobs(options: argparse.Namespace) -> List[Job]:
    """Copies of one folder's files in train and test. Raises DataError where there is nothing to part."""
    refuse_domain_parts(options.input)
    names = pictures_in(options.input, "--input")
    found = in_parallel(partial(digest, options), [options.input / name for name in names], "comparing", options)
    digests = {name: each for name, each in zip(names, found) if each is not None}
    count = options.test if isinstance(options.test, int) else max(1, round(options.test * len(digests)))
    in_test = choose_test(digests, count, options.seed)
    if not in_test or count >= len(digests):
        raise DataError(f"--test {options.test}: {options.input} has {len(set(digests.values()))} different pictures, too few")
    copies = len(digests) - len(set(digests.values()))
    if copies:
        print(f"{copies} of {len(digests)} pictures are copies of others; copies stay in one part")

    def job(name: str) -> Job:
        source = options.input / name
        part = "test" if name in in_test else "train"
        return Job((source,), (f"{part}{options.domain or ''}/{name}",), lambda: [source.read_bytes()])

    jobs = [job(name) for name in digests]
    refuse_other_split(options, {target for job in jobs for target in job.targets})
    return jobs


def digest(options: argparse.Namespace, path: Path) -> str:
    """Names the picture's pixels: equal for copies, also under other names and in other lossless formats."""
    image = read(path)
    if options.paired:
        halves(image, path)
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def choose_test(digests: Dict[str, str], count: int, seed: int) -> Set[str]:
    """Names of `count` pictures, or of fewer where copies, which stay together, do not fit.

    The order is drawn from the seed and the pixels, so neither names nor the other pictures change it: where pictures are added
    later, few change their part.
    """
    copies = defaultdict(list)
    for name, each in digests.items():
        copies[each].append(name)
    chosen: List[str] = []
    for each in sorted(copies, key=lambda each: hashlib.sha256(f"{seed} {each}".encode()).digest()):
        if len(chosen) + len(copies[each]) <= count:
            chosen += copies[each]
    return set(chosen)


def refuse_other_split(options: argparse.Namespace, targets: Set[str]) -> None:
    """Raise ConfigError where another split's pictures would stay: one that moves to train would be in test as well."""
    for part in ("train", "test"):
        folder = options.output / f"{part}{options.domain or ''}"
        others = [name for name in find_images(folder) if f"{folder.name}/{name}" not in targets]
        if others:
            raise ConfigError(
                f"--output: {folder} holds {listed(others)} of another split: choose another folder, or move them away"
            )


def pair_jobs(options: argparse.Namespace) -> List[Job]:
    """A|B files of two folders. Raises DataError where pictures have no counterpart."""
    of_A, of_B = pictures_of_domain(options.A, "A"), pictures_of_domain(options.B, "B")
    alone = [str(of_A[stem]) for stem in sorted(set(of_A) - set(of_B))]
    alone += [str(of_B[stem]) for stem in sorted(set(of_B) - set(of_A))]
    if len(alone) == len(of_A) + len(of_B):
        raise DataError(f"--A, --B: no picture of {options.A} has the name of one of {options.B}")
    if alone and not options.skip_unmatched:
        raise DataError(f"without a counterpart of the same name: {listed(alone)}; add or remove files, or say --skip_unmatched")
    for path in alone:
        print(f"passed over {path}: no counterpart of the same name", file=sys.stderr)
    shared = sorted(set(of_A) & set(of_B))
    return [
        Job((of_A[stem], of_B[stem]), (f"{stem}.{options.format}",), partial(joined_files, options, of_A[stem], of_B[stem]))
        for stem in shared
    ]


def pictures_of_domain(folder: Path, domain: str) -> Dict[str, Path]:
    """Pictures by the name that they share with their counterparts: train/1 for train/1.jpg and for trainA/1.jpg.

    Where `folder` has trainA, valA or testA (of domain A), it is a data set of two domains, and only these are taken.

    Raises:
        DataError: there are none, or two share a name.
    """
    names = pictures_in(folder, f"--{domain}")
    own = [name for name in names if name.split("/")[0] in [f"{part}{domain}" for part in PARTS]]
    found: Dict[str, Path] = {}
    for name in own or names:
        stem = name.rsplit(".", 1)[0]
        if own:
            part, rest = stem.split("/", 1)
            stem = f"{part[:-1]}/{rest}"
        if stem in found:
            raise DataError(f"--{domain}: {found[stem]} and {folder / name} would be the same pair; rename one")
        found[stem] = folder / name
    return found


def joined_files(options: argparse.Namespace, path_A: Path, path_B: Path) -> List[bytes]:
    A, B = read(path_A), read(path_B)
    if A.shape != B.shape:
        if not options.resize:
            raise DataError(
                f"{path_A} is {size_of(A)}, {path_B} {size_of(B)}: make them alike, or say --resize to resize B to A's size"
            )
        B = resize(B, A.shape[1], A.shape[0])
    return [encode(side_by_side(A, B, path_A), options)]


def unpair_jobs(options: argparse.Namespace) -> List[Job]:
    """The two halves of each A|B file. Raises DataError where there are none."""
    parts = [part for part in PARTS if (options.input / part).is_dir()]
    if not parts:
        raise DataError(f"--input: {options.input} has no folder train, val or test with A and B side by side in each picture")

    def make(path: Path) -> List[bytes]:
        return [encode(half, options) for half in halves(read(path), path)]

    jobs = []
    for part in parts:
        for name, target in targets_of(pictures_in(options.input / part, "--input"), options).items():
            path = options.input / part / name
            jobs.append(Job((path,), (f"{part}A/{target}", f"{part}B/{target}"), partial(make, path)))
    return jobs


def resize_jobs(options: argparse.Namespace) -> List[Job]:
    """Square pictures, or pairs of such. Raises ConfigError where pairs might be cropped as if they were one picture."""
    parts = [part for part in PARTS if (options.input / part).is_dir()]
    if parts and not options.paired:
        raise ConfigError(
            f"--input: {options.input} has the folder {parts[0]}, as pairs have: say --paired to resize A and B of each file; "
            f"if they are single pictures, resize {options.input / parts[0]} by itself"
        )

    def make(path: Path) -> List[bytes]:
        image = read(path)
        pieces = halves(image, path) if options.paired else [image]
        fitted = [fit(piece, options.size, options.fit, options.pad_colour) for piece in pieces]
        return [encode(np.concatenate(fitted, axis=1), options)]

    return one_to_one(options, make)


def edges_jobs(options: argparse.Namespace) -> List[Job]:
    """Edges beside photographs. Raises ConfigError where the thresholds are the wrong way round."""
    if options.low > options.high:
        raise ConfigError(f"--low {options.low} --high {options.high}: the lower threshold is the larger one")
    return photograph_jobs(options, lambda photograph: edges_of(photograph, options.low, options.high, options.blur))


def grey_jobs(options: argparse.Namespace) -> List[Job]:
    """Grey beside colour."""
    return photograph_jobs(options, grey_of)


def photograph_jobs(options: argparse.Namespace, draw: Callable[[np.ndarray], np.ndarray]) -> List[Job]:
    """A|B files in which A is drawn from the photograph and B is the photograph."""
    refuse_domain_parts(options.input)

    def make(path: Path) -> List[bytes]:
        photograph = read(path)
        if options.size:
            photograph = fit(photograph, options.size)
        return [encode(side_by_side(to_colour(draw(photograph)), photograph, path), options)]

    return one_to_one(options, make)


def one_to_one(options: argparse.Namespace, make: Callable[[Path], List[bytes]]) -> List[Job]:
    """One file for each picture of --input, at the same place below --output."""
    targets = targets_of(pictures_in(options.input, "--input"), options)
    return [Job((options.input / name,), (target,), partial(make, options.input / name)) for name, target in targets.items()]


# Pictures


def fit(image: np.ndarray, size: int, how: str = "cover", colour: Sequence[int] = COLOURS["white"]) -> np.ndarray:
    """(H, W, 3) uint8 to (size, size, 3), proportions kept.

    cover: the largest square in the centre, resized. contain: the whole picture, with bars of `colour` (RGB).
    """
    height, width = image.shape[:2]
    if how == "cover":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(image[top : top + side, left : left + side], size, size)
    scale = size / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - height) // 2, (size - width) // 2
    canvas = np.full((size, size, 3), colour, np.uint8)
    canvas[top : top + height, left : left + width] = resize(image, width, height)
    return canvas


def grey_of(photograph: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (H, W, 1)."""
    return cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)[:, :, None]


def edges_of(photograph: np.ndarray, low: float, high: float, blur: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (H, W, 1): Canny's edges, black on white as in edges2shoes (Pix2Pix, section 4).

    A line has a point where the gradient (L2 norm of 3x3 Sobel filters on 0 to 255) exceeds `high`, and ends where it falls below
    `low`; `blur` is the sigma, in pixels, of the Gaussian before it, 0 for none.
    """
    grey = grey_of(photograph)[:, :, 0]
    if blur:
        grey = cv2.GaussianBlur(grey, (0, 0), blur)
    return 255 - cv2.Canny(grey, low, high, L2gradient=True)[:, :, None]


def side_by_side(A: np.ndarray, B: np.ndarray, path: Path) -> np.ndarray:
    """Two (H, W, 3) as (H, 2W, 3). Raises DataError where training could not tell it from a single picture."""
    if 2 * A.shape[1] <= A.shape[0]:
        raise DataError(f"{path}: {size_of(A)} is too tall for A and B side by side; crop the pictures with resize first")
    return np.concatenate([A, B], axis=1)


def encode(image: np.ndarray, options: argparse.Namespace) -> bytes:
    """(H, W, 3) uint8 RGB as a PNG or JPEG file. Raises DataError where the picture is too large for the format."""
    settings = []
    if options.format == "jpg":
        # Full colour resolution: what halves it would smear B's colours over A where the two meet.
        sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
        settings = [cv2.IMWRITE_JPEG_QUALITY, options.quality, *sampling]
    try:
        done, content = cv2.imencode(f".{options.format}", np.ascontiguousarray(image[:, :, ::-1]), settings)
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"--format {options.format}: cannot hold a picture of {size_of(image)}; resize the pictures first")
    return content.tobytes()


def size_of(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


# Folders


def pictures_in(folder: Path, flag: str) -> List[str]:
    """Names of the pictures, as `find_images`. Raises DataError where there are none."""
    if not folder.is_dir():
        raise DataError(f"{flag}: there is no folder {folder}")
    names = find_images(folder)
    if not names:
        raise DataError(f"{flag}: {folder} holds no image ({', '.join(EXTENSIONS)})")
    return names


def targets_of(names: Sequence[str], options: argparse.Namespace) -> Dict[str, str]:
    """Where each picture goes: `output_names` in --format."""
    return {name: str(Path(target).with_suffix(f".{options.format}").as_posix()) for name, target in output_names(names).items()}


def refuse_domain_parts(folder: Path) -> None:
    """Raise ConfigError where the folder is a data set of two domains: one would be taken for the other."""
    parts = [part for part in DOMAIN_PARTS if (folder / part).is_dir()]
    if parts:
        raise ConfigError(
            f"--input: {folder} is a data set of domains ({', '.join(parts)}): give one of its folders, {folder / parts[0]}"
        )


# What the user is told


def summary(written: Sequence[str], options: argparse.Namespace) -> str:
    """What was written where, and the command to go on with."""
    counts = Counter(name.split("/")[0] for name in written)
    parts = ", ".join(f"{part} {counts[part]}" for part in (*PARTS, *DOMAIN_PARTS) if part in counts)
    return f"wrote {len(written)} pictures to {options.output}{f' ({parts})' if parts else ''}; next: {next_command(options)}"


def next_command(options: argparse.Namespace) -> str:
    """Training where the data set is complete; else the split that completes it."""
    output = options.output
    if options.command == "unpair" or ((output / "trainA").is_dir() and (output / "trainB").is_dir()):
        return training_command(output, "", options)
    if (output / "train").is_dir():
        return training_command(output, " --method pix2pix", options)
    if output.name in PARTS:
        return training_command(output.parent, " --method pix2pix", options)
    if options.command == "split":
        other = "B" if options.domain == "A" else "A"
        return f"{PROGRAM} split --input FOLDER_OF_{other} --output {shlex.quote(str(output))} --domain {other}"
    kind = "--domain A" if options.command == "resize" and not options.paired else "--paired"
    return f"{PROGRAM} split --input {shlex.quote(str(output))} --output dataset/NAME {kind}"


def training_command(data_set: Path, method: str, options: argparse.Namespace) -> str:
    folder = data_set.resolve()
    root = "" if folder.parent == Path("dataset").resolve() else f" --data_root {shlex.quote(str(folder.parent))}"
    size = ""
    if getattr(options, "size", None) not in (None, Config.img_size):
        size = f" --img_size {options.size}"
        if not method and options.size < smallest_image(UGATITConfig.n_dis + 1):
            size += " --n_dis 4"
    return f"python main.py{method} --dataset {shlex.quote(folder.name)}{root} --phase train{size}"


# The command line


class Command(NamedTuple):
    """What the command line says of a command."""

    jobs: Callable[[argparse.Namespace], List[Job]]
    help: str
    example: str


COMMANDS = {
    "split": Command(
        split_jobs,
        "Copy one folder of pictures to train and test, chosen by the seed and the pixels, whatever their names. Copies of one "
        "picture stay in one part. For two folders whose pictures belong together, pair them first, then split --paired.",
        "split --input photos --output dataset/NAME --domain A --test 0.1",
    ),
    "pair": Command(
        pair_jobs,
        "Put pictures of two folders with the same name, whatever the extension, side by side in one file: A|B. Sub-folders are "
        "kept; trainA and trainB become train.",
        "pair --A sketches --B photos --output pairs",
    ),
    "unpair": Command(
        unpair_jobs,
        "Cut the A|B files of train, val and test into trainA, trainB and so on, for the unpaired methods.",
        "unpair --input dataset/facades --output dataset/facades_unpaired",
    ),
    "resize": Command(
        resize_jobs,
        "Make every picture of a folder or a whole data set square.",
        "resize --input dataset/selfie2anime --output dataset/selfie2anime_128 --size 128 --fit cover",
    ),
    "edges": Command(
        edges_jobs,
        "Make A|B files of photographs: A is their edges, black on white, B the photograph. The thresholds suit pictures of about "
        "256 pixels: resize larger ones first, or say --size.",
        "edges --input photos --output pairs --size 256",
    ),
    "grey": Command(
        grey_jobs,
        "Make A|B files of photographs, to learn colourisation: A is grey (three equal channels), B in colour.",
        "grey --input photos --output pairs --size 256",
    ),
}


def build_parser() -> OneLineParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = OneLineParser(prog=PROGRAM, description=__doc__, formatter_class=form, allow_abbrev=False)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands (COMMAND --help lists the flags)"
    )
    flags = {}
    for name, command in COMMANDS.items():
        described = dict(description=textwrap.fill(command.help, 100), epilog=f"example: {PROGRAM} {command.example}")
        flags[name] = commands.add_parser(name, help=command.help, formatter_class=form, allow_abbrev=False, **described)
        if name == "pair":
            flags[name].add_argument("--A", type=Path, required=True, metavar="FOLDER", help="pictures for the left")
            flags[name].add_argument("--B", type=Path, required=True, metavar="FOLDER", help="pictures for the right")
        else:
            flags[name].add_argument("--input", type=Path, required=True, metavar="FOLDER", help="the originals, sub-folders too")
        flags[name].add_argument(
            "--output", type=Path, required=True, metavar="FOLDER", help="where to write; made if it is missing"
        )
    add_split_flags(flags["split"])
    add_pair_flags(flags["pair"])
    add_resize_flags(flags["resize"])
    add_edges_flags(flags["edges"])
    for name in ("edges", "grey"):
        flags[name].add_argument("--size", type=side, metavar="N", help="crop and resize to this side first (default: as they are)")
    for name in COMMANDS:
        add_common_flags(flags[name], encodes=name != "split")
    return parser


def add_split_flags(parser: OneLineParser) -> None:
    layout = parser.add_mutually_exclusive_group(required=True)
    layout.add_argument("--domain", choices=("A", "B"), help="write trainA and testA, or trainB and testB")
    layout.add_argument("--paired", action="store_true", help="the pictures are A|B files: write train and test")
    parser.add_argument(
        "--test",
        type=share_or_number,
        default=0.1,
        metavar="N",
        help="pictures for test: a share or a number (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=number(int, 0, 2**31 - 1), metavar="N", default=0, help="names the choice (default: %(default)s)"
    )


def add_pair_flags(parser: OneLineParser) -> None:
    parser.add_argument("--resize", action="store_true", help="resize B to A's size where they differ (default: an error)")
    parser.add_argument(
        "--skip_unmatched", action="store_true", help="pass over pictures without a counterpart (default: an error)"
    )


def side(text: str) -> int:
    """Pixels."""
    return number(int, 1, 16384)(text)


def add_resize_flags(parser: OneLineParser) -> None:
    parser.add_argument("--size", type=side, default=256, metavar="N", help="side in pixels (default: %(default)s)")
    help = "cover crops the centre, contain adds bars (default: %(default)s)"
    parser.add_argument("--fit", choices=("cover", "contain"), default="cover", help=help)
    help = f"of the bars: {', '.join(COLOURS)} or R,G,B (default: white)"
    parser.add_argument("--pad_colour", type=colour, default=COLOURS["white"], metavar="COLOUR", help=help)
    parser.add_argument(
        "--paired", action="store_true", help="the pictures are A|B files: resize each half (default: single pictures)"
    )


def add_edges_flags(parser: OneLineParser) -> None:
    threshold = number(float, 0, 10000)
    parser.add_argument(
        "--low", type=threshold, default=20, metavar="X", help="lower threshold: lines end below it (default: %(default)s)"
    )
    parser.add_argument(
        "--high",
        type=threshold,
        default=60,
        metavar="X",
        help="upper threshold: each line reaches it somewhere (default: %(default)s)",
    )
    help = "sigma in pixels of the blur before; more gives fewer lines, 0 none (default: %(default)s)"
    parser.add_argument("--blur", type=number(float, 0, 100), default=1.4, metavar="X", help=help)


def add_common_flags(parser: OneLineParser, encodes: bool) -> None:
    if encodes:
        parser.add_argument("--format", choices=("png", "jpg"), default="png", help="png keeps every pixel (default: %(default)s)")
        parser.add_argument("--quality", type=number(int, 1, 100), default=95, metavar="N", help="of jpg (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names in --output (default: an error)")
    parser.add_argument("--skip_unreadable", action="store_true", help="pass over pictures that cannot be read (default: an error)")
    help = "pictures worked on at once (default: the available cores, %(default)s)"
    parser.add_argument("--num_workers", type=number(int, 1, 256), default=available_cores(), metavar="N", help=help)


def number(kind: type, low: float, high: float) -> Callable[[str], Union[int, float]]:
    """A parser of numbers from `low` to `high`."""

    def parse(text: str) -> Union[int, float]:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r}: use {'a whole number' if kind is int else 'a number'} from {low} to {high}"
            )
        return value

    return parse


def share_or_number(text: str) -> Union[int, float]:
    """0.1 is a share, 100 a number of pictures."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if value >= 1 if kind is int else 0 < value < 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r}: use a share between 0 and 1, such as 0.1, or a whole number of pictures")


def colour(text: str) -> Tuple[int, ...]:
    """white, grey, black or R,G,B, each 0 to 255."""
    if text in COLOURS:
        return COLOURS[text]
    values = text.split(",")
    if len(values) == 3 and all(value.isdecimal() and int(value) <= 255 for value in values):
        return tuple(int(value) for value in values)
    raise argparse.ArgumentTypeError(f"{text!r}: use {', '.join(COLOURS)} or R,G,B from 0 to 255, such as 255,255,255")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="--input and --output")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError or OSError."""
    options = build_parser().parse_args(arguments)
    # A first signal is only noted, and heeded between pictures: the files are moved into place all or none.
    with StopRequest() as options.stop:
        jobs = COMMANDS[options.command].jobs(options)
        check_places(jobs, [options.A, options.B] if options.command == "pair" else [options.input], options)
        written = write_all(jobs, options)
        print(summary(written, options))


if __name__ == "__main__":
    sys.exit(main())
