"""Side by side with torch-fidelity, where it is installed; tests/golden/metrics.npz holds its figures everywhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_fidelity")

from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from datatools.demo import draw_photograph, identity_of
from metrics.distances import fid, kid
from metrics.features import extract_features
from metrics.inception import Inception, resize
from tests.golden.make_metrics import random_torch_fidelity, random_weights
from utils import read_image
from utils import resize as resize_image

PICTURES = Path(__file__).parents[2] / "shared" / "data" / "selfie2anime" / "testA"


@pytest.fixture(scope="module")
def images():
    """(256, 256, 3) uint8: real ones where there are some, else drawn."""
    if PICTURES.is_dir():
        return [read_image(file) for file in sorted(PICTURES.iterdir())[:4]]
    return [draw_photograph(identity_of(0, index), 256) for index in range(4)]


@pytest.mark.parametrize("side", [128, 256, 299, 400])
def test_resize(images, side):
    x = np.stack([resize_image(image, side, side) for image in images]).transpose(0, 3, 1, 2).astype(np.float32)
    theirs = interpolate_bilinear_2d_like_tensorflow1x(torch.from_numpy(x), (299, 299), align_corners=False).numpy()
    assert np.abs(resize(paddle.to_tensor(x)).numpy() - theirs).max() < 1e-3


def test_features(images):
    network = Inception()
    network.load(random_weights(network.published_shapes()))
    ours = extract_features(network, images, batch_size=3)
    theirs = random_torch_fidelity()(torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)))[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("counts", [(300, 260), (60, 40)])
def test_distances(counts):
    rng = np.random.default_rng(0)
    first, second = (np.abs(rng.standard_normal((count, 256)).astype(np.float32)) + shift for count, shift in zip(counts, (0, 0.1)))
    first, second = first.astype(np.float32), second.astype(np.float32)
    pair = torch.from_numpy(first), torch.from_numpy(second)
    size = min(counts) - 10
    theirs = kid_features_to_metric(*pair, kid_subset_size=size, verbose=False)
    ours = kid(first, second, count=100, size=size, seed=2020)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)
    assert ours.std == pytest.approx(theirs["kernel_inception_distance_std"], abs=1e-6)
    theirs = fid_statistics_to_metric(*[fid_features_to_statistics(features) for features in pair], verbose=False)
    assert fid(first, second) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4, abs=1e-3)
