"""A trained model as a function of pictures.

    from deploy.predictor import Predictor

    predictor = Predictor.load("results/selfie2anime/ugatit")
    translated = predictor(image)  # (H, W, 3) uint8 RGB, or a list of them

Paddle is imported by `Predictor.load`, and only for a model that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Union

import cv2
import numpy as np

from deploy.engines import engine_of
from deploy.exported import exported_directions, is_exported, open_exported
from deploy.facts import ModelFacts
from deploy.settings import KEEP, MODEL, parse_size
from deploy.sizes import translate_at_own_size
from engine.checkpoint import shipped
from engine.cpu import configure_cpu
from errors import CheckpointError, ConfigError, DataError
from utils import resize, to_colour, to_image, to_network

if TYPE_CHECKING:
    from deploy.model import Model

# Larger pictures go through the network in tiles. At the paper's width one of this size takes 2.5 GB.
MOST_PIXELS_AT_ONCE = 768 * 768
MOST_IN_A_BATCH = 8
# Of a translation: 200 MB as RGB.
MOST_PIXELS = 2**26
Images = Union[np.ndarray, Sequence[np.ndarray]]


class Translated(NamedTuple):
    """A translation (H, W, 3) uint8 RGB, and its heat map (h, w) float32 of any range where the model has a CAM."""

    image: np.ndarray
    heatmap: Optional[np.ndarray]


class Predictor:
    """Translates pictures in one direction.

    Args:
        engine: what computes (deploy/engines.py).
        facts: what the model takes and gives.
    """

    def __init__(self, engine, facts: ModelFacts) -> None:
        self.engine, self.facts = engine, facts

    @classmethod
    def load(
        cls,
        path: Union[str, Path],
        direction: Optional[str] = None,
        engine: str = "auto",
        weights: Optional[str] = None,
        device: str = "auto",
        amp: Optional[str] = None,
    ) -> Predictor:
        """The model at `path`.

        Args:
            path: the folder of a run, a checkpoint folder, or an exported file or folder.
            direction: A2B or B2A; None takes the only one that the model has, or A2B.
            engine: network, paddle, onnxruntime, openvino; auto takes the fastest that is installed (docs/deploy.md).
            weights: of a run with --ema: averaged or raw; None takes the averaged ones where there are any.
            device: auto, cpu or gpu.
            amp: half precision, bf16 or fp16, where the engine and the processor have it.

        Raises:
            CheckpointError, WeightsError: there is no model, or it is damaged.
            ConfigError: it has not this direction or these weights, or the engine or the device is not there.
        """
        path = shipped(Path(path))
        if is_exported(path):
            if weights is not None:
                raise ConfigError(f"--weights {weights}: {path} is exported and has one set of weights: leave the flag out")
            _refuse_gpu(device, "exported files run")
            return cls(*open_exported(path, direction, engine, amp))
        models = _load_models(path, engine, weights, device, amp)
        from deploy.model import choose_direction

        model = choose_direction(models, direction)
        return cls(engine_of(model.generator, model.facts, engine, amp), model.facts)

    @classmethod
    def load_all(
        cls, path: Union[str, Path], engine: str = "auto", weights: Optional[str] = None, device: str = "auto"
    ) -> List[Predictor]:
        """The model at `path` in each direction that it has; arguments and errors as in `load`."""
        path = shipped(Path(path))
        if is_exported(path):
            return [cls.load(path, direction, engine, weights, device) for direction in exported_directions(path)]
        models = _load_models(path, engine, weights, device).values()
        return [cls(engine_of(model.generator, model.facts, engine), model.facts) for model in models]

    def __call__(self, images: Images, size: Union[str, int] = MODEL) -> Images:
        """Translate one image (H, W, 3) uint8 RGB, or a list of them, which gives a list.

        Args:
            size: "model" resizes to the side that the model was trained on; "keep" keeps an image's size and proportions; a number
                is the pixels of the shorter side, proportions kept.

        Raises:
            ConfigError: there is no such size, or the model takes another one only.
            DataError: the translation would have more than 67 million pixels.
            ValueError: an image has another shape or type.
        """
        if not isinstance(images, (list, tuple)):
            return self.translate(images, size).image
        if size != MODEL:
            return [self.translate(image, size).image for image in images]
        translated: List[np.ndarray] = []
        for first in range(0, len(images), MOST_IN_A_BATCH):
            batch = [self._at_model_size(image) for image in images[first : first + MOST_IN_A_BATCH]]
            translated += [to_colour(to_image(image)) for image in self.engine.run(np.stack(batch)).image]
        return translated

    def translate(self, image: np.ndarray, size: Union[str, int] = MODEL) -> Translated:
        """One image (H, W, 3) uint8 RGB with its heat map; otherwise as a call."""
        if size == MODEL:
            outputs = self._run(self._at_model_size(image)[None])
            outputs = [output[0] for output in outputs]
        else:
            size = parse_size(size)
            self.check_size(size)
            _check(image)
            outputs = translate_at_own_size(
                self._to_network(_with_shorter_side(image, size)),
                self._run,
                self.facts.multiple,
                MOST_PIXELS_AT_ONCE,
                # U-Nets end in one pixel; the others mirror maps of a quarter of the side, which need two.
                smallest=max(self.facts.multiple, 8),
            )
        return Translated(to_colour(to_image(outputs[0])), outputs[1][0] if len(outputs) > 1 else None)

    def check_size(self, size: Union[str, int]) -> None:
        """Raise ConfigError where the model cannot translate at this size."""
        side = self.facts.side
        if size != MODEL and side is not None:
            raise ConfigError(
                f"--size {size}: the full version of U-GAT-IT takes images of {side}x{side} alone: use --size {MODEL}, "
                "or a model that was trained with --light"
            )

    def _at_model_size(self, image: np.ndarray) -> np.ndarray:
        _check(image)
        return self._to_network(resize(image, self.facts.img_size, self.facts.img_size))

    def _to_network(self, image: np.ndarray) -> np.ndarray:
        return to_network(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None] if self.facts.img_ch == 1 else image)

    def _run(self, images: np.ndarray) -> List[np.ndarray]:
        output = self.engine.run(images)
        return [values for values in output if values is not None]


def _load_models(path: Path, engine: str, weights: Optional[str], device: str, amp: Optional[str] = None) -> Dict[str, Model]:
    """The generators of a checkpoint by direction, for `engine`."""
    if not path.exists() and path.name not in ("latest", "best"):  # names of checkpoints, not of files
        raise CheckpointError(f"--checkpoint {path}: there is no such file or folder")
    if engine not in ("auto", "network"):
        _refuse_gpu(device, f"the engine {engine} runs")
    configure_cpu()
    from deploy.model import load_models

    return load_models(path, weights, device, amp)


def _refuse_gpu(device: str, what: str) -> None:
    if device in ("gpu", "cuda"):
        raise ConfigError(f"--device {device}: {what} on the CPU here: leave the flag out")


def _with_shorter_side(image: np.ndarray, size: Union[str, int]) -> np.ndarray:
    if size == KEEP:
        return image
    height, width = image.shape[:2]
    scale = size / min(height, width)
    height, width = (max(1, round(side * scale)) for side in (height, width))
    if height * width > MOST_PIXELS:
        raise DataError(f"--size {size}: its translation would have {width}x{height} pixels; use a smaller --size")
    return resize(image, width, height)


def _check(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image must be an array (H, W, 3) uint8, not {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
