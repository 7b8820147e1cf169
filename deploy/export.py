"""--phase export: a trained model as files that run without this project, compared with the network before they are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Iterator, List

import numpy as np

from deploy.engines import INSTALL, Engine, NetworkEngine, is_installed
from deploy.exported import FOR_ONNX, ONNX, PROGRAM, PROGRAM_METADATA, PROGRAM_WEIGHTS, open_exported
from deploy.facts import ModelFacts, to_metadata
from deploy.settings import ExportSettings
from engine.cpu import configure_cpu
from errors import ConfigError, ExportError

# The most by which an exported model may differ from the network, as a part of the range of values.
TOLERANCE, TOLERANCE_FP16 = 1e-3, 1e-2
FILES = {"onnx": (ONNX,), "paddle": (PROGRAM, PROGRAM_WEIGHTS, PROGRAM_METADATA)}


def export(settings: ExportSettings) -> int:
    """Write the files, run them beside the network, and keep them only where they agree.

    Raises:
        ConfigError, CheckpointError: the command or the model is not what it should be, or files are there already.
        ExportError: a file's translations are not those of the network; nothing is left behind.
        OSError: a file cannot be written.
    """
    formats = ["onnx", "paddle"] if settings.format == "both" else [settings.format]
    if settings.fp16 and "onnx" not in formats:
        raise ConfigError("--fp16 is for ONNX files: leave it out, or use --format onnx")
    if "onnx" in formats and not any(is_installed(engine, "onnx") for engine in FOR_ONNX):
        raise ConfigError(f"--format {settings.format} needs the packages onnx and onnxruntime: {INSTALL}")
    configure_cpu()
    from deploy.model import choose_direction, load_models

    models = load_models(Path(settings.checkpoint), settings.weights, device="cpu")
    if settings.direction:
        models = {settings.direction: choose_direction(models, settings.direction)}
    if settings.with_heatmap and not all(model.facts.has_heatmap for model in models.values()):
        raise ConfigError("--with_heatmap: this model has no CAM and so no heat maps: leave the flag out")
    output = Path(settings.output)
    names = [f"{direction}{kind}" for direction in models for form in formats for kind in FILES[form]]
    there = [name for name in names if (output / name).exists()]
    if there and not settings.overwrite:
        raise ConfigError(f"--output {output}: {there[0]} is there already: add --overwrite, or name another folder")
    with _folder_beside(output) as folder:
        for direction, model in models.items():
            facts = dataclasses.replace(model.facts, has_heatmap=settings.with_heatmap)
            network, pictures = NetworkEngine(model.generator), pictures_for(facts)
            for form in formats:
                half = settings.fp16 and form == "onnx"
                file = _write(form, folder, model.generator, facts, half)
                exported, _ = open_exported(file)
                difference = largest_difference(exported, network, pictures)
                at_most = TOLERANCE_FP16 if half else TOLERANCE
                megabytes = sum((folder / f"{direction}{kind}").stat().st_size for kind in FILES[form]) / 1e6
                line = (
                    f"{direction}{'.onnx' if form == 'onnx' else '.json and .pdiparams'}: {megabytes:.1f} MB, largest difference "
                    f"from the network {difference:.1e} of the range of values (at most {at_most:.0e}; {exported.name})"
                )
                if not difference <= at_most:
                    raise ExportError(f"{line}; nothing was written")
                print(line)
        for name in names:
            os.replace(folder / name, output / name)
    print(f"written to {output}; how to use the files: docs/deploy.md")
    return 0


@contextlib.contextmanager
def _folder_beside(output: Path) -> Iterator[Path]:
    """A temporary folder on the disk of `output`, which is made; it is removed again if nothing comes into it."""
    is_new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=output, prefix=".export-") as folder:
            yield Path(folder)
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it holds the exported files
                output.rmdir()


def _write(form: str, folder: Path, generator, facts: ModelFacts, half: bool) -> Path:
    """Write a model's files of one format; returns the first."""
    metadata = to_metadata(facts)
    if form == "onnx":
        from deploy.onnx_graph import to_onnx

        file = folder / f"{facts.direction}{ONNX}"
        file.write_bytes(to_onnx(generator, metadata, facts.has_heatmap, half).SerializeToString())
        return file
    from deploy.paddle_program import save_program

    file = save_program(generator, folder / facts.direction, facts.has_heatmap)
    file.with_suffix(PROGRAM_METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    return file


# Comparison


def pictures_for(facts: ModelFacts) -> List[np.ndarray]:
    """Batches (N, C, H, W) in [-1, 1]: noise of two sizes, where the model takes them, and two drawn faces."""
    from datatools.faces.domains import draw_anime, draw_photograph
    from datatools.faces.identity import Identity
    from utils import resize, to_network

    rng = np.random.default_rng(0)
    side = facts.side or facts.img_size
    sizes = [(1, side, side)]
    # Of another height and width than the model's own.
    height = max(8 // facts.multiple, side // 2 // facts.multiple, 1) * facts.multiple
    sizes.append((2, side, side) if facts.side else (2, height, height + facts.multiple))
    noise = [rng.uniform(-1, 1, (batch, facts.img_ch, *sides)).astype(np.float32) for batch, *sides in sizes]
    draw = draw_photograph if facts.direction == "A2B" else draw_anime
    faces = [resize(draw(Identity(0, index), max(16, side)), side, side) for index in range(2)]
    if facts.img_ch == 1:
        faces = [face.mean(2, keepdims=True).astype(np.uint8) for face in faces]
    return [*noise, np.stack([to_network(face) for face in faces])]


def largest_difference(exported: Engine, network: Engine, pictures: List[np.ndarray]) -> float:
    """The largest difference of two engines' outputs, as a part of the range of images and of a heat map's largest value."""
    differences = []
    for images in pictures:
        ours, expected = exported.run(images), network.run(images)
        differences.append(np.abs(ours.image - expected.image).max() / 2)
        if ours.heatmap is not None:
            differences.append(np.abs(ours.heatmap - expected.heatmap).max() / max(np.abs(expected.heatmap).max(), 1e-6))
    return float(np.max(differences))
