"""A trained generator, and what a translation has to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional

from paddle import nn

from config import from_saved
from deploy.facts import ModelFacts
from engine.checkpoint import META, find_checkpoint
from engine.method import Method
from engine.run import load_generators
from errors import ConfigError
from layers import Dropout
from methods import build_method
from networks import ResnetGenerator


@dataclass(frozen=True)
class Model:
    """A generator in evaluation mode, on its device, and its facts."""

    generator: nn.Layer
    facts: ModelFacts


def load_models(path: Path, weights: Optional[str] = None, device: str = "auto", amp: Optional[str] = None) -> Dict[str, Model]:
    """The generators of a checkpoint by direction; neither discriminators nor optimizers are read.

    Args:
        path: a checkpoint folder or a file in it, or the folder of a run.
        weights: averaged, raw, or None for the averaged ones where there are any.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: it has not these weights, or the device is not there or does not compute in `amp`.
    """
    return models_of(load_method(path, weights, device, amp))


def load_method(path: Path, weights: Optional[str] = None, device: str = "auto", amp: Optional[str] = None) -> Method:
    """The method behind `load_models`, without its discriminators; raises as it."""
    folder = path.parent if path.is_file() and (path.parent / META).is_file() else path
    checkpoint, _ = load_generators(find_checkpoint(folder), None, weights)
    config = from_saved(checkpoint.meta["method"], {**checkpoint.meta["config"], "device": device, "amp": amp})
    method = build_method(config, training=False)
    method.restore_generators(checkpoint)
    return method


def models_of(method: Method) -> Dict[str, Model]:
    """A method's generators by direction, in evaluation mode.

    Pix2Pix's dropout is left out: a translation is one answer, the same at every call and in every engine.
    """
    config = method.config
    method.set_training(False)
    models = {}
    for direction in method.directions:
        generator = method.generator(direction)
        for layer in generator.sublayers():
            if isinstance(layer, Dropout):
                layer.active_in_evaluation = False
        facts = ModelFacts(
            method=config.method,
            dataset=config.dataset,
            iteration=method.iteration,
            direction=direction,
            img_size=config.img_size,
            img_ch=config.img_ch,
            multiple=generator.multiple,
            side=generator.side,
            has_heatmap=isinstance(generator, ResnetGenerator) and generator.cam is not None,
        )
        models[direction] = Model(generator, facts)
    return models


def choose_direction(models: Dict[str, Model], direction: Optional[str]) -> Model:
    """The model that translates in `direction`, or, for None, the first. Raises ConfigError where there is none."""
    if direction is None:
        return next(iter(models.values()))
    if direction not in models:
        raise ConfigError(f"--direction {direction}: this model translates {' and '.join(models)}")
    return models[direction]
