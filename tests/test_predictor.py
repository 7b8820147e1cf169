"""A trained model as a function of pictures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from config import from_saved
from deploy.predictor import Predictor
from engine.checkpoint import CheckpointFolder, find_checkpoint, load, read_meta
from errors import CheckpointError, ConfigError
from methods import build_method
from tests.helpers import ROOT, environment, save_untrained
from utils import read_image, resize, to_image, to_network, write_image

METHODS = {
    "ugatit": [],
    "cyclegan": ["--method", "cyclegan", "--img_size", "16", "--ch", "2", "--n_blocks", "1", "--n_layers_D", "1"],
    "pix2pix": ["--method", "pix2pix", "--img_size", "64", "--ch", "2", "--n_layers_D", "1"],
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {name: save_untrained(tmp_path_factory.mktemp(name), *flags) for name, flags in METHODS.items()}


@pytest.fixture()
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 44, 3), np.uint8)


@pytest.mark.parametrize("name", METHODS)
def test_it_translates_as_the_method_does(name, checkpoints, image):
    predictor = Predictor.load(checkpoints[name], engine="network")
    meta = read_meta(checkpoints[name])
    # Pix2Pix's noise is left out; its normalization is that of the test phase.
    method = build_method(from_saved(name, {**meta["config"], "dropout": False} if name == "pix2pix" else meta["config"]), False)
    method.restore_generators(load(checkpoints[name], parts=["generators"]))
    side = method.config.img_size
    expected = to_image(method.translate_image("A2B", to_network(resize(image, side, side))))
    translated = predictor(image)
    assert translated.shape == (side, side, 3) and translated.dtype == np.uint8
    assert np.abs(translated.astype(int) - expected).max() <= 1
    assert (predictor(image) == translated).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_list_gives_a_list_of_the_same_translations(name, checkpoints, image):
    predictor = Predictor.load(checkpoints[name], engine="network")
    images = [image, image[::-1], image[:20]]
    translated = predictor(images)
    assert len(translated) == 3
    for one, together in zip(images, translated):
        assert np.abs(predictor(one).astype(int) - together).max() <= 1
    assert predictor([]) == []


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(30, 44), (1, 70), (200, 9)])
def test_keep_keeps_size_and_proportions(name, shape, checkpoints):
    predictor = Predictor.load(checkpoints[name], engine="network")
    image = np.full((*shape, 3), 90, np.uint8)
    assert predictor(image, size="keep").shape == (*shape, 3)
    assert predictor([image], size="keep")[0].shape == (*shape, 3)
    assert min(predictor(image, size=16).shape[:2]) == 16


def test_keep_at_the_model_s_size_is_the_model_s_translation(checkpoints):
    predictor = Predictor.load(checkpoints["ugatit"], engine="network")
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    assert (predictor(image, size="keep") == predictor(image)).all()
    heatmap = predictor.translate(image).heatmap
    assert heatmap.shape == (6, 6) and heatmap.max() > heatmap.min()


def test_a_large_picture_goes_through_in_tiles(checkpoints, monkeypatch):
    monkeypatch.setattr("deploy.predictor.MOST_PIXELS_AT_ONCE", 32 * 32)
    predictor = Predictor.load(checkpoints["cyclegan"], engine="network")
    shapes = []
    run = predictor.engine.run
    monkeypatch.setattr(predictor.engine, "run", lambda images: shapes.append(images.shape) or run(images))
    assert predictor(np.full((100, 60, 3), 90, np.uint8), size="keep").shape == (100, 60, 3)
    assert len(shapes) > 4 and all(height * width <= 32 * 32 for _, _, height, width in shapes)


def test_directions(checkpoints, image):
    there, back = (Predictor.load(checkpoints["cyclegan"], direction, engine="network") for direction in ("A2B", "B2A"))
    assert there.facts.direction == "A2B" and back.facts.direction == "B2A"
    assert (there(image) != back(image)).any()
    with pytest.raises(ConfigError, match="--direction B2A: this model translates A2B"):
        Predictor.load(checkpoints["pix2pix"], "B2A")


def test_a_grey_model_takes_colour(tmp_path, image):
    predictor = Predictor.load(save_untrained(tmp_path, "--img_ch", "1"), engine="network")
    translated = predictor(image)
    assert translated.shape == (24, 24, 3)
    assert (translated[..., :1] == translated[..., 1:]).all()


def test_the_full_version_takes_one_size(tmp_path, image):
    predictor = Predictor.load(save_untrained(tmp_path, "--light", "false"), engine="network")
    assert predictor(image).shape == (24, 24, 3)
    with pytest.raises(ConfigError, match="--size keep: the full version of U-GAT-IT takes images of 24x24 alone"):
        predictor(image, size="keep")


def test_averaged_weights_translate_unless_raw_ones_are_asked_for(tmp_path, image):
    saved = load(save_untrained(tmp_path, "--ema", "0.9"))
    weights = saved.arrays["averaged"]
    weights["genA2B.UpBlock2.6.weight"] = -weights["genA2B.UpBlock2.6.weight"]
    CheckpointFolder(tmp_path / "negated").save(saved)
    folder = find_checkpoint(tmp_path / "negated")
    averaged, raw = (Predictor.load(folder, weights=weights, engine="network")(image) for weights in ("averaged", "raw"))
    assert (averaged == Predictor.load(folder, engine="network")(image)).all()
    assert np.abs(255 - averaged.astype(int) - raw).max() <= 1  # tanh(-x) is -tanh(x)
    with pytest.raises(ConfigError, match="has no averaged weights"):
        Predictor.load(save_untrained(tmp_path / "other"), weights="averaged")


def test_only_generators_are_read(checkpoints, tmp_path, image):
    folder = shutil.copytree(checkpoints["ugatit"], tmp_path / "copy")
    for name in ("discriminators", "optimizer"):
        (folder / f"{name}.safetensors").unlink()
    assert Predictor.load(folder, engine="network")(image).shape == (24, 24, 3)
    assert Predictor.load(folder / "generators.safetensors", engine="network")(image).shape == (24, 24, 3)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_wrong_images_are_named(wrong, checkpoints):
    predictor = Predictor.load(checkpoints["ugatit"], engine="network")
    for size in ("model", "keep"):
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8, not"):
            predictor(wrong, size=size)


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):
        Predictor.load(tmp_path)


def test_importing_the_predictor_does_not_import_paddle():
    code = "import sys; import deploy.predictor, deploy.translate; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", ["README.md", "README_cn.md"])
def test_the_program_in_the_readme_runs_as_written(name, tmp_path, image):
    program = re.search(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)[1]
    saved = save_untrained(tmp_path / "saved")
    shutil.copytree(saved, tmp_path / "results" / "portraits" / "ugatit" / "checkpoints" / saved.name)
    write_image(tmp_path / "dataset" / "portraits" / "testA" / "00000.png", image)
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT)))
    assert result.returncode == 0
    assert read_image(tmp_path / "translated.png").shape == (24, 24, 3)
