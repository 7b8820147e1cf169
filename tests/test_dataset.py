"""Reading images of every kind, and augmentation that is a function of (seed, iteration, sample)."""

from __future__ import annotations

import dataclasses
import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from config import Pix2PixConfig, UGATITConfig
from dataset import EXTENSIONS, ImageFolder, UnpairedData, augment, find_images, open_part, sample_index
from errors import DataError
from tests.helpers import draw_dataset
from utils import read_image, resize, to_image, to_network


def encode(extension: str, image: np.ndarray) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def smooth(height: int = 24, width: int = 32) -> np.ndarray:
    """An RGB image that JPEG keeps nearly as it is."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y * 255 // height, x * 255 // width, np.full_like(x, 60)], 2).astype(np.uint8)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_extension_in_any_case_is_found_and_read_as_rgb(tmp_path, extension):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / f"x{extension.upper()}").write_bytes(encode(extension, smooth()[:, :, ::-1]))
    (folder / "notes.txt").write_text("no image")
    (folder / f"._x{extension}").write_bytes(b"left by another system")
    assert find_images(tmp_path) == [f"deep/er/x{extension.upper()}"]
    image = ImageFolder(tmp_path).read(0)
    assert image.shape == (24, 32, 3) and np.abs(image.astype(int) - smooth()).mean() < 4


def test_links_are_followed_and_pipes_are_never_opened(tmp_path):
    inside, elsewhere = tmp_path / "data" / "trainA", tmp_path / "elsewhere"
    for path in (inside / "sub" / "a.png", elsewhere / "b.png"):
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(".png", smooth()))
    for name, target in (("linked", elsewhere), ("up", tmp_path), ("sub/self", inside), ("gone.png", tmp_path / "nothing.png")):
        (inside / name).symlink_to(target)
    (elsewhere / "back").symlink_to(inside)
    os.mkfifo(inside / "pipe.png")
    assert find_images(inside) == ["linked/b.png", "sub/a.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"the folder cannot be read \(Permission denied\)"):
        ImageFolder(tmp_path)


def test_an_image_too_large_for_opencv_is_told_by_its_size(tmp_path):
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 30000, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(DataError, match="a.png: 40000x30000 pixels .* OPENCV_IO_MAX_IMAGE_PIXELS=1200000000"):
        read_image(tmp_path / "a.png")


def test_single_pictures_among_pairs_are_named(tmp_path):
    for name, width in (("train/0", 128), ("train/1", 192), ("test/0", 220), ("test/1", 66)):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / f"{name}.png").write_bytes(encode(".png", smooth(64, width)))
    part = open_part(Pix2PixConfig(dataset="set", data_root=str(tmp_path), img_size=64), "test", "A2B")
    assert part.read(0).image.shape == (3, 64, 64), "within a quarter of train's widest"
    with pytest.raises(DataError, match=r"1\.png: 66x64 is 1\.03 times as wide as high, .* 2\.00 to 3\.00 times"):
        part.read(1)


def test_grey_becomes_rgb_and_rgb_becomes_grey(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(".png", smooth()[:, :, 0]))
    assert (read_image(tmp_path / "a.png") == smooth()[:, :, :1]).all()
    assert (read_image(tmp_path / "a.png", channels=1) == smooth()[:, :, :1]).all()
    (tmp_path / "b.png").write_bytes(encode(".png", np.full((2, 2, 3), (0, 0, 255), np.uint8)))
    assert read_image(tmp_path / "b.png", channels=1).tolist() == [[[76]] * 2] * 2


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_and_not_cut(tmp_path, channels):
    values = np.repeat(np.array([[0, 257, 128 * 257, 65535]], np.uint16)[:, :, None], channels, 2)
    for extension in (".png", ".tif"):
        (tmp_path / f"a{extension}").write_bytes(encode(extension, values))
        assert read_image(tmp_path / f"a{extension}")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_lies_over_white(tmp_path):
    for largest, dtype in ((255, np.uint8), (65535, np.uint16)):
        rgba = np.zeros((1, 3, 4), dtype)
        rgba[0, :, 3] = [0, largest // 2 + 1, largest]
        (tmp_path / "a.png").write_bytes(encode(".png", rgba))
        assert read_image(tmp_path / "a.png")[0].tolist() == [[255] * 3, [127] * 3, [0] * 3]


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF segment that holds nothing but the orientation."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_exif_orientation_is_applied(tmp_path):
    image = smooth()
    jpeg = encode(".jpg", image[:, :, ::-1])
    for orientation, turned in ((1, image), (3, image[::-1, ::-1]), (6, np.rot90(image, -1)), (8, np.rot90(image))):
        (tmp_path / "a.jpg").write_bytes(with_orientation(jpeg, orientation))
        read = read_image(tmp_path / "a.jpg")
        assert read.shape == turned.shape and np.abs(read.astype(int) - turned).mean() < 4


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.7, 0.97])
def test_truncated_files_are_named(tmp_path, extension, kept):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    content = encode(extension, noise)
    (tmp_path / f"cut{extension}").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=rf"cut\{extension}"):
        read_image(tmp_path / f"cut{extension}")


def test_a_truncated_jpeg_with_a_thumbnail_is_noticed(tmp_path):
    jpeg, thumbnail = encode(".jpg", smooth()), encode(".jpg", smooth(8, 8))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = jpeg[:2] + segment + jpeg[2:]
    (tmp_path / "a.jpg").write_bytes(whole)
    assert read_image(tmp_path / "a.jpg").shape == (24, 32, 3)
    (tmp_path / "a.jpg").write_bytes(whole[:-10])
    with pytest.raises(DataError, match="truncated"):
        read_image(tmp_path / "a.jpg")


def test_a_png_with_changed_bytes_is_noticed(tmp_path):
    content = bytearray(encode(".png", smooth()))
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("orientation, turn", [(3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))])
def test_transparent_images_are_turned_too(tmp_path, orientation, turn):
    rgba = np.dstack([smooth(), np.full((24, 32), 255, np.uint8)])
    rgba[:4] = (9, 9, 9, 0)
    content = encode(".png", rgba)
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    chunk = b"eXIf" + tiff
    exif = struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content[:33] + exif + content[33:])
    flat = np.where(rgba[:, :, 3:] == 0, 255, rgba[:, :, :3])[:, :, ::-1]
    assert (read_image(tmp_path / "a.png") == turn(flat)).all()


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_images_without_an_8_bit_meaning_are_refused(tmp_path, kind):
    (tmp_path / "a.tif").write_bytes(encode(".tif", np.zeros((4, 4, 3), kind)))
    with pytest.raises(DataError, match=f"pixels of type {kind} have no 8-bit meaning"):
        read_image(tmp_path / "a.tif")


def test_shrinking_averages_and_growing_interpolates():
    checker = np.indices((8, 8)).sum(0)[:, :, None] % 2 * 255
    small = resize(np.repeat(checker, 3, 2).astype(np.uint8), 4, 4)
    assert set(np.unique(small)) <= {127, 128}
    assert resize(smooth(4, 64), 8, 8).shape == (8, 8, 3), "shrinks one side and grows the other"
    assert resize(smooth()[:, :, :1], 8, 8).shape == (8, 8, 1)


def test_network_range_and_back():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    array = to_network(image)
    assert array.shape == (1, 16, 16) and array.dtype == np.float32 and (array.min(), array.max()) == (-1, 1)
    assert (to_image(array) == image).all()


def test_augmentation_flips_half_and_crops_everywhere():
    image = smooth(54, 54)
    rng = np.random.default_rng(0)
    results = [augment([image], 24, 54, rng)[0] for _ in range(400)]
    assert {result.shape for result in results} == {(24, 24, 3)}
    flipped = np.mean([result[0, 0, 1] > result[0, -1, 1] for result in results])
    assert 0.4 < flipped < 0.6
    tops = {int(result[0, 0, 0]) for result in results}
    assert len(tops) == 31 and min(tops) == 0, "every one of the 31 positions"


def test_an_epoch_shows_every_image_once_in_a_new_order():
    epochs = [[sample_index(3, 0, epoch * 7 + i, 7) for i in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] and [sample_index(3, 1, i, 7) for i in range(7)] != epochs[0]


@pytest.fixture
def config(tmp_path):
    draw_dataset(tmp_path)
    return UGATITConfig(dataset="tiny", data_root=str(tmp_path), img_size=24, n_dis=4, batch_size=2, sample_count=2)


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_batches_depend_on_neither_workers_nor_where_one_starts(config, num_workers):
    plain = list(UnpairedData(dataclasses.replace(config, num_workers=0)).batches(1, 9))
    others = list(UnpairedData(dataclasses.replace(config, num_workers=num_workers)).batches(4, 9))
    assert len(plain) == 9 and len(others) == 6
    for one, other in zip(plain[3:], others):
        for name in ("real_A", "real_B"):
            assert one[name].shape == (2, 3, 24, 24) and (one[name] == other[name]).all()
    assert not (plain[0]["real_A"] == plain[1]["real_A"]).all()
    seeded = next(iter(UnpairedData(dataclasses.replace(config, seed=1)).batches(1, 1)))
    assert not (seeded["real_A"] == plain[0]["real_A"]).all()


def test_stopping_early_leaves_no_thread(config):
    import threading

    batches = UnpairedData(config).batches(1, 1_000_000)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_sample_images_are_train_then_test(config):
    samples = UnpairedData(config).samples()
    for direction in ("A2B", "B2A"):
        assert [sample.image.shape for sample in samples[direction]] == [(3, 24, 24)] * 4
