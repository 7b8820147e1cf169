"""Kill trainings at random moments, resume them, and hold what they end in against uninterrupted ones.

python -m tools.soak                                  100 kills of each method: minutes
python -m tools.soak --kills 1000 --seed 1            more of them, at other moments

Of each method, tiny networks with averages are trained once in one piece, and then killed with SIGKILL after a random time, every
second time when the next checkpoint is being written, resumed, killed again and so on; a run that ends before the last kill is
followed by another. Each must end in the same files with
the same bytes: networks, optimizers, averages, sample grids and losses. Nothing else may be left in its folder. It needs fork,
which Windows does not have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np

from engine.cpu import configure_cpu

os.environ.setdefault("OMP_NUM_THREADS", "1")
configure_cpu()

import main as project  # noqa: E402
from command_line import OneLineParser, exit_code_of  # noqa: E402
from datatools.demo import draw_dataset  # noqa: E402
from engine.checkpoint import WRITING  # noqa: E402
from engine.precision import refuse_amp  # noqa: E402
from engine.progress import track  # noqa: E402
from errors import ConfigError, TrainingError  # noqa: E402

SMALL = ["--img_size", "32", "--ch", "2", "--ema", "0.9"]
METHODS = {
    "ugatit": [*SMALL, "--light", "--n_dis", "4", "--n_res", "1"],
    "cyclegan": [*SMALL, "--n_blocks", "1", "--n_layers_D", "1", "--pool_size", "3"],
    "pix2pix": [*SMALL, "--n_layers_D", "1"],
}
ITERATIONS = 30
SCHEDULE = ["--iteration", str(ITERATIONS), "--checkpoint_freq", "1", "--save_freq", "4", "--print_freq", "5", "--num_workers", "1"]
# Ask whether a process has ended, which it can be asked again.
HAS_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
# Of a line of metrics.jsonl and of a checkpoint: what depends on the clock.
OF_THE_CLOCK = ("images_per_second", "seconds", "checksum")


class Soak:
    """Kills of one method.

    Args:
        folder: for the data, the runs and what they print.
        flags: beside those of the data and of the schedule.
    """

    def __init__(self, method: str, folder: Path, flags: Sequence[str], rng: np.random.Generator) -> None:
        self.method, self.folder, self.flags, self.rng = method, folder, flags, rng
        self.straight = self.path("straight")
        self.kills = self.runs = self.in_writing = 0

    def path(self, name: str) -> Path:
        """The folder of a run."""
        return self.folder / name / "faces" / self.method

    def start(self, name: str) -> int:
        """Start or resume the training `name`; returns the number of its process."""
        process = os.fork()
        if process:
            return process
        with open(self.folder / f"{name}.log", "a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            where = ["--data_root", str(self.folder), "--dataset", "faces", "--result_dir", str(self.folder / name)]
            arguments = ["--method", self.method, *where, *self.flags, *SCHEDULE, "--device", "cpu", "--resume", "auto"]
            exit_code = 1
            try:
                exit_code = project.main(arguments)
            finally:
                os._exit(exit_code)  # nothing of the parent's is ended here

    def end(self, name: str, process: int) -> None:
        """Wait for a training's own end. Raises TrainingError where it fails."""
        status = os.waitpid(process, 0)[1]
        if status:
            last = (self.folder / f"{name}.log").read_text(encoding="utf-8").splitlines()[-1:]
            raise TrainingError(f"{self.method}: the training {name} ended with exit code {status >> 8}: {''.join(last)}")

    def run(self, kills: int) -> None:
        """Train in one piece, then with so many kills. Raises TrainingError where something differs."""
        started = time.monotonic()
        self.end("straight", self.start("straight"))
        longest = time.monotonic() - started
        for _ in track(range(kills), self.method, kills, "kills"):
            while not self.kill_once(longest):
                pass
        name = f"killed{self.runs}"
        self.end(name, self.start(name))
        self.compare(name)

    def kill_once(self, longest: float) -> bool:
        """Go on with a run and kill it, unless it ends by itself; returns whether it was killed."""
        name = f"killed{self.runs}"
        process = self.start(name)
        time.sleep(self.rng.uniform(0, longest / 2))
        writing = self.path(name) / "checkpoints" / f"{WRITING}{process}"
        while self.kills % 2 and not writing.exists() and not os.waitid(os.P_PID, process, HAS_ENDED):
            time.sleep(0.0005)
        if os.waitpid(process, os.WNOHANG)[0]:
            self.compare(name)
            return False
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        self.kills += 1
        self.in_writing += writing.exists()
        return True

    def compare(self, name: str) -> None:
        """Raise TrainingError where a run has not ended in the files of the uninterrupted one."""
        expected = contents(self.straight)
        found = contents(self.path(name))
        differing = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        if differing:
            raise TrainingError(f"{self.method}: {name} differs from the uninterrupted run in {', '.join(differing[:5])}")
        self.runs += 1


def contents(run: Path) -> Dict[str, str]:
    """A run's files by name: the SHA-256 of each, without what depends on the clock; of VisualDL's logs the folder alone."""
    found = {}
    for file in sorted(run.rglob("*")):
        name = file.relative_to(run).as_posix()
        if file.is_dir() or name == ".lock":
            continue
        if name.startswith("log/"):
            found["log"] = ""
            continue
        content = file.read_bytes()
        if file.suffix in (".json", ".jsonl"):
            lines = content.decode().splitlines() if file.suffix == ".jsonl" else [content.decode()]
            content = json.dumps([_without_clock(json.loads(line)) for line in lines]).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def _without_clock(values: Dict[str, object]) -> Dict[str, object]:
    return {name: value for name, value in values.items() if name not in (*OF_THE_CLOCK, "result_dir", "data_root")}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code, 1 where a training did not end as it should."""
    return exit_code_of(lambda: run(arguments), see="TMPDIR")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError or OSError."""
    parser = OneLineParser("python -m tools.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each method (default: 100)")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"(default: {','.join(METHODS)})")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args(arguments)
    names = options.methods.split(",")
    for name in names:
        if name not in METHODS:
            raise ConfigError(f"--methods {name}: choose from {','.join(METHODS)}")
    variants: Dict[str, List[str]] = {"": []}
    try:
        refuse_amp("bf16", "cpu")
        variants[" --amp bf16"] = ["--amp", "bf16"]
    except ConfigError:
        print("without --amp bf16, which this processor does not have")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for number, (method, (label, flags)) in enumerate((name, item) for name in names for item in variants.items()):
            place = Path(folder, str(number))
            place.mkdir()
            draw_dataset(place / "faces", paired=method == "pix2pix", size=40, train=4, val=1, test=2)
            soak = Soak(method, place, [*METHODS[method], *flags], np.random.default_rng([options.seed, number]))
            soak.run(options.kills)
            print(
                f"{method}{label}: {soak.kills} kills, {soak.in_writing} of them while a checkpoint was written; {soak.runs} runs "
                f"of {ITERATIONS} iterations, each with the files and bytes of the uninterrupted one",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
