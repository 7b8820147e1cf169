"""Take each method through a little training, resuming, evaluation, export and inference, and say which links of the chain hold.

python -m test_tipc.chain                                                                 the three methods
python -m test_tipc.chain test_tipc/configs/ugatit/train_infer_python.txt                 one of them

The commands are made from the configurations, which have the form of PaddlePaddle's TIPC. A link after one that failed is not run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from command_line import OneLineParser, exit_code_of
from dataset import find_images
from deploy.engines import is_installed
from errors import ConfigError, DataError
from utils import read_image

ROOT = Path(__file__).parents[1]
CONFIGS = "test_tipc/configs/*/train_infer_python.txt"
MODE = "lite_train_lite_infer"
STATUS_LOG = "results_python.log"
LINES = 51
# The largest difference between translations by the network and by an exported model: rounding to one of 256 levels.
MOST_LEVELS = 1


class Recipe(NamedTuple):
    """What the chain needs of a configuration: the arguments of Python for each command, without what each run adds."""

    name: str
    train: List[str]
    iterations: int
    evaluate: List[str]
    export: List[str]
    translate: List[str]
    run: str


class Link(NamedTuple):
    """One line of the summary; `passed` is None where the link was not run."""

    method: str
    name: str
    seconds: float
    passed: Optional[bool]


def read_recipe(path: Path, mode: str) -> Recipe:
    """Read a configuration: its numbered lines are KEY:VALUE, as TIPC's guide lists them, and null stands for nothing.

    Raises:
        ConfigError: it is not such a file, or does not know the mode.
        OSError: it cannot be read.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if len(lines) < LINES:
        raise ConfigError(f"{path}: not a TIPC configuration (it has {len(lines)} lines, not {LINES})")

    def value(number: int) -> str:
        return lines[number - 1].partition(":")[2].strip()

    def flags(*numbers: int) -> List[str]:
        """--key=value of each line that has both."""
        pairs = [lines[number - 1].partition(":")[::2] for number in numbers]
        return [f"{key}={_of_mode(path, text, mode)}" for key, text in pairs if key != "null" and text not in ("null", "")]

    iterations = _of_mode(path, value(7), mode)
    if not iterations.isdigit():
        raise ConfigError(f"{path}, line 7: {iterations!r} is not a number of iterations")
    device = flags(5)
    return Recipe(
        name=value(2),
        train=[*value(16).split(), *device, *flags(9)],
        iterations=int(iterations),
        evaluate=[*value(24).split(), *device, *flags(25)],
        export=value(30).split(),
        translate=[*value(40).split(), *flags(41, 48)],
        run=value(11),
    )


def _of_mode(path: Path, text: str, mode: str) -> str:
    """`text`, or of MODE=VALUE|MODE=VALUE the value of `mode`."""
    if "=" not in text:
        return text
    by_mode = dict(part.partition("=")[::2] for part in text.split("|"))
    if mode not in by_mode:
        raise ConfigError(f"{path} has no mode {mode!r}: use {' or '.join(by_mode)}")
    return by_mode[mode]


