"""Checkpoints survive a kill at any moment, a full disk, and say when their bytes have changed."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import main
from engine.checkpoint import Checkpoint, CheckpointFolder, find_checkpoint, load
from errors import CheckpointError, TrainingError
from tests.helpers import ROOT, TINY, call, draw_dataset, draw_pairs, flags, latest_bytes, newest, run_folder

SAVE_AND_DIE = """
import itertools, os, signal, sys, numpy as np
import engine.checkpoint as checkpoint

def dying(function, moment):
    def run(*arguments, **options):
        if next(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return run

def save(folder, iteration):
    arrays = {part: {"weight": np.full(100, iteration, "float32")} for part in checkpoint.PARTS}
    state = checkpoint.Checkpoint(arrays, {"iteration": iteration, "method": "toy"})
    folder.save(state, periodic=iteration == 2)
    folder.save_best(state)

def save_and_die(folder, moment):
    for iteration in (1, 2):
        save(folder, iteration)
    checkpoint.save_file, checkpoint._to_disk = dying(checkpoint.save_file, moment), dying(checkpoint._to_disk, moment)
    for name in ("rename", "unlink", "rmdir"):  # pathlib and shutil use them too
        setattr(os, name, dying(getattr(os, name), moment))
    for iteration in (3, 4, 4):
        save(folder, iteration)

for moment in range(1, 300):
    calls = itertools.count(1)
    process = os.fork()
    if not process:
        save_and_die(checkpoint.CheckpointFolder(os.path.join(sys.argv[1], str(moment)), keep=1), moment)
        os._exit(0)
    status = os.waitpid(process, 0)[1]
    print(status)
    if status == 0:
        break
"""


def test_killed_at_any_moment_of_a_save(tmp_path):
    """Newer ones, one of an iteration that is there already, and the best: there is always a whole one of each."""
    result = subprocess.run(
        [sys.executable, "-c", SAVE_AND_DIE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    statuses = [int(line) for line in result.stdout.split()]
    assert statuses == [signal.SIGKILL] * (len(statuses) - 1) + [0] and len(statuses) > 40
    for moment in range(1, len(statuses) + 1):
        folder = tmp_path / str(moment)
        found, problems = CheckpointFolder(folder).newest_valid()
        iteration = found.meta["iteration"]
        assert iteration in (2, 3, 4) and (found.arrays["generators"]["weight"] == iteration).all() and not problems
        assert load(find_checkpoint(folder / "latest")).meta["iteration"] == iteration
        assert load(find_checkpoint(folder / "best")).meta["iteration"] in (2, 3, 4)
        # The next saves clear what the killed one left.
        CheckpointFolder(folder, keep=1).save(toy(5))
        CheckpointFolder(folder, keep=1).save_best(toy(5))
        assert sorted(path.name for path in folder.iterdir()) == ["best_0000005", "step_0000002", "step_0000005"]


def test_a_finished_run_clears_what_a_kill_after_its_last_save_has_left(tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "2")) == 0
    last = newest(run_folder(tmp_path))
    shutil.copytree(last, last.parent / "step_0000001")
    shutil.copytree(last, last.parent / ".removing-step_0000000")
    assert main.main(flags(tmp_path, "--resume")) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert list(last.parent.iterdir()) == [last]


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
    assert load(newest(run_folder(tmp_path))).meta["iteration"] == 2


def toy(iteration: int, value: float = 1.0) -> Checkpoint:
    arrays = {"generators": {"w": np.full(5, value)}, "discriminators": {"w": np.zeros(3)}, "optimizer": {"m": np.zeros(5)}}
    return Checkpoint(arrays, {"iteration": iteration, "method": "toy"})


def test_keeps_the_newest_periodic_ones(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    (tmp_path / "step_0000001_good").mkdir()
    (tmp_path / "step_notes").write_text("a file of the user's")
    for iteration in (1, 9_999_999, 10_000_000, 10_000_001):
        folder.save(toy(iteration), periodic=iteration != 10_000_001)
    expected = ["step_0000001_good", "step_10000000", "step_10000001", "step_9999999", "step_notes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    assert folder.newest_valid()[0].meta["iteration"] == 10_000_001


def test_what_was_just_written_stays_below_a_damaged_one_of_a_higher_number(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(toy(60), periodic=True)
    (tmp_path / "step_0000060" / "generators.safetensors").write_bytes(b"damaged")
    folder.save(toy(45), periodic=True)
    assert folder.newest_valid()[0].meta["iteration"] == 45


def test_of_those_that_are_not_periodic_the_newest_stays(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for iteration in (1, 2, 3):
        folder.save(toy(iteration), periodic=iteration == 2)
        folder.save_best(toy(iteration))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best_0000003", "step_0000002", "step_0000003"]


def test_files_can_be_read_by_whom_the_umask_says(tmp_path):
    CheckpointFolder(tmp_path).save(toy(1))
    reference = tmp_path / "reference"
    reference.touch()
    assert {path.stat().st_mode for path in (tmp_path / "step_0000001").iterdir()} == {reference.stat().st_mode}


@pytest.mark.parametrize("text", ["[]", "{}", '{"checksum": 1}', "", "null", '"text"'])
def test_a_meta_file_of_another_kind_is_an_error_in_one_line(tmp_path, text):
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(CheckpointError, match="meta.json: cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["generators.safetensors", "discriminators.safetensors", "optimizer.safetensors", "meta.json"])
def test_changed_bytes_are_noticed_and_resume_takes_the_next_best(tmp_path, file):
    folder = CheckpointFolder(tmp_path)
    folder.save(toy(1), periodic=True)
    folder.save(toy(2))
    path = tmp_path / "step_0000002" / file
    content = bytearray(path.read_bytes())
    place = content.index(b'"iteration": 2') + 13 if file == "meta.json" else len(content) - 1
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="bytes have changed"):
        load(tmp_path / "step_0000002")
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
    assert load(tmp_path / "step_0000001").meta["iteration"] == 1


def test_checkpoints_of_the_project_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.checkpoint.SHIPPED", tmp_path / "project" / "weights")
    (tmp_path / "project" / "weights" / "ours").mkdir(parents=True)
    (tmp_path / "project" / "weights" / "ours" / "meta.json").touch()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(Path("weights/ours")) == tmp_path / "project" / "weights" / "ours"
    with pytest.raises(CheckpointError, match="--checkpoint: weights/theirs is not a checkpoint folder"):
        find_checkpoint(Path("weights/theirs"))
    (tmp_path / "weights" / "ours").mkdir(parents=True)  # the user's own goes first
    with pytest.raises(CheckpointError, match="weights/ours"):
        find_checkpoint(Path("weights/ours"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder with a data set and a small run of one iteration."""
    where = tmp_path_factory.mktemp("pairs")
    draw_pairs(where / "data")
    sizes = ["--method", "pix2pix", "--img_size", "8", "--ch", "1", "--n_layers_D", "1"]
    assert main.main(flags(where, *sizes, "--iteration", "1", "--ema", "0.9")) == 0
    return where


def resumed_with(pairs, tmp_path, capsys, state: Checkpoint) -> str:
    """What --resume says of this state."""
    CheckpointFolder(tmp_path / "tiny" / "pix2pix" / "checkpoints").save(state)
    arguments = flags(pairs, "--method", "pix2pix", "--resume", "--iteration", "2", "--result_dir", str(tmp_path))
    assert main.main(arguments) in (1, 2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: --iteration")]
    return line


WRONG_VALUES = [
    *({"seconds": value} for value in ("x", None, 10**400)),
    *({"best": value} for value in ([], {"merit": "x"}, {"kind": 5})),
    *({"window": value} for value in ([], {"count": -1}, {"sums": {"a": None}}, {"sums": {}, "count": 0, "more": 1})),
    *({"precision": {"loss_scale": 1}}, {"precision": 3}, {"kind": 1}, {"iteration": True}),
]


@pytest.mark.parametrize("wrong", WRONG_VALUES, ids=str)
def test_values_of_other_types_are_an_error_in_one_line(pairs, tmp_path, capsys, wrong):
    """Although the checksum is theirs."""
    state = load(newest(pairs / "results" / "tiny" / "pix2pix"))
    line = resumed_with(pairs, tmp_path, capsys, Checkpoint(state.arrays, {**state.meta, **wrong}))
    assert "meta.json: not the meta.json of a checkpoint" in line or "meta.json: cannot be read" in line


@pytest.mark.parametrize(
    "wrong",
    [
        {"img_size": "8"},
        {"ch": 1.5},
        {"ema": None},
        {"dropout": 1},
        {"dataset": 3},
        {"inception_weights": "a\0"},
        {"batch_size": 2**40},
    ],
)
def test_settings_of_other_types_are_an_error_in_one_line(pairs, tmp_path, capsys, wrong):
    state = load(newest(pairs / "results" / "tiny" / "pix2pix"))
    state.meta["config"].update(wrong)
    assert f"--{next(iter(wrong))} " in resumed_with(pairs, tmp_path, capsys, state)


@pytest.mark.parametrize("part, word", [("generators", "networks"), ("averaged", "networks"), ("optimizer", "optimizer's state")])
@pytest.mark.parametrize("change", ["removed", "of another type"])
def test_arrays_of_other_names_and_types_are_refused(pairs, tmp_path, capsys, part, word, change):
    """A moment of the optimizer that is missing would silently begin anew."""
    state = load(newest(pairs / "results" / "tiny" / "pix2pix"))
    name = next(name for name in state.arrays[part] if "D." in name or part != "optimizer")
    array = state.arrays[part].pop(name)
    if change != "removed":
        state.arrays[part][name] = array.astype(np.float64)
    assert word in resumed_with(pairs, tmp_path, capsys, state)
