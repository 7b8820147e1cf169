"""Faces: found in drawn and real photographs, alone and in larger pictures; boxes merged; crops at every border."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datatools.faces.domains import draw_photograph
from datatools.faces.identity import Identity
from deploy.faces import Box, crop, face_crops, find_faces, without_overlaps
from errors import ConfigError
from utils import read_image, resize

SELFIES = Path(__file__).parents[2] / "shared" / "data" / "selfie2anime" / "testA"
needs_detector = pytest.mark.skipif(not hasattr(cv2, "CascadeClassifier"), reason="OpenCV 5 has no face detector")


def noise(height: int, width: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8), (0, 0), 3)


def numbered(height: int, width: int) -> np.ndarray:
    """Each pixel holds its row and its column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0], image[:, :, 1] = np.mgrid[:height, :width]
    return image


def test_without_a_detector_one_line_names_the_remedy(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier", raising=False)
    with pytest.raises(ConfigError, match='--face: .*pip install "opencv-python-headless<5"') as error:
        find_faces(noise(64, 64))
    assert "\n" not in str(error.value)


@needs_detector
def test_a_drawn_face_is_found_where_it_is():
    found = 0
    for index in range(4):
        boxes = find_faces(draw_photograph(Identity(0, index), 192))
        assert len(boxes) <= 1
        for box in boxes:
            found += 1
            assert 76 < box.left + box.side / 2 < 116 and 96 < box.top + box.side / 2 < 136 and 72 < box.side < 125
    assert found >= 3


@needs_detector
@pytest.mark.parametrize("height, width", [(600, 900), (900, 600)])
def test_two_faces_of_a_larger_picture_the_larger_first(height, width):
    image = noise(height, width)
    # The top left corners of the two drawn photographs, and their sides.
    places = ((20, 40, 240), (height - 420, width - 400, 380))
    for index, (top, left, side) in enumerate(places):
        image[top : top + side, left : left + side] = resize(draw_photograph(Identity(0, index), 192), side, side)
    boxes = find_faces(image)
    assert [round(box.side, -2) for box in boxes] == [200, 100]
    for box, (top, left, side) in zip(boxes, reversed(places)):
        assert left < box.left and box.left + box.side < left + side and top < box.top and box.top + box.side < top + side
    assert [picture.shape[0] for picture in face_crops(image)] == [round(box.side) for box in boxes]


@needs_detector
@pytest.mark.parametrize("size", [(1, 1), (5, 3000), (3000, 40), (300, 300)])
def test_pictures_without_a_face(size):
    assert face_crops(noise(*size)) == []


@needs_detector
@pytest.mark.skipif(not SELFIES.is_dir(), reason="no selfie2anime")
def test_a_selfie_is_cropped_as_it_was():
    """The margin is the data set's: a selfie's own crop is the selfie."""
    boxes = [find_faces(read_image(path)) for path in sorted(SELFIES.iterdir())[:12]]
    found = [each[0] for each in boxes if each]
    assert len(found) >= 9 and all(len(each) <= 1 for each in boxes)
    middle = np.median([(box.left + box.side / 2, box.top + box.side / 2, box.side) for box in found], axis=0)
    np.testing.assert_allclose(middle / 256, (0.5, 0.495, 0.98), atol=0.06)


def test_of_overlapping_boxes_the_surest_stays():
    large, inner, neighbour = Box(100, 100, 100, 30), Box(120, 130, 40, 12), Box(190, 100, 90, 11)
    assert without_overlaps([inner, neighbour, large]) == [large, neighbour]
    assert without_overlaps([inner._replace(finds=50), large]) == [inner._replace(finds=50)]
    assert without_overlaps([]) == []


def test_a_crop_inside_the_picture_is_its_box():
    image = numbered(100, 200)
    np.testing.assert_array_equal(crop(image, Box(50.4, 20.4, 30.2, 9)), image[20:50, 50:80])
    np.testing.assert_array_equal(crop(image, Box(60, 30, 20, 9), margin=0.5), image[20:60, 50:90])


@pytest.mark.parametrize(
    "left, top, expected",
    [(-8, 20, (20, 0)), (190, 20, (20, 170)), (50, -10, (0, 50)), (50, 90, (70, 50)), (-3, 95, (70, 0))],
    ids=["left", "right", "top", "bottom", "corner"],
)
def test_a_crop_at_the_border_moves_inwards(left, top, expected):
    image = numbered(100, 200)
    first_row, first_column = expected
    wanted = image[first_row : first_row + 30, first_column : first_column + 30]
    np.testing.assert_array_equal(crop(image, Box(left, top, 30, 9)), wanted)


@pytest.mark.parametrize("top", [-30, -20, 0, 10])
def test_a_crop_larger_than_the_picture_is_mirrored(top):
    image = numbered(100, 200)
    result = crop(image, Box(40, top, 120, 9))
    assert result.shape == (120, 120, 3)
    above = min(max(-top, 0), 20)
    wanted = np.pad(image[:, 40:160], ((above, 20 - above), (0, 0), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(result, wanted)


def test_a_crop_of_a_tiny_picture():
    assert crop(numbered(1, 1), Box(-3, -3, 7, 9)).shape == (7, 7, 3)
