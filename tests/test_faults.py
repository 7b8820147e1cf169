"""What goes wrong around a training while it runs: the disk, the folders, the pictures, the clock, a second process, a thread."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import time

import pytest
from visualdl.reader.reader import LogReader

import dataset
import main
from engine.checkpoint import load
from engine.logger import RECORDS, RunLog
from engine.method import Method
from engine.run import RunFolder
from tests.helpers import call, draw_pairs, flags, latest_bytes, newest, read_metrics
from utils import append_bytes

SIZES = ["--img_size", "8", "--ch", "1", "--n_layers_D", "1"]
TRAIN = [*SIZES, "--iteration", "8", "--print_freq", "1", "--checkpoint_freq", "3", "--sample_count", "1"]
FEW_IMAGES = (
    "warning: few images (3 in train): with fewer than 100 the discriminators learn them by heart; "
    "see docs/tips.md#a-small-domain\n"
)
EVERY = list(range(1, 9))
LOGS = ("metrics.jsonl", f"log/{RECORDS}")
CAP_DAC_OVERRIDE = 1


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The arrays of a run that nothing happens to."""
    tmp_path = tmp_path_factory.mktemp("undisturbed")
    draw_pairs(tmp_path / "data")
    assert train(tmp_path) == 0
    return latest_bytes(run_folder(tmp_path))


@pytest.fixture
def after_iteration(monkeypatch):
    """`after_iteration({3: happens})` calls `happens()` between the step of iteration 3 and its log."""
    step = Method.step

    def install(events):
        def eventful(self, batch):
            losses = step(self, batch)
            events.get(self.iteration, lambda: None)()
            return losses

        monkeypatch.setattr(Method, "step", eventful)

    yield install


@pytest.fixture
def limit_of_files():
    """`limit_of_files(n)`: no file of this process can grow beyond n bytes, which is as real as a full disk; None ends it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)


@pytest.fixture
def within_a_minute():
    """A training that hangs fails the test. SIGALRM comes to the main thread, which then waits no longer."""

    def stop(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def bound_by_permissions():
    """Within it root may write as little into a read-only folder as anyone. Only for this thread, which is the one that writes."""
    libc = ctypes.CDLL(None)
    header, capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, capabilities) == 0
    effective = capabilities[0]
    capabilities[0] &= ~(1 << CAP_DAC_OVERRIDE)
    assert libc.capset(header, capabilities) == 0
    try:
        yield
    finally:
        capabilities[0] = effective
        assert libc.capset(header, capabilities) == 0


def run_folder(tmp_path):
    return tmp_path / "results" / "tiny" / "pix2pix"


def train(tmp_path, *more):
    """The exit code of a training, or of a --resume."""
    return main.main(command(tmp_path, *more))


def command(tmp_path, *more):
    return flags(tmp_path, "--method", "pix2pix", *([] if "--resume" in more else TRAIN), *more)


def resumed(tmp_path, *more):
    assert train(tmp_path, "--resume", *more) == 0
    return latest_bytes(run_folder(tmp_path))


def logged(run):
    """The iterations in metrics.jsonl and in the VisualDL log, as VisualDL's own reader finds them."""
    points = LogReader(file_path=str(run / "log" / RECORDS)).get_data("scalar", "loss/G_total")
    return [line["iteration"] for line in read_metrics(run)], [point.id for point in points]


# The logs


def test_appended_is_all_or_nothing(tmp_path, limit_of_files):
    file = tmp_path / "new" / "log"
    append_bytes(file, b"12345")
    limit_of_files(8)
    with pytest.raises(OSError) as caught:
        append_bytes(file, b"67890")
    assert caught.value.filename == str(file) and file.read_bytes() == b"12345"
    limit_of_files(None)
    append_bytes(file, b"67890")
    assert file.read_bytes() == b"1234567890"


