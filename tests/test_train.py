"""A run from the command line: its folder, its logs, resuming it, stopping it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

import cv2
import pytest
from visualdl.proto.record_pb2 import Record
from visualdl.reader.record_reader import RecordReader

import main
from engine.checkpoint import PARTS, load
from engine.run import RunFolder
from errors import TrainingError
from tests.helpers import (
    CONFIGURE,
    FEW_IMAGES,
    ROOT,
    TINY,
    call,
    command,
    draw_dataset,
    environment,
    flags,
    latest_bytes,
    newest,
    read_metrics,
    run_folder,
)

# At a kill in iteration 6 the checkpoint is of iteration 3, and the log of iteration 4 is ahead of it.
TRAIN = [*TINY, "--iteration", "8", "--print_freq", "2", "--checkpoint_freq", "3", "--save_freq", "3", "--sample_count", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 8 iterations without interruption."""
    tmp_path = tmp_path_factory.mktemp("finished")
    draw_dataset(tmp_path / "data")
    result = call(flags(tmp_path, *TRAIN))
    assert result.returncode == 0, result.stderr
    return run_folder(tmp_path), result


def test_run_folder(finished):
    run, _ = finished
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    checkpoint = ["meta.json", *(f"{part}.safetensors" for part in PARTS)]
    assert files == sorted(
        [f"checkpoints/{name}/{file}" for name in ("step_0000003", "step_0000006", "step_0000008") for file in checkpoint]
        + [f"samples/{direction}_{step:07d}.png" for direction in ("A2B", "B2A") for step in (2, 4, 6, 8)]
        + [".lock", "config.json", "data.json", "metrics.jsonl", "log/vdlrecords.run.log"]
    )


def test_metrics_have_every_term_at_every_print(finished):
    run, _ = finished
    lines = read_metrics(run)
    assert [line["iteration"] for line in lines] == [2, 4, 6, 8]
    judges = ["GA", "GB", "LA", "LB"]
    expected = {f"{kind}_{judge}" for kind in ("D_adv", "D_cam", "G_adv", "G_cam_adv") for judge in judges}
    expected |= {f"G_{kind}_{domain}" for kind in ("cycle", "identity", "cam") for domain in "AB"} | {"D_total", "G_total"}
    for line in lines:
        assert set(line) == expected | {"iteration", "lr", "images_per_second"}
        assert line["images_per_second"] > 0
    assert [line["lr"] for line in lines] == [1e-4, 1e-4, 0.5e-4, 0.0]


def test_plain_lines_without_a_terminal(finished):
    _, result = finished
    assert len(re.findall(r"^\[\d/8\]  D_total .* G_total .* left$", result.stdout, re.MULTILINE)) == 4
    assert result.stderr == FEW_IMAGES


def test_sample_grid_has_seven_rows_and_a_column_an_image(finished):
    run, _ = finished
    grid = cv2.imread(str(run / "samples" / "A2B_0000008.png"))
    assert grid.shape[0] == 7 * 24
    assert 4 * 24 < grid.shape[1] < 4 * 24 + 150
    assert (grid[:, :10] == 255).all(axis=2).mean() > 0.5, "the labels' margin is white"


def scalars(run, tag):
    """(iteration, value) points of a tag in the VisualDL log."""
    points = []
    for content in RecordReader(str(run / "log" / "vdlrecords.run.log")).get_all():
        record = Record()
        record.ParseFromString(content)
        points += [(value.id, value.value) for value in record.values if value.tag.replace("%", "_") == tag]
    return points


def test_visualdl_has_losses_rates_and_rho_at_the_true_iteration(finished):
    run, _ = finished
    metrics = read_metrics(run)
    for tag, key in (("loss/G_total", "G_total"), ("training/lr", "lr"), ("training/images_per_second", "images_per_second")):
        points = scalars(run, tag)
        assert [point[0] for point in points] == [2, 4, 6, 8]
        assert [point[1] for point in points] == pytest.approx([line[key] for line in metrics])
    rho = scalars(run, "rho_genA2B/AdaLIN_mean")
    assert [point[0] for point in rho] == [2, 4, 6, 8] and all(0 <= point[1] <= 1 for point in rho)
    assert [point[0] for point in scalars(run, "samples/A2B")] == [2, 4, 6, 8]


