"""Checkpoints survive a kill at any moment, a full disk, and say when their bytes have changed."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

import main
from engine.checkpoint import Checkpoint, CheckpointFolder, load
from errors import CheckpointError, TrainingError
from tests.helpers import ROOT, TINY, call, draw_dataset, flags, latest_bytes, run_folder

SAVE_AND_DIE = """
import os, signal, sys, numpy as np
import engine.checkpoint as checkpoint
calls = 0
def dying(function):
    def run(*arguments, **options):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return run
folder = checkpoint.CheckpointFolder(sys.argv[1], keep=1)
def save(iteration):
    arrays = {"weight": np.full(100, iteration, "float32")}
    folder.save(checkpoint.Checkpoint(arrays, arrays, {"iteration": iteration, "method": "toy"}), periodic=True)
save(1)
if sys.argv[3] == "no exchange":
    checkpoint._exchange = lambda *names: False
checkpoint.save_file = dying(checkpoint.save_file)
checkpoint.os.rename = dying(checkpoint.os.rename)
checkpoint.shutil.copytree = dying(checkpoint.shutil.copytree)
checkpoint.shutil.rmtree = dying(checkpoint.shutil.rmtree)
checkpoint._exchange = dying(checkpoint._exchange)
checkpoint._to_disk = dying(checkpoint._to_disk)
save(2)
"""


@pytest.mark.parametrize("exchange", ["exchange", "no exchange"])
def test_killed_at_any_moment_of_a_save(tmp_path, exchange):
    finished = False
    for moment in range(1, 100):
        folder = tmp_path / str(moment)
        process = subprocess.run([sys.executable, "-c", SAVE_AND_DIE, str(folder), str(moment), exchange], cwd=ROOT)
        newest, _ = CheckpointFolder(folder).newest_valid()
        assert newest.meta["iteration"] in (1, 2) and (newest.model["weight"] == newest.meta["iteration"]).all()
        if exchange == "exchange":
            assert load(folder / "latest").meta["iteration"] in (1, 2)
        if process.returncode == 0:
            finished = True
            break
        assert process.returncode == -signal.SIGKILL
        # The next save clears what the killed one left.
        arrays = {"weight": np.ones(3, "float32")}
        CheckpointFolder(folder).save(Checkpoint(arrays, arrays, {"iteration": 3, "method": "toy"}))
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert finished and moment > 8


def test_disk_full_keeps_the_older_latest(tmp_path):
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "2")) == 0
    before = latest_bytes(run_folder(tmp_path))

    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = call(flags(tmp_path, "--resume", "--iteration", "4", "--checkpoint_freq", "1"), preexec_fn=limit_file_size)
    assert result.returncode == 1
    assert "cannot save a checkpoint" in result.stderr and "go on with --resume" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: --result_dir")
    assert latest_bytes(run_folder(tmp_path)) == before
    assert load(run_folder(tmp_path) / "checkpoints" / "latest").meta["iteration"] == 2


def toy(iteration: int, value: float = 1.0) -> Checkpoint:
    return Checkpoint({"w": np.full(5, value)}, {"m": np.zeros(5)}, {"iteration": iteration, "method": "toy"})


def test_keeps_the_newest_periodic_ones(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    (tmp_path / "step_0000001_good").mkdir()
    (tmp_path / "step_notes").write_text("a file of the user's")
    for iteration in (1, 9_999_999, 10_000_000, 10_000_001):
        folder.save(toy(iteration), periodic=iteration != 10_000_001)
    expected = ["latest", "step_0000001_good", "step_10000000", "step_9999999", "step_notes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    assert folder.newest_valid()[0].meta["iteration"] == 10_000_001


def test_a_damaged_latest_leaves_the_periodic_one_of_the_same_iteration(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(toy(5), periodic=True)
    with open(tmp_path / "latest" / "model.safetensors", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")
    assert folder.newest_valid()[0].meta["iteration"] == 5


@pytest.mark.parametrize("text", ["[]", "{}", '{"checksum": 1}', "", "null", '"text"'])
def test_a_meta_file_of_another_kind_is_an_error_in_one_line(tmp_path, text):
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(CheckpointError, match="meta.json: cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "meta.json"])
def test_changed_bytes_are_noticed_and_resume_takes_the_next_best(tmp_path, file):
    folder = CheckpointFolder(tmp_path)
    folder.save(toy(1), periodic=True)
    folder.save(toy(2))
    path = tmp_path / "latest" / file
    content = bytearray(path.read_bytes())
    place = content.index(b'"iteration": 2') + 13 if file == "meta.json" else len(content) - 1
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="bytes have changed"):
        load(tmp_path / "latest")
    newest, problems = folder.newest_valid()
    assert newest.meta["iteration"] == 1 and len(problems) == 1 and file in problems[0]
    (tmp_path / "step_0000001" / "meta.json").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        folder.newest_valid()


def test_a_value_that_is_not_finite_is_not_saved(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(toy(1))
    with pytest.raises(TrainingError, match="w is not finite at iteration 2"):
        folder.save(toy(2, float("inf")))
    assert load(tmp_path / "latest").meta["iteration"] == 1
