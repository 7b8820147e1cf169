"""The steps of the reproduction guide that tools.parity does not show: reading, metrics, Adam, weight decay, rates, initialisation.

python -m pytest tests/test_alignment.py -s      prints each difference from the authors' figures beside its tolerance
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Dict

import numpy as np
import paddle
import pytest

from command_line import parse_arguments
from config import UGATITConfig
from dataset import ImageFolder, augment, open_part
from engine.method import adam
from engine.schedule import by_epochs, linear_decay
from methods import METHODS
from metrics.distances import fid, kid
from metrics.features import extract_features
from metrics.inception import Inception, resize
from tests.golden import make_alignment, make_metrics
from tests.golden.make_alignment import CROP, EPOCHS, ITERATIONS, LARGE, LITE_DATA, LOAD_SIZE, PICTURES, SIZE, SMALL
from tools.authors_names import their_names
from utils import to_network

LEVEL = 2 / 255  # of a picture's 256, in the range of the networks


@pytest.fixture(scope="module")
def golden() -> Dict[str, np.ndarray]:
    with np.load(make_alignment.GOLDEN) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def fidelity() -> Dict[str, np.ndarray]:
    with np.load(make_metrics.GOLDEN) as archive:
        return dict(archive)


def check(name: str, value: float, at_most: float) -> None:
    """Print a difference as tools.parity does, and hold it."""
    print(f"\n{'ok  ' if value <= at_most else 'OVER'}  {name:44s} {value:9.2e}  at most {at_most:.0e}", end="")
    assert value <= at_most


# Reading


@pytest.mark.parametrize("name, mean, largest", [("train_bilinear", 0.5, 2), ("train_bicubic", 4, 60)])
def test_a_training_picture_is_read_as_the_authors_read_it(golden, name, mean, largest):
    """Flipped, resized and cropped at the same place; bilinear is U-GAT-IT's filter, bicubic that of CycleGAN and Pix2Pix."""
    choices = SimpleNamespace(random=lambda: 0.0, integers=lambda *_: CROP)
    images = [ImageFolder(LITE_DATA / Path(picture).parent).read(0) for picture in PICTURES]
    ours = np.stack([to_network(image) for image in augment(images, SIZE, LOAD_SIZE, choices)])
    check_pictures(name, ours, golden, mean, largest)
    # Another place in the picture is not within the tolerance.
    moved = np.abs(np.roll(ours, 1, axis=3) - to_network_batch(golden[f"read/{name}"]))
    assert moved.mean() > 2 * mean * LEVEL


@pytest.mark.parametrize("name, size, mean, largest", [("test_same", SIZE, 0, 0), ("test_smaller", SMALL, 4, 60)])
def test_a_test_picture_is_read_as_the_authors_read_it(golden, name, size, mean, largest):
    config = UGATITConfig(data_root=str(LITE_DATA.parent), dataset=LITE_DATA.name, img_size=size)
    sample = open_part(config, "test", "A2B").read(0)
    check_pictures(name, np.stack([sample.image, sample.truth]), golden, mean, largest)


def to_network_batch(pictures: np.ndarray) -> np.ndarray:
    return pictures / np.float32(127.5) - 1


def check_pictures(name: str, ours: np.ndarray, golden: Dict[str, np.ndarray], mean: float, largest: float) -> None:
    """Tolerances in levels, with room for float32."""
    difference = np.abs(ours - to_network_batch(golden[f"read/{name}"]))
    check(f"reading, {name}: mean", difference.mean(), mean * LEVEL + 1e-6)
    check(f"reading, {name}: largest", difference.max(), largest * LEVEL + 1e-6)


# Metrics


def test_kid_and_fid(fidelity):
    features = make_metrics.drawn_features("ample")
    count, size = make_metrics.KID_SETTINGS["ample"]
    ours, expected = kid(*features, count=count, size=size, seed=2020), fidelity["kid_ample"]
    check("metrics, KID (absolute)", np.abs(np.array([ours.mean, ours.std]) - expected).max(), 1e-9)
    check("metrics, FID (relative)", abs(fid(*features) / float(fidelity["fid_ample"]) - 1), 1e-9)


