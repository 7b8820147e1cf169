"""--phase export as users call it."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import main
from deploy import engines, export
from deploy.engines import NetworkEngine
from deploy.exported import open_exported
from deploy.predictor import Predictor
from tests.helpers import ROOT, save_untrained
from version import __version__

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from deploy import onnx_graph  # noqa: E402

METHODS = {
    "ugatit": [],
    "full": ["--light", "false"],
    "cyclegan": ["--method", "cyclegan", "--img_size", "16", "--ch", "2", "--n_blocks", "1", "--n_layers_D", "1"],
    "pix2pix": ["--method", "pix2pix", "--img_size", "32", "--ch", "2", "--n_layers_D", "1", "--direction", "BtoA"],
    "grey": ["--img_ch", "1"],
}
PADDLE_FILES = {"A2B.json", "A2B.pdiparams", "A2B.metadata.json", "B2A.json", "B2A.pdiparams", "B2A.metadata.json"}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {name: save_untrained(tmp_path_factory.mktemp(name), *flags) for name, flags in METHODS.items()}


def run(checkpoint, output, *flags) -> int:
    return main.main(["--phase", "export", "--checkpoint", str(checkpoint), "--output", str(output), *flags])


def names(folder) -> set:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", METHODS)
def test_the_files_do_what_the_checkpoint_does(name, checkpoints, tmp_path, capsys):
    assert run(checkpoints[name], tmp_path / "out", "--format", "both") == 0
    printed = capsys.readouterr().out
    directions = ["B2A"] if name == "pix2pix" else ["A2B", "B2A"]
    assert printed.count("largest difference from the network") == 2 * len(directions) and "at most 1e-03" in printed
    kinds = (".onnx", ".json", ".pdiparams", ".metadata.json")
    assert names(tmp_path / "out") == {f"{direction}{kind}" for direction in directions for kind in kinds}
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for direction in directions:
        expected = Predictor.load(checkpoints[name], direction, engine="network")
        for engine in ("onnxruntime", "paddle"):
            exported = Predictor.load(tmp_path / "out", direction, engine)
            assert exported.engine.name == engine
            assert np.abs(exported(image).astype(int) - expected(image)).max() <= 1
            assert exported.facts == expected.facts or not exported.facts.has_heatmap
            if exported.facts.side is None:
                assert np.abs(exported(image, size="keep").astype(int) - expected(image, size="keep")).max() <= 1


def test_metadata_and_heat_map(checkpoints, tmp_path):
    assert run(checkpoints["ugatit"], tmp_path, "--direction", "B2A", "--with_heatmap") == 0
    assert names(tmp_path) == {"B2A.onnx"}
    model = onnx.load(tmp_path / "B2A.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {
        "method": "ugatit",
        "dataset": "YOUR_DATASET_NAME",
        "iteration": "0",
        "direction": "B2A",
        "img_size": "24",
        "img_ch": "3",
        "multiple": "4",
        "side": "null",
        "has_heatmap": "true",
        "value_range": "-1 to 1",
        "project_version": __version__,
    }
    translated = Predictor.load(tmp_path).translate(np.zeros((24, 24, 3), np.uint8))
    assert translated.heatmap.shape == (6, 6)
    assert run(checkpoints["ugatit"], tmp_path, "--direction", "B2A", "--overwrite") == 0
    assert Predictor.load(tmp_path).translate(np.zeros((24, 24, 3), np.uint8)).heatmap is None


def test_half_precision_is_half_as_large_and_says_its_difference(tmp_path, capsys):
    checkpoint = save_untrained(tmp_path / "checkpoint", "--ch", "16")
    for folder, flags in (("single", ()), ("half", ("--fp16",))):
        assert run(checkpoint, tmp_path / folder, "--direction", "A2B", *flags) == 0
    printed = capsys.readouterr().out
    assert "at most 1e-03" in printed and "at most 1e-02" in printed
    single, half = ((tmp_path / folder / "A2B.onnx").stat().st_size for folder in ("single", "half"))
    assert half < 0.6 * single


def test_averaged_weights_are_exported_unless_raw_ones_are_asked_for(tmp_path):
    checkpoint = save_untrained(tmp_path / "checkpoint", "--ema", "0.9")
    assert run(checkpoint, tmp_path / "averaged", "--direction", "A2B") == 0
    assert run(checkpoint, tmp_path / "raw", "--direction", "A2B", "--weights", "raw") == 0


@pytest.mark.parametrize("form", ["onnx", "paddle"])
def test_a_file_that_differs_is_not_kept(form, checkpoints, tmp_path, monkeypatch, capsys):
    """The second direction differs; of the first nothing stays either, and what was there before does."""
    run_network, calls = NetworkEngine.run, []

    def other(self, images):
        calls.append(1)
        output = run_network(self, images)
        return output._replace(image=output.image + 0.003) if len(calls) > 3 else output

    monkeypatch.setattr(NetworkEngine, "run", other)
    assert run(checkpoints["ugatit"], tmp_path / "new", "--format", form) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: B2A.") and "nothing was written" in error and "1.5e-03 of the range" in error
    assert not (tmp_path / "new").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "B2A.onnx").write_text("before")
    calls.clear()
    assert run(checkpoints["ugatit"], tmp_path / "used", "--format", form, "--overwrite") == 1
    assert names(tmp_path / "used") == {"B2A.onnx"} and (tmp_path / "used" / "B2A.onnx").read_text() == "before"


def test_a_broken_graph_is_not_kept(checkpoints, tmp_path, monkeypatch, capsys):
    def without_reflection(graph, x, pad, mode):
        return graph.add("Pad", x, graph.constant([0, 0, pad, pad] * 2), mode="constant") if pad else x

    monkeypatch.setattr(onnx_graph, "_padded", without_reflection)
    assert run(checkpoints["cyclegan"], tmp_path / "out") == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_not_a_number_is_no_agreement():
    class Broken:
        def run(self, images):
            return engines.Output(np.full_like(images, np.nan) if images.any() else images, None)

    class Fine:
        def run(self, images):
            return engines.Output(images, None)

    difference = export.largest_difference(Broken(), Fine(), [np.full((1, 3, 4, 4), value, np.float32) for value in (0, 1)])
    assert not difference <= export.TOLERANCE


def test_heat_maps_are_compared_too():
    class Engine:
        def __init__(self, scale):
            self.scale = scale

        def run(self, images):
            return engines.Output(images, images[:, :1] * self.scale)

    pictures = [np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)]
    assert export.largest_difference(Engine(1), Engine(1), pictures) == 0
    assert export.largest_difference(Engine(110), Engine(100), pictures) > 0.05


@pytest.mark.parametrize("name, flags, code, words", [
    ("ugatit", ["--format", "paddle", "--fp16"], 2, "--fp16 is for ONNX files"),
    ("cyclegan", ["--with_heatmap"], 2, "--with_heatmap: this model has no CAM"),
    ("pix2pix", ["--direction", "A2B"], 2, "--direction A2B: this model translates B2A"),
    ("ugatit", ["--checkpoint", "missing"], 1, "missing"),
    ("ugatit", ["--light"], 2, "--light is not a flag of --phase export"),
])  # fmt: skip
def test_wrong_commands(name, flags, code, words, checkpoints, tmp_path, capsys):
    assert run(checkpoints[name], tmp_path / "out", *flags) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_files_that_are_there_stay_unless_overwrite(checkpoints, tmp_path, capsys):
    assert run(checkpoints["cyclegan"], tmp_path, "--direction", "B2A") == 0
    before = (tmp_path / "B2A.onnx").read_bytes()
    assert run(checkpoints["cyclegan"], tmp_path) == 2
    assert "B2A.onnx is there already: add --overwrite" in capsys.readouterr().err
    assert names(tmp_path) == {"B2A.onnx"}
    assert run(checkpoints["cyclegan"], tmp_path, "--overwrite") == 0
    assert (tmp_path / "B2A.onnx").read_bytes() == before, "the same file at every export"


def test_without_the_packages_the_error_names_the_command(checkpoints, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert run(checkpoints["ugatit"], tmp_path / "out") == 2
    assert "needs the packages onnx and onnxruntime: pip install onnx onnxruntime openvino" in capsys.readouterr().err
    assert run(checkpoints["ugatit"], tmp_path / "out", "--format", "paddle") == 0
    assert names(tmp_path / "out") == PADDLE_FILES
    assert open_exported(tmp_path / "out")[0].name == "paddle"


def test_the_code_in_the_documentation_runs_as_written(checkpoints, tmp_path):
    """With ONNX Runtime and NumPy alone, in a folder that has nothing of this project."""
    assert run(checkpoints["ugatit"], tmp_path, "--direction", "A2B") == 0
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    after = "\nnp.savez('made.npz', image=image, translated=translated)\nimport sys; sys.exit('paddle' in sys.modules)"
    subprocess.run([sys.executable, "-c", code + after], cwd=tmp_path, check=True)
    with np.load(tmp_path / "made.npz") as made:
        image, translated = made["image"], made["translated"]
    assert image.shape == (24, 24, 3)
    expected = Predictor.load(checkpoints["ugatit"], "A2B", engine="network")(image)
    assert np.abs(translated.astype(int) - expected).max() <= 1