@pytest.mark.parametrize("full", [*LOGS, "samples", "all"])
def test_a_log_that_cannot_be_written_does_not_stop_a_training(tmp_path, capsys, after_iteration, undisturbed, full):
    """From iteration 3 to 5 /dev/full, whose disk is full, takes its place. It is said once."""
    draw_pairs(tmp_path / "data")
    run = run_folder(tmp_path)
    taken = [*LOGS, "samples"] if full == "all" else [full]

    def fill():
        for name in taken:
            (run / name).rename(tmp_path / name.replace("/", "_"))
            (run / name).symlink_to("/dev/full")

    def make_room():
        for name in taken:
            (run / name).unlink()
            (tmp_path / name.replace("/", "_")).rename(run / name)

    after_iteration({3: fill, 6: make_room})
    assert train(tmp_path) == 0
    said = capsys.readouterr().err
    assert said.startswith(FEW_IMAGES) and said.count("\n") == 2
    warning = said.splitlines()[1]
    assert warning.startswith(f"warning: {run / taken[0]}") and "the training goes on" in warning
    assert "No space left on device" in warning or full == "samples"
    assert latest_bytes(run) == undisturbed
    gap = [1, 2, 6, 7, 8]
    metrics, records = logged(run)
    assert metrics == (gap if LOGS[0] in taken else EVERY)
    assert records == (gap if LOGS[1] in taken else EVERY)
    grids = sorted(int(file.stem[-7:]) for file in (run / "samples").glob("A2B_*"))
    assert grids == (gap if "samples" in taken else EVERY)
    after_iteration({})
    resumed(tmp_path, "--iteration", "9")
    assert [iterations[-2:] for iterations in logged(run)] == [[8, 9]] * 2


def test_what_failed_half_way_does_not_spoil_what_follows(tmp_path, limit_of_files):
    """Of a line and of a record only the first bytes find room; they are taken back."""
    said = []
    run = RunFolder(tmp_path)
    log = RunLog(run, said.append)
    for iteration in (1, 2, 3):
        if iteration == 2:
            smaller = min((tmp_path / name).stat().st_size for name in LOGS)
            limit_of_files(smaller + 7)
        log.write(iteration, {"G_total": 0.5}, {"lr": 0.1}, {})
        limit_of_files(None)
    assert logged(tmp_path) == ([1, 3], [1, 3]) and len(said) == 1


def test_the_logs_come_back_in_folders_that_were_deleted(tmp_path, capsys, after_iteration, undisturbed):
    draw_pairs(tmp_path / "data")
    run = run_folder(tmp_path)

    def delete():
        (run / "metrics.jsonl").unlink()
        for folder in ("log", "samples"):
            for file in (run / folder).iterdir():
                file.unlink()
            (run / folder).rmdir()

    after_iteration({5: delete})
    assert train(tmp_path) == 0
    assert capsys.readouterr().err == FEW_IMAGES
    assert latest_bytes(run) == undisturbed and logged(run) == ([5, 6, 7, 8], [5, 6, 7, 8])


