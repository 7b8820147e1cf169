"""KID and FID between two sets of Inception features, in double precision."""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np

from errors import DataError

ROWS_AT_ONCE = 1024


class KID(NamedTuple):
    """Mean and standard deviation over the subsets. Papers print both times 100."""

    mean: float
    std: float


def kid(first: np.ndarray, second: np.ndarray, count: int, size: int, seed: int) -> KID:
    """Kernel Inception distance (arXiv:1801.01401, section 4): the unbiased squared MMD with k(x, y) = (x.y / d + 1)^3.

    Subsets are drawn as torch-fidelity draws them from the same seed (2020 by default there), from `first` and `second` in turn,
    without replacement. U-GAT-IT's paper states neither the number nor the size of its subsets. The value may lie a little below 0.
    Where a subset is the whole of both sets, all subsets are the same: the standard deviation is then 0 and says nothing.

    Args:
        first, second: (N, d) and (M, d) features.
        count: number of subsets, at least 1.
        size: images in a subset; fewer where a set has fewer.
        seed: of the subsets.

    Raises:
        DataError: a set has fewer than 2 images.
        ValueError: the features do not go together.
    """
    first, second = _checked("KID", first, second)
    used = min(size, len(first), len(second))
    members = _draw_subsets(len(first), len(second), count, used, seed)
    within = [_kernel_sums(x, x, chosen, chosen) for x, chosen in zip((first, second), members)]
    diagonals = [_kernel(np.square(x).sum(1), x.shape[1]) @ chosen for x, chosen in zip((first, second), members)]
    between = _kernel_sums(first, second, *members)
    pairs = used * (used - 1)
    values = (within[0] - diagonals[0] + within[1] - diagonals[1]) / pairs - 2 * between / used**2
    return KID(float(values.mean()), float(values.std()))


def _draw_subsets(first: int, second: int, count: int, size: int, seed: int) -> Tuple[np.ndarray, np.ndarray]:
    """Which images are in each subset: (first, count) and (second, count) of 0 and 1."""
    rng = np.random.RandomState(seed)
    members = np.zeros((first, count)), np.zeros((second, count))
    for subset in range(count):
        for chosen in members:
            chosen[rng.choice(len(chosen), size, replace=False), subset] = 1
    return members


def _kernel(products: np.ndarray, dimensions: int) -> np.ndarray:
    return (products / dimensions + 1) ** 3


def _kernel_sums(x: np.ndarray, y: np.ndarray, members_x: np.ndarray, members_y: np.ndarray) -> np.ndarray:
    """Sum of k(x_i, y_j) over the members of each subset (count).

    Every entry of the kernel matrix is computed once for all subsets, which select from it by a product.
    """
    sums = np.zeros(members_x.shape[1])
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        sums += (members_x[rows] * (_kernel(x[rows] @ y.T, x.shape[1]) @ members_y)).sum(0)
    return sums


def fid(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet Inception distance (arXiv:1706.08500): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of (N, d) and (M, d) features.

    With C1 = A'A and C2 = B'B, the eigenvalues of C1 C2 are the squared singular values of AB', so the last trace is the sum of
    these. That holds for degenerate covariances (fewer images than dimensions) too, without a root of what rounding left of 0.

    FID is biased by the number of images: compare only figures from equally many.

    Raises:
        DataError: a set has fewer than 2 images.
        ValueError: the features do not go together.
    """
    first, second = _checked("FID", first, second)
    difference = first.mean(0) - second.mean(0)
    a, b = _covariance_factor(first), _covariance_factor(second)
    singular = np.linalg.svd(a @ b.T, compute_uv=False)
    distance = np.square(difference).sum() + np.square(a).sum() + np.square(b).sum() - 2 * singular.sum()
    return float(max(distance, 0.0))


def _covariance_factor(features: np.ndarray) -> np.ndarray:
    """A matrix A of at most d rows whose A'A is the covariance (over n - 1)."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    return np.linalg.qr(centred, mode="r") if len(features) > features.shape[1] else centred


def _checked(metric: str, first: np.ndarray, second: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"{metric} compares (N, d) with (M, d), not {first.shape} with {second.shape}")
    fewest = min(len(first), len(second))
    if fewest < 2:
        raise DataError(f"{metric} needs at least 2 images in each folder and found {fewest}; add images")
    return first.astype(np.float64), second.astype(np.float64)
