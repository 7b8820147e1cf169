"""Generators in half precision, for others: small, and as good as any checkpoint."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import main
from config import AVERAGED
from engine.checkpoint import load, read_meta
from tests.helpers import TINY, draw_dataset, draw_pairs, flags, newest, run_folder, save_untrained
from tools import publish_weights
from utils import read_image


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two iterations with averaged generators."""
    tmp_path = tmp_path_factory.mktemp("published")
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "2", "--ema", "0.5")) == 0
    return tmp_path


def publish(source, output, *more):
    return publish_weights.main([str(source), "--output", str(output), *more])


def test_it_holds_the_averaged_generators_in_half_precision_and_nothing_of_the_machine(run, tmp_path, capsys):
    output = tmp_path / "weights" / "tiny"
    assert publish(run_folder(run), output) == 0
    assert "generators of --method ugatit at iteration 2" in capsys.readouterr().out
    assert {file.name for file in output.iterdir()} == {"averaged.safetensors", "meta.json"}
    original = load_file(newest(run_folder(run)) / "averaged.safetensors")
    published = load_file(output / "averaged.safetensors")
    assert published.keys() == original.keys()
    for name, array in published.items():
        assert array.dtype == np.float16
        np.testing.assert_array_equal(array, original[name].astype(np.float16))
    loaded = load(output, parts=[AVERAGED]).arrays[AVERAGED]
    assert {array.dtype for array in loaded.values()} == {np.dtype(np.float32)}
    assert str(run) not in (output / "meta.json").read_text()


def test_it_translates_as_the_run_does_and_says_its_method_itself(run, tmp_path):
    assert publish(run_folder(run), tmp_path / "mine") == 0
    assert main.main([*flags(run), "--phase", "test"]) == 0
    assert main.main([*flags(run), "--phase", "test", "--checkpoint", str(tmp_path / "mine")]) == 0
    for name in ("0.png", "1.png"):
        of_run, of_weights = (read_image(run_folder(run) / test / "A2B" / name) for test in ("test", "test_mine"))
        assert np.abs(of_run.astype(int) - of_weights).max() <= 2

    draw_pairs(tmp_path / "data")
    pix2pix = save_untrained(tmp_path / "run", "--method", "pix2pix", "--img_size", "32", "--ch", "2", "--n_layers_D", "1")
    assert publish(pix2pix, tmp_path / "pairs") == 0
    assert main.main([*flags(tmp_path), "--phase", "evaluate", "--checkpoint", str(tmp_path / "pairs"), "--metrics", "l1"]) == 0
    scores = json.loads((tmp_path / "results" / "tiny" / "pix2pix" / "evaluation_pairs.json").read_text())
    assert scores["iteration"] == 0


def test_a_new_run_starts_from_it(run, tmp_path, capsys):
    output = tmp_path / "mine"
    assert publish(run_folder(run), output, "--weights", "raw") == 0
    assert (output / "generators.safetensors").is_file()
    new = flags(run, *TINY, "--result_dir", str(tmp_path / "new"), "--iteration", "1")
    assert main.main([*new, "--init_from", str(output)]) == 0
    assert "starting from" in capsys.readouterr().out
    assert read_meta(newest(tmp_path / "new" / "tiny" / "ugatit"))["iteration"] == 1


def test_what_is_there_already_and_what_half_precision_does_not_hold_are_refused(run, tmp_path, capsys, monkeypatch):
    assert publish(run_folder(run), run) == 2
    assert "is there already" in capsys.readouterr().err
    large = publish_weights.load_generators

    def with_a_large_value(*arguments):
        checkpoint, raw = large(*arguments)
        next(iter(checkpoint.arrays[AVERAGED].values()))[:] = 1e6
        return checkpoint, raw

    monkeypatch.setattr(publish_weights, "load_generators", with_a_large_value)
    assert publish(run_folder(run), tmp_path / "mine") == 1
    assert "half precision does not hold" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
