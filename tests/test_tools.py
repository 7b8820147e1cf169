"""The commands beside the training: benchmark, demo set."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dataset import find_images
from datatools import demo
from tests.helpers import TINY, draw_dataset
from tools import benchmark, window_iou
from utils import read_image, write_image


def test_benchmark_of_the_step(capsys):
    assert benchmark.main(["train", *TINY, "--steps", "2", "--warmup", "1"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ours: [\d.]+ s a step .* images a second, peak memory [\d.]+ GiB$", out, re.MULTILINE)


# A repository whose networks.py stands in for the authors', so that neither torch nor theirs is needed here.
FAKE_TORCH = """
import sys, time, json
for _ in sys.stdin:
    print(json.dumps([10.0, 1048576]), flush=True)
"""


def test_benchmark_beside_a_peer_ends_with_the_ratio(tmp_path, capsys, monkeypatch):
    (tmp_path / "networks.py").write_text("")
    (tmp_path / "answering.py").write_text(FAKE_TORCH)
    monkeypatch.setattr(benchmark, "PEER_SCRIPT", tmp_path / "answering.py")
    arguments = ["train", *TINY, "--steps", "1", "--warmup", "1", "--peer", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    out = capsys.readouterr().out
    assert "peer: 10.000 s a step" in out and "peak memory 1.00 GiB" in out
    assert re.fullmatch(r"ratio 0\.\d\d \(ours 0\.\d s, peer 10\.0 s\)", out.splitlines()[-1])


def test_benchmark_refuses_a_folder_that_is_no_peer(tmp_path, capsys):
    assert benchmark.main(["train", *TINY, "--peer", str(tmp_path)]) == 2
    assert "--peer" in capsys.readouterr().err


def test_benchmark_refuses_what_the_peer_does_not_know(tmp_path, capsys):
    (tmp_path / "networks.py").write_text("")
    assert benchmark.main(["train", *TINY, "--peer", str(tmp_path), "--cam_weight", "7"]) == 2
    assert "--cam_weight: the peer's step knows only 1000.0" in capsys.readouterr().err


def test_benchmark_refuses_no_steps(capsys):
    assert benchmark.main(["train", *TINY, "--steps", "0"]) == 2
    assert "--steps needs 1 or more" in capsys.readouterr().err


def test_benchmark_says_when_the_peer_fails(tmp_path, capsys, monkeypatch):
    (tmp_path / "networks.py").write_text("raise SystemExit(3)")
    (tmp_path / "failing.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(benchmark, "PEER_SCRIPT", tmp_path / "failing.py")
    assert benchmark.main(["train", *TINY, "--peer", str(tmp_path)]) == 1
    assert "is torch installed for --peer_python" in capsys.readouterr().err


def test_benchmark_of_the_loader(tmp_path, capsys):
    draw_dataset(tmp_path)
    arguments = ["data", "--data_root", str(tmp_path), "--dataset", "tiny", *TINY, "--steps", "4"]
    assert benchmark.main(arguments) == 0
    assert "--num_workers 0" in capsys.readouterr().out


def test_benchmark_of_operations(capsys, monkeypatch):
    monkeypatch.setattr(
        benchmark, "OPERATIONS", [("instance_norm", [(1, 2, 4, 4)], {}), ("reflect_pad", [(1, 2, 4, 4)], {"pad": 1})]
    )
    assert benchmark.main(["ops", "--steps", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["operation", "instance_norm", "reflect_pad"]
    assert all(float(figure) > 0 for line in lines[1:] for figure in line.split()[-2:])


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portraits") / "set"
    demo.draw_dataset(folder, size=32, train=3, test=2, workers=1)
    return folder


def test_demo_set_has_the_layout_and_true_pairs(portraits):
    assert [len(find_images(portraits / part)) for part in ("trainA", "trainB", "testA", "testB")] == [3, 3, 2, 2]
    identity = demo.identity_of(0, 1)
    assert (read_image(portraits / "testA" / "00001.png") == demo.draw_photograph(identity, 32)).all()
    assert (read_image(portraits / "testB" / "00001.png") == demo.draw_anime(identity, 32)).all()


def test_demo_set_never_shows_an_identity_twice():
    for paired in (False, True):
        parts = demo.plan(train=5, val=3, test=2, paired=paired)
        numbers = [number for part, _, people in parts if part != "testB" for number in people]
        assert len(set(numbers)) == len(numbers)
    assert [people for part, _, people in parts if part == "test"] == [range(2)]


def test_demo_set_has_the_same_numbers_both_ways(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(demo, "draw_dataset", lambda *_, **options: calls.append(options))
    assert demo.main(["--out", str(tmp_path / "a")]) == 0
    demo.draw_missing(tmp_path / "b", paired=False)
    assert calls == [{**demo.DRAWN, "seed": 0, "workers": 2, "paired": False}, {"workers": 2, "test_alone": False}]


def test_demo_set_depends_on_the_seed(portraits, tmp_path):
    demo.draw_dataset(tmp_path, size=32, train=1, test=1, seed=1, workers=1)
    assert (tmp_path / "testA" / "00000.png").read_bytes() != (portraits / "testA" / "00000.png").read_bytes()


@pytest.mark.parametrize("arguments, words", [
    (["--out", "{there}"], "exists already"),
    (["--out", "{set}", "--size", "32", "--seed", "1"], "exists already"),
    (["--out", "{new}", "--size", "8"], "at least 16"),
    (["--out", "{new}", "--train", "0"], "--train must be at least 1"),
    ([], "--out DIR or --sheet"),
])  # fmt: skip
def test_demo_set_refuses_in_one_line(arguments, words, portraits, tmp_path, capsys):
    arguments = [text.format(there=portraits.parent, set=portraits, new=tmp_path / "new") for text in arguments]
    assert demo.main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and not (tmp_path / "new").exists()


def test_window_iou_of_known_pictures(tmp_path, capsys):
    red, blue = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    red[:, :, 0] = blue[:, :, 2] = 200
    for name, translated, truth in (("a", red, red), ("b", blue, blue), ("c", red, np.concatenate([red[:2], blue[:6]]))):
        write_image(tmp_path / "ours" / f"{name}.png", translated)
        write_image(tmp_path / "truth" / f"{name}.png", np.concatenate([blue, truth], 1).repeat(2, 0).repeat(2, 1))
    # 64 of 64 pixels, none of none, 16 of 64.
    assert window_iou.window_iou(tmp_path / "ours", tmp_path / "truth") == pytest.approx(80 / 128)
    assert window_iou.main([str(tmp_path / "ours"), "--truth", str(tmp_path / "truth")]) == 0
    assert "window IoU 0.625 over 3 pairs" in capsys.readouterr().out
    (tmp_path / "ours" / "b.png").unlink()
    assert window_iou.main([str(tmp_path / "ours"), "--truth", str(tmp_path / "truth")]) == 1
    assert "b.png is missing" in capsys.readouterr().err
