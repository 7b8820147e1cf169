"""Engines: all give what the network gives; which one is chosen; exported files without a checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import engine.cpu
from deploy import engines, exported
from deploy.engines import FOR_NETWORKS, OnnxRuntimeEngine, OpenVinoEngine, PaddleEngine, choose_engine, engine_of
from deploy.exported import is_exported, open_exported
from deploy.facts import ModelFacts, from_metadata, to_metadata
from errors import ConfigError, WeightsError
from tests.generators import batches, build, has_heatmap, largest_difference, translated
from tests.helpers import ROOT
from version import __version__

FACTS = ModelFacts("ugatit", "tiny", 7, "A2B", 16, 3, 4, None, True)


def facts_of(network) -> ModelFacts:
    return ModelFacts("any", "tiny", 7, "A2B", 16, network.img_ch, network.multiple, network.side, has_heatmap(network))


def needed(engine: str) -> str:
    """The engine, or the test is skipped."""
    if engine in ("onnxruntime", "openvino"):
        pytest.importorskip("onnx")
        pytest.importorskip(engine)
    return engine


@pytest.mark.parametrize("engine", FOR_NETWORKS)
@pytest.mark.parametrize("name", ["light", "full", "cyclegan_instance_resize", "cyclegan_batch_transpose", "unet_own_statistics"])
def test_every_engine_computes_what_the_network_computes(engine, name):
    network = build(name)
    made = engine_of(network, facts_of(network), needed(engine))
    assert made.name == engine
    for images in batches(network):
        output, expected = made.run(images), translated(network, images)
        assert output.image.dtype == np.float32 and (output.heatmap is None) == (expected.heatmap is None)
        assert largest_difference(output, expected) < 1e-4


@pytest.mark.parametrize(
    "name", ["grey", "no_cam", "full_in", "light_ln", "light_gn", "light_adain", "cyclegan_batch_resize", "unet_none"]
)
def test_paddle_inference_computes_what_the_network_computes(name):
    network = build(name)
    made = engine_of(network, facts_of(network), "paddle")
    for images in batches(network):
        assert largest_difference(made.run(images), translated(network, images)) < 1e-4


@pytest.mark.parametrize("wanted", ["auto", *FOR_NETWORKS])
def test_outputs_are_the_caller_s_own(wanted):
    """A later call does not change what an earlier one gave."""
    network = build("light")
    made = engine_of(network, facts_of(network), needed(wanted))
    first = made.run(np.zeros((1, 3, 16, 16), np.float32))
    kept = first.image.copy(), first.heatmap.copy()
    made.run(np.ones((1, 3, 16, 16), np.float32))
    assert (first.image == kept[0]).all() and (first.heatmap == kept[1]).all()


def test_threads_are_those_of_the_project(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert engine.cpu.thread_count() == 3
    network = build("light")
    made = engine_of(network, facts_of(network), needed("onnxruntime"))
    assert made._session.get_session_options().intra_op_num_threads == 3
    for unset in ("", "many", "0"):
        monkeypatch.setenv("OMP_NUM_THREADS", unset)
        assert engine.cpu.thread_count() == engine.cpu.available_cores()


# Which engine


def installed(monkeypatch, *packages: str) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in packages else None)


def test_auto_takes_the_fastest_that_is_installed(monkeypatch):
    installed(monkeypatch, "onnx", "onnxruntime", "openvino")
    assert choose_engine("auto", FOR_NETWORKS, None, "onnx") == "onnxruntime"
    assert choose_engine("auto", FOR_NETWORKS, "bf16", "onnx") == "openvino"
    installed(monkeypatch, "onnx", "openvino")
    assert choose_engine("auto", FOR_NETWORKS, None, "onnx") == "openvino"
    installed(monkeypatch, "onnxruntime")
    assert choose_engine("auto", FOR_NETWORKS, None, "onnx") == "network"
    assert choose_engine("auto", exported.FOR_ONNX) == "onnxruntime"
    installed(monkeypatch)
    assert choose_engine("auto", FOR_NETWORKS, "bf16", "onnx") == "network"


def test_auto_leaves_very_large_networks_as_they_are(monkeypatch):
    monkeypatch.setattr(engines, "MOST_WEIGHTS", 100)
    network = build("light")
    assert engine_of(network, facts_of(network)).name == "network"
    assert engine_of(network, facts_of(network), needed("onnxruntime")).name == "onnxruntime"


@pytest.mark.parametrize("name, able, amp, words", [
    ("onnxruntime", FOR_NETWORKS, None, "--engine onnxruntime needs the packages onnxruntime and onnx: pip install onnx "),
    ("openvino", exported.FOR_ONNX, None, "--engine openvino needs the packages openvino and onnx: pip"),
    ("auto", exported.FOR_ONNX, None, "--engine onnxruntime needs"),
    ("auto", exported.FOR_ONNX, "bf16", "--engine openvino needs"),
    ("network", exported.FOR_ONNX, None, "--engine network: this model runs in onnxruntime or openvino"),
    ("paddle", FOR_NETWORKS, "bf16", "--amp bf16: the engine paddle computes in float32 alone"),
    ("auto", ("paddle",), "bf16", "--amp bf16: the engine paddle computes in float32 alone"),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_the_remedy(name, able, amp, words, monkeypatch):
    installed(monkeypatch)
    with pytest.raises(ConfigError, match=words):
        choose_engine(name, able, amp, "onnx")


def test_openvino_in_bfloat16(monkeypatch):
    """Its precision is what was asked for, never what the processor would allow."""
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    from deploy.onnx_graph import to_onnx

    network = build("light")
    model = to_onnx(network, {}).SerializeToString()
    hint = "INFERENCE_PRECISION_HINT"
    assert OpenVinoEngine(model)._request.get_compiled_model().get_property(hint) == openvino.Type.f32
    if engine.cpu.has_bf16():
        half = OpenVinoEngine(model, "bf16")
        assert half._request.get_compiled_model().get_property(hint) == openvino.Type.bf16
        images = batches(network)[1]
        assert 1e-5 < largest_difference(half.run(images), translated(network, images)) < 0.2


# Exported files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A2B of a model as ONNX and as a program of Paddle, B2A as ONNX alone."""
    folder = tmp_path_factory.mktemp("exported")
    network = build("light")
    pytest.importorskip("onnx")
    from deploy.onnx_graph import to_onnx
    from deploy.paddle_program import save_program

    for direction in ("A2B", "B2A"):
        metadata = to_metadata(ModelFacts("ugatit", "tiny", 7, direction, 16, 3, 4, None, True))
        (folder / f"{direction}.onnx").write_bytes(to_onnx(network, metadata, True).SerializeToString())
    save_program(network, folder / "A2B", True)
    (folder / "A2B.metadata.json").write_text(json.dumps(to_metadata(FACTS)))
    return folder