class Chain:
    """Runs the links of one method below `folder`, where each writes a log, until one fails."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.links: List[Link] = []

    def run(self) -> List[Link]:
        """All links, in their order."""
        recipe, run, exported = self.recipe, self.folder / self.recipe.run, self.folder / "exported"
        has_onnx = is_installed("onnxruntime", "onnx")
        train = [*recipe.train, f"--result_dir={self.folder}"]
        self.command("train", [*train, f"--iteration={recipe.iterations}"])
        self.command("resume", [*train, "--resume", f"--iteration={2 * recipe.iterations}"])
        self.command("evaluate", [*recipe.evaluate, f"--checkpoint={run}"])
        # The last of two flags counts.
        both = ["--format=both"] if has_onnx else []
        self.command("export", [*recipe.export, *both, f"--checkpoint={run}", f"--output={exported}"])
        self.translate("infer network", run, "--engine=network", "--direction=A2B")
        for kind, file in {"paddle": "A2B.json", **({"onnx": "A2B.onnx"} if has_onnx else {})}.items():
            self.translate(f"infer {kind}", exported / file)
            self.compare(f"compare {kind}", self.folder / "infer_network", self.folder / f"infer_{kind}")
        return self.links

    def command(self, name: str, arguments: Sequence[str]) -> None:
        """Run Python in a process of its own, which prints into a log file."""
        log = self.folder / f"{_file_name(name)}.log"

        def work() -> str:
            with open(log, "w", encoding="utf-8") as stream:
                done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            return f"exit code {done.returncode}: {''.join(last)}" if done.returncode else ""

        self.link(name, f"{shlex.join(['python', *arguments])} - {log}", work)

    def translate(self, name: str, checkpoint: Path, *more: str) -> None:
        """Translate the pictures of the configuration into a folder with the link's name."""
        output = self.folder / _file_name(name)
        self.command(name, [*self.recipe.translate, *more, f"--checkpoint={checkpoint}", f"--output={output}"])

    def compare(self, name: str, expected: Path, found: Path) -> None:
        """Hold the pictures of two folders together."""

        def work() -> str:
            levels = largest_difference(expected, found)
            print(f"{self.recipe.name}: {found.name} differs from {expected.name} by at most {levels} of 255")
            return f"the most is {MOST_LEVELS}" if levels > MOST_LEVELS else ""

        self.link(name, f"largest difference of {found} from {expected}", work)

    def link(self, name: str, what: str, work: Callable[[], str]) -> None:
        """Do `work`, which gives what went wrong, unless a link before failed, and say how it ended."""
        if self.links and not self.links[-1].passed:
            self.links.append(Link(self.recipe.name, name, 0.0, None))
            return
        begin = time.perf_counter()
        try:
            error = work()
        except (DataError, OSError) as problem:
            error = str(problem)
        seconds = time.perf_counter() - begin
        # Commands run in the project's folder.
        what = what.replace(f"{ROOT}{os.sep}", "")
        line = f"Run {'failed' if error else 'successfully'} with command - {self.recipe.name} - {what} - {seconds:.1f} s"
        print(line, *[error] * bool(error), sep="\n", flush=True)
        with open(self.folder / STATUS_LOG, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        self.links.append(Link(self.recipe.name, name, seconds, not error))


def _file_name(name: str) -> str:
    return name.replace(" ", "_")


def largest_difference(expected: Path, found: Path) -> int:
    """The largest difference between pictures of the same names, in levels out of 255.

    Raises:
        DataError: the folders do not hold the same names and sizes, or no picture.
    """
    names = find_images(expected)
    if not names or names != find_images(found):
        raise DataError(f"{found}: not the pictures of {expected}, which has {len(names)}")
    pairs = [[read_image(folder / name, 3).astype(np.int16) for folder in (expected, found)] for name in names]
    if any(one.shape != other.shape for one, other in pairs):
        raise DataError(f"{found}: not the sizes of {expected}")
    return max(int(np.abs(one - other).max()) for one, other in pairs)


def summary(links: Sequence[Link]) -> str:
    """A table of all links, and how many failed."""
    words: Dict[Optional[bool], str] = {True: "ok", False: "FAILED", None: "not run"}
    lines = [f"{link.method:10s} {link.name:16s} {link.seconds:6.1f} s  {words[link.passed]}" for link in links]
    failed = sum(not link.passed for link in links)
    seconds = sum(link.seconds for link in links)
    return "\n".join([*lines, f"{len(links) - failed} of {len(links)} links hold, {seconds:.0f} s"])


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code, 1 where a link failed."""
    return exit_code_of(lambda: run(arguments), see="the configuration's path and --output")


def run(arguments: Optional[Sequence[str]]) -> int:
    """Run one command line. Raises UserError or OSError."""
    parser = OneLineParser("python -m test_tipc.chain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", help=f"one configuration (none: all of {CONFIGS})")
    parser.add_argument("mode", nargs="?", default=MODE, help=f"of the values with several (default: {MODE})")
    parser.add_argument("--output", type=Path, default=ROOT / "test_tipc" / "output", help="(default: test_tipc/output)")
    options = parser.parse_args(arguments)
    recipes = [read_recipe(path, options.mode) for path in ([options.config] if options.config else sorted(ROOT.glob(CONFIGS)))]
    links: List[Link] = []
    for recipe in recipes:
        folder = options.output.absolute() / recipe.name
        if folder.exists() and not (folder / STATUS_LOG).is_file():
            raise ConfigError(f"--output {options.output}: {folder} was not written by this command: name another folder")
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / STATUS_LOG).touch()
        links += Chain(recipe, folder).run()
    print(f"\n{summary(links)}")
    return 0 if all(link.passed for link in links) else 1


if __name__ == "__main__":
    sys.exit(main())
