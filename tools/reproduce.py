"""Run a whole set of trainings, one after another, and write the report.

python -m tools.reproduce --suite demo             the drawn portraits at 64x64: under two hours on two cores
python -m tools.reproduce --suite demo --jobs 2    two trainings at a time, a core each: half of it
python -m tools.reproduce --suite selfie2anime     the paper's own settings, for people with GPUs

Each run goes to RESULTS/SUITE/NAME. A suite that was interrupted goes on where it stopped when the same command is given again;
runs that are finished are left as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from command_line import OneLineParser, exit_code_of, parse_arguments
from config import Config
from datatools.demo import NAME, draw_missing
from engine.checkpoint import read_meta
from engine.cpu import available_cores
from engine.run import RunFolder
from errors import CheckpointError, ConfigError, Interrupted, TrainingError
from metrics.cache import inception_cache
from tools import report

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
ROOT = Path(__file__).resolve().parents[1]
# U-GAT-IT's table 1.
NORMS = {f"ugatit_{norm}": ["--decoder_norm", norm] for norm in ("in", "ln", "adain")}
WITHOUT_CAM = {"ugatit_no_cam": ["--no_generator_cam", "--no_discriminator_cam"]}


@dataclass(frozen=True)
class Suite:
    """What every run of a suite has, and the runs by name."""

    dataset: str
    shared: List[str]
    runs: Dict[str, List[str]]


SUITES = {
    "demo": Suite(
        "portraits",
        # Equal budgets, whatever the presets say.
        ["--preset", "demo", "--iteration", "3000", "--print_freq", "100", "--eval_freq", "500"],
        {"ugatit": [], "cyclegan": ["--method", "cyclegan"], "pix2pix": ["--method", "pix2pix"], **NORMS, **WITHOUT_CAM},
    ),
    "selfie2anime": Suite(
        "selfie2anime",
        ["--iteration", "1000000", "--eval_freq", "50000"],
        {
            "ugatit": [],
            "cyclegan": ["--method", "cyclegan"],
            **NORMS,
            "ugatit_gn": ["--decoder_norm", "gn"],
            **WITHOUT_CAM,
            "ugatit_no_generator_cam": ["--no_generator_cam"],
            "ugatit_no_discriminator_cam": ["--no_discriminator_cam"],
        },
    ),
}


class Runner:
    """Runs main.py for one suite, and stops its processes when it is told to."""

    def __init__(self, suite: Suite, folder: Path, common: List[str], threads: Optional[int]) -> None:
        self.suite, self.folder, self.common, self.threads = suite, folder, common, threads
        # With weights for KID and FID, runs that were evaluated without are evaluated again.
        self.has_weights = "--inception_weights" in common or inception_cache().exists()
        self.processes: List[subprocess.Popen] = []
        self.stopped = threading.Event()

    def where(self, name: str) -> List[str]:
        """The flags that say which run and which data set."""
        return ["--dataset", self.suite.dataset, "--result_dir", str(self.folder / name), *self.common]

    def config(self, name: str) -> Config:
        """The configuration of a run."""
        return parse_arguments([*self.where(name), *self.suite.shared, *self.suite.runs[name]])[0]

    def run(self, name: str) -> None:
        """Train, translate and evaluate one run, as far as that is not done."""
        config, where = self.config(name), self.where(name)
        settings = [*self.suite.shared, *self.suite.runs[name]]
        run = RunFolder(config.result_dir, config.dataset, config.method)
        method = ["--method", config.method]
        if trained(run) < config.iteration:
            self.call(name, [*where, *settings, "--phase", "train", "--resume"])
        if written(run.translated).get("iteration") != trained(run):
            self.call(name, [*where, *method, "--phase", "test"])
        evaluation = written(run.evaluation)
        new_weights = self.has_weights and not evaluation.get("inception_weights")
        if evaluation.get("iteration") != trained(run) or new_weights:
            self.call(name, [*where, *method, "--phase", "evaluate"])
        say(f"{name}: finished, in {run.path}")

    def call(self, name: str, arguments: List[str]) -> None:
        """One command of main.py, whose words go to NAME.log.

        Raises:
            Interrupted: the suite was stopped.
            TrainingError: the command failed.
        """
        if self.stopped.is_set():
            raise Interrupted("stopped; the same command goes on", 130)
        log = self.folder / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **({"OMP_NUM_THREADS": str(self.threads)} if self.threads else {})}
        say(f"{name}: python main.py {' '.join(arguments)} (words in {log})")
        with open(log, "a", encoding="utf-8") as stream:
            process = subprocess.Popen(
                [sys.executable, "main.py", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
            )
            self.processes.append(process)
            if self.stopped.is_set():  # while it was being started
                process.send_signal(signal.SIGTERM)
            code = process.wait()
        if self.stopped.is_set():
            raise Interrupted("stopped; the same command goes on", 130)
        if code:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise TrainingError(f"{name} ended with exit code {code}: {''.join(last)} (see {log})")

    def stop(self, *_) -> None:
        """Let the trainings save their state and end."""
        self.stopped.set()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def trained(run: RunFolder) -> int:
    """The iteration of the run's latest checkpoint, or 0."""
    try:
        return read_meta(run.latest)["iteration"]
    except CheckpointError:
        return 0


def written(file: Path) -> Dict[str, Any]:
    """A JSON file that a phase wrote, or nothing."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def say(text: str) -> None:
    """Print a line in one piece: two runs may speak at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def reproduce(suite: str, names: Sequence[str], results: Path, common: List[str], jobs: int) -> None:
    """Bring the named runs of a suite to their end, `jobs` at a time, and write the report, also of those that did not fail.

    Raises:
        UserError: a run failed, or the suite was stopped.
    """
    threads = max(1, available_cores() // jobs) if jobs > 1 else None
    runner = Runner(SUITES[suite], results / suite, common, threads)
    if SUITES[suite].dataset == NAME:
        for paired in sorted({runner.config(name).paired for name in names}):
            draw_missing(Path(runner.config(names[0]).data_root) / NAME, paired)
    # A signal that is ignored, as by nohup, stays ignored.
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, runner.stop) for number in heeded}
    try:
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(runner.run, name) for name in names]
            errors = [error for error in (future.exception() for future in futures) if error is not None]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if runner.stopped.is_set():
        raise Interrupted("stopped; the same command goes on", 130)
    for error in errors[1:]:
        print(f"error: {error}", file=sys.stderr)
    failed = report.main(["--results", str(results), "--overwrite"]) != 0
    if errors:
        raise errors[0]
    if failed:
        raise TrainingError("the report could not be written")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="--results and --data_root", stopped="stopped; the same command goes on")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError or OSError."""
    parser = OneLineParser(
        prog="python -m tools.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=sorted(SUITES), required=True)
    parser.add_argument("--only", metavar="NAME,NAME", help="these runs of the suite (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, sharing the cores (default: 1)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder for runs and report (default: results)")
    parser.add_argument("--data_root", default="dataset", help="folder of the data sets (default: dataset)")
    parser.add_argument("--inception_weights", metavar="FILE", help="weights for KID and FID")
    options = parser.parse_args(arguments)
    known = list(SUITES[options.suite].runs)
    names = list(dict.fromkeys(options.only.split(","))) if options.only else known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: choose from {','.join(known)}")
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: use 1 or more")
    common = ["--data_root", str(Path(options.data_root).resolve())]
    if options.inception_weights:
        common += ["--inception_weights", str(Path(options.inception_weights).resolve())]
    reproduce(options.suite, names, options.results.resolve(), common, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