@pytest.mark.parametrize("wanted, name, expected", [
    ("auto", "", "onnxruntime"), ("openvino", "", "openvino"), ("paddle", "", "paddle"), ("auto", "A2B.onnx", "onnxruntime"),
    ("auto", "A2B.json", "paddle"), ("auto", "A2B.pdiparams", "paddle"), ("openvino", "A2B.onnx", "openvino"),
])  # fmt: skip
def test_exported_files_say_what_they_take(wanted, name, expected, folder):
    needed(expected)
    assert is_exported(folder / name)
    opened, facts = open_exported(folder / name, engine=wanted)
    assert opened.name == expected and facts == FACTS
    images = batches(build("light"))[1]
    assert largest_difference(opened.run(images), translated(build("light"), images)) < 1e-4


def test_directions_of_exported_files(folder):
    needed("onnxruntime")
    assert open_exported(folder, "B2A")[1].direction == "B2A"
    with pytest.raises(ConfigError, match="--direction A2B: .*B2A.onnx translates B2A"):
        open_exported(folder / "B2A.onnx", "A2B")
    with pytest.raises(ConfigError, match="there is no B2A.json in it"):
        open_exported(folder, "B2A", engine="paddle")


def test_half_precision_of_exported_files(folder, monkeypatch):
    monkeypatch.setattr(exported, "has_bf16", lambda: False)
    for amp in ("bf16", "fp16"):
        with pytest.raises(ConfigError, match=f"--amp {amp}: exported files are computed on the CPU"):
            open_exported(folder, amp=amp)


@pytest.mark.parametrize(
    "engine_class, file", [(OnnxRuntimeEngine, "A2B.onnx"), (OpenVinoEngine, "A2B.onnx"), (PaddleEngine, "A2B.json")]
)
def test_a_damaged_file_is_named(engine_class, file, folder, tmp_path):
    needed(engine_class.name)
    for path in folder.glob("A2B*"):
        (tmp_path / path.name).write_bytes(path.read_bytes()[:500])
    with pytest.raises(WeightsError, match=f"{file}: {engine_class.name} cannot read it .*export the model again") as error:
        engine_class(tmp_path / file)
    assert "\n" not in str(error.value)


def test_files_of_others_are_refused(tmp_path):
    needed("onnxruntime")
    from deploy.onnx_graph import to_onnx

    (tmp_path / "other.onnx").write_bytes(to_onnx(build("light"), {"method": "x"}).SerializeToString())
    with pytest.raises(WeightsError, match="other.onnx: its metadata does not say"):
        open_exported(tmp_path / "other.onnx")
    (tmp_path / "A2B.pdiparams").touch()
    (tmp_path / "A2B.json").touch()
    with pytest.raises(WeightsError, match="A2B.metadata.json: cannot be read"):
        open_exported(tmp_path, engine="paddle")


def test_a_checkpoint_is_no_exported_file(tmp_path):
    for name in ("meta.json", "generators.safetensors"):
        (tmp_path / name).touch()
        assert not is_exported(tmp_path / name)
    assert not is_exported(tmp_path) and not is_exported(tmp_path / "missing.onnx")


def test_facts_survive_metadata(tmp_path):
    for facts in (FACTS, ModelFacts("pix2pix", "12", 0, "B2A", 256, 1, 256, 256, False)):
        metadata = to_metadata(facts)
        assert all(isinstance(text, str) for text in metadata.values())
        assert metadata["project_version"] == __version__ and metadata["value_range"] == "-1 to 1"
        assert from_metadata(metadata, tmp_path) == facts


def test_an_exported_onnx_file_needs_no_paddle(folder):
    needed("onnxruntime")
    code = (
        "import sys; import numpy as np; from deploy.predictor import Predictor\n"
        "predictor = Predictor.load(sys.argv[1])\n"
        "assert predictor(np.zeros((9, 12, 3), np.uint8)).shape == (16, 16, 3)\n"
        "sys.exit('paddle' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "wrong",
    [{"iteration": "x"}, {"iteration": "-1"}, {"direction": "C2D"}, {"has_heatmap": "1"}, {"multiple": "1e9"}, {"dataset": 5}],
)
def test_metadata_with_impossible_values_is_refused(tmp_path, wrong):
    facts = ModelFacts("ugatit", "portraits", 7, "A2B", 64, 3, 4, None, False)
    with pytest.raises(WeightsError, match="metadata does not say"):
        from_metadata({**to_metadata(facts), **wrong}, tmp_path)
