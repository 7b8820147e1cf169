"""What a translation has to know of a model, and how exported files carry it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Optional

from errors import WeightsError
from version import __version__

# Names of the input and the outputs of exported models.
IMAGE, TRANSLATION, HEATMAP = "image", "translation", "heatmap"


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


def to_metadata(facts: ModelFacts) -> Dict[str, str]:
    """The facts as texts, each as JSON writes it but words without quotes, with the range of values and the project's version."""
    values = {**dataclasses.asdict(facts), "value_range": "-1 to 1", "project_version": __version__}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def from_metadata(metadata: Mapping[str, str], file: Path) -> ModelFacts:
    """The facts that `to_metadata` wrote. Raises WeightsError where the metadata of `file` lacks some."""
    try:
        texts = {item.name: (item.type, metadata[item.name]) for item in dataclasses.fields(ModelFacts)}
        facts = ModelFacts(**{name: text if kind == "str" else json.loads(text) for name, (kind, text) in texts.items()})
        sizes = (facts.img_size, facts.multiple, 1 if facts.side is None else facts.side)
        if any(type(size) is not int or size < 1 for size in sizes) or facts.img_ch not in (1, 3):
            raise ValueError("impossible sizes")
        return facts
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{file}: its metadata does not say what the model takes; give a file that --phase export wrote"
        ) from error
