"""Runs of version 0.1 (tests/golden/runs_0.1): they are resumed, tested and evaluated like those of this version."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import main
from command_line import merge_for_test, parse_arguments
from engine.checkpoint import load
from methods import METHODS
from tests.helpers import draw_dataset, draw_pairs, newest, read_metrics

EARLIER = Path(__file__).parent / "golden" / "runs_0.1"


@pytest.fixture
def where(tmp_path):
    shutil.copytree(EARLIER / "results", tmp_path / "results")
    return [
        "--dataset",
        "drawn",
        "--data_root",
        str(tmp_path / "data"),
        "--result_dir",
        str(tmp_path / "results"),
        "--device",
        "cpu",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_its_generators_translate_as_they_did(method):
    checkpoint = load(newest(EARLIER / "results" / "drawn" / method), method, ["generators"])
    config, typed = parse_arguments(["--method", method])
    built = METHODS[method](merge_for_test(config, typed, checkpoint.meta["config"]), training=False)
    built.restore_generators(checkpoint)
    size = built.config.img_size
    image = np.random.default_rng(7).uniform(-1, 1, (3, size, size)).astype(np.float32)
    with np.load(EARLIER / "outputs.npz") as outputs:
        for direction in built.directions:
            np.testing.assert_allclose(built.translate_image(direction, image), outputs[f"{method}/{direction}"], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on(method, where, tmp_path):
    folder = (draw_pairs if method == "pix2pix" else draw_dataset)(tmp_path / "data", "drawn")
    (folder / "testB" / "2.png").unlink(missing_ok=True)  # its test images were pairs
    (folder / "dataset.json").write_text('{"test_pairs": true}')
    run = tmp_path / "results" / "drawn" / method
    assert main.main([*where, "--method", method, "--resume", "--iteration", "6"]) == 0
    assert load(newest(run)).meta["iteration"] == 6
    assert [line["iteration"] for line in read_metrics(run) if "lr" in line] == [2, 4, 6]
    assert not (run / "checkpoints" / "latest").exists(), "the newest step_N has taken its place"
    assert main.main([*where, "--method", method, "--phase", "test"]) == 0


def test_its_latest_and_best_are_found_by_their_names(where, tmp_path):
    draw_dataset(tmp_path / "data", "drawn")
    run = tmp_path / "results" / "drawn" / "ugatit"
    for name in ("latest", "best", "step_0000002"):
        assert main.main([*where, "--phase", "test", "--checkpoint", str(run / "checkpoints" / name)]) == 0
        assert (run / f"test_{name}" / "A2B" / "0.png").exists()
