"""--phase evaluate and --eval_freq: the scores that are printed, stored and logged, the best checkpoint, and bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file
from visualdl import LogReader

import main
from engine.checkpoint import find_checkpoint
from engine.run import RunFolder
from errors import DataError
from metrics.distances import fid, kid
from metrics.features import extract_features
from metrics.inception import Inception
from metrics.weights import arrays_sha256
from tests.golden.make_metrics import random_weights
from tests.helpers import TINY, call, draw_dataset, draw_pairs, flags, latest_bytes, read_metrics, run_folder
from utils import read_image, write_image

OFTEN = ["--print_freq", "1", "--eval_freq", "1", "--checkpoint_freq", "1", "--sample_count", "1"]
PAIRED = ["--metrics", "l1,psnr,ssim"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """An empty cache, and nobody to download from."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("metrics.weights.ADDRESS", "http://127.0.0.1:9/InceptionV3.pdparams")


@pytest.fixture
def data(tmp_path):
    """An unpaired set whose test images are pairs of the same names."""
    folder = draw_dataset(tmp_path / "data")
    (folder / "testB" / "2.png").unlink()
    (folder / "dataset.json").write_text('{"test_pairs": true}')
    return folder


def evaluation(run):
    return json.loads((run / "evaluation.json").read_text())


def scores_in(run):
    return [line for line in read_metrics(run) if "A2B/l1" in line]


def test_scores_are_printed_stored_and_logged(tmp_path, data, capsys):
    assert main.main(flags(tmp_path, *TINY, "--iteration", "2")) == 0
    assert main.main(flags(tmp_path, "--phase", "test")) == 0
    capsys.readouterr()
    for _ in range(2):  # the second changes nothing
        assert main.main(flags(tmp_path, "--phase", "evaluate")) == 0
    out = capsys.readouterr().out
    run = run_folder(tmp_path)
    found = evaluation(run)
    assert (found["iteration"], found["method"], found["test_images"]) == (2, "ugatit", {"A2B": 2, "B2A": 2})
    # Against the pictures that the test phase wrote.
    pictures = [read_image(run / "test" / "A2B" / f"{index}.png").astype(float) for index in range(2)]
    truths = [read_image(run / "test" / "contact_A2B.png")[48:72, left : left + 24] for left in (0, 28)]
    l1 = np.mean([np.abs(picture - truth).mean() / 255 for picture, truth in zip(pictures, truths)])
    assert found["scores"]["A2B"]["translated"]["l1"] == pytest.approx(l1)
    assert set(found["scores"]["B2A"]) == {"translated", "untouched"}
    assert f"{l1:.4f}" in out and "A2B untouched" in out
    assert "kid, fid: not computed" in out and "--inception_weights FILE" in out
    assert [line["A2B/l1"] for line in scores_in(run)] == [pytest.approx(l1)]
    reader = LogReader(file_path=str(next((run / "log").glob("vdlrecords*"))))
    assert [point.value for point in reader.get_data("scalar", "metric/A2B/l1")] == [pytest.approx(l1, rel=1e-6)]


