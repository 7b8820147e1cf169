"""--phase evaluate and --eval_freq: the scores that are printed, stored and logged, the best checkpoint, and bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file
from visualdl import LogReader

import main
from engine.run import RunFolder
from errors import DataError
from metrics.distances import fid, kid
from metrics.inception import Inception
from metrics.weights import arrays_sha256
from tests.helpers import TINY, call, draw_dataset, draw_pairs, flags, latest_bytes, read_metrics, run_folder
from tests.golden.make_metrics import random_weights
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
    assert "pixel acc." in capsys.readouterr().out


def test_evaluations_in_training_and_the_best_checkpoint(tmp_path, data):
    arguments = [*TINY, *OFTEN, *PAIRED, "--keep_best", "l1:A2B", "--lr", "0.01", "--iteration", "4"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    run = run_folder(tmp_path)
    lines = scores_in(run)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    best = json.loads((run / "checkpoints" / "best" / "meta.json").read_text())
    assert best["iteration"] == min(lines, key=lambda line: line["A2B/l1"])["iteration"]
    assert evaluation(run)["iteration"] == 4
    assert main.main(flags(tmp_path, "--phase", "evaluate", *PAIRED, "--checkpoint", str(run / "checkpoints" / "best"))) == 0
    found = json.loads((run / "evaluation_best.json").read_text())
    assert found["iteration"] == best["iteration"] and evaluation(run)["iteration"] == 4
    assert found["scores"]["A2B"]["translated"]["l1"] == pytest.approx(min(line["A2B/l1"] for line in lines))
    assert len(scores_in(run)) == 4, "an older checkpoint leaves the run's log alone"


@pytest.mark.parametrize("keep, better", [("psnr", max), ("ssim:B2A", max)])
def test_more_is_better_for_some(keep, better, tmp_path, data):
    arguments = [*TINY, *OFTEN, "--keep_best", keep, "--lr", "0.01", "--iteration", "3"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    run = run_folder(tmp_path)
    name, _, direction = keep.partition(":")
    merits = {
        line["iteration"]: np.mean([line[f"{d}/{name}"] for d in ((direction,) if direction else ("A2B", "B2A"))])
        for line in scores_in(run)
    }
    best = json.loads((run / "checkpoints" / "best" / "meta.json").read_text())["iteration"]
    assert merits[best] == better(merits.values())


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
    stopped = "import engine.trainer as t; step = t.Trainer.step\n"
    stopped += "def limited(self, batch):\n    if self.iteration == 2: raise SystemExit(9)\n    return step(self, batch)\n"
    stopped += "t.Trainer.step = limited"
    assert call(flags(tmp_path, *arguments), before=stopped).returncode == 9
    assert main.main(flags(tmp_path, "--resume")) == 0
    assert latest_bytes(run) == latest_bytes(whole)
    without_time = [[{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(r)] for r in (run, whole)]
    assert without_time[0] == without_time[1]
    best = [json.loads((r / "checkpoints" / "best" / "meta.json").read_text())["best"] for r in (run, whole)]
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


def test_grey_label_maps(tmp_path):
    folder = draw_pairs(tmp_path / "data")
    labels = np.zeros((32, 32, 1), np.uint8)
    labels[:, 16:] = 200
    for part in ("train", "test"):
        for file in (folder / part).iterdir():
            photograph = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
            write_image(file, np.hstack([photograph, labels]))
    arguments = ["--method", "pix2pix", "--img_size", "32", "--img_ch", "1", "--ch", "2", "--n_layers_D", "1", "--iteration", "1"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    assert main.main(flags(tmp_path, "--method", "pix2pix", "--phase", "evaluate")) == 0
    scores = evaluation(tmp_path / "results" / "tiny" / "pix2pix")["scores"]["A2B"]["translated"]
    assert {"l1", "psnr", "ssim", "pixel_accuracy", "class_accuracy", "class_iou"} == set(scores)


def test_images_below_the_window_of_ssim(tmp_path, capsys):
    draw_pairs(tmp_path / "data")
    arguments = ["--method", "pix2pix", "--img_size", "8", "--ch", "2", "--n_layers_D", "1", "--iteration", "1"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    assert main.main(flags(tmp_path, "--method", "pix2pix", "--phase", "evaluate")) == 0
    found = evaluation(tmp_path / "results" / "tiny" / "pix2pix")
    assert "window is 11 pixels" in found["not_computed"]["ssim"] and "l1" in found["scores"]["A2B"]["translated"]


BAD = {
    "empty metrics": (["--metrics", ""], 2, ["--metrics", "'' is not one of"]),
    "unknown metric": (["--metrics", "lpips"], 2, ["--metrics lpips", "kid, fid, l1"]),
    "kid without weights": (["--metrics", "kid"], 1, ["cannot be reached", "--inception_weights FILE"]),
    "missing weights file": (["--inception_weights", "absent.safetensors"], 1, ["absent.safetensors", "cannot be read"]),
    "labels of photographs": (["--metrics", "labels"], 2, ["labels", "label maps"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(case, tmp_path, data, capsys):
    arguments, exit_code, words = BAD[case]
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    capsys.readouterr()
    assert main.main(flags(tmp_path, "--phase", "evaluate", *arguments)) == exit_code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error
    assert not (run_folder(tmp_path) / "evaluation.json").exists()


TRAINING = {
    "best without evaluations": (["--keep_best", "l1"], ["--keep_best l1", "--eval_freq"]),
    "unknown best": (["--keep_best", "loss", "--eval_freq", "1"], ["'loss'", "kid, fid, l1"]),
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


# With weights. They are random, so these figures mean nothing and only tests compute them.


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A safetensors file of random Inception weights."""
    state = random_weights({name: list(value.shape) for name, value in Inception().state_dict().items()})
    file = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(state, file, {"arrays_sha256": arrays_sha256(state)})
    return file


