"""tools.benchmark: where the time of a step goes, and how it grows."""

from __future__ import annotations

import re
import subprocess

import pytest

from deploy.engines import FOR_NETWORKS, is_installed
from tests.helpers import TINY, draw_dataset, save_untrained
from tools import benchmark, growth, profile_step, translate_speed

FAST = ["--steps", "1", "--warmup", "0"]


def tables(out: str) -> list:
    """The Markdown tables of a text, each as rows of cells without the heading."""
    blocks = re.findall(r"(?:^\|.*\n?)+", out, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]] for block in blocks]


def shares(rows: list) -> float:
    return sum(float(row[-1].rstrip(" %")) for row in rows if row[-1])


@pytest.fixture
def shown_in_full(monkeypatch):
    monkeypatch.setattr(profile_step, "LEAST_SHARE", 0)


def test_profile_by_operation_and_by_part(tmp_path, capsys, shown_in_full):
    flags = ["--data_root", str(tmp_path), "--profile", *FAST]
    assert benchmark.main(["train", *TINY, *flags]) == 0
    operations, parts = tables(capsys.readouterr().out)
    calls = {row[0]: int(row[1]) for row in operations}
    assert {
        "conv2d",
        "conv2d backward",
        "merged_adam",
        "matmul backward",
        "_Moments backward",
        profile_step.BETWEEN,
    } <= calls.keys()
    assert calls["conv2d"] >= calls["conv2d backward"] > 0 and not any("GradNode" in name or "dygraph" in name for name in calls)
    assert [row[0].split(":")[0].split()[0] for row in parts] == ["data", "D", "G", "rest", "logging"]
    assert parts[0][1] == "not measured: no data set" and all(float(row[1]) > 0 for row in parts[1:])
    for rows in (operations, parts):
        assert shares(rows) == pytest.approx(100, abs=0.05 * len(rows))


@pytest.mark.parametrize("method", ["cyclegan", "pix2pix"])
def test_profile_of_the_other_methods_on_a_data_set(method, tmp_path, capsys):
    draw_dataset(tmp_path, train=2)
    if method == "pix2pix":
        (tmp_path / "tiny" / "trainB" / "2.png").unlink()
        (tmp_path / "tiny" / "testB" / "2.png").unlink()
    flags = ["--method", method, "--img_size", "24", "--ch", "2", "--data_root", str(tmp_path), "--dataset", "tiny", "--profile"]
    assert benchmark.main(["train", *flags, *FAST, "--num_workers", "0"]) == 0
    operations, parts = tables(capsys.readouterr().out)
    assert re.fullmatch(r"\d+ others", operations[-1][0])
    assert all(float(row[1]) > 0 for row in parts) and parts[0][0].endswith("(--num_workers 0)")
    assert shares(operations) == pytest.approx(100, abs=1) and shares(parts) == pytest.approx(100, abs=1)


@pytest.mark.parametrize("event, name", [
    ("conv2d dygraph", "conv2d"),
    ("full_ dygraph", "full"),
    ("Global_Conv2dTransposeGradNode", "conv2d_transpose backward"),
    ("Conv2dGradNodeFinal", "conv2d backward"),
    ("Global_GradNodePyLayer__Moments", "_Moments backward"),
    ("Global_GradNodeAccumulation", "Accumulation backward"),
])  # fmt: skip
def test_operations_have_plain_names(event, name):
    assert profile_step.operation_name(event) == name


def test_growth_measures_in_a_process_and_skips_what_may_not_fit(capsys, monkeypatch):
    # A step at 24 takes more than 1/8 GiB, so that of 96, with 16 times its pixels, may take more than 2.
    monkeypatch.setattr(growth, "MULTIPLES", [(1, 1, 1), (0.5, 1, 1), (4, 1, 1)])
    assert benchmark.main(["growth", "--method", "ugatit", *TINY, *FAST, "--most_gib", "2"]) == 0
    out, err = capsys.readouterr()
    (rows,) = tables(out)
    assert [row[:3] for row in rows] == [["24", "2", "1"], ["12", "2", "1"], ["96", "2", "1"]]
    assert float(rows[0][3]) > 0 and 0.05 < float(rows[0][4]) < 2
    assert rows[1][3].startswith("skipped: --img_size 12 is too small") and "GiB, 2.0 allowed" in rows[2][3]
    assert err.count("\n") == 3


class Answers:
    """Stands in for subprocess.run: every step takes 0.5 s and 1 GiB."""

    def __init__(self, returncode: int = 0, stderr: str = "") -> None:
        self.flags, self.returncode, self.stderr = [], returncode, stderr

    def __call__(self, command, **options):
        self.flags.append([word for word in command[command.index("train") + 1 :] if word.startswith("--")])
        out = "ours: 0.5 s a step (median of 1, 0.5 to 0.5), 1 images a second, peak memory 1.00 GiB\n"
        return subprocess.CompletedProcess(command, self.returncode, out, self.stderr)


