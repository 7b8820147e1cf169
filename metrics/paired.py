"""How near translations are to the true images, where these are known, and label maps read back from colours."""

from __future__ import annotations

from typing import Callable, Dict, Optional, Sequence

import numpy as np
from skimage.metrics import structural_similarity

from errors import DataError
from utils import to_colour

SSIM_SIDE = 11  # of its Gaussian window, in pixels
# A palette: neighbours this near are flat ground and not an edge; colours this near are one class; and what a class must cover.
FLAT, SAME_COLOUR, SMALLEST_SHARE = 12, 48, 0.0005
# Of the flat pixels of label maps, this share lies this near to a palette colour; those of photographs lie anywhere.
TIGHT, TIGHT_SHARE, FLAT_SHARE = 16, 0.93, 0.4
PALETTE_IMAGES = 64


class PairedScores:
    """Compares images (H, W, C) uint8 with the true ones, one pair at a time.

    Args:
        palette: the colours (K, 3) of label maps; None for other pictures.
        names: which of l1, psnr and ssim to compute.
    """

    def __init__(self, palette: Optional[np.ndarray] = None, names: Sequence[str] = ("l1", "psnr", "ssim")) -> None:
        self.palette = palette
        self._sums = dict.fromkeys(names, 0.0)
        self._confusion = np.zeros((0, 0) if palette is None else (len(palette), len(palette)), np.int64)
        self._count = 0

    def add(self, output: np.ndarray, truth: np.ndarray) -> None:
        """Compare one pair.

        Raises:
            DataError: it is smaller than the window of SSIM, 11 pixels.
            ValueError: the two differ in shape.
        """
        if output.shape != truth.shape:
            raise ValueError(f"a pair compares {output.shape} with {truth.shape}")
        self._count += 1
        for name in self._sums:
            self._sums[name] += MEASURES[name](output, truth)
        if self.palette is not None:
            classes = (nearest_class(to_colour(image), self.palette) for image in (output, truth))
            self._confusion += confusion(*classes, len(self.palette))

    def combine(self, sum_of: Callable[[np.ndarray], np.ndarray]) -> None:
        """Take in what other processes have compared; `sum_of` adds up their arrays."""
        self._count, *sums = sum_of(np.array([self._count, *self._sums.values()], np.float64)).tolist()
        self._sums = dict(zip(self._sums, sums))
        if self.palette is not None:
            self._confusion = sum_of(self._confusion)

    def result(self) -> Dict[str, float]:
        """The scores, empty where nothing was compared.

        l1: mean absolute difference of values in [0, 1]; mean over the images.
        psnr: peak signal-to-noise ratio in dB; mean over the images, infinite where a pair is equal.
        ssim: structural similarity (Wang et al. 2004, with their Gaussian window of 1.5 pixels) of the colour channels, from
            scikit-image; mean over the images.
        pixel_accuracy, class_accuracy, class_iou: with a palette only, as Pix2Pix scores label maps (section 4.4, after Long et
            al. 2015): every pixel takes the class of its nearest palette colour; pixels are counted over all images, and classes
            that the truths do not have are left out of the means.
        """
        if not self._count:
            return {}
        scores = {name: total / self._count for name, total in self._sums.items()}
        return scores if self.palette is None else {**scores, **class_scores(self._confusion)}


def mean_absolute_difference(output: np.ndarray, truth: np.ndarray) -> float:
    """L1 of two (H, W, C) uint8 images, in [0, 1]."""
    return float(np.abs(output.astype(np.float64) - truth).mean() / 255)


def peak_signal_to_noise(output: np.ndarray, truth: np.ndarray) -> float:
    """PSNR of two (H, W, C) uint8 images in dB; infinite where they are equal."""
    error = np.square(output.astype(np.float64) - truth).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def similarity(output: np.ndarray, truth: np.ndarray) -> float:
    """SSIM of two (H, W, C) uint8 images, 1 where they are equal. Raises DataError where they are below 11x11."""
    if min(truth.shape[:2]) < SSIM_SIDE:
        raise DataError(f"SSIM needs images of at least {SSIM_SIDE}x{SSIM_SIDE}, not {truth.shape[1]}x{truth.shape[0]}")
    settings = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2)
    return float(structural_similarity(output, truth, **settings))


