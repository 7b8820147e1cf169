"""The command line: help, defaults, and what every mistake gets: one line, an exit code, nothing written over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import main
from command_line import examples, exit_code_of, parse_arguments
from config import CONFIGS
from tests.helpers import ROOT, TINY, draw_dataset, flags, newest, run_folder
from utils import write_image
from version import __version__

# The authors' flags and defaults (main.py of their PyTorch code), but --device.
AUTHORS = {
    "phase": "train", "light": False, "dataset": "YOUR_DATASET_NAME", "iteration": 1000000, "batch_size": 1, "print_freq": 1000,
    "save_freq": 100000, "decay_flag": True, "lr": 0.0001, "weight_decay": 0.0001, "adv_weight": 1, "cycle_weight": 10,
    "identity_weight": 10, "cam_weight": 1000, "ch": 64, "n_res": 4, "n_dis": 6, "img_size": 256, "img_ch": 3,
    "result_dir": "results", "benchmark_flag": False, "resume": "false",
}  # fmt: skip


def test_defaults_are_the_authors():
    config, typed = parse_arguments([])
    assert {name: getattr(config, name) for name in AUTHORS} == AUTHORS
    assert config.device == "auto" and typed == []


@pytest.mark.parametrize("given", [["--light"], ["--light", "true"], ["--light", "True"], ["--light=yes"]])
def test_booleans_with_and_without_a_value(given):
    assert parse_arguments([*given, "--img_size", "128"])[0].light is True


def test_help_shows_every_flag_with_its_default_and_three_examples():
    result = subprocess.run([sys.executable, "main.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    text = " ".join(result.stdout.split())
    config = CONFIGS["ugatit"]()
    for name in vars(config):
        value = getattr(config, name)
        shown = (
            {None: "none", True: "true", False: "false"}.get(value, value)
            if not isinstance(value, (int, float)) or isinstance(value, bool)
            else value
        )
        assert f"--{name} " in text and f"(default: {shown})" in text, name
    assert text.count("python main.py --dataset selfie2anime") == 3
    for group in ("run:", "data:", "training:", "loss weights:", "networks:", "logs and checkpoints:"):
        assert group in text


@pytest.mark.parametrize("method", CONFIGS)
def test_the_examples_of_help_are_valid_commands(method):
    lines = [line.split()[2:] for line in examples(method).splitlines() if line.strip().startswith("python main.py")]
    assert len(lines) == 3
    for arguments in lines:
        assert parse_arguments(arguments)[0].method == method


def test_dry_run_prints_configuration_and_networks_and_writes_nothing(tmp_path, capsys):
    assert main.main([*flags(tmp_path), *TINY, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text[: text.index("}") + 1])["n_res"] == 1
    for network in ("genA2B", "genB2A", "disGA", "disGB", "disLA", "disLB", "total"):
        assert network in text
    assert list(tmp_path.iterdir()) == []


def test_benchmark_flag_says_that_it_means_nothing_on_a_cpu(tmp_path, capsys):
    assert main.main([*flags(tmp_path), *TINY, "--dry_run", "--benchmark_flag", "true"]) == 0
    assert "--benchmark_flag means nothing on a CPU" in capsys.readouterr().out


# What bad input gets. Each case prepares a folder that holds data/tiny, and names flags, exit code and words of the message.


def nothing(tmp_path: Path) -> None:
    pass


def without(part: str):
    return lambda tmp_path: shutil.rmtree(tmp_path / "data" / "tiny" / part)


def emptied(tmp_path: Path) -> None:
    for file in (tmp_path / "data" / "tiny" / "trainB").iterdir():
        file.unlink()


def corrupt(tmp_path: Path) -> None:
    for file in (tmp_path / "data" / "tiny" / "trainA").iterdir():
        file.write_bytes(b"not an image")


def truncated(tmp_path: Path) -> None:
    for file in (tmp_path / "data" / "tiny" / "trainA").iterdir():
        file.write_bytes(file.read_bytes()[:-200])


def not_writable(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where a folder should be")


def trained(tmp_path: Path) -> None:
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0


def trained_then_blocked(tmp_path: Path) -> None:
    trained(tmp_path)
    (run_folder(tmp_path) / "test").mkdir()
    (run_folder(tmp_path) / "test" / "A2B").write_text("a file where a folder should be")


def trained_then_lost(tmp_path: Path) -> None:
    trained(tmp_path)
    shutil.rmtree(run_folder(tmp_path) / "checkpoints")


def trained_then_without_tests(tmp_path: Path) -> None:
    trained(tmp_path)
    for part in ("testA", "testB"):
        without(part)(tmp_path)


def trained_with_changed_bytes(tmp_path: Path) -> None:
    trained(tmp_path)
    file = newest(run_folder(tmp_path)) / "generators.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def trained_with_damaged_meta(tmp_path: Path) -> None:
    trained(tmp_path)
    (newest(run_folder(tmp_path)) / "meta.json").write_text("{}")


def trained_by_another_method(tmp_path: Path) -> None:
    from engine.checkpoint import CheckpointFolder, load

    trained(tmp_path)
    checkpoint = load(newest(run_folder(tmp_path)))
    checkpoint.meta["method"] = "othermethod"
    CheckpointFolder(run_folder(tmp_path) / "checkpoints").save(checkpoint)


TEST = ["--phase", "test"]
BAD = {
    "no data root": (nothing, ["--data_root", "nowhere"], 1, ["--data_root", "nowhere/tiny", "{trainA,trainB,testA,testB}"]),
    "no data set": (nothing, ["--dataset", "absent"], 1, ["--dataset", "absent", "{trainA,trainB,testA,testB}"]),
    "no sub-folder": (without("trainB"), [], 1, ["trainB", "{trainA,trainB,testA,testB}"]),
    "empty folder": (emptied, [], 1, ["trainB", "holds no image"]),
    "corrupt image": (corrupt, ["--num_workers", "0"], 1, ["trainA", ".png", "not a readable image"]),
    "corrupt image in a worker": (corrupt, ["--num_workers", "2"], 1, ["trainA", ".png", "not a readable image"]),
    "truncated image": (truncated, [], 1, ["trainA", ".png", "truncated"]),
    "long name": (nothing, ["--dataset", "a" * 300], 1, ["--data_root"]),
    "large seed": (nothing, ["--seed", str(2**31)], 2, ["--seed 2147483648"]),
    "checkpoint in training": (nothing, ["--checkpoint", "x"], 2, ["--checkpoint is for --phase test and --phase evaluate"]),
    "resume in test": (nothing, [*TEST, "--resume"], 2, ["--resume is for --phase train, not for --phase test"]),
    "weights in training": (nothing, ["--weights", "raw"], 2, ["--weights is for --phase test and --phase evaluate"]),
    "averages of a run without": (trained, [*TEST, "--weights", "averaged"], 2, ["--weights averaged", "leave the flag out"]),
    "averages from now on": (trained, ["--resume", "--ema", "0.9"], 2, ["--ema 0.9 (the run has 0.0)"]),
    "images of a square kilometre": (nothing, ["--load_size", "100000"], 2, ["--load_size 100000", "16384 or less"]),
    "a number that no float can be": (nothing, ["--print_freq", "9" * 400], 2, ["--print_freq", "1000000000 or less"]),
    "averages that never move": (nothing, ["--ema", "1"], 2, ["--ema 1.0", "0.999999 or less"]),
    "json in training": (nothing, ["--json"], 2, ["--json is for --phase check"]),
    "resume of a mistyped run": (trained, ["--resume", "--dataset", "tniy"], 1, ["--resume: there is no checkpoint in", "tniy"]),
    "resume of a lost run": (trained_then_lost, ["--resume"], 1, ["--resume: there is no checkpoint in"]),
    "other rate in test": (trained, [*TEST, "--lr", "0.5"], 2, ["--lr 0.5 (the run has 0.0001)"]),
    "other length in test": (trained, [*TEST, "--iteration", "9"], 2, ["--iteration 9 (the run has 1)"]),
    "test into a file": (trained_then_blocked, TEST, 1, ["A2B", "--result_dir"]),
    "size no multiple of 4": (nothing, ["--img_size", "30"], 2, ["--img_size 30", "multiple of 4"]),
    "size too small": (nothing, ["--img_size", "64", "--n_dis", "6"], 2, ["use --n_dis 4, or images of at least 96"]),
    "size too small at all": (nothing, ["--img_size", "20"], 2, ["--img_size 20", "images of at least 24"]),
    "too shallow": (nothing, ["--n_dis", "3"], 2, ["--n_dis 3", "--n_dis 4"]),
    "two channels": (nothing, ["--img_ch", "2"], 2, ["--img_ch 2"]),
    "no iterations": (nothing, ["--iteration", "0"], 2, ["--iteration 0", "1 or more"]),
    "negative batch": (nothing, ["--batch_size", "-1"], 2, ["--batch_size -1"]),
    "no print": (nothing, ["--print_freq", "0"], 2, ["--print_freq 0"]),
    "negative rate": (nothing, ["--lr", "-0.1"], 2, ["--lr -0.1"]),
    "rate is no number": (nothing, ["--lr", "nan"], 2, ["--lr nan"]),
    "negative weight": (nothing, ["--cam_weight", "-1"], 2, ["--cam_weight -1"]),
    "not a number": (nothing, ["--ch", "many"], 2, ["--ch", "many"]),
    "unknown method": (nothing, ["--method", "dualgan"], 2, ["--method", "dualgan", "ugatit"]),
    "unknown phase": (nothing, ["--phase", "dream"], 2, ["--phase", "dream", "train"]),
    "unknown flag": (nothing, ["--epochs", "3"], 2, ["--epochs"]),
    "two dashes as a value": (nothing, ["--method=--"], 2, ["--method=--: expected a value"]),
    "shortened flag": (nothing, ["--img", "24"], 2, ["--img"]),
    "no number for an optional one": (nothing, ["--load_size", "abc"], 2, ["--load_size", "invalid int value: 'abc'"]),
    "not a boolean": (nothing, ["--light", "maybe"], 2, ["--light", "maybe"]),
    "data set is a path": (nothing, ["--dataset", "a/b"], 2, ["--dataset 'a/b'", "--data_root"]),
    "no gpu": (nothing, ["--device", "cuda"], 2, ["--device cuda", "--device cpu"]),
    "results not writable": (not_writable, [], 1, ["--result_dir", "results"]),
    "over a run": (trained, [], 2, ["--resume", "--result_dir"]),
    "test without a run": (nothing, TEST, 1, ["there is no run", "--result_dir", "--checkpoint"]),
    "test of a missing checkpoint": (nothing, [*TEST, "--checkpoint", "gone"], 1, ["gone", "not a checkpoint"]),
    "test of changed bytes": (trained_with_changed_bytes, TEST, 1, ["generators", "bytes have changed", "use another checkpoint"]),
    "resume of changed bytes": (trained_with_changed_bytes, ["--resume"], 1, ["generators.safetensors", "bytes have changed"]),
    "test of damaged meta": (trained_with_damaged_meta, TEST, 1, ["meta.json: cannot be read"]),
    "over damaged meta": (trained_with_damaged_meta, [], 2, ["--resume", "--result_dir"]),
    "resume of damaged meta": (trained_with_damaged_meta, ["--resume"], 1, ["meta.json: cannot be read"]),
    "test of another method": (trained_by_another_method, TEST, 2, ["--method ugatit", "--method othermethod"]),
    "resume of another method": (trained_by_another_method, ["--resume"], 2, ["--method ugatit", "--method othermethod"]),
    "test of other networks": (trained, [*TEST, "--ch", "3"], 2, ["--ch 3 (the run has 2)"]),
    "test without images": (trained_then_without_tests, TEST, 1, ["no test images", "{trainA,trainB,testA,testB}"]),
}  # fmt: skip


def contents(folder: Path) -> dict:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_writes_nothing_over(case, tmp_path, capsys, monkeypatch):
    prepare, arguments, exit_code, words = BAD[case]
    # Relative paths of a case are looked for in an empty folder.
    monkeypatch.chdir(tmp_path)
    draw_dataset(tmp_path / "data")
    prepare(tmp_path)
    capsys.readouterr()
    before = contents(tmp_path)
    base = flags(tmp_path, *(TINY if "--phase" not in arguments and "--resume" not in arguments else []))
    if "--resume" not in arguments and "--phase" not in arguments:
        base += ["--iteration", "2"]
    assert main.main([*base, *arguments]) == exit_code
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    for word in words:
        assert word in stderr
    after = contents(tmp_path)
    assert {path: after[path] for path in before} == before


def test_a_wrong_command_in_a_process_of_its_own():
    result = subprocess.run([sys.executable, "main.py", "--phase", "dream"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == "" and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", [["--debug"], ["--debug=true"]])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(tmp_path, capsys, flag):
    draw_dataset(tmp_path / "data")
    trained(tmp_path)
    assert main.main(flags(tmp_path, *TINY, *flag)) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1].startswith("error: ")


def test_flags_of_the_run_may_be_repeated(tmp_path):
    draw_dataset(tmp_path / "data")
    trained(tmp_path)
    assert main.main(flags(tmp_path, "--phase", "test", "--img_size", "24")) == 0
    assert main.main(flags(tmp_path, "--resume", "--img_size", "24", "--iteration", "2")) == 0


def test_dry_run_of_a_resume_shows_the_run_s_settings(tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    trained(tmp_path)
    capsys.readouterr()
    assert main.main(flags(tmp_path, "--resume", "--dry_run", "--iteration", "7")) == 0
    text = capsys.readouterr().out
    shown = json.loads(text[: text.index("}") + 1])
    assert shown["ch"] == 2 and shown["img_size"] == 24 and shown["iteration"] == 7


def test_image_names_with_any_letters(tmp_path):
    folder = draw_dataset(tmp_path / "data")
    os.rename(folder / "testA" / "0.png", folder / "testA" / "自拍 照片.png")
    write_image(folder / "testA" / "下级" / "图.png", np.zeros((30, 20, 3), "uint8"))
    trained(tmp_path)
    assert main.main(flags(tmp_path, *TEST)) == 0
    test = run_folder(tmp_path) / "test" / "A2B"
    assert (test / "自拍 照片.png").exists() and (test / "下级" / "图.png").exists()


def test_the_version_is_printed():
    result = subprocess.run([sys.executable, "main.py", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"ugatit-paddle {__version__}\n")


def test_names_with_line_breaks_are_escaped(tmp_path, capsys):
    """The message stays one line, and nothing in a name controls the terminal."""
    assert main.main(["--data_root", f"{tmp_path}/a\nerror: b\x1b[2J", "--dataset", "none", "--device", "cpu"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a\nerror: b\x1b[2J" in line
    long = f"{tmp_path}/" + "\n" * 300
    assert main.main(["--data_root", long, "--dataset", "none", "--device", "cpu"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_too_little_memory_is_one_line(capsys):
    """Of NumPy, of Paddle (with a C++ traceback in its text), or of Python."""

    def work() -> None:
        raise MemoryError("C++ Traceback\nFail to alloc memory of 72 TB size")

    assert exit_code_of(work, see="--x") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the memory is not enough") and "--img_size" in line
