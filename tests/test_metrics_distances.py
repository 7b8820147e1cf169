"""KID and FID: torch-fidelity's figures, analytic answers, and what too few images give."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from errors import DataError
from metrics.distances import fid, kid
from tests.golden.make_metrics import KID_SETTINGS, SETS, drawn_features

GOLDEN = Path(__file__).parent / "golden" / "metrics.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as archive:
        return dict(archive)


@pytest.mark.parametrize("name", SETS)
def test_kid_is_that_of_torch_fidelity_from_the_same_seed(golden, name):
    count, size = KID_SETTINGS[name]
    result = kid(*drawn_features(name), count=count, size=size, seed=2020)
    assert np.allclose([result.mean, result.std], golden[f"kid_{name}"], rtol=0, atol=1e-9)


def test_fid_is_that_of_torch_fidelity(golden):
    assert fid(*drawn_features("ample")) == pytest.approx(float(golden["fid_ample"]), rel=1e-9)
    # Fewer images than dimensions: their eigenvalues of 0 are noise whose roots add up.
    assert fid(*drawn_features("degenerate")) == pytest.approx(float(golden["fid_degenerate"]), abs=1e-3)


def plain_kid(x, y):
    """The definition, pair by pair: Binkowski et al., section 4."""

    def kernel(a, b):
        return (np.dot(a, b) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    within = [
        sum(kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / len(s) / (len(s) - 1) for s in (x, y)
    ]
    return sum(within) - 2 * sum(kernel(a, b) for a in x for b in y) / m / n


def test_kid_of_whole_sets_is_the_definition():
    rng = np.random.default_rng(0)
    x, y = rng.random((9, 5)), rng.random((9, 5)) + 0.3
    result = kid(x, y, count=3, size=1000, seed=0)
    assert result == pytest.approx((plain_kid(x, y), 0), abs=1e-12)


def test_kid_is_unbiased_where_both_sets_have_one_distribution():
    rng = np.random.default_rng(1)
    values = [kid(rng.standard_normal((10, 8)), rng.standard_normal((10, 8)), 1, 10, 0).mean for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20
    assert min(values) < 0 < max(values)


def test_kid_does_not_depend_on_how_many_rows_go_at_once(monkeypatch):
    x, y = drawn_features("ample")
    whole = kid(x, y, 100, 50, 0)
    monkeypatch.setattr("metrics.distances.ROWS_AT_ONCE", 7)
    assert kid(x, y, 100, 50, 0).mean == pytest.approx(whole.mean, abs=1e-12)


def test_kid_takes_the_seed_and_shrinks_the_subset_to_the_smaller_set():
    x, y = drawn_features("ample")
    assert kid(x, y, 100, 50, seed=1) == kid(x, y, 100, 50, seed=1) != kid(x, y, 100, 50, seed=2)
    assert kid(x, y[:30], 100, 1000, 0) == kid(x, y[:30], 100, 30, 0)


def test_fid_of_diagonal_gaussians_is_their_formula():
    """|m1 - m2|^2 + sum (s1 - s2)^2 where covariances are diagonal; sets made to have them exactly."""
    directions = np.linalg.qr(np.random.default_rng(2).standard_normal((40, 6)))[0]
    directions = np.linalg.qr(directions - directions.mean(0))[0] * np.sqrt(39)
    first, second = np.arange(1.0, 7), np.full(6, 2.0)
    expected = 6 * 0.5**2 + np.square(first - second).sum()
    assert fid(directions * first, directions * second + 0.5) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [2, 10, 300])
def test_fid_of_a_set_with_itself_is_0_and_is_symmetric(count):
    rng = np.random.default_rng(3)
    x, y = rng.random((count, 32)).astype(np.float32), rng.random((count, 32)).astype(np.float32)
    assert fid(x, x) == pytest.approx(0, abs=1e-9)
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-9) and fid(x, y) > 0.01
    assert fid(x, x + 1) == pytest.approx(32, rel=1e-5)


def test_too_few_images_and_features_that_do_not_go_together():
    for metric in (partial(kid, count=1, size=2, seed=0), fid):
        with pytest.raises(DataError, match="at least 2 images in each folder and found 1"):
            metric(np.zeros((1, 4)), np.zeros((5, 4)))
        with pytest.raises(ValueError):
            metric(np.zeros((5, 3)), np.zeros((5, 4)))