def test_inception(fidelity):
    network = Inception()
    network.load(make_metrics.random_weights(network.published_shapes()))
    features, expected = extract_features(network, make_metrics.drawn_images(), batch_size=3), fidelity["features"]
    check("metrics, Inception features (relative)", np.abs(features - expected).max() / np.abs(expected).max(), 1e-5)
    sample = make_metrics.RESIZE_SAMPLE
    tensors = [paddle.to_tensor(image.transpose(2, 0, 1)[None]).astype("float32") for image in make_metrics.drawn_images()]
    resized = np.concatenate([resize(tensor).numpy()[:, :, sample, sample] for tensor in tensors])
    check("metrics, resizing to 299x299 (of 255)", np.abs(resized - fidelity["resized"]).max(), 1e-3)


# Optimizer, regularization, rates


@pytest.mark.parametrize("name, weight_decay", [("l2", make_alignment.WEIGHT_DECAY), ("none", 0.0)])
def test_adam(golden, name, weight_decay):
    """Steps with given gradients, as far from PyTorch's parameter as a part of the way that this went."""
    start, gradients = make_alignment.adam_inputs()
    layer = paddle.nn.Layer()
    layer.weight = layer.create_parameter([len(start)], default_initializer=paddle.nn.initializer.Assign(start))
    optimizer = adam({"layer": layer}, UGATITConfig(lr=make_alignment.ADAM["lr"]), weight_decay)
    for gradient in gradients:
        layer.weight.grad = paddle.to_tensor(gradient)
        optimizer.step()

    def part(other: np.ndarray) -> float:
        expected = golden[f"adam/{name}"].astype("float64")
        return np.abs(other - expected).sum() / np.abs(expected - start).sum()

    check(f"Adam, weight decay {weight_decay}, {len(gradients)} steps", part(layer.weight.numpy()), 1e-3)
    # Without decay, and with that of AdamW, which is next to nothing here, the parameter ends elsewhere than with L2.
    for other in ("none", "decoupled") if name == "l2" else ("l2",):
        assert part(golden[f"adam/{other}"]) > 1e-2


def test_rates(golden):
    ours = [linear_decay(step, ITERATIONS) for step in range(1, ITERATIONS + 1)]
    check(f"rates of U-GAT-IT, {ITERATIONS} iterations", np.abs(np.array(ours) - golden["rates/ugatit"]).max(), 1e-9)
    each = 7  # iterations in an epoch
    total = 2 * EPOCHS * each
    ours = [by_epochs("linear", step, total, EPOCHS, EPOCHS) for step in range(1, total + 1)]
    difference = np.abs(np.array(ours) - np.repeat(golden["rates/epochs"], each)).max()
    check(f"rates of CycleGAN, Pix2Pix, {2 * EPOCHS} epochs", difference, 1e-9)


# Initialisation


@pytest.mark.parametrize("flags, ours, theirs", [
    ("--method ugatit --light --n_res 4 --img_size 128", "genA2B", "genA2B"),
    ("--method ugatit --light --n_res 4 --img_size 128", "disGA", "disGA"),
    ("--method cyclegan --n_blocks 9 --img_size 64", "G_A", "G_A"),
    ("--method cyclegan --n_blocks 9 --img_size 64", "D_A", "D_A"),
    ("--method pix2pix --img_size 256", "G", "G"),
])  # fmt: skip
def test_initial_weights(golden, flags, ours, theirs):
    """Distributions: constants are equal, and the large arrays have one mean and one standard deviation."""
    paddle.seed(0)
    config = parse_arguments([*flags.split(), "--ch", "16", "--device", "cpu"])[0].with_length(1)
    network = METHODS[config.method](config).networks[ours]
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    names = their_names(state)
    found = make_alignment.statistics({names[name]: array for name, array in state.items()})
    prefix = f"initial/{theirs}/"
    expected = {name[len(prefix) :]: array for name, array in golden.items() if name.startswith(prefix)}
    assert found.keys() == expected.keys()
    sizes = {names[name]: array.size for name, array in state.items()}
    spreads, means = [], []
    for name, (mean, std, least, most) in expected.items():
        if std == 0:
            assert tuple(found[name]) == (mean, 0, least, most), name
        elif sizes[name] >= LARGE:
            spreads.append(abs(found[name][1] / std - 1))
            means.append(abs(found[name][0] - mean) / std)
    check(f"initial {theirs}: standard deviation (relative)", max(spreads), 0.08)
    check(f"initial {theirs}: mean (of the deviation)", max(means), 0.1)
