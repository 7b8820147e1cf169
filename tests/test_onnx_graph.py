"""ONNX graphs of the generators against the networks themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from paddle import nn

from deploy.engines import OnnxRuntimeEngine, OpenVinoEngine
from errors import ConfigError
from layers import Linear
from networks import CycleGANGenerator
from tests.generators import GENERATORS, batches, build, has_heatmap, largest_difference, translated, with_own_statistics
from tools import parity

onnx = pytest.importorskip("onnx")
from deploy import onnx_graph  # noqa: E402
from deploy.onnx_graph import to_onnx  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"


def onnxruntime_of(network: nn.Layer, **options) -> OnnxRuntimeEngine:
    pytest.importorskip("onnxruntime")
    return OnnxRuntimeEngine(to_onnx(network, {}, has_heatmap(network), **options).SerializeToString())


def initializers(model) -> dict:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", GENERATORS)
def test_onnxruntime_computes_what_the_network_computes(name):
    network = build(name)
    engine = onnxruntime_of(network)
    for images in batches(network):
        expected = translated(network, images)
        assert expected.image.std() > 0.05, "not all saturated"
        assert largest_difference(engine.run(images), expected) < 1e-4


@pytest.mark.parametrize("name", GENERATORS)
def test_openvino_computes_what_the_network_computes(name):
    pytest.importorskip("openvino")
    network = build(name)
    engine = OpenVinoEngine(to_onnx(network, {}, has_heatmap(network)).SerializeToString())
    for images in batches(network):
        assert largest_difference(engine.run(images), translated(network, images)) < 1e-4


@pytest.mark.parametrize("name", ["light", "full", "cyclegan_instance_resize", "cyclegan_batch_transpose"])
def test_winograd_s_convolutions(name, monkeypatch):
    monkeypatch.setattr(onnx_graph, "WINOGRAD_CHANNELS", 8)
    network = build(name)
    nodes = [node.input[0] for node in to_onnx(network, {}, with_winograd=True).graph.node if node.op_type == "MatMul"]
    assert "winograd.kernel" in nodes
    engine = onnxruntime_of(network, with_winograd=True)
    # Sides of 4, 5 and 8 pixels in the blocks: with and without a tile that reaches beyond the map.
    for images in batches(network):
        assert largest_difference(engine.run(images), translated(network, images)) < 1e-4


@pytest.mark.parametrize("name", ["light", "full", "unet_own_statistics", "cyclegan_batch_resize"])
def test_the_model_is_valid_and_says_what_it_takes(name):
    network = build(name)
    model = to_onnx(network, {"method": "any", "note": "两"}, has_heatmap(network))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"method": "any", "note": "两"}
    described = {value.name: value.type.tensor_type for value in (*model.graph.input, *model.graph.output)}
    assert list(described) == ["image", "translation", "heatmap"][: 3 if has_heatmap(network) else 2]
    shape = [dim.dim_param or dim.dim_value for dim in described["image"].shape.dim]
    assert shape == ["batch", 3, *([16, 16] if name == "full" else ["height", "width"])]
    assert described["translation"].shape == described["image"].shape


def test_nodes_and_weights_have_the_names_of_the_layers():
    network = build("cyclegan_batch_transpose")
    model = to_onnx(network, {})
    weights = initializers(model)
    for name, value in network.state_dict().items():
        if name in weights:
            np.testing.assert_array_equal(weights[name], value.numpy(), name)
        else:  # a convolution with few outputs
            assert value.shape[0] < 8
            np.testing.assert_array_equal(
                weights[f"{name}_rows"], value.numpy().transpose(0, 2, 1, 3).reshape(-1, value.shape[1], 1, 7)
            )
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) and "model.9.conv_block.0/Conv" in names


def test_half_precision_halves_kernels_and_matrices_alone():
    network = build("light")
    weights = initializers(to_onnx(network, {}, half=True))
    kinds = {name: array.dtype for name, array in weights.items()}
    assert kinds["DownBlock.3.weight"] == kinds["FC.0.weight"] == kinds["UpBlock2.0.weight_4x4"] == np.float16
    assert kinds["UpBlock1.0.norm1.rho"] == kinds["cam.bias"] == np.float32
    engine = onnxruntime_of(network, half=True)
    for images in batches(network):
        assert 0 < largest_difference(engine.run(images), translated(network, images)) < 2e-2


def test_batch_norm_of_pix2pix_looks_at_each_image_by_itself():
    network = build("unet_own_statistics")
    engine = onnxruntime_of(network)
    images = batches(network)[1]
    alone = np.concatenate([engine.run(image[None]).image for image in images])
    np.testing.assert_allclose(engine.run(images).image, alone, atol=1e-5)


def test_weights_too_large_for_one_file(monkeypatch):
    network = build("light")
    size = 4 * sum(value.size for value in network.state_dict().values())
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", size - 1)
    with pytest.raises(ConfigError, match="--fp16, which halves them, or --format paddle"):
        to_onnx(network, {})
    assert to_onnx(network, {}, half=True).graph.node


def test_no_heat_map_without_a_cam():
    for name in ("no_cam", "unet_none"):
        with pytest.raises(ConfigError, match="--with_heatmap: this generator has no CAM"):
            to_onnx(build(name), {}, heatmap=True)


def test_a_layer_that_is_not_known_is_named():
    network = CycleGANGenerator(ch=2, n_blocks=1)
    network.model[2] = nn.Softmax()
    with pytest.raises(ValueError, match=r"model\.2: no ONNX form is known for a Softmax"):
        to_onnx(network, {})
    assert Linear in onnx_graph.WRITERS


@pytest.mark.parametrize("archive, name", [
    ("ugatit_light", "genA2B"), ("ugatit_full", "genA2B"), ("cyclegan", "G_A"), ("pix2pix", "G"),
])  # fmt: skip
@pytest.mark.parametrize("with_winograd", [False, True])
def test_the_authors_outputs(archive, name, with_winograd, monkeypatch):
    """Their initial weights, as an ONNX file, give what their networks gave."""
    monkeypatch.setattr(onnx_graph, "WINOGRAD_CHANNELS", 8)
    figures = parity.Archive(GOLDEN / f"{archive}.npz")
    method = parity.build(figures)
    method.set_training(False)
    network = method.networks[name]
    images = figures.arrays["A"][0].astype(np.float32)
    engine = onnxruntime_of(network, with_winograd=with_winograd)
    if archive == "pix2pix":
        # Their figures share one batch's statistics, where a deployed model takes each image's own.
        expected = translated(with_own_statistics(network), images).image
    else:
        expected = figures.arrays.get(f"forward/{name}/image", figures.arrays.get(f"forward/{name}"))
    assert np.abs(engine.run(images).image - expected).max() < 1e-4
    if f"forward/{name}/heatmap" in figures.arrays:
        heatmap = figures.arrays[f"forward/{name}/heatmap"]
        assert np.abs(engine.run(images).heatmap - heatmap).max() < 1e-4 * np.abs(heatmap).max()