KILL_IN_ITERATION_6 = """
import os, signal, UGATIT
train_step = UGATIT.UGATIT.train_step
def killed(self, batch):
    losses = train_step(self, batch)
    if self.iteration == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses
UGATIT.UGATIT.train_step = killed
"""


@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_killed_and_resumed_equals_uninterrupted(finished, tmp_path, num_workers):
    straight, _ = finished
    draw_dataset(tmp_path / "data")
    arguments = flags(tmp_path, *TRAIN, "--num_workers", num_workers)
    assert call(arguments, CONFIGURE + KILL_IN_ITERATION_6).returncode == -signal.SIGKILL
    run = run_folder(tmp_path)
    assert load(newest(run)).meta["iteration"] == 3
    assert read_metrics(run)[-1]["iteration"] == 4
    # A half-written line, as a kill leaves it, and a line of an iteration that will be done again.
    with open(run / "metrics.jsonl", "a") as stream:
        stream.write('{"iteration": 5}\n{"iter')
    resumed = call([*arguments, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at iteration 3" in resumed.stdout
    assert latest_bytes(run) == latest_bytes(straight)
    timeless = [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(run)]
    assert timeless == [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(straight)]
    for tag in ("loss/G_total", "rho_genB2A/ILN_max"):
        assert scalars(run, tag) == scalars(straight, tag)
    assert [point[0] for point in scalars(run, "samples/A2B")] == [2, 4, 6, 8]


def test_threads_do_not_change_the_data(finished, tmp_path):
    straight, _ = finished
    draw_dataset(tmp_path / "data")
    assert call(flags(tmp_path, *TRAIN, "--num_workers", "3")).returncode == 0
    assert latest_bytes(run_folder(tmp_path)) == latest_bytes(straight)


@pytest.mark.parametrize("number, exit_code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_saves_and_names_its_exit_code(tmp_path, number, exit_code):
    draw_dataset(tmp_path / "data")
    arguments = flags(tmp_path, *TINY, "--iteration", "1000000", "--print_freq", "1")
    process = subprocess.Popen(command(arguments), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    run = run_folder(tmp_path)
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == exit_code
    iteration = load(newest(run)).meta["iteration"]
    assert stderr == FEW_IMAGES + f"error: stopped at iteration {iteration}, which is saved: go on with --resume\n"


def test_resume_refuses_other_settings_and_takes_free_ones(tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    start = [*TINY, "--iteration", "2", "--checkpoint_freq", "1"]
    assert main.main(flags(tmp_path, *start)) == 0
    before = latest_bytes(run_folder(tmp_path))
    assert main.main(flags(tmp_path, "--resume", "--lr", "0.5", "--ch", "4", "--keep", "1")) == 2
    stderr = capsys.readouterr().err
    assert "--lr 0.5 (the run has 0.0001)" in stderr and "--ch 4 (the run has 2)" in stderr and "--keep" not in stderr
    assert latest_bytes(run_folder(tmp_path)) == before
    free = ["--print_freq", "1", "--save_freq", "1", "--checkpoint_freq", "3", "--keep", "1", "--num_workers", "0"]
    assert main.main(flags(tmp_path, "--resume", "--iteration", "4", "--sample_count", "1", *free)) == 0
    captured = capsys.readouterr()
    assert "warning: --iteration changes from 2 to 4" in captured.err
    run = run_folder(tmp_path)
    assert json.loads((run / "config.json").read_text())["iteration"] == 4
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_0000004"]
    assert main.main(flags(tmp_path, "--resume")) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_run_goes_on_in_another_place(tmp_path, monkeypatch, capsys):
    """Data and results have moved, and are named from another folder; names and sizes of the pictures are what counts."""
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "2")) == 0
    moved = tmp_path / "another" / "machine"
    moved.mkdir(parents=True)
    (tmp_path / "data").rename(moved / "mount")
    (tmp_path / "results").rename(moved / "runs")
    monkeypatch.chdir(moved)
    where = ["--dataset", "tiny", "--data_root", "./mount", "--result_dir", "runs", "--device", "cpu"]
    assert main.main([*where, "--resume", "--iteration", "3"]) == 0
    assert main.main([*where, "--phase", "test"]) == 0
    assert json.loads((moved / "runs" / "tiny" / "ugatit" / "config.json").read_text())["data_root"] == "./mount"

    picture = moved / "mount" / "tiny" / "trainB" / "1.png"
    content = picture.read_bytes()
    picture.write_bytes(content + b"more")
    (picture.parent / "new.png").write_bytes(content)
    capsys.readouterr()
    assert main.main([*where, "--resume", "--iteration", "4"]) == 1
    error = capsys.readouterr().err
    assert "1 added (trainB/new.png)" in error and "1 of another size (trainB/1.png)" in error and error.count("\n") == 2
    picture.write_bytes(content)
    assert main.main([*where, "--resume", "--iteration", "4", "--accept_changed_data"]) == 0
    assert "going on with other training files: 1 added (trainB/new.png)" in capsys.readouterr().out
    assert main.main([*where, "--resume", "--iteration", "5"]) == 0, "the record is of the files that are there now"


def test_the_log_of_a_run_without_checkpoints_is_kept(tmp_path):
    draw_dataset(tmp_path / "data")
    start = flags(tmp_path, *TINY, "--iteration", "1", "--print_freq", "1")
    assert main.main(start) == 0
    run = run_folder(tmp_path)
    line = (run / "metrics.jsonl").read_text()
    shutil.rmtree(run / "checkpoints")
    assert main.main(start) == 0
    assert (run / "metrics_earlier1.jsonl").read_text() == line and len(read_metrics(run)) == 1
    assert len(scalars(run, "loss/G_total")) == 1


def test_a_run_that_ends_before_its_first_line_leaves_no_log_behind(tmp_path, monkeypatch):
    draw_dataset(tmp_path / "data")
    run, start = run_folder(tmp_path), flags(tmp_path, *TINY, "--iteration", "1")
    with monkeypatch.context() as patch:
        patch.setattr("engine.method.Method.step", lambda *_: (_ for _ in ()).throw(TrainingError("the loss is not finite")))
        assert main.main(start) == 1
    assert (run / "log").is_dir()
    assert main.main(start) == 0
    assert not list(run.glob("*earlier*"))


def test_a_picture_that_is_damaged_during_the_training_saves_the_state(tmp_path):
    folder = draw_dataset(tmp_path / "data", train=2)
    damage = f"""
from engine.method import Method
step = Method.step
def damaging(self, batch):
    losses = step(self, batch)
    if self.iteration == 3:
        for part in ("trainA", "trainB"):
            for file in __import__("pathlib").Path({str(folder)!r}, part).iterdir():
                file.write_bytes(b"damaged")
    return losses
Method.step = damaging
"""
    result = call(flags(tmp_path, *TINY, "--iteration", "50", "--num_workers", "0"), CONFIGURE + damage)
    assert result.returncode == 1 and result.stderr.count("\n") == 2 and "not a readable image" in result.stderr
    assert load(newest(run_folder(tmp_path))).meta["iteration"] == 3


def test_a_reader_of_stdout_that_goes_away_stops_nothing(tmp_path):
    draw_dataset(tmp_path / "data")
    arguments = flags(tmp_path, *TINY, "--iteration", "8", "--print_freq", "1", "--sample_count", "1")
    process = subprocess.Popen(command(arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0, process.stderr.read()
    assert process.stderr.read() == FEW_IMAGES
    assert load(newest(run_folder(tmp_path))).meta["iteration"] == 8


def test_stdout_without_the_letters_of_a_name(tmp_path):
    folder = draw_dataset(tmp_path / "data")
    folder.rename(folder.parent / "自拍")
    arguments = [*flags(tmp_path, *TINY, "--iteration", "1"), "--dataset", "自拍"]
    result = call(arguments, env=environment(PYTHONIOENCODING="ascii"))
    assert result.returncode == 0 and "\\u81ea\\u62cd" in result.stdout, result.stderr


def test_a_home_that_cannot_be_written(tmp_path):
    draw_dataset(tmp_path / "data")
    for phase in ([*TINY, "--iteration", "1", "--print_freq", "1"], ["--phase", "test"]):
        result = call(flags(tmp_path, *phase), env=environment(HOME="/dev/null"))
        assert result.returncode == 0, result.stderr


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    draw_dataset(tmp_path / "data")
    poison = """
import paddle, UGATIT
train_step = UGATIT.UGATIT.train_step
def poisoned(self, batch):
    losses = train_step(self, batch)
    if self.iteration == 3:
        losses["G_cycle_B"] = losses["G_cycle_B"] * float("nan")
    return losses
UGATIT.UGATIT.train_step = poisoned
"""
    result = call(flags(tmp_path, *TINY, "--iteration", "4", "--checkpoint_freq", "1"), CONFIGURE + poison)
    assert result.returncode == 1
    assert "iteration 3: the loss G_cycle_B is nan" in result.stderr and result.stderr.count("\n") == 2
    assert load(newest(run_folder(tmp_path))).meta["iteration"] == 2


def test_a_divergence_stops_before_its_gradients(tmp_path):
    """Maps that are not finite make Paddle's pooling write outside its memory when it goes backward."""
    draw_dataset(tmp_path / "data")
    result = call(flags(tmp_path, *TINY, "--lr", "1e30", "--iteration", "9"), timeout=100)
    assert result.returncode == 1 and re.search(r"^error: iteration \d: the loss \S+ is (nan|inf)", result.stderr, re.MULTILINE), (
        result.stderr
    )


def test_a_run_that_another_process_has_trained_meanwhile_is_refused(tmp_path, monkeypatch, capsys):
    draw_dataset(tmp_path / "data")
    arguments = flags(tmp_path, *TINY, "--iteration", "1")
    only_one = RunFolder.only_one

    @contextlib.contextmanager
    def late(self):
        monkeypatch.setattr(RunFolder, "only_one", only_one)
        assert main.main(arguments) == 0
        with only_one(self):
            yield

    monkeypatch.setattr(RunFolder, "only_one", late)
    assert main.main(arguments) == 1
    assert "another process has trained this run meanwhile" in capsys.readouterr().err
    assert len(read_metrics(run_folder(tmp_path)) if (run_folder(tmp_path) / "metrics.jsonl").exists() else []) == 0
    assert load(newest(run_folder(tmp_path))).meta["iteration"] == 1


def test_names_that_are_not_text_and_a_damaged_record(tmp_path, capsys):
    folder = draw_dataset(tmp_path / "data")
    os.rename(folder / "trainA" / "0.png", os.fsencode(folder / "trainA") + b"/\xff.png")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    (folder / "trainA" / "1.png").unlink()
    assert main.main(flags(tmp_path, "--resume", "--iteration", "2")) == 1
    assert "1 missing (trainA/1.png)" in capsys.readouterr().err
    (run_folder(tmp_path) / "data.json").write_text("[]")
    assert main.main(flags(tmp_path, "--resume", "--iteration", "2")) == 1
    assert "data.json is damaged" in capsys.readouterr().err
    shutil.rmtree(run_folder(tmp_path) / "checkpoints")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0, "a new run has a new record"


@pytest.mark.parametrize("closed", [1, 2])
def test_started_without_stdout_or_stderr(tmp_path, closed):
    draw_dataset(tmp_path / "data")
    result = call(flags(tmp_path, *TINY, "--iteration", "1"), preexec_fn=lambda: os.close(closed))
    assert result.returncode == 0, result.stderr
    assert load(newest(run_folder(tmp_path))).meta["iteration"] == 1


def test_damaged_logs_do_not_stop_a_resume(tmp_path):
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "2", "--print_freq", "1")) == 0
    run = run_folder(tmp_path)
    with open(run / "metrics.jsonl", "ab") as stream:
        stream.write(b"{}\n5\n\xff\n")
    log = run / "log" / "vdlrecords.run.log"
    whole = log.read_bytes()
    for iteration, damaged in enumerate((whole[:-30] + b"\xff" * 30, whole + b"\xff" * 8 + b"more", whole + bytes(7)), 3):
        log.write_bytes(damaged)
        assert main.main(flags(tmp_path, "--resume", "--iteration", str(iteration))) == 0
    assert [line["iteration"] for line in read_metrics(run)] == [1, 2, 3, 4, 5]
    assert scalars(run, "loss/G_total")[-1][0] == 5


def test_grey_images_train_and_test(tmp_path):
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--img_ch", "1", "--iteration", "1", "--print_freq", "1")) == 0
    assert main.main(flags(tmp_path, "--phase", "test")) == 0
    translated = cv2.imread(str(run_folder(tmp_path) / "test" / "A2B" / "0.png"), cv2.IMREAD_UNCHANGED)
    assert translated.shape == (24, 24)


def test_full_version_trains(tmp_path):
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--light", "false", "--iteration", "1", "--batch_size", "2")) == 0


def test_training_without_test_images(tmp_path, capsys):
    draw_dataset(tmp_path / "data", test=0)
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1", "--print_freq", "1")) == 0
    assert "no test images of domain A" in capsys.readouterr().out
