"""Pictures of any size through networks that take certain sides: padding, tiles, and no seam between them."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from deploy.sizes import blending_weights, count_tiles, plan, translate_at_own_size


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (3, height, width)).astype(np.float32)


def smooth_picture(side: int) -> np.ndarray:
    """Slow waves whose local mean differs from place to place."""
    y, x = np.mgrid[:side, :side] / side
    return np.stack([np.sin(7 * x + channel) * np.cos(5 * y) for channel in range(3)]).astype(np.float32)


class Recorder:
    """Gives back what it is given, and remembers the shapes."""

    def __init__(self) -> None:
        self.shapes = []

    def __call__(self, batch: np.ndarray) -> list:
        assert batch.dtype == np.float32 and batch.shape[0] == 1
        self.shapes.append(batch.shape[2:])
        return [batch]


def own_mean(batch: np.ndarray) -> list:
    """Each tile less its own mean, as instance normalization does."""
    return [batch - batch.mean(axis=(2, 3), keepdims=True)]


def blur(batch: np.ndarray) -> list:
    return [cv2.blur(batch[0].transpose(1, 2, 0), (9, 9), borderType=cv2.BORDER_REFLECT_101).transpose(2, 0, 1)[None]]


def largest_step(image: np.ndarray) -> float:
    """Between neighbouring pixels."""
    return max(np.abs(np.diff(image, axis=axis)).max() for axis in (1, 2))


def tile_without_blending(image: np.ndarray, run, side: int) -> np.ndarray:
    result = np.empty_like(image)
    for top in range(0, image.shape[1], side):
        for left in range(0, image.shape[2], side):
            place = np.s_[:, top : top + side, left : left + side]
            result[place] = run(image[place][None])[0][0]
    return result


SIZES = [(1, 1), (1, 9), (3, 1000), (5000, 7), (7, 8), (64, 64), (65, 63), (129, 300), (257, 1031)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("multiple, most_pixels, smallest", [(4, 10**9, None), (4, 64 * 64, None), (32, 9000, 96), (64, 1, 64)])
def test_identity_gives_the_picture_back(size, multiple, most_pixels, smallest):
    image, run = picture(*size), Recorder()
    (result,) = translate_at_own_size(image, run, multiple, most_pixels, smallest)
    assert result.shape == image.shape and result.dtype == np.float32
    assert np.abs(result - image).max() < 1e-6
    least = smallest or 2 * multiple
    assert len(set(run.shapes)) == 1, "one shape, so that an engine prepares itself once"
    height, width = run.shapes[0]
    assert height % multiple == width % multiple == 0 and min(height, width) >= least
    assert height * width <= max(most_pixels, max(least, 2 * multiple) ** 2)
    assert len(run.shapes) == count_tiles(*size, multiple, most_pixels, smallest)


def test_a_picture_that_fits_goes_through_once_and_is_mirrored_evenly():
    run = Recorder()
    image = picture(30, 45)
    seen = []
    translate_at_own_size(image, lambda batch: seen.append(batch) or run(batch), 16, 32 * 48)
    assert run.shapes == [(32, 48)]
    np.testing.assert_array_equal(seen[0][0], np.pad(image, ((0, 0), (1, 1), (1, 2)), mode="reflect"))


@pytest.mark.parametrize(
    "size, most_pixels, tiles", [((100, 100), 100 * 100, 1), ((104, 100), 100 * 100, 2), ((8, 4000), 16000, 3)]
)
def test_no_tile_too_many(size, most_pixels, tiles):
    assert count_tiles(*size, 4, most_pixels) == tiles


def test_tiles_cover_overlap_and_reach_no_further_than_the_picture():
    for length in range(8, 400, 4):
        for side in (8, 12, 16, 40, 64):
            rows, columns = plan(length, length, 4, side * side)
            assert rows == columns and rows.tile <= side and rows.starts[0] == 0
            assert rows.starts[-1] + rows.tile == rows.length == length
            overlaps = [first + rows.tile - second for first, second in zip(rows.starts, rows.starts[1:])]
            assert all(side / 4 <= overlap < rows.tile for overlap in overlaps)
            one_fewer, overlap = len(rows.starts) - 1, -(-side // 16) * 4
            assert one_fewer == 0 or one_fewer * (side - overlap) + overlap < length, "would not reach"
            total = np.zeros(length)
            for start, weight in zip(rows.starts, blending_weights(rows)):
                total[start : start + rows.tile] += weight
                assert (weight >= 0).all()
            np.testing.assert_allclose(total, 1, atol=1e-6)


def test_tiles_with_different_means_leave_no_step():
    image, side = smooth_picture(300), 128
    (blended,) = translate_at_own_size(image, own_mean, 4, side * side)
    naive = tile_without_blending(image, own_mean, side)
    # The means of tiles differ by less than 2; the weights go from 0 to 1 over three quarters of the overlap, at most pi / 2 times
    # as fast as a straight line.
    allowed = largest_step(image) + 2 * np.pi / 2 / (0.75 * side / 4)
    assert largest_step(blended) < allowed < largest_step(naive)
    assert largest_step(blended) < 3 * largest_step(image), "waves as slow as the picture's own"


def test_a_constant_of_each_tile_s_own_leaves_no_step():
    constants = iter(np.random.default_rng(0).uniform(-1, 1, 1000))
    side = 64
    (result,) = translate_at_own_size(picture(200, 230), lambda batch: [np.full_like(batch, next(constants))], 4, side * side)
    # Along one axis, where up to two tiles meet, whose constants differ by less than 2.
    assert result.std() > 0.1 and largest_step(result) < 2 * np.pi / 2 / (0.75 * side / 4)


def test_a_local_network_gives_the_same_in_tiles_as_whole():
    image = picture(210, 330)
    (tiled,) = translate_at_own_size(image, blur, 4, 128 * 128)
    (whole,) = translate_at_own_size(image, blur, 4, 10**9)
    assert count_tiles(210, 330, 4, 128 * 128) > 4
    # Neither at the outer border, which is mirrored alike.
    np.testing.assert_allclose(tiled, whole, atol=1e-6)
    naive = tile_without_blending(image, blur, 128)
    assert np.abs(naive - whole).max() > 0.05


def test_smaller_outputs_are_enlarged_in_place():
    image = np.broadcast_to(np.linspace(-1, 1, 203, dtype=np.float32), (3, 150, 203)).copy()

    def with_heat_map(batch: np.ndarray) -> list:
        _, _, height, width = batch.shape
        return [batch, batch[:, :1].reshape(1, 1, height // 4, 4, width // 4, 4).mean(axis=(3, 5))]

    for most_pixels in (10**9, 64 * 64):
        result, heat_map = translate_at_own_size(image, with_heat_map, 4, most_pixels)
        assert result.shape == (3, 150, 203) and heat_map.shape == (1, 150, 203)
        inside = np.s_[:, :, 8:-8]
        np.testing.assert_allclose(heat_map[inside], image[:1][inside], atol=1e-5)


def test_memory_is_that_of_one_output():
    image = picture(1000, 3000)
    tracemalloc.start()
    translate_at_own_size(image, lambda batch: [batch + 1], 4, 256 * 256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The padded picture and the result, and a few tiles; all tiles together would be half as much again.
    assert peak < 2 * image.nbytes + 12 * 3 * 256 * 256 * 4
