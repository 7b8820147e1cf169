"""The file of the real images' features: used for the same images, settings and weights alone, and never damaged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metrics.features import FeatureKey, cached_features, images_sha256

KEY = FeatureKey(images="a" * 64, count=3, img_size=64, channels=3, weights="b" * 64)
FEATURES = np.arange(12, dtype=np.float32).reshape(3, 4)


class Computed:
    """Counts how often features are computed."""

    def __init__(self, features=FEATURES):
        self.features, self.times = features, 0

    def __call__(self):
        self.times += 1
        return self.features


@pytest.fixture
def kept(tmp_path):
    """A file of `KEY`'s features."""
    path = tmp_path / "缓存" / "real_B.safetensors"
    assert np.array_equal(cached_features(path, KEY, Computed()), FEATURES)
    return path


def test_features_are_computed_once(kept, capsys):
    computed = Computed()
    assert np.array_equal(cached_features(kept, KEY, computed), FEATURES)
    assert computed.times == 0 and capsys.readouterr().err == ""
    assert [file.name for file in kept.parent.iterdir()] == ["real_B.safetensors"]


@pytest.mark.parametrize("field", [item.name for item in dataclasses.fields(FeatureKey)])
def test_another_key_is_computed_again_and_named(kept, capsys, field):
    value = getattr(KEY, field)
    other = dataclasses.replace(KEY, **{field: value + 1 if isinstance(value, int) else value + "c"})
    computed = Computed(FEATURES + 1)
    assert np.array_equal(cached_features(kept, other, computed), FEATURES + 1)
    said = capsys.readouterr().err
    assert computed.times == 1 and f"made for other {field};" in said and str(kept) in said
    # What was computed replaces what was there.
    assert np.array_equal(cached_features(kept, other, computed), FEATURES + 1) and computed.times == 1


def flipped(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


DAMAGE = {"truncated": lambda c: c[:-5], "empty": lambda c: b"", "text": lambda c: b"hello", "changed": flipped}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_computed_again(kept, capsys, kind):
    kept.write_bytes(DAMAGE[kind](kept.read_bytes()))
    computed = Computed()
    assert np.array_equal(cached_features(kept, KEY, computed), FEATURES)
    assert computed.times == 1 and "computing the features again" in capsys.readouterr().err
    assert np.array_equal(cached_features(kept, KEY, computed), FEATURES) and computed.times == 1


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "real_A.safetensors"
    assert np.array_equal(cached_features(path, KEY, Computed()), FEATURES)
    said = capsys.readouterr().err
    assert str(path) in said and "cannot be kept" in said and said.count("\n") == 1


def test_the_digest_is_of_shapes_and_pixels_in_order():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 4, 6, 3), np.uint8)
    changed = first.copy()
    changed[3, 5, 2] ^= 1
    sets = ([first, second], [second, first], [first], [changed], [first.reshape(6, 4, 3)], [])
    assert len({images_sha256(images) for images in sets}) == len(sets)
    assert images_sha256(iter([first, second])) == images_sha256([first.copy(), second])
    assert images_sha256([first[:, ::-1]]) == images_sha256([np.ascontiguousarray(first[:, ::-1])])
