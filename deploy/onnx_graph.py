"""Generators as ONNX graphs, written layer by layer.

Each layer has a function here that adds its nodes; nodes and weights carry the layer's name, such as `UpBlock1.0.conv1.weight`. The
operations are formulated so that ONNX Runtime and OpenVINO run them fast on a CPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Dict, List, Mapping, Set, Tuple, Union

import numpy as np
import onnx
from onnx import TensorProto, helper
from paddle import Tensor, nn

import ops
import winograd
from deploy.facts import HEATMAP, IMAGE, TRANSLATION
from errors import ConfigError
from layers import (
    ILN,
    AdaLIN,
    BatchNorm2D,
    Conv2D,
    Dropout,
    GroupNorm,
    InstanceNorm2D,
    Linear,
    TransposedConv2D,
    UpsampleConv2D,
)
from networks import CAM, CycleGANBlock, CycleGANGenerator, ResnetAdaLINBlock, ResnetBlock, ResnetGenerator, UnetGenerator

# What the oldest ONNX Runtime and OpenVINO of requirements-deploy.txt read.
OPSET, IR_VERSION = 17, 8
# Of protobuf, without room for names and shapes.
MOST_BYTES = 2**31 - 2**22
# With fewer channels the steps around Winograd's products take longer than the products saved.
WINOGRAD_CHANNELS = 128


class Graph:
    """An ONNX graph in the making.

    Args:
        half: store kernels and matrices in half precision; they are computed with in float32.
        with_winograd: write wide 3x3 convolutions as Winograd's: a quarter of the products, several nodes. ONNX Runtime, which has
            no such convolution of its own, takes half the time for them; OpenVINO gains nothing.
    """

    def __init__(self, half: bool = False, with_winograd: bool = False) -> None:
        self.half, self.with_winograd = half, with_winograd
        self.model = onnx.ModelProto(ir_version=IR_VERSION, opset_import=[helper.make_opsetid("", OPSET)])
        self.outputs: Dict[str, str] = {}
        self.channels = 0  # of the maps that the last convolution gave
        self._layer = ""
        self._names: Counter = Counter()
        self._constants: Set[str] = set()

    def child(self, name: str, layer: nn.Layer, *inputs: str) -> str:
        """Add the nodes of a layer inside the present one; returns the name of its output."""
        writer = WRITERS.get(type(layer))
        if writer is None:
            raise ValueError(f"{self._layer}.{name}: no ONNX form is known for a {type(layer).__name__}")
        outer, self._layer = self._layer, f"{self._layer}.{name}" if self._layer else name
        output = writer(self, layer, *inputs)
        self._layer = outer
        return output

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of the present layer; returns the name of its output."""
        name = f"{self._layer}/{operation}"
        self._names[name] += 1
        if self._names[name] > 1:
            name += f"_{self._names[name]}"
        self.model.graph.node.append(helper.make_node(operation, list(inputs), [name], name, **attributes))
        return name

    def weight(self, name: str, value: Any) -> str:
        """An initializer of the present layer, from a tensor or an array; returns its name, or that of its float32 form."""
        # NumPy itself converts a tensor number by number.
        array = np.ascontiguousarray(value.numpy() if isinstance(value, Tensor) else value, np.float32)
        name = f"{self._layer}.{name}"
        # Of scales and shifts every value changes a whole map.
        in_half = self.half and sum(length > 1 for length in array.shape) > 1
        self._initializer(name, array.astype(np.float16) if in_half else array)
        return self.add("Cast", name, to=TensorProto.FLOAT) if in_half else name

    def constant(self, value: Any, name: str = "") -> str:
        """An initializer that is no weight: whole numbers, or, under a name of its own, an array. Stored once."""
        array = np.array(value, np.float32 if name else np.int64)
        name = name or f"constant_{'_'.join(str(number) for number in array.tolist())}"
        if name not in self._constants:
            self._constants.add(name)
            self._initializer(name, array)
        return name

    def _initializer(self, name: str, array: np.ndarray) -> None:
        # In place: the full version's matrix has a gigabyte, and every way around would copy it once more.
        tensor = self.model.graph.initializer.add(name=name, dims=array.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.raw_data = array.tobytes()


def to_onnx(
    network: nn.Layer, metadata: Mapping[str, str], heatmap: bool = False, half: bool = False, with_winograd: bool = False
) -> onnx.ModelProto:
    """A generator as an ONNX model, in evaluation mode and without dropout.

    The input is `image` (batch, channels, height, width), float32 in [-1, 1]; the outputs are `translation`, of the same shape and
    range, and with `heatmap` also `heatmap` (batch, 1, height / 4, width / 4) of any range. Batch, height and width are free, but
    for the generators that take images of one size alone.

    Batch normalization takes the statistics of each image, as Pix2Pix does at test time, or the running ones, as the layer says.

    Args:
        network: a ResnetGenerator, CycleGANGenerator or UnetGenerator.
        metadata: goes into the model as it is.
        half, with_winograd: see `Graph`.

    Raises:
        ConfigError: there is no heat map, or the weights are too large for one file.
        ValueError: the network has layers that are not known here.
    """
    if heatmap and getattr(network, "cam", None) is None:
        raise ConfigError("--with_heatmap: this generator has no CAM and so no heat map: leave the flag out")
    size = sum(value.size for value in network.state_dict().values()) * (2 if half else 4)
    if size > MOST_BYTES:
        remedy = "use --format paddle" if half else "use --fp16, which halves them, or --format paddle"
        raise ConfigError(f"{size / 2**30:.1f} GiB of weights: an ONNX file holds less than 2: {remedy}")
    graph = Graph(half, with_winograd)
    graph.outputs[TRANSLATION] = WRITERS[type(network)](graph, network, IMAGE)
    model, body = graph.model, graph.model.graph
    body.name = type(network).__name__
    sides = [network.side or side for side in ("height", "width")]
    body.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, ["batch", network.img_ch, *sides]))
    shapes = {TRANSLATION: ["batch", network.img_ch, *sides]}
    if heatmap:
        shapes[HEATMAP] = ["batch", 1, *(network.side // 4 if network.side else f"{side} / 4" for side in sides)]
    for name, shape in shapes.items():
        body.node.append(helper.make_node("Identity", [graph.outputs[name]], [name], name))
        body.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    helper.set_model_props(model, dict(metadata))
    return model


# Layers: each function adds the nodes of one and returns the name of its output


def _padded(graph: Graph, x: str, pad: int, mode: str) -> str:
    return graph.add("Pad", x, graph.constant([0, 0, pad, pad] * 2), mode=mode) if pad else x


def _weights(graph: Graph, layer: nn.Layer) -> Tuple[str, ...]:
    return (graph.weight("weight", layer.weight), *_bias(graph, layer))


def _bias(graph: Graph, layer: nn.Layer) -> Tuple[str, ...]:
    return () if layer.bias is None else (graph.weight("bias", layer.bias),)


def _conv2d(graph: Graph, layer: Conv2D, x: str) -> str:
    graph.channels, channels, kernel, _ = layer.weight.shape
    narrow = min(channels, graph.channels) < WINOGRAD_CHANNELS
    if graph.with_winograd and (kernel, layer.stride, layer.pad) == (3, 1, 1) and not narrow:
        return _winograd_conv2d(graph, layer, x)
    if layer.zeros:
        pads = [layer.pad] * 4
    else:
        x, pads = _padded(graph, x, layer.pad, "reflect"), [0] * 4
    if kernel > 1 and layer.stride == 1 and graph.channels < ops.FEW_CHANNELS:
        return _conv2d_by_rows(graph, layer, x, pads)
    strides = [layer.stride] * 2
    return graph.add("Conv", x, *_weights(graph, layer), kernel_shape=[kernel] * 2, strides=strides, pads=pads)


def _conv2d_by_rows(graph: Graph, layer: Conv2D, x: str, pads: List[int]) -> str:
    """Each row of the kernels as an output of its own, then their sums: runtimes compute 8 or 16 outputs at a time, so these fill
    what a convolution with few outputs leaves idle."""
    out_channels, channels, kernel, _ = layer.weight.shape
    rows = layer.weight.numpy().transpose(0, 2, 1, 3).reshape(-1, channels, 1, kernel)
    x = graph.add("Conv", x, graph.weight("weight_rows", rows), kernel_shape=[1, kernel], pads=pads)
    # (out, out * k, k, 1): output o is the sum of its rows, row r taken r pixels further down.
    sums = np.einsum("op,rs->oprs", np.eye(out_channels), np.eye(kernel)).reshape(out_channels, -1, kernel, 1)
    sums = graph.constant(sums, f"sums_of_{out_channels}x{kernel}_rows")
    return graph.add("Conv", x, sums, *_bias(graph, layer), kernel_shape=[kernel, 1])


def _winograd_conv2d(graph: Graph, layer: Conv2D, x: str) -> str:
    """F(4x4, 3x3) of winograd.py: tiles to points, at each point a product over the channels, products to tiles of the output."""
    out_channels, channels = layer.weight.shape[:2]
    points = winograd.POINTS_OF_TILE**2
    A, G, B = (np.kron(matrix, matrix) for matrix in winograd.minimal_filter(4, 3))
    join = graph.constant(A.reshape(points, 1, 4, 4), "winograd.join")
    cut = graph.constant(B.reshape(points, 1, 6, 6), "winograd.cut")

    # The points of the kernels, four times as much as these, are computed when the file is loaded.
    taps = graph.weight("weight_by_tap", layer.weight.numpy().reshape(-1, 9).T)
    kernel = graph.add("MatMul", graph.constant(G, "winograd.kernel"), taps)
    kernel = graph.add("Reshape", kernel, graph.constant([points, out_channels, channels]))

    maps = _padded(graph, x, 1, "constant" if layer.zeros else "reflect")
    maps = graph.add("Reshape", maps, graph.constant([-1, 1, 0, 0]))
    # Where a side is no multiple of 4, the last tiles reach up to 3 pixels beyond the map.
    tiles = graph.add("Conv", maps, cut, kernel_shape=[6, 6], strides=[4, 4], pads=[0, 0, 3, 3])
    tiles_of_sides = graph.add("Shape", tiles, start=2, end=4)
    all_tiles = graph.add("ReduceProd", tiles_of_sides, axes=[0])
    by_channel = graph.add("Concat", graph.constant([-1, channels, points]), all_tiles, axis=0)
    tiles = graph.add("Transpose", graph.add("Reshape", tiles, by_channel), perm=[0, 2, 1, 3])

    products = graph.add("Transpose", graph.add("MatMul", kernel, tiles), perm=[0, 2, 1, 3])
    by_tile = graph.add("Concat", graph.constant([-1, points]), tiles_of_sides, axis=0)
    out = graph.add("Reshape", products, by_tile)
    out = graph.add("ConvTranspose", out, join, kernel_shape=[4, 4], strides=[4, 4])
    out = graph.add("Reshape", out, graph.constant([-1, out_channels, 0, 0]))
    out = graph.add("Slice", out, graph.constant([0, 0]), graph.add("Shape", x, start=2, end=4), graph.constant([2, 3]))
    return out if layer.bias is None else graph.add("Add", out, graph.weight("bias", layer.bias.reshape([-1, 1, 1])))


def _transposed_conv2d(graph: Graph, layer: TransposedConv2D, x: str) -> str:
    _, graph.channels, kernel, _ = layer.weight.shape
    sizes = dict(kernel_shape=[kernel] * 2, strides=[2, 2], pads=[1] * 4, output_padding=[layer.output_padding] * 2)
    return graph.add("ConvTranspose", x, *_weights(graph, layer), **sizes)


def _upsample_conv2d(graph: Graph, layer: UpsampleConv2D, x: str) -> str:
    """As the fast form of `ops.upsample_conv2d`: half the time of doubling the map first."""
    graph.channels = layer.weight.shape[0]
    weight = graph.weight("weight_4x4", ops.smeared(layer.weight))
    x = _padded(graph, x, 1, "edge")
    return graph.add("ConvTranspose", x, weight, *_bias(graph, layer), kernel_shape=[4, 4], strides=[2, 2], pads=[3] * 4)


def _linear(graph: Graph, layer: Linear, x: str) -> str:
    return graph.add("MatMul", x, graph.weight("weight", layer.weight))


# Normalization


def _instance_norm(graph: Graph, layer: InstanceNorm2D, x: str) -> str:
    return graph.add("InstanceNormalization", x, *_ones_and_zeros(graph, graph.channels), epsilon=1e-5)


def _ones_and_zeros(graph: Graph, count: int) -> List[str]:
    """The scale and the shift of a normalization that has none."""
    return [graph.constant([number] * count, f"{name}_{count}") for name, number in (("ones", 1), ("zeros", 0))]


def _batch_norm(graph: Graph, layer: BatchNorm2D, x: str) -> str:
    """With the statistics of each image, or with the running ones."""
    weights = _weights(graph, layer)
    if layer.own_statistics_in_evaluation:
        return graph.add("InstanceNormalization", x, *weights, epsilon=layer.eps)
    running = (graph.weight(name, getattr(layer, name)) for name in ("running_mean", "running_var"))
    return graph.add("BatchNormalization", x, *weights, *running, epsilon=layer.eps)


def _group_norm(graph: Graph, layer: GroupNorm, x: str) -> str:
    """As instance normalization of each group's maps laid one behind the other."""
    channels = layer.weight.shape[0]
    if layer.groups == channels:
        return graph.add("InstanceNormalization", x, *_weights(graph, layer), epsilon=layer.eps)
    groups = graph.add("Reshape", x, graph.constant([0, layer.groups, -1]))
    groups = graph.add("InstanceNormalization", groups, *_ones_and_zeros(graph, layer.groups), epsilon=layer.eps)
    x = graph.add("Reshape", groups, graph.add("Shape", x))
    scale, shift = (graph.weight(name, getattr(layer, name).reshape([-1, 1, 1])) for name in ("weight", "bias"))
    return graph.add("Add", graph.add("Mul", x, scale), shift)


def _iln(graph: Graph, layer: ILN, x: str) -> str:
    return _adalin(graph, layer, x, graph.weight("gamma", layer.gamma), graph.weight("beta", layer.beta))


def _adalin(graph: Graph, layer: Union[AdaLIN, ILN], x: str, gamma: str, beta: str) -> str:
    """As the fast form of `ops.adalin`: one scale and one shift of each map, here of its distance from its mean."""
    rho, one, eps = graph.weight("rho", layer.rho), graph.constant(1, "one"), graph.constant(layer.eps, f"epsilon_{layer.eps}")
    pixels = graph.add("Cast", graph.add("ReduceProd", graph.add("Shape", x, start=2, end=4), axes=[0]), to=TensorProto.FLOAT)
    values = graph.add("Mul", pixels, graph.constant(graph.channels, f"channels_{graph.channels}"))

    def squared(value: str) -> str:
        return graph.add("Mul", value, value)

    def inverse_deviation(variance: str, count: str) -> str:
        unbiased = graph.add("Div", graph.add("Mul", variance, count), graph.add("Sub", count, one))
        return graph.add("Reciprocal", graph.add("Sqrt", graph.add("Add", unbiased, eps)))

    mean = graph.add("ReduceMean", x, axes=[2, 3])
    centred = graph.add("Sub", x, mean)
    variance = graph.add("ReduceMean", squared(centred), axes=[2, 3])
    # Of all pixels of an image: the mean of the maps' variances plus the variance of their means.
    offset = graph.add("Sub", mean, graph.add("ReduceMean", mean, axes=[1]))
    variance_L = graph.add("ReduceMean", graph.add("Add", variance, squared(offset)), axes=[1])

    scale_I = graph.add("Mul", rho, inverse_deviation(variance, pixels))
    scale_L = graph.add("Mul", graph.add("Sub", one, rho), inverse_deviation(variance_L, values))
    scale = graph.add("Mul", gamma, graph.add("Add", scale_I, scale_L))
    shift = graph.add("Add", graph.add("Mul", gamma, graph.add("Mul", scale_L, offset)), beta)
    return graph.add("Add", graph.add("Mul", centred, scale), shift)


# Blocks and networks


def _sequence(graph: Graph, layer: nn.Sequential, x: str) -> str:
    for name, child in layer.named_children():
        x = graph.child(name, child, x)
    return x


def _residual(graph: Graph, layer: Union[ResnetBlock, CycleGANBlock], x: str) -> str:
    return graph.add("Add", x, graph.child("conv_block", layer.conv_block, x))


def _adalin_block(graph: Graph, layer: ResnetAdaLINBlock, x: str, *style: str) -> str:
    out = graph.child("norm1", layer.norm1, graph.child("conv1", layer.conv1, x), *style)
    out = graph.child("conv2", layer.conv2, graph.add("Relu", out))
    return graph.add("Add", x, graph.child("norm2", layer.norm2, out, *style))


def _cam(graph: Graph, layer: CAM, x: str) -> str:
    """The features; the classifiers' weights are multiplied into the kernel of the 1x1 convolution."""
    channels = layer.conv1x1.weight.shape[0]
    attention = np.stack([layer.gap_fc.weight.numpy().flatten(), layer.gmp_fc.weight.numpy().flatten()])
    kernel = (layer.conv1x1.weight.numpy().reshape(channels, 2, channels) * attention).sum(1)
    weights = graph.weight("weight", kernel[:, :, None, None]), graph.weight("bias", layer.conv1x1.bias)
    return graph.child("activation", layer.activation, graph.add("Conv", x, *weights, kernel_shape=[1, 1]))


def _resnet_generator(graph: Graph, network: ResnetGenerator, x: str) -> str:
    x = graph.child("DownBlock", network.DownBlock, x)
    if network.cam is not None:
        x = graph.child("cam", network.cam, x)
        graph.outputs[HEATMAP] = graph.add("ReduceSum", x, graph.constant([1]))
    style = []
    if network.FC is not None:
        pooled = graph.add("GlobalAveragePool", x) if network.light else x
        features = graph.child("FC", network.FC, graph.add("Flatten", pooled))
        for name, layer in (("gamma", network.gamma), ("beta", network.beta)):
            style.append(graph.add("Unsqueeze", graph.child(name, layer, features), graph.constant([2, 3])))
    for index, block in enumerate(network.UpBlock1):
        x = graph.child(f"UpBlock1.{index}", block, x, *style)
    return graph.child("UpBlock2", network.UpBlock2, x)


def _cyclegan_generator(graph: Graph, network: CycleGANGenerator, x: str) -> str:
    return graph.child("model", network.model, x)


def _unet_generator(graph: Graph, network: UnetGenerator, x: str) -> str:
    maps = []
    for index, layer in enumerate(network.down):
        x = graph.child(f"down.{index}", layer, x)
        maps.append(x)
    maps.pop()
    for index in reversed(range(len(network.up))):
        x = graph.child(f"up.{index}", network.up[index], x)
        if index:
            skipped = maps.pop()
            x = graph.add("Concat", skipped, x, axis=1) if network.skip else x
    return x


WRITERS: Dict[type, Callable[..., str]] = {
    ResnetGenerator: _resnet_generator,
    CycleGANGenerator: _cyclegan_generator,
    UnetGenerator: _unet_generator,
    ResnetBlock: _residual,
    CycleGANBlock: _residual,
    ResnetAdaLINBlock: _adalin_block,
    CAM: _cam,
    nn.Sequential: _sequence,
    Conv2D: _conv2d,
    TransposedConv2D: _transposed_conv2d,
    UpsampleConv2D: _upsample_conv2d,
    Linear: _linear,
    InstanceNorm2D: _instance_norm,
    BatchNorm2D: _batch_norm,
    GroupNorm: _group_norm,
    AdaLIN: _adalin,
    ILN: _iln,
    nn.ReLU: lambda graph, layer, x: graph.add("Relu", x),
    nn.LeakyReLU: lambda graph, layer, x: graph.add("LeakyRelu", x, alpha=layer._negative_slope),
    nn.Tanh: lambda graph, layer, x: graph.add("Tanh", x),
    # Dropout is left out: a deployed generator gives one answer.
    Dropout: lambda graph, layer, x: x,
    nn.Identity: lambda graph, layer, x: x,
}
