"""Exported files: their names, and opening them without a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Tuple

from deploy.engines import Engine, OnnxRuntimeEngine, OpenVinoEngine, PaddleEngine, choose_engine
from deploy.facts import ModelFacts, from_metadata
from deploy.settings import DIRECTIONS
from engine.cpu import has_bf16
from errors import ConfigError, WeightsError
from utils import from_json

# A2B.onnx holds its metadata; A2B.json, a program for Paddle Inference, has its weights and its metadata beside it.
ONNX, PROGRAM, PROGRAM_WEIGHTS, PROGRAM_METADATA = ".onnx", ".json", ".pdiparams", ".metadata.json"
FOR_ONNX, FOR_PROGRAMS = ("onnxruntime", "openvino"), ("paddle",)


def is_exported(path: Path) -> bool:
    """Whether a path is that of an exported file or of a folder of them."""
    if path.is_dir():
        return bool(exported_directions(path))
    return path.is_file() and (path.suffix == ONNX or path.with_suffix(PROGRAM_WEIGHTS).is_file())


def exported_directions(path: Path) -> List[Optional[str]]:
    """The directions of which a folder has exported files; of a file None, its own."""
    if path.is_file():
        return [None]
    return [way for way in DIRECTIONS if any(is_exported(path / f"{way}{kind}") for kind in (ONNX, PROGRAM))]


def open_exported(
    path: Path, direction: Optional[str] = None, engine: str = "auto", amp: Optional[str] = None
) -> Tuple[Engine, ModelFacts]:
    """An engine for an exported file, or for one of a folder, on the CPU.

    Args:
        direction: A2B or B2A; None takes the file's own, or of a folder the first.
        engine: what --engine says; auto takes the fastest that is installed for the file, of a folder for its ONNX files first.
        amp: bf16, for OpenVINO on a processor that has it.

    Raises:
        WeightsError: the file is damaged, or --phase export did not write it.
        ConfigError: it has not this direction, or the engine is not installed or cannot run it in `amp`.
    """
    if amp == "fp16" or (amp and not has_bf16()):
        raise ConfigError(f"--amp {amp}: exported files are computed on the CPU, which has no {amp} here: leave out --amp")
    file = _find(path, direction, engine) if path.is_dir() else path
    if file.suffix == ONNX:
        chosen = choose_engine(engine, FOR_ONNX, amp)
        opened = OnnxRuntimeEngine(file) if chosen == "onnxruntime" else OpenVinoEngine(file, amp)
        facts = from_metadata(opened.metadata, file)
    else:
        file = file.with_suffix(PROGRAM)
        choose_engine(engine, FOR_PROGRAMS, amp)
        facts = from_metadata(_read_metadata(file.with_suffix(PROGRAM_METADATA)), file)
        opened = PaddleEngine(file)
    if direction not in (None, facts.direction):
        raise ConfigError(f"--direction {direction}: {file} translates {facts.direction}")
    return opened, facts


def _find(folder: Path, direction: Optional[str], engine: str) -> Path:
    kinds = (PROGRAM,) if engine in FOR_PROGRAMS else (ONNX,) if engine in FOR_ONNX else (ONNX, PROGRAM)
    for one in (direction,) if direction else DIRECTIONS:
        for kind in kinds:
            if is_exported(folder / f"{one}{kind}"):
                return folder / f"{one}{kind}"
    wanted = " or ".join(f"{direction or 'A2B'}{kind}" for kind in kinds)
    raise ConfigError(f"{folder}: there is no {wanted} in it; see --direction and --engine, or export the model")


def _read_metadata(file: Path) -> dict:
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: cannot be read; it belongs to the exported model beside it") from error
