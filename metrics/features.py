"""Inception features of many images, and a file that keeps those of the real images for the next evaluation."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Optional, Tuple

import numpy as np
import paddle
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from metrics.inception import FEATURES, RESIZE, Inception, resize
from metrics.weights import arrays_sha256
from utils import from_json, to_colour, write_bytes

BATCH_SIZE = 16


def extract_features(network: Inception, images: Iterable[np.ndarray], batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Features of images (H, W, 1 or 3) uint8, which are read one batch at a time and may differ in size.

    Returns:
        (N, 2048) float32, in the images' order.
    """
    inputs = map(_to_input, images)
    features = [np.zeros((0, FEATURES), np.float32)]
    with paddle.no_grad():
        while batch := list(islice(inputs, batch_size)):
            features.append(network(paddle.concat(batch)).numpy())
    return np.concatenate(features)


def _to_input(image: np.ndarray) -> paddle.Tensor:
    """(1, 3, 299, 299) float32 in [0, 255]: images of different sizes go into one batch."""
    colour = np.ascontiguousarray(to_colour(image).transpose(2, 0, 1)[None])
    return resize(paddle.to_tensor(colour).astype("float32"))


# The features of the real images


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on. Features of another key are computed again."""

    images: str  # `images_sha256`
    count: int
    img_size: int  # side to which the images were resized before the network's own resize, in pixels
    channels: int
    weights: str  # the second result of `load_inception`
    resize: str = RESIZE


def images_sha256(images: Iterable[np.ndarray]) -> str:
    """SHA-256 of images' shapes and pixels in their order; names and file formats do not count."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(image.shape).encode() + hashlib.sha256(np.ascontiguousarray(image)).digest())
    return digest.hexdigest()


def cached_features(path: Path, key: FeatureKey, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The features in the file `path` where they are those of `key`, else what `compute` returns, which is then kept there.

    Prints a line where the file holds others or is damaged, and where the new ones cannot be written.

    Returns:
        (N, 2048) float32.
    """
    features, problem = _read_features(path, key)
    if features is not None:
        return features
    if problem:
        print(f"{path}: {problem}; computing the features again", file=sys.stderr)
    features = compute()
    metadata = {"key": json.dumps(asdict(key)), "arrays_sha256": arrays_sha256({"features": features})}
    try:
        write_bytes(path, save({"features": features}, metadata))
    except OSError as error:
        print(f"warning: {path}: the features cannot be kept for the next evaluation ({error.strerror})", file=sys.stderr)
    return features


def _read_features(path: Path, key: FeatureKey) -> Tuple[Optional[np.ndarray], str]:
    """The features, or None and why not, which is empty where there is no such file."""
    try:
        arrays = load_file(path)
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
        made_for = from_json(metadata["key"])
        different = [name for name, value in asdict(key).items() if made_for.get(name) != value]
        changed = metadata["arrays_sha256"] != arrays_sha256(arrays)
        features = arrays["features"]
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, "damaged"
    if changed:
        return None, "its bytes have changed since it was saved"
    if different:
        return None, f"made for other {', '.join(different)}"
    return features, ""
