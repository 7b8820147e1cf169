"""Paired measures: analytic answers, and palettes found in label maps through JPEG's noise but not in photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datatools.demo import draw_anime, draw_photograph, identity_of
from errors import DataError
from metrics.paired import PairedScores, class_scores, confusion, find_palette, nearest_class
from utils import read_image

COLOURS = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0], [255, 255, 0], [90, 90, 90]], np.uint8)
FACADES = Path(__file__).parents[2] / "shared" / "data" / "facades"


def paired_metrics(outputs, truths, palette=None):
    scores = PairedScores(palette)
    for output, truth in zip(outputs, truths):
        scores.add(output, truth)
    return scores.result()


def label_map(seed: int, colours: np.ndarray = COLOURS, side: int = 64) -> np.ndarray:
    """(side, side, 3): rectangles of the colours on the first of them."""
    rng = np.random.default_rng(seed)
    image = np.tile(colours[0], (side, side, 1))
    for index in range(12):
        top, left = rng.integers(0, side - 16, 2)
        height, width = rng.integers(8, 16, 2)
        image[top : top + height, left : left + width] = colours[1 + index % (len(colours) - 1)]
    return image


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)[:, :, ::-1]


def test_equal_images_are_perfect():
    truths = [label_map(seed) for seed in range(3)]
    scores = paired_metrics(truths, truths, COLOURS)
    assert scores == {"l1": 0, "psnr": float("inf"), "ssim": 1, "pixel_accuracy": 1, "class_accuracy": 1, "class_iou": 1}
    assert set(paired_metrics(truths, truths)) == {"l1", "psnr", "ssim"}


def test_without_pairs_there_are_no_scores():
    assert paired_metrics([], []) == {}


def test_l1_and_psnr_of_a_constant_difference_are_their_formulas():
    truth = np.full((16, 16, 3), 100, np.uint8)
    scores = paired_metrics([truth + 51, truth], [truth, truth + 51])
    assert scores["l1"] == pytest.approx(0.2)
    assert scores["psnr"] == pytest.approx(20 * np.log10(5))


def test_ssim_of_constant_images_is_its_luminance_term():
    first, second = np.full((16, 16, 1), 100, np.uint8), np.full((16, 16, 1), 150, np.uint8)
    small = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + small) / (100**2 + 150**2 + small)
    assert paired_metrics([first], [second])["ssim"] == pytest.approx(expected, rel=1e-6)


def test_ssim_is_wangs_equation_13_with_his_window():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (2, 11, 11)).astype(np.float64)
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    variance_x, variance_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
    covariance = (window * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / (mean_x**2 + mean_y**2 + c1) / (variance_x + variance_y + c2)
    # An 11x11 image holds one whole window.
    images = [value.astype(np.uint8)[:, :, None] for value in (x, y)]
    assert paired_metrics(images[:1], images[1:])["ssim"] == pytest.approx(expected, rel=1e-6)


def test_class_scores_by_hand():
    truth = np.array([[0, 0, 0, 0], [1, 1, 2, 2]])
    output = np.array([[0, 0, 0, 1], [1, 0, 2, 2]])
    scores = class_scores(confusion(output, truth, 4))
    assert scores["pixel_accuracy"] == pytest.approx(6 / 8)
    assert scores["class_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert scores["class_iou"] == pytest.approx((3 / 5 + 1 / 3 + 1) / 3)


def test_pixels_are_counted_over_all_images():
    blue, red = (np.tile(colour, (16, 16, 1)) for colour in COLOURS[:2])
    scores = paired_metrics([blue, blue, blue], [blue, blue, red], COLOURS[:2])
    assert scores["pixel_accuracy"] == pytest.approx(2 / 3)
    assert scores["class_accuracy"] == pytest.approx(1 / 2)
    assert scores["class_iou"] == pytest.approx((2 / 3 + 0) / 2)


def test_mistakes_of_the_caller_and_of_the_data():
    image = label_map(0)
    with pytest.raises(ValueError, match="a pair compares"):
        paired_metrics([image[:32]], [image])
    with pytest.raises(DataError, match="11x11"):
        paired_metrics([image[:8, :8]], [image[:8, :8]])


# Palettes


@pytest.mark.parametrize("quality", [None, 95, 75])
@pytest.mark.parametrize("count", [2, 5])
def test_the_palette_of_label_maps_is_found(quality, count):
    clean = [label_map(seed, COLOURS[:count]) for seed in range(6)]
    maps = [image if quality is None else through_jpeg(image, quality) for image in clean]
    palette = find_palette(maps)
    assert palette is not None and palette.shape == (count, 3) and palette.dtype == np.uint8
    # In the palette's own order, the classes are those of the clean maps.
    distances = np.abs(palette[:, None].astype(int) - COLOURS[None, :count]).max(-1)
    assert sorted(distances.argmin(1)) == list(range(count)) and distances.min(1).max() < 24
    order = distances.argmin(1)
    right = [np.mean(order[nearest_class(image, palette)] == nearest_class(true, COLOURS)) for image, true in zip(maps, clean)]
    assert np.mean(right) > 0.94  # edges that JPEG smeared into a third colour are lost


def test_other_images_have_no_palette():
    identities = [identity_of(0, index) for index in range(12)]
    assert find_palette([draw_photograph(identity, 64) for identity in identities]) is None
    assert find_palette([draw_anime(identity, 64) for identity in identities]) is None
    ramp = np.arange(256, dtype=np.uint8)
    assert find_palette([np.stack([np.tile(ramp, (64, 1))] * 3, axis=2)]) is None
    assert find_palette([np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]) is None
    assert find_palette([np.zeros((64, 64, 3), np.uint8)]) is None
    assert find_palette([]) is None


def test_more_colours_than_most_are_no_palette():
    assert find_palette([label_map(seed) for seed in range(6)], most=4) is None
    assert len(find_palette([label_map(seed) for seed in range(6)], most=5)) == 5


@pytest.mark.skipif(not FACADES.is_dir(), reason="the facades are not there")
def test_facades_have_two_classes_and_their_photographs_none():
    pairs = [read_image(file) for file in sorted((FACADES / "test").iterdir())[:10]]
    palette = find_palette([pair[:, 256:] for pair in pairs])
    assert palette.shape == (2, 3)
    assert palette[0, 2] > 200 > palette[0, 0] and palette[1, 0] > 200 > palette[1, 2]  # blue ground, red windows
    assert find_palette([pair[:, :256] for pair in pairs]) is None