def test_kid_and_fid_with_weights(tmp_path, data, weights, capsys, monkeypatch):
    import metrics.evaluation

    draw_dataset(tmp_path / "data", test=3)
    (data / "dataset.json").unlink()
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    computed = {}

    def noted(network, images, count, label):
        assert label not in computed, "computed twice"
        computed[label] = extract(network, images, count, label=label)
        return computed[label]

    extract = metrics.evaluation.extract_features
    monkeypatch.setattr("metrics.evaluation.extract_features", noted)
    arguments = ["--phase", "evaluate", "--inception_weights", str(weights)]
    assert main.main(flags(tmp_path, *arguments)) == 0
    out = capsys.readouterr().out
    run = run_folder(tmp_path)
    found = evaluation(run)
    translated, real = computed["A2B features"], computed["real B features"]
    assert found["scores"]["A2B"]["translated"]["kid"] == pytest.approx(kid(translated, real).mean)
    assert found["scores"]["A2B"]["translated"]["fid"] == pytest.approx(fid(translated, real))
    assert found["scores"]["A2B"]["untouched"]["kid"] == pytest.approx(kid(computed["real A features"], real).mean)
    assert any("subsets of 3 instead of 1000" in note for note in found["notes"])
    assert "KID x100" in out and "±" in out and set(found["not_computed"]) == {"l1, psnr, ssim, labels"}
    assert found["inception_weights"]

    # Features of the real images are kept for all runs of this data set.
    computed.clear()
    assert main.main(flags(tmp_path, *arguments)) == 0
    assert set(computed) == {"A2B features", "B2A features"}
    assert evaluation(run) == found

    # They are not used for other settings, nor where they are damaged.
    kept = run.parent / "features" / "test_B_24.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1])
    computed.clear()
    assert main.main(flags(tmp_path, *arguments)) == 0
    assert "real B features" in computed and "computing the features again" in capsys.readouterr().out
    write_image(data / "testB" / "0.png", np.zeros((28, 28, 3), np.uint8))
    computed.clear()
    assert main.main(flags(tmp_path, *arguments)) == 0
    assert "real B features" in computed and "made for other images" in capsys.readouterr().out


def test_too_few_images_for_kid(tmp_path, data, weights, capsys):
    for domain in "AB":
        (data / f"test{domain}" / "1.png").unlink()
    assert main.main(flags(tmp_path, *TINY, *OFTEN, "--iteration", "1", "--inception_weights", str(weights))) == 0
    assert "kid, fid: not computed: they need at least 2 images" in capsys.readouterr().out
    assert main.main(flags(tmp_path, "--phase", "evaluate", "--metrics", "kid", "--inception_weights", str(weights))) == 2
    assert "at least 2 images" in capsys.readouterr().err


def test_weights_with_changed_bytes(tmp_path, data, weights, capsys):
    changed = tmp_path / "changed.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    changed.write_bytes(content)
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    capsys.readouterr()
    assert main.main(flags(tmp_path, "--phase", "evaluate", "--inception_weights", str(changed))) == 1
    error = capsys.readouterr().err
    assert "changed.safetensors" in error and error.count("\n") == 1