MEASURES = {"l1": mean_absolute_difference, "psnr": peak_signal_to_noise, "ssim": similarity}


# Label maps


def nearest_class(image: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (H, W): the index of each pixel's nearest colour of the palette (K, 3)."""
    return _squared_distances(image.reshape(-1, 3), palette).argmin(1).reshape(image.shape[:2])


def _squared_distances(pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(P, 3) and (K, 3) to (P, K), exact in float32."""
    pixels, palette = pixels.astype(np.float32), np.asarray(palette, np.float32)
    return np.square(pixels).sum(1)[:, None] - 2 * pixels @ palette.T + np.square(palette).sum(1)


def confusion(output: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) counts of pixels: the row is the true class, the column the class of the output."""
    return np.bincount(truth.ravel() * classes + output.ravel(), minlength=classes**2).reshape(classes, classes)


def class_scores(counts: np.ndarray) -> Dict[str, float]:
    """Pixel accuracy, and the means over the classes of accuracy and of intersection over union, from `confusion`."""
    counts = counts.astype(np.float64)
    right, true, given = np.diag(counts), counts.sum(1), counts.sum(0)
    present = true > 0
    return {
        "pixel_accuracy": float(right.sum() / counts.sum()),
        "class_accuracy": float((right[present] / true[present]).mean()),
        "class_iou": float((right[present] / (true + given - right)[present]).mean()),
    }


def find_palette(images: Sequence[np.ndarray], most: int = 32) -> Optional[np.ndarray]:
    """The colours of label maps (H, W, 3) uint8, the most frequent first, or None where these are not label maps.

    Edges, which JPEG and resizing smear into other colours, are passed over: only pixels like their neighbours count. The most
    frequent colour takes all that are near it, then the most frequent of the rest, and so on. Images are label maps where at
    most `most` colours come out so, and nearly all flat pixels lie close to one of them. The first 64 images are looked at.

    Returns:
        (K, 3) uint8, with K from 2 to `most`, or None.
    """
    chosen = images[:PALETTE_IMAGES]
    flat = np.concatenate([_flat_pixels(image) for image in chosen]) if len(chosen) else np.zeros((0, 3), np.uint8)
    if not len(flat) or len(flat) < FLAT_SHARE * sum(image.shape[0] * image.shape[1] for image in chosen):
        return None
    colours, counts = np.unique(flat, axis=0, return_counts=True)
    palette = _frequent_colours(colours, counts, most + 1)
    if not 2 <= len(palette) <= most:
        return None
    near = _squared_distances(colours, palette).min(1) <= TIGHT**2
    return palette if counts[near].sum() >= TIGHT_SHARE * len(flat) else None


def _flat_pixels(image: np.ndarray) -> np.ndarray:
    """(P, 3): the inner pixels of an (H, W, 3) image that differ little from the four beside them."""
    image = image.astype(np.int16)
    inner = image[1:-1, 1:-1]
    beside = (image[:-2, 1:-1], image[2:, 1:-1], image[1:-1, :-2], image[1:-1, 2:])
    differences = np.max([np.abs(inner - other).max(-1) for other in beside], axis=0)
    return inner[differences <= FLAT].astype(np.uint8)


def _frequent_colours(colours: np.ndarray, counts: np.ndarray, most: int) -> np.ndarray:
    """Up to `most` of the colours (C, 3), each the most frequent of those not near an earlier one."""
    palette, left = [], counts.copy()
    while len(palette) < most and left.sum() >= SMALLEST_SHARE * counts.sum():
        centre = colours[left.argmax()]
        near = (_squared_distances(colours, centre[None])[:, 0] <= SAME_COLOUR**2) & (left > 0)
        if left[near].sum() >= SMALLEST_SHARE * counts.sum():
            palette.append(centre)
        left[near] = 0
    return np.array(palette, np.uint8).reshape(-1, 3)
