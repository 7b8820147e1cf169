"""What several tests need: tiny data sets, a tiny architecture, and the command line in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from command_line import parse_arguments
from engine.checkpoint import CheckpointFolder, find_checkpoint
from utils import write_image

ROOT = Path(__file__).parents[1]
# The smallest networks that have every kind of layer.
TINY = ["--img_size", "24", "--n_dis", "4", "--ch", "2", "--n_res", "1", "--light"]
# What a training on `draw_dataset`'s images says on stderr.
FEW_IMAGES = (
    "warning: few images (3 in trainA and 4 in trainB): with fewer than 100 the discriminators learn them by heart; "
    "see docs/tips.md#a-small-domain\n"
)
# For `call`: Python that imports Paddle must configure it first.
CONFIGURE = "from engine.cpu import configure_cpu; configure_cpu()\n"
KILL_IN_ITERATION_6 = """
import os, signal
from engine.method import Method
step = Method.step
def killed(self, batch):
    losses = step(self, batch)
    if self.iteration == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses
Method.step = killed
"""


def draw_dataset(root: Path, name: str = "tiny", train: int = 3, test: int = 2, size: int = 28) -> Path:
    """trainA, trainB, testA, testB of random images, with one more in B than in A; returns their folder."""
    rng = np.random.default_rng(0)
    for phase, count in (("train", train), ("test", test)):
        for domain, more in (("A", 0), ("B", 1)):
            for index in range(count + more if count else 0):
                write_image(root / name / f"{phase}{domain}" / f"{index}.png", rng.integers(0, 256, (size, size, 3), np.uint8))
    return root / name


def flags(tmp_path: Path, *more: str) -> List[str]:
    """A tiny training on tmp_path/data/tiny into tmp_path/results."""
    where = ["--dataset", "tiny", "--data_root", str(tmp_path / "data"), "--result_dir", str(tmp_path / "results")]
    return [*where, "--device", "cpu", *more]


def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "tiny" / "ugatit"


def call(arguments: List[str], before: str = "", **options) -> subprocess.CompletedProcess:
    """Run main.py in a process of its own; `before` is Python that runs first, with main's modules importable."""
    return subprocess.run(command(arguments, before), capture_output=True, text=True, cwd=ROOT, **options)


def command(arguments: List[str], before: str = "") -> List[str]:
    if not before:
        return [sys.executable, "main.py", *arguments]
    return [sys.executable, "-c", f"import sys, main\n{before}\nsys.exit(main.main(sys.argv[1:]))", *arguments]


def read_metrics(run: Path) -> List[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def newest(run: Path) -> Path:
    """The folder of a run's newest checkpoint."""
    return find_checkpoint(run)


def latest_bytes(run: Path) -> Dict[str, bytes]:
    """The arrays of the newest checkpoint, as files."""
    return {file.name: file.read_bytes() for file in newest(run).glob("*.safetensors")}


def environment(**more: str) -> Dict[str, str]:
    return {**os.environ, **more}


def draw_pairs(root: Path, name: str = "tiny", size: int = 32) -> Path:
    """train and test of random images with A and B side by side; returns their folder."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("test", 2)):
        for index in range(count):
            write_image(root / name / part / f"{index}.png", rng.integers(0, 256, (size, 2 * size, 3), np.uint8))
    return root / name


def straight_and_killed(
    tmp_path: Path,
    method: str,
    options: Sequence[str],
    before: str = "",
    print_freqs: Sequence[str] = ("2", "2"),
    resume_with: Optional[Sequence[str]] = None,
) -> Tuple[List[Path], str]:
    """Train 8 iterations twice, once killed in iteration 6 and resumed from 3, and hold both equal to the last bit.

    Args:
        before: Python that runs first in every process.
        print_freqs: --print_freq of the two.
        resume_with: the flags beside --resume, where they are not those of the killed run.

    Returns:
        The folders of both runs, and what the resumed one printed.
    """
    runs = []
    for name, print_freq in zip(("straight", "killed"), print_freqs):
        where = tmp_path / name
        (draw_pairs if method == "pix2pix" else draw_dataset)(where / "data")
        arguments = flags(where, *options, "--iteration", "8", "--checkpoint_freq", "3", "--print_freq", print_freq)
        if name == "killed":
            assert call(arguments, before + CONFIGURE + KILL_IN_ITERATION_6).returncode == -signal.SIGKILL
            arguments = [*(arguments if resume_with is None else flags(where, *resume_with)), "--resume"]
        result = call(arguments, before)
        assert result.returncode == 0, result.stderr
        runs.append(where / "results" / "tiny" / method)
    assert "resumed at iteration 3" in result.stdout
    assert latest_bytes(runs[0]) == latest_bytes(runs[1])
    return runs, result.stdout


def save_untrained(folder: Path, *arguments: str) -> Path:
    """A checkpoint of networks as they are initialised, tiny unless the flags say otherwise; returns its folder."""
    from methods import build_method  # not above: processes that are to be without Paddle import this file too

    sizes = [] if "--method" in arguments else TINY
    config = parse_arguments(["--device", "cpu", *sizes, *arguments])[0].with_length(1)
    method = build_method(config)
    CheckpointFolder(folder).save(method.state())
    return find_checkpoint(folder)
