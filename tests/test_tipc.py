"""The chain from training to inference, in the form of PaddlePaddle's TIPC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import parse_arguments
from deploy.engines import is_installed
from deploy.settings import parse_settings
from test_tipc import chain
from tests.helpers import ROOT
from utils import write_image

CONFIGS = sorted(ROOT.glob(chain.CONFIGS))
PIX2PIX = ROOT / "test_tipc" / "configs" / "pix2pix" / "train_infer_python.txt"


def changed(tmp_path: Path, old: str, new: str) -> str:
    """A copy of a configuration with another text in it."""
    text = PIX2PIX.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "changed.txt").write_text(text.replace(old, new), encoding="utf-8")
    return str(tmp_path / "changed.txt")


def test_the_chain_holds_as_tipc_calls_it(tmp_path):
    command = ["bash", "test_tipc/test_train_inference_python.sh", str(PIX2PIX), "lite_train_lite_infer", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    exported = ["paddle", "onnx"] if is_installed("onnxruntime", "onnx") else ["paddle"]
    links = ["train", "resume", "evaluate", "export", "infer network"]
    links += [f"{step} {kind}" for kind in exported for step in ("infer", "compare")]
    lines, table = (part.splitlines() for part in done.stdout.split("\n\n"))
    assert [line[10:28].strip() for line in table[:-1]] == links and all(line.endswith("  ok") for line in table[:-1])
    assert table[-1].startswith(f"{len(links)} of {len(links)} links hold, ")
    said = [line for line in lines if line.startswith("Run successfully with command - pix2pix - ")]
    assert len(said) == len(links) and said == (tmp_path / "pix2pix" / chain.STATUS_LOG).read_text().splitlines()
    assert "resumed at iteration 2" in (tmp_path / "pix2pix" / "resume.log").read_text()
    assert sum("of 255" in line for line in lines) == len(exported)
    for name in ("infer_network", *(f"infer_{kind}" for kind in exported)):
        assert sorted(file.name for file in (tmp_path / "pix2pix" / name).iterdir()) == ["00000.png", "00001.png"]


def test_a_link_that_fails_ends_its_chain(tmp_path, capsys):
    config = changed(tmp_path, "--dataset lite_data --img_size", "--dataset nothing --img_size")
    assert chain.main([config, "--output", str(tmp_path)]) == 1
    lines, table = (part.splitlines() for part in capsys.readouterr().out.split("\n\n"))
    assert lines[0].startswith("Run failed with command - pix2pix - python main.py --method pix2pix") and len(lines) == 2
    assert lines[1].startswith("exit code 1: error: ") and "there is no folder" in lines[1]
    assert table[0].endswith("FAILED") and table[1].endswith("not run") and table[-1].startswith("0 of ")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_the_commands_of_a_configuration_are_valid(path):
    """Also for TIPC's own scripts, which cut a line at its colons and take the value before the second."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == chain.LINES and all(line.count(":") <= 1 for line in lines)
    recipe = chain.read_recipe(path, chain.MODE)
    assert recipe.name == path.parent.name and recipe.run == f"lite_data/{recipe.name}"
    for command, phase in ((recipe.train, "train"), (recipe.evaluate, "evaluate")):
        config, typed = parse_arguments(command[1:])
        assert (command[0], config.method, config.phase, config.dataset) == ("main.py", recipe.name, phase, "lite_data")
    for command, phase in ((recipe.export, "export"), (recipe.translate, "translate")):
        assert parse_settings(phase, [*command[1:], "--checkpoint=x", "--output=y"]).phase == phase
    assert len(list((ROOT / "test_tipc" / "lite_data").glob("*/*.png"))) == 12


@pytest.mark.parametrize("old, new, mode, words", [
    ("lite_train_lite_infer", "lite_train_lite_infer", "whole_train_whole_infer", "mode 'whole_train_whole_infer': use lite"),
    ("lite_infer=2", "lite_infer=two", chain.MODE, "line 7: 'two' is not a number of iterations"),
    ("##\n", "", chain.MODE, "not a TIPC configuration"),
])  # fmt: skip
def test_what_is_no_configuration_is_refused(old, new, mode, words, tmp_path, capsys):
    assert chain.main([changed(tmp_path, old, new), mode, "--output", str(tmp_path / "output")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "output").exists()


def test_a_folder_of_others_is_left_alone(tmp_path, capsys):
    (tmp_path / "pix2pix").mkdir()
    (tmp_path / "pix2pix" / "mine").touch()
    assert chain.main([str(PIX2PIX), "--output", str(tmp_path)]) == 2
    assert "name another folder" in capsys.readouterr().err and (tmp_path / "pix2pix" / "mine").exists()


def test_pictures_that_differ_are_noticed(tmp_path, capsys):
    picture = np.full((4, 4, 3), 100, np.uint8)
    write_image(tmp_path / "a" / "0.png", picture)
    write_image(tmp_path / "b" / "0.png", picture + np.eye(4, dtype=np.uint8)[:, :, None] * 2)
    assert chain.largest_difference(tmp_path / "a", tmp_path / "b") == 2
    links = chain.Chain(chain.read_recipe(PIX2PIX, chain.MODE), tmp_path)
    for other, passed in (("a", True), ("b", False)):
        links.compare("compare", tmp_path / "a", tmp_path / other)
        assert links.links[-1].passed is passed
    links.links.clear()
    links.compare("compare", tmp_path / "a", tmp_path / "nothing")
    assert not links.links[-1].passed and "not the pictures of" in capsys.readouterr().out
