"""What an evaluation computes, leaves out with a reason, or refuses before anything is translated. Nothing is trained here."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

from config import Pix2PixConfig, UGATITConfig
from dataset import Sample
from dataset import TestSet as ImageSet
from errors import ConfigError, DataError, WeightsError
from metrics import evaluation
from metrics.distances import fid, kid
from metrics.evaluation import NO_WEIGHTS, Evaluation
from utils import to_network

SIZE = 24


def pictures(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def label_maps(count: int) -> np.ndarray:
    maps = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    maps[:, :, SIZE // 2 :] = (0, 0, 255)
    return maps


def make_set(inputs, truths=None, reals=()) -> ImageSet:
    pairs = [(image, None) for image in inputs] if truths is None else list(zip(inputs, truths))
    samples = [Sample(to_network(image), None if truth is None else to_network(truth)) for image, truth in pairs]
    return ImageSet(len(samples), samples.__getitem__, len(reals), reals.__getitem__)


A, B = pictures(0, 3), pictures(1, 4)
UNPAIRED = {"A2B": make_set(A, reals=B), "B2A": make_set(B, reals=A)}
PAIRED = {"A2B": make_set(A, B, B), "B2A": make_set(B[:3], A, A)}
SOURCE_ONLY = {"A2B": make_set(A), "B2A": None}


def evaluate(tmp_path, test_sets, **settings):
    settings = {"img_size": SIZE, "dataset": "tiny", **settings}
    return Evaluation(UGATITConfig(**settings), test_sets, tmp_path / "features")


def features(images):
    return np.stack([image.reshape(-1, 8, 3).mean(0).ravel() for image in images]).astype(np.float32)


def negative(direction, image):
    return -image


def never(direction, image):
    raise AssertionError("translated in vain")


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """An empty cache, and nobody to download from."""

    def load(path):
        raise WeightsError("the Inception weights: nobody answers; use --inception_weights FILE")

    monkeypatch.setattr(evaluation, "load_inception", load)


@pytest.fixture
def weights(monkeypatch):
    """No network, and features that are means of pixels; returns how many images each call saw."""
    calls = []

    def extract(network, images):
        found = features(images)
        calls.append(len(found))
        return found

    monkeypatch.setattr(evaluation, "load_inception", lambda path: (object(), "a" * 64))
    monkeypatch.setattr(evaluation, "extract_features", extract)
    return calls


def test_paired_scores_of_translations_and_of_untouched_inputs(tmp_path, capsys):
    report = evaluate(tmp_path, PAIRED)(negative)
    rows = report.scores["A2B"]
    assert rows["translated"]["l1"] == pytest.approx(np.abs(255.0 - A - B[:3]).mean() / 255, abs=0.002)
    assert rows["untouched"]["l1"] == pytest.approx(np.abs(1.0 * A - B[:3]).mean() / 255)
    assert set(report.scores) == {"A2B", "B2A"} and set(rows["translated"]) == {"l1", "psnr", "ssim"}
    assert report.not_computed == {"kid, fid": NO_WEIGHTS}
    table = report.table().splitlines()
    assert table[0].split() == ["L1", "PSNR", "SSIM"] and [line.split("  ")[0] for line in table[1:5]] == [
        "A2B", "A2B untouched", "B2A", "B2A untouched",
    ]  # fmt: skip
    assert f"{rows['translated']['l1']:.4f}" in table[1]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "KID and FID are not computed" in said and "--inception_weights FILE" in said


def test_kid_and_fid_with_their_notes(tmp_path, weights):
    scored = evaluate(tmp_path, UNPAIRED, metrics="kid,fid", kid_subset_size=2)
    report = scored(negative)
    translated, real = features(255 - A), features(B)
    found = report.scores["A2B"]["translated"]
    expected = kid(translated, real, 100, 2, 0)
    assert [found["kid"], found["kid_std"], found["fid"]] == pytest.approx([*expected, fid(translated, real)])
    assert report.scores["A2B"]["untouched"]["fid"] == pytest.approx(fid(features(A), real))
    assert "KID x100" in report.table() and "±" in report.table() and report.not_computed == {}
    assert weights == [3, 4, 3, 4], "translations and real images of either domain, once each"
    scored(negative)
    assert weights[4:] == [3, 4]
    notes = evaluate(tmp_path, UNPAIRED, metrics="kid")(negative).notes
    assert "KID: subsets of 3 instead of 1000 images: the test set has no more" in notes


def test_features_of_the_real_images_are_kept_between_processes(tmp_path, weights, capsys):
    evaluate(tmp_path, UNPAIRED, metrics="fid")(negative)
    weights.clear()
    evaluate(tmp_path, UNPAIRED, metrics="fid")(negative)
    assert weights == [3, 4] and capsys.readouterr().err == ""
    other = {**UNPAIRED, "A2B": make_set(A, reals=B[::-1])}
    evaluate(tmp_path, other, metrics="fid", keep_best="fid:A2B", eval_freq=1)(negative)
    assert "made for other images" in capsys.readouterr().err


def test_folders_that_cannot_be_written_cost_only_the_cache(tmp_path, weights, capsys):
    (tmp_path / "features").write_bytes(b"")
    assert "fid" in evaluate(tmp_path, UNPAIRED)(negative).scores["A2B"]["translated"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith(f"warning: {tmp_path}") and "cannot be kept" in line for line in said)


# What is left out


def test_a_direction_without_test_images_is_left_out(tmp_path):
    for test_sets in ({"A2B": PAIRED["A2B"], "B2A": None}, {"A2B": PAIRED["A2B"]}):
        scored = evaluate(tmp_path, test_sets)
        report = scored(negative)
        assert list(report.scores) == ["A2B"] and scored.settings["test_images"] == {"A2B": 3}
        assert report.not_computed == {"A2B kid, fid": NO_WEIGHTS, "B2A": "there are no test images of domain B"}
        assert report.table().splitlines()[-1] == "B2A: not computed: there are no test images of domain B"


def test_a_direction_without_real_images_keeps_its_paired_scores(tmp_path, weights):
    report = evaluate(tmp_path, {"A2B": make_set(A, B[:3]), "B2A": UNPAIRED["B2A"]})(negative)
    assert set(report.scores["A2B"]["translated"]) == {"l1", "psnr", "ssim"}
    assert set(report.scores["B2A"]["translated"]) == {"kid", "kid_std", "fid"}
    assert report.not_computed["A2B kid, fid"] == "there are no real test images of domain B to compare with"
    assert "no true counterparts" in report.not_computed["B2A l1, psnr, ssim, labels"]


def test_label_maps_in_one_direction(tmp_path, capsys):
    maps = label_maps(3)
    test_sets = {"A2B": make_set(A, maps, maps), "B2A": make_set(maps, A, A)}
    report = evaluate(tmp_path, test_sets, metrics="labels")(lambda direction, image: to_network(maps[0]))
    assert report.scores == {
        "A2B": {"translated": dict(pixel_accuracy=1, class_accuracy=1, class_iou=1), "untouched": report.scores["A2B"]["untouched"]}
    }
    assert report.not_computed == {"B2A": "the true images are not label maps (few flat colours)"}
    scored = evaluate(tmp_path, test_sets, keep_best="class_iou", eval_freq=1)
    assert scored.merit(scored(lambda direction, image: to_network(maps[0]))) == -1
    with pytest.raises(ConfigError, match="--keep_best: no labels for tiny: .* label maps"):
        evaluate(tmp_path, test_sets, keep_best="class_iou:B2A", eval_freq=1)


def test_what_is_not_asked_for_is_not_computed(tmp_path, weights, capsys):
    report = evaluate(tmp_path, {"A2B": make_set(A, label_maps(3), B), "B2A": None}, metrics="kid")(negative)
    assert set(report.scores["A2B"]["translated"]) == {"kid", "kid_std"}
    report = evaluate(tmp_path, PAIRED, metrics="psnr", img_size=8)(negative)
    assert set(report.scores["A2B"]["translated"]) == {"psnr"} and report.not_computed == {} and len(weights) == 3
    assert "window is 11 pixels" in evaluate(tmp_path, PAIRED, img_size=8).not_computed["ssim"]
    one_image = evaluate(tmp_path, {"A2B": make_set(A[:1], B[:1], B), "B2A": make_set(B[:1], A[:1], A)})
    assert list(one_image.not_computed) == ["kid, fid"] and len(weights) == 3


def test_grey_label_maps(tmp_path):
    grey = label_maps(3)[:, :, :, 2:]
    report = evaluate(tmp_path, {"A2B": make_set(A[..., :1], grey)}, img_ch=1)(negative)
    assert set(report.scores["A2B"]["translated"]) == {"l1", "psnr", "ssim", "pixel_accuracy", "class_accuracy", "class_iou"}


REFUSED = {
    "nothing": (UNPAIRED, {}, DataError, ["nothing can be scored", "no Inception weights", "no true counterparts"]),
    "source only": (SOURCE_ONLY, {}, DataError, ["no real test images of domain B", "B2A: there are no test images of domain B"]),
    "one image": ({"A2B": make_set(A[:1], reals=B)}, {}, DataError, ["at least 2 images in each test folder, and one has 1"]),
    "kid without weights": (PAIRED, dict(metrics="l1,kid"), WeightsError, ["--metrics: no kid for tiny", "nobody answers"]),
    "best without weights": (PAIRED, dict(keep_best="fid", eval_freq=1), WeightsError, ["--keep_best: no fid", "nobody answers"]),
    "bad file": (PAIRED, dict(inception_weights="file"), WeightsError, ["nobody answers"]),
    "l1 without truths": (UNPAIRED, dict(metrics="l1"), ConfigError, ["--metrics: no l1 for tiny", "docs/data.md"]),
    "kid of one image": ({"A2B": make_set(A[:1], B[:1], B)}, dict(metrics="kid"), ConfigError, ["at least 2 images"]),
    "labels of pictures": (PAIRED, dict(metrics="labels"), ConfigError, ["no labels", "not label maps"]),
    "best of no direction": (
        {"A2B": PAIRED["A2B"]}, dict(keep_best="l1:B2A", eval_freq=1), ConfigError, ["--keep_best: no l1", "no test images"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_scored_is_refused_in_one_line_before_anything_is_translated(case, tmp_path, capsys):
    test_sets, settings, kind, words = REFUSED[case]
    with pytest.raises(kind) as raised:
        evaluate(tmp_path, test_sets, **settings)(never)
    text = str(raised.value)
    assert type(raised.value) is kind and all(word in text for word in words) and "\n" not in text
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_costs_kid_and_fid_alone(tmp_path, monkeypatch, capsys):
    from metrics.weights import load_inception

    def download(url, target, label):
        target.parent.mkdir(parents=True, exist_ok=True)

    (tmp_path / "home").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "datatools.download", types.SimpleNamespace(download=download))
    monkeypatch.setattr(evaluation, "load_inception", load_inception)
    assert evaluate(tmp_path, PAIRED)(negative).not_computed == {"kid, fid": NO_WEIGHTS}
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{tmp_path / 'home'}" in said and "cannot be stored" in said
    with pytest.raises(WeightsError, match="--metrics: no kid.* cannot be stored"):
        evaluate(tmp_path, PAIRED, metrics="kid")


# The best checkpoint, and the file


@pytest.mark.parametrize("best, expected", [("l1", 0.3), ("l1:B2A", 0.2), ("psnr", -15.0), ("psnr:A2B", -10.0)])
def test_merit_is_lower_for_the_better(tmp_path, best, expected):
    scored = evaluate(tmp_path, PAIRED, keep_best=best, eval_freq=1)
    rows = {"A2B": dict(l1=0.4, psnr=10.0), "B2A": dict(l1=0.2, psnr=20.0)}
    report = evaluation.Report({direction: {"translated": scores} for direction, scores in rows.items()}, {})
    assert scored.merit(report) == pytest.approx(expected)
    assert evaluate(tmp_path, PAIRED).merit(report) is None


def test_json_has_null_for_what_is_not_finite(tmp_path):
    config = Pix2PixConfig(img_size=SIZE, dataset="tiny")
    scored = Evaluation(config, {"A2B": make_set(A, A, A)}, tmp_path)
    report = scored(lambda direction, image: image)
    found = json.loads(report.to_json(iteration=7, **scored.settings))
    assert found["scores"]["A2B"]["translated"] == {"l1": 0, "psnr": None, "ssim": 1} and found["iteration"] == 7
    assert (found["method"], found["dataset"], found["test_images"]) == ("pix2pix", "tiny", {"A2B": 3})
    assert report.flat()["A2B/ssim"] == 1
