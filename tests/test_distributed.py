"""Two processes that train one run, started by Paddle's own launcher, beside one process with twice the batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

import main
from engine import distributed
from engine.checkpoint import read_meta
from tests.helpers import ROOT, TINY, draw_dataset, draw_pairs, environment, newest, read_metrics
from utils import read_image

METHODS = {
    "ugatit": TINY,
    "cyclegan": ["--img_size", "24", "--ch", "2", "--n_blocks", "1", "--n_layers_D", "1", "--pool_size", "3"],
    # Dropout, and the random points of the gradient penalty.
    "pix2pix": ["--img_size", "64", "--ch", "2", "--norm", "instance", "--n_layers_D", "1", "--gan_mode", "wgangp"],
}
COMMANDS = """
import json, sys
import main
for arguments in json.load(open(sys.argv[1])):
    code = main.main(arguments)
    if code:
        sys.exit(code)
"""


def launch(tmp_path, *commands, processes=2, **options):
    """Run these command lines of main.py one after the other in several processes; returns the launcher's process."""
    script, work = tmp_path / "commands.py", tmp_path / "commands.json"
    script.write_text(COMMANDS)
    work.write_text(json.dumps(commands))
    launcher = [
        sys.executable,
        "-m",
        "paddle.distributed.launch",
        "--nproc_per_node",
        str(processes),
        "--log_dir",
        tmp_path / "log",
    ]
    return subprocess.Popen(
        [*map(str, launcher), str(script), str(work)],
        cwd=ROOT,
        env=environment(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )


def logs(tmp_path):
    return "\n".join(file.read_text() for file in sorted((tmp_path / "log").glob("workerlog.*")))


def arguments(tmp_path, method, result_dir, *more):
    where = ["--data_root", str(tmp_path / "data"), "--dataset", "tiny", "--result_dir", str(tmp_path / result_dir)]
    return ["--method", method, *where, "--device", "cpu", *more]


def differences(one, two):
    """The largest difference of each network's arrays, but of biases before an instance norm.

    Their gradients are 0 but for rounding, which Adam makes as large as any step.
    """
    found = {}
    for file in ("generators", "discriminators", "averaged"):
        a, b = (load_file(folder / f"{file}.safetensors") for folder in (one, two))
        assert a.keys() == b.keys()
        found[file] = max(float(np.abs(a[key] - b[key]).max()) for key in a if not key.endswith(".bias"))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_do_what_one_does_with_twice_the_batch(tmp_path, method):
    (draw_pairs if method == "pix2pix" else draw_dataset)(tmp_path / "data")
    training = [*METHODS[method], "--iteration", "5", "--ema", "0.9", "--print_freq", "5"]
    phases = [["--phase", "test"]]
    if method == "pix2pix":
        phases.append(["--phase", "evaluate", "--metrics", "l1"])
    launched = launch(
        tmp_path,
        arguments(tmp_path, method, "two", *training, "--batch_size", "1"),
        *(arguments(tmp_path, method, "two", *phase) for phase in phases),
    )
    assert main.main(arguments(tmp_path, method, "one", *training, "--batch_size", "2")) == 0
    for phase in phases:
        assert main.main(arguments(tmp_path, method, "one", *phase)) == 0
    assert launched.wait() == 0, logs(tmp_path)

    one, two = (tmp_path / name / "tiny" / method for name in ("one", "two"))
    assert read_meta(newest(two))["processes"] == 2
    assert all(difference < 1e-5 for difference in differences(newest(one), newest(two)).values())
    losses, losses_of_two = (read_metrics(run)[0] for run in (one, two))
    assert losses_of_two["G_total"] == pytest.approx(losses["G_total"], rel=1e-5)
    for sheet in ("contact_A2B.png", "grid_A2B.png"):
        images = [read_image(run / "test" / sheet).astype(int) for run in (one, two)]
        assert np.abs(images[0] - images[1]).mean() < 0.5
    assert sorted(file.relative_to(one) for file in (one / "test").rglob("*")) == sorted(
        file.relative_to(two) for file in (two / "test").rglob("*")
    )
    if method == "pix2pix":
        scores = [json.loads((run / "evaluation.json").read_text())["scores"]["A2B"]["translated"]["l1"] for run in (one, two)]
        assert scores[1] == pytest.approx(scores[0], rel=1e-3)

    # One process goes on with the run of two, and two would with that of one.
    assert main.main([*arguments(tmp_path, method, "two"), "--resume", "--iteration", "6"]) == 0
    assert read_meta(newest(two))["iteration"] == 6


def test_a_killed_process_ends_the_others_and_auto_goes_on(tmp_path):
    draw_dataset(tmp_path / "data")
    endless = [*TINY, "--iteration", "100000", "--checkpoint_freq", "2", "--print_freq", "100000", "--resume", "auto"]
    command = arguments(tmp_path, "ugatit", "results", *endless)
    run = tmp_path / "results" / "tiny" / "ugatit"
    launched = launch(tmp_path, command, start_new_session=True)
    try:
        wait_until(lambda: list(run.glob("checkpoints/step_*/meta.json")), launched)
        os.kill(number_of_second(tmp_path), signal.SIGKILL)
        killed = time.monotonic()
        assert launched.wait(60) != 0
    finally:
        if launched.poll() is None:
            os.killpg(launched.pid, signal.SIGKILL)
    assert time.monotonic() - killed < 35
    assert "another process has ended" in logs(tmp_path)
    iteration = read_meta(newest(run))["iteration"]
    assert iteration >= 2

    launched = launch(tmp_path, [*command, "--iteration", str(iteration + 1)])
    assert launched.wait() == 0, logs(tmp_path)
    assert f"resumed at iteration {iteration}" in logs(tmp_path)
    assert read_meta(newest(run))["iteration"] == iteration + 1


def wait_until(happened, process, seconds=120):
    for _ in range(10 * seconds):
        if happened():
            return
        assert process.poll() is None, "it has ended"
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def number_of_second(tmp_path):
    """The process number of the launched process of rank 1."""
    for folder in sorted(os.listdir("/proc")):
        if folder.isdigit():
            try:
                with open(f"/proc/{folder}/cmdline", "rb") as stream:
                    mine = str(tmp_path / "commands.py").encode() in stream.read().split(b"\0")
                with open(f"/proc/{folder}/environ", "rb") as stream:
                    second = b"PADDLE_TRAINER_ID=1" in stream.read().split(b"\0")
            except OSError:
                continue
            if mine and second:
                return int(folder)
    raise AssertionError("there is no second process")


def test_a_process_by_itself_tells_nobody_anything():
    assert (distributed.processes(), distributed.rank(), distributed.is_first()) == (1, 0, True)
    assert list(distributed.share_of(3)) == [0, 1, 2]
    assert distributed.largest(7) == 7 and distributed.mean_of([2.0]) == [2.0]
    np.testing.assert_array_equal(distributed.gathered({1: np.array([2]), 0: np.array([1])}, 2), [[1], [2]])
    distributed.wait_for_all()


def test_shares_are_whole_and_disjoint(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "3")
    shares, samples = [], []
    for rank in range(3):
        monkeypatch.setenv("PADDLE_TRAINER_ID", str(rank))
        shares += distributed.share_of(7)
        samples += distributed.own_samples(2)
    assert sorted(shares) == list(range(7))
    assert samples == list(range(6))