def test_pix2pix_is_scored_in_its_direction_and_label_maps_by_class(tmp_path, capsys):
    folder = draw_pairs(tmp_path / "data")
    photograph = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    labels = np.zeros((32, 32, 3), np.uint8)
    labels[:, 16:] = (0, 0, 255)
    for part in ("train", "test"):
        for file in (folder / part).iterdir():
            write_image(file, np.hstack([photograph, labels]))
    arguments = ["--method", "pix2pix", "--img_size", "32", "--ch", "2", "--n_layers_D", "1", "--iteration", "1"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    assert main.main(flags(tmp_path, "--method", "pix2pix", "--phase", "evaluate", "--metrics", "labels,l1")) == 0
    found = evaluation(tmp_path / "results" / "tiny" / "pix2pix")["scores"]
    assert list(found) == ["A2B"]
    assert set(found["A2B"]["translated"]) == {"l1", "pixel_accuracy", "class_accuracy", "class_iou"}
    assert "pixel accuracy" in capsys.readouterr().out


def test_evaluations_in_training_and_the_best_checkpoint(tmp_path, data):
    arguments = [*TINY, *OFTEN, *PAIRED, "--keep_best", "l1:A2B", "--lr", "0.01", "--iteration", "4"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    run = run_folder(tmp_path)
    lines = scores_in(run)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    best = json.loads((find_checkpoint(run / "checkpoints" / "best") / "meta.json").read_text())
    assert best["iteration"] == min(lines, key=lambda line: line["A2B/l1"])["iteration"]
    assert evaluation(run)["iteration"] == 4
    assert main.main(flags(tmp_path, "--phase", "evaluate", *PAIRED, "--checkpoint", str(run / "checkpoints" / "best"))) == 0
    found = json.loads((run / "evaluation_best.json").read_text())
    assert found["iteration"] == best["iteration"] and evaluation(run)["iteration"] == 4
    assert found["scores"]["A2B"]["translated"]["l1"] == pytest.approx(min(line["A2B/l1"] for line in lines))
    assert len(scores_in(run)) == 4, "an older checkpoint leaves the run's log alone"


def test_a_run_with_evaluations_resumes_bit_for_bit(tmp_path, data):
    arguments = [*TINY, *OFTEN, *PAIRED, "--keep_best", "l1", "--lr", "0.01", "--iteration", "4"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    run = run_folder(tmp_path)
    whole = tmp_path / "whole"
    run.rename(whole)
    plain = flags(tmp_path, *arguments, "--result_dir", str(tmp_path / "plain"), "--eval_freq", "0")
    plain.remove("--keep_best"), plain.remove("l1")
    assert main.main(plain) == 0
    assert latest_bytes(tmp_path / "plain" / "tiny" / "ugatit") == latest_bytes(whole), "evaluations change nothing"

    # The schedule ends at 4 for all of them: stop by the iteration after which the process is killed.
    stopped = "import engine.method as t; step = t.Method.step\n"
    stopped += "def limited(self, batch):\n    if self.iteration == 2: raise SystemExit(9)\n    return step(self, batch)\n"
    stopped += "t.Method.step = limited"
    assert call(flags(tmp_path, *arguments), before=stopped).returncode == 9
    assert main.main(flags(tmp_path, "--resume")) == 0
    assert latest_bytes(run) == latest_bytes(whole)
    without_time = [[{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(r)] for r in (run, whole)]
    assert without_time[0] == without_time[1]
    best = [json.loads((find_checkpoint(r / "checkpoints" / "best") / "meta.json").read_text())["best"] for r in (run, whole)]
    assert best[0] == best[1] and best[0]["kind"] == "l1"


def test_an_evaluation_that_fails_costs_no_training(tmp_path, data, capsys, monkeypatch):
    def fail(*_):
        raise DataError("testA/1.png: not a readable image")

    with monkeypatch.context() as broken:
        broken.setattr("metrics.evaluation.Evaluation.__call__", fail)
        assert main.main(flags(tmp_path, *TINY, *PAIRED, "--eval_freq", "2", "--iteration", "3")) == 1
    assert "1.png" in capsys.readouterr().err
    assert main.main(flags(tmp_path, "--resume")) == 0
    assert "resumed at iteration 2" in capsys.readouterr().out


def test_a_damaged_test_image_is_said_before_the_first_step(tmp_path, data, capsys):
    (data / "testA" / "1.png").write_bytes(b"not an image")
    assert main.main(flags(tmp_path, *TINY, *PAIRED, "--sample_count", "1", "--eval_freq", "2", "--iteration", "3")) == 1
    assert "1.png" in capsys.readouterr().err and not run_folder(tmp_path).exists()


def test_the_best_checkpoint_s_flags_stay_with_the_training(tmp_path, data, capsys):
    arguments = [*TINY, *OFTEN, "--keep_best", "l1", "--iteration", "1"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    assert main.main(flags(tmp_path, "--phase", "evaluate", "--metrics", "psnr")) == 0
    assert set(evaluation(run_folder(tmp_path))["scores"]["A2B"]["translated"]) == {"psnr"}
    assert main.main(flags(tmp_path, "--resume", "--iteration", "2", "--eval_freq", "0", "--keep_best", "none")) == 0
    capsys.readouterr()
    assert main.main(flags(tmp_path, "--phase", "evaluate", "--keep_best", "l1")) == 2
    assert "--keep_best is for --phase train" in capsys.readouterr().err


def test_scoring_leaves_the_logs_of_a_training_alone(tmp_path, data, capsys):
    """Neither the lines after the latest checkpoint are cut, nor is anything written while a training holds the run."""
    assert main.main(flags(tmp_path, *TINY, "--print_freq", "1", "--iteration", "2")) == 0
    run = run_folder(tmp_path)
    with open(run / "metrics.jsonl", "a") as stream:
        stream.write('{"iteration": 3, "G_total": 1.0}\n')
    before = read_metrics(run)
    with RunFolder(str(tmp_path / "results"), "tiny", "ugatit").only_one():
        assert main.main(flags(tmp_path, "--phase", "evaluate", *PAIRED)) == 0
        assert "not logged" in capsys.readouterr().err and read_metrics(run) == before
        assert main.main(flags(tmp_path, "--resume", "--iteration", "4")) == 1
        assert "another process is working on this run" in capsys.readouterr().err
    assert main.main(flags(tmp_path, "--phase", "evaluate", *PAIRED)) == 0
    after = read_metrics(run)
    assert after[:-1] == before and after[-1]["iteration"] == 2 and "A2B/l1" in after[-1]


BAD = {
    "empty metrics": (["--metrics", ""], 2, ["--metrics", "'' is not one of"]),
    "unknown metric": (["--metrics", "lpips"], 2, ["--metrics lpips", "l1, psnr, ssim, kid, fid, labels"]),
    "kid without weights": (["--metrics", "kid"], 1, ["the download failed", "--inception_weights FILE"]),
    "missing weights file": (["--inception_weights", "absent.safetensors"], 1, ["absent.safetensors", "cannot be read"]),
    "labels of photographs": (["--metrics", "labels"], 2, ["labels", "label maps"]),
}


def test_bad_input_gets_one_line(tmp_path, data, capsys):
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    capsys.readouterr()
    for arguments, exit_code, words in BAD.values():
        assert main.main(flags(tmp_path, "--phase", "evaluate", *arguments)) == exit_code
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and all(word in error for word in words), error
    assert not (run_folder(tmp_path) / "evaluation.json").exists()


def test_where_nothing_can_be_scored_nothing_is_translated(tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1", "--eval_freq", "1")) == 1
    error = capsys.readouterr().err
    assert "nothing can be scored" in error and error.count("\n") == 1 and not run_folder(tmp_path).exists()
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    assert main.main(flags(tmp_path, "--phase", "evaluate")) == 1
    assert "true counterparts" in capsys.readouterr().err and not (run_folder(tmp_path) / "evaluation.json").exists()


TRAINING = {
    "best without evaluations": (["--keep_best", "l1"], ["--keep_best l1", "--eval_freq"]),
    "unknown best": (["--keep_best", "loss", "--eval_freq", "1"], ["'loss'", "l1, psnr, ssim, kid, fid"]),
    "best of no direction": (["--keep_best", "l1:A2C", "--eval_freq", "1"], ["A2B and B2A"]),
    "best of what is not measured": (["--keep_best", "l1", "--eval_freq", "1", "--metrics", "kid"], ["--metrics kid,l1"]),
    "paired best of unpaired data": (["--keep_best", "l1", "--eval_freq", "1"], ["no true counterparts"]),
}


@pytest.mark.parametrize("case", TRAINING)
def test_what_cannot_be_kept_is_said_before_the_first_step(case, tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    arguments, words = TRAINING[case]
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1", *arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error
    assert not run_folder(tmp_path).exists()


def test_best_kid_without_weights_is_said_before_the_first_step(tmp_path, data, capsys):
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1", "--eval_freq", "1", "--keep_best", "kid")) == 1
    assert "--inception_weights FILE" in capsys.readouterr().err and not run_folder(tmp_path).exists()


def test_a_direction_that_pix2pix_does_not_have(tmp_path, capsys):
    draw_pairs(tmp_path / "data")
    arguments = ["--method", "pix2pix", "--img_size", "16", "--ch", "2", "--n_layers_D", "1", "--eval_freq", "1"]
    assert main.main(flags(tmp_path, *arguments, "--keep_best", "l1:B2A")) == 2
    assert "translates A2B, not B2A" in capsys.readouterr().err


def test_an_empty_test_folder(tmp_path, data, capsys):
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    shutil.rmtree(data / "testB")
    (data / "testB").mkdir()
    assert main.main(flags(tmp_path, "--phase", "evaluate")) == 1
    assert "testB holds no image" in capsys.readouterr().err


def test_kid_and_fid_with_weights(tmp_path, data, capsys, monkeypatch):
    """The weights are random, so these figures mean nothing."""
    state = random_weights(Inception().published_shapes())
    weights = tmp_path / "inception.safetensors"
    save_file(state, weights, {"arrays_sha256": arrays_sha256(state)})
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    computed = []

    def noted(network, images):
        computed.append(extract_features(network, images))
        return computed[-1]

    monkeypatch.setattr("metrics.evaluation.extract_features", noted)
    assert main.main(flags(tmp_path, "--phase", "evaluate", "--inception_weights", str(weights))) == 0
    found = evaluation(run_folder(tmp_path))
    translated, real_B = computed[:2]
    scores = found["scores"]["A2B"]["translated"]
    assert scores["kid"] == pytest.approx(kid(translated, real_B, 100, 1000, 0).mean)
    assert scores["fid"] == pytest.approx(fid(translated, real_B)) and scores["l1"] > 0
    assert found["not_computed"] == {} and found["inception_weights"] == arrays_sha256(state)
    assert {file.name for file in (tmp_path / "results" / "tiny" / "features").iterdir()} == {
        "test_A_24.safetensors", "test_B_24.safetensors",
    }  # fmt: skip
    assert "KID x100" in capsys.readouterr().out
