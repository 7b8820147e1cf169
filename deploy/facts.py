"""What a translation has to know of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class ModelFacts:
    """What a model takes and gives. Exported files carry it as metadata."""

    method: str
    dataset: str
    iteration: int
    direction: str  # A2B or B2A
    img_size: int  # side of the images that it was trained on, in pixels
    img_ch: int  # 3 colour, 1 grey
    multiple: int  # the sides of an image must be multiples of it
    side: Optional[int]  # the only side that it takes, if any
    has_heatmap: bool
