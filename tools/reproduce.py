"""Run a whole set of trainings, then write the report.

python -m tools.reproduce --suite demo             the drawn portraits at 64x64: under two hours on two cores
python -m tools.reproduce --suite demo --jobs 2    two trainings at a time, a core each: half of it
python -m tools.reproduce --suite paper            U-GAT-IT's table 3: two methods on up to five data sets, for GPUs
python -m tools.reproduce --suite selfie2anime     its table 1: the ablations, for GPUs

Each run goes to RESULTS/SUITE/NAME. A suite that was interrupted goes on where it stopped when the same command is given again;
runs that are finished are left as they are.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from command_line import OneLineParser, exit_code_of, parse_arguments
from datatools.demo import NAME, draw_missing
from engine.checkpoint import newest_iteration
from engine.cpu import available_cores
from engine.run import RunFolder
from errors import ConfigError, Interrupted, TrainingError
from metrics.cache import inception_cache
from tools.report import Report
from tools.report_runs import read_json

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
STOPPED = Interrupted("stopped; the same command goes on", 130)


class Suite(NamedTuple):
    """Each run, with its own flags and those that all share, is trained on each data set."""

    datasets: List[str]
    shared: List[str]
    runs: Dict[str, List[str]]


METHODS = {"ugatit": [], "cyclegan": ["--method", "cyclegan"]}
ABLATIONS = {f"ugatit_{norm}": ["--decoder_norm", norm] for norm in ("in", "ln", "adain")}
ABLATIONS["ugatit_no_cam"] = ["--no_generator_cam", "--no_discriminator_cam"]
MORE_ABLATIONS = {f"ugatit_no_{network}_cam": [f"--no_{network}_cam"] for network in ("generator", "discriminator")}
MORE_ABLATIONS["ugatit_gn"] = ["--decoder_norm", "gn"]
# Equal budgets, whatever the presets say; but in the suite `paper` each method is trained as its authors did.
DEMO = ["--preset", "demo", "--iteration", "3000", "--print_freq", "100", "--eval_freq", "500"]
PAPER_SETS = ["selfie2anime", "horse2zebra", "cat2dog", "photo2portrait", "vangogh2photo"]
LONG = ["--iteration", "1000000", "--eval_freq", "50000"]
SUITES = {
    "demo": Suite([NAME], DEMO, {**METHODS, "pix2pix": ["--method", "pix2pix"], **ABLATIONS}),
    "paper": Suite(PAPER_SETS, ["--eval_freq", "50000"], METHODS),
    "selfie2anime": Suite(["selfie2anime"], LONG, {**METHODS, **ABLATIONS, **MORE_ABLATIONS}),
}


class Runner:
    """Runs main.py for a suite, and stops its processes when it is told to."""

    def __init__(self, suite: Suite, folder: Path, common: List[str], threads: Optional[int] = None) -> None:
        self.suite, self.folder, self.common = suite, folder, common
        self.environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        # With weights for KID and FID, runs that were evaluated without are evaluated again.
        self.has_weights = "--inception_weights" in common or inception_cache().exists()
        self.processes: List[subprocess.Popen] = []
        self.stopped = threading.Event()

    def run(self, name: str, dataset: str) -> None:
        """Train, translate and evaluate one run, as far as that is not done. Raises Interrupted or TrainingError."""
        flags = ["--dataset", dataset, "--result_dir", str(self.folder / name), *self.common]
        settings = [*self.suite.shared, *self.suite.runs[name]]
        config = parse_arguments([*flags, *settings])[0]
        run = RunFolder(config.result_dir, dataset, config.method)
        # Where a configuration counts epochs, the run that it began knows how many iterations they are.
        planned = config.iteration or read_json(run.config).get("iteration", math.inf)
        done = newest_iteration(run.checkpoints)
        if done < planned:
            resume = ["--resume"] if done else []
            self.call(name, dataset, [*flags, *settings, "--phase", "train", *resume])
            done = newest_iteration(run.checkpoints)
        flags += ["--method", config.method]
        if read_json(run.test() / "test.json").get("iteration") != done:
            self.call(name, dataset, [*flags, "--phase", "test"])
        evaluation = read_json(run.evaluation())
        if evaluation.get("iteration") != done or (self.has_weights and not evaluation.get("inception_weights")):
            self.call(name, dataset, [*flags, "--phase", "evaluate"])
        print(f"{name} on {dataset}: finished, in {run.path}\n", end="", flush=True)  # one piece: two runs may print at once

    def call(self, name: str, dataset: str, arguments: List[str]) -> None:
        """One command of main.py, which prints into a log file. Raises Interrupted or TrainingError."""
        log = self.folder / name / f"{dataset}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if not self.stopped.is_set():
            print(f"python main.py {' '.join(arguments)} (prints into {log})\n", end="", flush=True)
            with open(log, "a", encoding="utf-8") as stream:
                process = subprocess.Popen(
                    [sys.executable, "main.py", *arguments],
                    cwd=Path(__file__).resolve().parents[1],
                    env=self.environment,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
                )
                self.processes.append(process)
                if self.stopped.is_set():  # while it was being started
                    self.stop()
                process.wait()
        if self.stopped.is_set():
            raise STOPPED
        if process.returncode:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise TrainingError(f"{name} on {dataset} ended with exit code {process.returncode}, see {log}: {''.join(last)}")

    def stop(self, *_) -> None:
        """Let the trainings save their state and end."""
        self.stopped.set()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="--results and --data_root", stopped=str(STOPPED))


def run(arguments: Optional[Sequence[str]]) -> int:
    """Run one command line; returns its exit code. Raises UserError or OSError."""
    parser = OneLineParser("python -m tools.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=sorted(SUITES), required=True)
    parser.add_argument("--only", metavar="NAME,NAME", help="these runs of the suite (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, sharing the cores (default: 1)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder for runs and report (default: results)")
    parser.add_argument("--data_root", type=Path, default=Path("dataset"), help="folder of the data sets (default: dataset)")
    parser.add_argument("--inception_weights", type=Path, metavar="FILE", help="weights for KID and FID")
    parser.add_argument("--overwrite", action="store_true", help="replace a report that shows runs which are not here")
    options = parser.parse_args(arguments)
    suite, data_root, results = SUITES[options.suite], options.data_root.resolve(), options.results.resolve()
    names = list(dict.fromkeys(options.only.split(","))) if options.only else list(suite.runs)
    for name in names:
        if name not in suite.runs:
            raise ConfigError(f"--only {name}: choose from {','.join(suite.runs)}")
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: use 1 or more")
    missing = [name for name in suite.datasets if name != NAME and not (data_root / name).is_dir()]
    datasets = [name for name in suite.datasets if name not in missing]
    for name in missing:
        get = f"python -m datatools.fetch {name} --data_root {options.data_root}"
        print(f"missing: data set {name}, get it with {get}", file=sys.stderr)
    if not datasets:
        return 1
    common = ["--data_root", str(data_root)]
    common += ["--inception_weights", str(options.inception_weights.resolve())] if options.inception_weights else []
    threads = max(1, available_cores() // options.jobs) if options.jobs > 1 else None
    runner = Runner(suite, results / options.suite, common, threads)
    if NAME in datasets:
        for paired in sorted({parse_arguments(suite.runs[name])[0].paired for name in names}):
            draw_missing(data_root / NAME, paired)

    # A signal that is ignored, as by nohup, stays ignored.
    handlers = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    for number in handlers:
        signal.signal(number, runner.stop)
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(runner.run, name, dataset) for dataset in datasets for name in names]
        errors = [future.exception() for future in futures if future.exception() is not None]
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if runner.stopped.is_set():
        raise STOPPED
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if len(errors) < len(futures):
        Report(results).write(options.overwrite)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
