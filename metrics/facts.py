"""What each metric is called, how it is printed, which way is better and what it needs: one table, which imports nothing."""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple


class Metric(NamedTuple):
    """Facts about one score.

    name_in_flags: how --metrics asks for it.
    heading: of its column.
    more_is_better: the direction.
    decimals: printed after the point.
    needs: "weights" of the Inception network, the "truth" of each test image, or truths that are "labels" maps.
    meaning: one line for readers of a report.
    factor: what a value is multiplied by in tables; papers print KID x 100.
    """

    name_in_flags: str
    heading: str
    more_is_better: bool
    decimals: int
    needs: str
    meaning: str
    factor: float = 1.0

    @property
    def title(self) -> str:
        """The heading with an arrow towards better values."""
        return f"{self.heading} {'↑' if self.more_is_better else '↓'}"

    def text(self, value: float) -> str:
        """A value as tables print it."""
        return f"{value * self.factor:.{self.decimals}f}"


METRICS: Dict[str, Metric] = {
    "l1": Metric("l1", "L1", False, 4, "truth", "mean absolute difference to the true counterpart, of values in [0, 1]"),
    "psnr": Metric("psnr", "PSNR", True, 2, "truth", "peak signal-to-noise ratio to the true counterpart, in dB"),
    "ssim": Metric("ssim", "SSIM", True, 3, "truth", "structural similarity to the true counterpart, at most 1"),
    "kid": Metric(
        "kid",
        "KID x100",
        False,
        2,
        "weights",
        "kernel Inception distance to the real images of the target domain, times 100",
        100.0,
    ),
    "fid": Metric("fid", "FID", False, 2, "weights", "Fréchet Inception distance to the real images of the target domain"),
    "pixel_accuracy": Metric("labels", "pixel accuracy", True, 3, "labels", "share of the pixels whose label is right"),
    "class_accuracy": Metric("labels", "class accuracy", True, 3, "labels", "the same for each label, then the mean"),
    "class_iou": Metric("labels", "class IoU", True, 3, "labels", "intersection over union of each label, then the mean"),
}


def names_in_flags(*needs: str) -> Tuple[str, ...]:
    """The names for --metrics of all metrics with one of these needs."""
    return tuple(dict.fromkeys(metric.name_in_flags for metric in METRICS.values() if metric.needs in needs))


FLAG_NAMES = names_in_flags("truth", "weights", "labels")
