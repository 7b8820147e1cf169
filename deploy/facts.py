"""What a translation has to know of a model, and how exported files carry it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Optional

from config import MOST_SIDE
from errors import WeightsError
from utils import from_json
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
        facts = ModelFacts(**{name: text if kind == "str" else from_json(text) for name, (kind, text) in texts.items()})
        _check(facts)
        return facts
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{file}: its metadata does not say what the model takes; give a file that --phase export wrote"
        ) from error


def _check(facts: ModelFacts) -> None:
    """Raises TypeError or ValueError."""
    sizes = (facts.img_size, facts.multiple, 1 if facts.side is None else facts.side)
    words = (facts.method, facts.dataset, facts.direction)
    if any(type(number) is not int for number in (*sizes, facts.img_ch, facts.iteration)) or type(facts.has_heatmap) is not bool:
        raise TypeError("a number or a truth value is something else")
    if any(not isinstance(word, str) for word in words) or facts.direction not in ("A2B", "B2A"):
        raise TypeError("a word is something else")
    if any(not 1 <= size <= MOST_SIDE for size in sizes) or facts.img_ch not in (1, 3) or facts.iteration < 0:
        raise ValueError("impossible sizes")