def test_an_evaluation_that_cannot_be_written(tmp_path, capsys):
    """In a training only its file is missing; by itself it is an error, as that file is what was asked for."""
    draw_pairs(tmp_path / "data")
    run = run_folder(tmp_path)
    (run / "evaluation.json").mkdir(parents=True)
    scoring = ["--metrics", "l1"]
    assert train(tmp_path, "--iteration", "2", "--eval_freq", "1", *scoring) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "evaluation.json" in line]
    assert warning.startswith("warning: ") and "the training goes on" in warning
    assert [line["iteration"] for line in read_metrics(run) if "A2B/l1" in line] == [1, 2]
    assert main.main(flags(tmp_path, "--method", "pix2pix", "--phase", "evaluate", *scoring)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {run / 'evaluation.json'}")


def test_scores_after_half_a_line(tmp_path):
    """As a kill leaves it, without a resume."""
    run = RunFolder(tmp_path)
    run.metrics.write_text('{"iteration": 2, "G_total": 1.0}\n{"iter')
    RunLog(run, print).write_scores(2, {"A2B/l1": 0.5})
    assert [json.loads(line) for line in run.metrics.read_text().splitlines()][1] == {"iteration": 2, "A2B/l1": 0.5}


def test_a_score_logged_before_a_resume_stays_in_both_logs(tmp_path):
    """It belongs to an earlier iteration than what stands before it."""
    run = RunFolder(tmp_path)
    log = RunLog(run, print)
    for iteration in (2, 4, 6):
        log.write(iteration, {"G_total": 1.0}, {}, {})
    log.write_scores(4, {"A2B/l1": 0.5})
    RunLog(run, print, iteration=4)
    assert [json.loads(line)["iteration"] for line in run.metrics.read_text().splitlines()] == [2, 4, 4]
    reader = LogReader(file_path=str(run.log / RECORDS))
    assert [value.id for value in reader.get_data("scalar", "loss/G_total")] == [2, 4]
    assert [value.id for value in reader.get_data("scalar", "metric/A2B/l1")] == [4]


# The checkpoints


def test_a_disk_that_becomes_full(tmp_path, capsys, after_iteration, undisturbed, limit_of_files):
    draw_pairs(tmp_path / "data")
    after_iteration({5: lambda: limit_of_files(4096)})
    assert train(tmp_path) == 1
    said = capsys.readouterr().err.removeprefix(FEW_IMAGES).splitlines()
    assert [line.split(":")[0] for line in said] == ["warning", "error"]
    assert "cannot save a checkpoint" in said[1] and "what was saved earlier is untouched" in said[1]
    run = run_folder(tmp_path)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_0000003"]
    # It is still full when one tries again.
    assert train(tmp_path, "--resume") == 1
    said = capsys.readouterr().err.removeprefix(FEW_IMAGES).splitlines()
    assert [line.split(":")[0] for line in said] == ["warning", "error"]
    limit_of_files(None)
    after_iteration({})
    assert resumed(tmp_path) == undisturbed
    assert logged(run) == (EVERY, EVERY)


def test_folders_that_become_read_only(tmp_path, capsys, after_iteration, undisturbed):
    draw_pairs(tmp_path / "data")
    run = run_folder(tmp_path)

    def set_mode(mode):
        for folder in (run, *(path for path in run.rglob("*") if path.is_dir())):
            folder.chmod(mode)

    after_iteration({4: lambda: set_mode(0o555)})
    try:
        with bound_by_permissions():
            assert train(tmp_path) == 1
            said = capsys.readouterr().err.removeprefix(FEW_IMAGES).splitlines()
            assert [line.split(":")[0] for line in said] == ["warning", "error"]
            assert "cannot save a checkpoint" in said[1] and "Permission denied" in said[1]
            # Nor does a new command begin.
            assert train(tmp_path, "--resume") == 1
            assert train(tmp_path, "--result_dir", str(run / "more")) == 1
            for line in capsys.readouterr().err.splitlines():
                assert line.startswith("error: --result_dir: cannot write to") and "Permission denied" in line
    finally:
        set_mode(0o755)
    after_iteration({})
    assert load(newest(run)).meta["iteration"] == 3
    assert resumed(tmp_path) == undisturbed and logged(run) == (EVERY, EVERY)


# What is read


@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_a_picture_that_is_deleted(tmp_path, capsys, after_iteration, undisturbed, within_a_minute, num_workers):
    folder = draw_pairs(tmp_path / "data")
    picture = folder / "train" / "1.png"
    content = picture.read_bytes()
    after_iteration({1: picture.unlink})
    # It comes up in each epoch, of 3 iterations; threads have read the first ones ahead.
    assert train(tmp_path, "--num_workers", num_workers) == 1
    said = capsys.readouterr().err.removeprefix(FEW_IMAGES)
    assert said == f"error: {picture}: cannot be read (No such file or directory)\n"
    stopped_at = load(newest(run_folder(tmp_path))).meta["iteration"]
    assert stopped_at == read_metrics(run_folder(tmp_path))[-1]["iteration"] < 8
    after_iteration({})
    assert train(tmp_path, "--resume") == 1
    assert "1 missing (train/1.png); restore them" in capsys.readouterr().err
    picture.write_bytes(content)
    assert resumed(tmp_path) == undisturbed


@pytest.mark.parametrize("failure", [MemoryError("no room"), RuntimeError("unexpected"), OSError(5, "Input/output error", "x.png")])
def test_a_thread_that_reads_fails(tmp_path, capsys, monkeypatch, undisturbed, within_a_minute, failure):
    draw_pairs(tmp_path / "data")
    pair = dataset.PairedData.pair

    def failing(self, iteration, sample, position):
        if iteration == 5:
            raise failure
        return pair(self, iteration, sample, position)

    monkeypatch.setattr(dataset.PairedData, "pair", failing)
    if isinstance(failure, RuntimeError):  # a fault of ours: its traceback is wanted
        with pytest.raises(RuntimeError, match="unexpected"):
            train(tmp_path, "--num_workers", "2")
    else:
        assert train(tmp_path, "--num_workers", "2") == 1
        (line,) = capsys.readouterr().err.removeprefix(FEW_IMAGES).splitlines()
        assert line.startswith("error: ") and ("memory" in line or "x.png: Input/output error" in line)
    assert load(newest(run_folder(tmp_path))).meta["iteration"] == 4, "the state is saved"
    monkeypatch.undo()
    assert resumed(tmp_path) == undisturbed


def test_a_step_that_fails_saves_nothing(tmp_path, monkeypatch):
    """Networks may be ahead of each other."""
    draw_pairs(tmp_path / "data")
    update = Method.update

    def failing(self, name, loss):
        update(self, name, loss)
        if self.iteration == 5:
            raise MemoryError

    monkeypatch.setattr(Method, "update", failing)
    assert train(tmp_path) == 1
    assert load(newest(run_folder(tmp_path))).meta["iteration"] == 3


# The clock, and a second process


def test_a_clock_that_is_set_back(tmp_path, capsys, monkeypatch, after_iteration, undisturbed):
    """By an hour after each iteration, files' times too: nothing is in the order of times."""
    draw_pairs(tmp_path / "data")
    run, real, back = run_folder(tmp_path), time.time, [0]
    monkeypatch.setattr(time, "time", lambda: real() - back[0])

    def set_back():
        back[0] += 3600
        for age, path in enumerate(sorted(run.rglob("*"))):
            os.utime(path, (real() - age * 3600,) * 2)

    after_iteration(dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8), set_back))
    assert train(tmp_path, "--iteration", "7") == 0
    assert train(tmp_path, "--resume", "--iteration", "8") == 0
    captured = capsys.readouterr()
    assert "resumed at iteration 7" in captured.out and "Traceback" not in captured.err
    assert all("-" not in line.split("s/it")[1] for line in captured.out.splitlines() if "s/it" in line)
    assert logged(run) == (EVERY, EVERY)
    assert all(0 < line["images_per_second"] < 1000 for line in read_metrics(run))
    assert 0 < load(newest(run)).meta["seconds"] < 600
    points = LogReader(file_path=str(run / "log" / RECORDS)).get_data("scalar", "loss/G_total")
    assert [one.timestamp > other.timestamp for one, other in zip(points, points[1:])] == [True] * 7


def test_two_processes_in_one_folder(tmp_path, capsys, after_iteration, undisturbed):
    draw_pairs(tmp_path / "data")
    second = []
    after_iteration({2: lambda: second.append(call(command(tmp_path)))})
    assert train(tmp_path) == 0
    run = run_folder(tmp_path)
    assert second[0].returncode == 1
    assert second[0].stderr == (
        f"error: {run}: another process is working on this run; wait for it, or name another --result_dir\n"
    )
    assert capsys.readouterr().err == FEW_IMAGES
    assert latest_bytes(run) == undisturbed and logged(run) == (EVERY, EVERY)
    # Right after it another one goes on.
    after_iteration({})
    resumed(tmp_path, "--iteration", "9")