def test_growth_of_every_method_around_the_base(capsys, monkeypatch):
    monkeypatch.setattr(growth, "free_gib", lambda: 1000.0)
    monkeypatch.setattr(growth.subprocess, "run", answers := Answers())
    assert benchmark.main(["growth", *FAST]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^`(.*)`$", out, re.MULTILINE) == [" ".join(variant) for variant in growth.VARIANTS]
    assert [len(rows) for rows in tables(out)] == [9] * 4
    for flags in ({"--img_size=64", "--n_dis=4"}, {"--img_size=256", "--n_dis=6"}, {"--ch=64"}, {"--batch_size=4"}):
        assert any(flags <= set(given) for given in answers.flags)


@pytest.mark.parametrize("returncode, stderr, words", [
    (1, "Traceback\nMemoryError: no\n  hint\n", "takes more than 2.0 GiB"),
    (-6, "", "takes more than 2.0 GiB"),
    (1, "error: the disk is full\n", "the disk is full"),
])  # fmt: skip
def test_growth_says_why_a_step_failed(returncode, stderr, words, capsys, monkeypatch):
    monkeypatch.setattr(growth, "free_gib", lambda: 2.5)
    monkeypatch.setattr(growth.subprocess, "run", Answers(returncode, stderr))
    assert benchmark.main(["growth", "--method", "pix2pix", *FAST]) == 0
    (rows,) = tables(capsys.readouterr().out)
    assert all(words in row[3] and row[4] == "" for row in rows)


def test_a_prediction_is_the_least_of_the_bounds():
    measured = {(64, 16, 1): (1.0, 0.5), (128, 16, 1): (2.0, 1.0), (64, 64, 4): (0.1, 0.1)}
    assert growth.predicted((128, 32, 1), measured) == (8.0, 4.0)
    assert growth.predicted((32, 16, 1), measured) == (0, 0)


@pytest.mark.parametrize("arguments, words", [
    (["data", "--profile"], "--profile belongs to train"),
    (["growth", "--profile"], "--profile belongs to train"),
    (["train", "--most_gib", "1"], "--most_gib belongs to growth"),
    (["growth", "--most_gib", "0"], "--most_gib needs more than 0"),
    (["growth", "--steps", "0"], "--steps needs 1 or more"),
    (["train", "--sizes", "64"], "--sizes belongs to translate, not to train"),
    (["data", "--peer", "."], "--peer belongs to train and translate, not to data"),
    (["translate", *TINY, "--sizes", "24", "26"], "--sizes 26: this network takes multiples of 4"),
    (["translate", *TINY, "--sizes", "4"], "--sizes 4: this network takes multiples of 4, from 8 on"),
    (["translate", *TINY, "--light", "false", "--sizes", "32"], "--sizes 32: this network takes images of 24x24 alone"),
    (["translate", *TINY, "--batches", "0"], "--batches needs 1 or more"),
    (["growth", "--light"], "--light is not a flag of --method cyclegan"),
    (["growth", "--method", "pix2pix", "--n_res", "2"], "--n_res is not a flag of --method pix2pix"),
])  # fmt: skip
def test_wrong_flags_end_in_one_line(arguments, words, capsys):
    assert benchmark.main(arguments) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and not out


# translate

FAKE_TORCH = """
import sys, json
settings = json.loads(sys.argv[1])
assert settings["translate"] and settings["img_size"] in (24, 32) and settings["n_res"] == 1, settings
for _ in sys.stdin:
    print(json.dumps([10.0, 1048576]), flush=True)
"""


def test_every_installed_engine_translates_in_turn_beside_the_peer(tmp_path, capsys, monkeypatch):
    (tmp_path / "networks.py").write_text("")
    (tmp_path / "answering.py").write_text(FAKE_TORCH)
    monkeypatch.setattr(benchmark, "PEER_SCRIPT", tmp_path / "answering.py")
    # What shapes training steps alone does not matter here.
    flags = [*TINY, "--cam_weight", "7", "--sizes", "24", "32", "--batches", "1", "2", "--peer", str(tmp_path)]
    assert benchmark.main(["translate", *flags, *FAST]) == 0
    (rows,) = tables(capsys.readouterr().out)
    installed = [name for name in FOR_NETWORKS if is_installed(name, "onnx")]
    expected = {(size, batch, name) for size in ("24", "32") for batch in "12" for name in (*installed, "PyTorch")}
    assert {tuple(row[:3]) for row in rows} == expected
    for _, batch, name, seconds, _, per_second, share, difference in rows:
        assert int(batch) / float(per_second) == pytest.approx(float(seconds), abs=0.001)
        assert float(share) == pytest.approx(float(seconds) / 10, abs=0.006)
        if name in ("network", "PyTorch"):
            assert difference == ""
        else:
            largest, mean = map(float, difference.split(", "))
            assert 0 < mean < largest < 1e-4


@pytest.mark.parametrize("flags", [[], ["--ema", "0.9", "--weights", "raw"]])
def test_translations_of_a_checkpoint(flags, tmp_path, capsys):
    checkpoint = save_untrained(tmp_path, "--method", "pix2pix", "--img_size", "32", "--ch", "2", "--n_layers_D", "1", *flags[:2])
    assert benchmark.main(["translate", "--checkpoint", str(checkpoint), *flags[2:], *FAST]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pix2pix, ch 2, ") and {row[0] for row in tables(out)[0]} == {"32"}


def test_half_precision_beside_float32(capsys, monkeypatch):
    monkeypatch.setattr("methods.refuse_amp", lambda amp, device: None)
    monkeypatch.setattr(translate_speed, "FOR_NETWORKS", ("network",))
    assert benchmark.main(["translate", *TINY, "--ch", "8", "--amp", "bf16", *FAST]) == 0
    (rows,) = tables(capsys.readouterr().out)
    assert [row[2] for row in rows] == ["network", "network bf16"]
    largest, mean = map(float, rows[1][-1].split(", "))
    assert 1e-5 < mean < largest < 0.2
