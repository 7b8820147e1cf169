"""What computes a translation, each behind the same call.

An engine's library is imported when the engine is made: without Paddle for exported ONNX files.
"""

from __future__ import annotations

import contextlib
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, NamedTuple, Optional, Protocol, Sequence, Union

import numpy as np

from deploy.facts import IMAGE, ModelFacts
from engine.cpu import configure_cpu, thread_count
from errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from paddle import nn

INSTALL = "pip install onnx onnxruntime openvino"
# The fastest first (docs/deploy.md).
FOR_NETWORKS = ("onnxruntime", "openvino", "network", "paddle")
# Those that compute in half precision.
HALF = ("openvino", "network")
# A graph of more takes longer to make than it saves, and several times the memory: the full version of U-GAT-IT from 256x256 on.
MOST_WEIGHTS = 10**8


class Output(NamedTuple):
    """Translated images (N, C, H, W) float32 in [-1, 1], and heat maps (N, 1, h, w) of any range where the model has a CAM."""

    image: np.ndarray
    heatmap: Optional[np.ndarray]


class Engine(Protocol):
    """What `engine_of` and `open_exported` give; `name` is what --engine calls it."""

    name: str

    def run(self, images: np.ndarray) -> Output:
        """Translate images (N, C, H, W) float32 in [-1, 1]."""


def _output(arrays: Sequence[np.ndarray]) -> Output:
    return Output(arrays[0], arrays[1] if len(arrays) > 1 else None)


class NetworkEngine:
    """The network itself, in evaluation mode, on its own device.

    Args:
        amp: half precision, as `engine.precision` has it: on a CPU bf16 alone, for the convolutions.
    """

    name = "network"

    def __init__(self, network: nn.Layer, amp: Optional[str] = None) -> None:
        from engine.precision import Precision

        self._network, self._precision = network, Precision(amp)
        self._convolution_type = "bfloat16" if amp == "bf16" else "float32"

    def run(self, images: np.ndarray) -> Output:
        import paddle

        import ops

        with paddle.no_grad(), self._precision.forward(), ops.convolving_in(self._convolution_type):
            output = self._network(paddle.to_tensor(images))
        if isinstance(output, paddle.Tensor):
            return Output(output.numpy(), None)
        return Output(output.image.numpy(), None if output.heatmap is None else output.heatmap.numpy())


class OnnxRuntimeEngine:
    """An ONNX model, as a file or as its content, in ONNX Runtime on the CPU. Raises WeightsError where it cannot be read."""

    name = "onnxruntime"

    def __init__(self, model: Union[Path, bytes]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.log_severity_level = 3
        # Threads that wait in a loop would take time from those that read and write pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = model if isinstance(model, bytes) else str(model)
        with _named(model, self.name):
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    @property
    def metadata(self) -> Dict[str, str]:
        return self._session.get_modelmeta().custom_metadata_map

    def run(self, images: np.ndarray) -> Output:
        return _output(self._session.run(None, {IMAGE: images}))


class OpenVinoEngine:
    """An ONNX model, as a file or as its content, in OpenVINO on the CPU. Raises WeightsError where it cannot be read.

    Args:
        amp: bf16, or None for float32.
    """

    name = "openvino"

    def __init__(self, model: Union[Path, bytes], amp: Optional[str] = None) -> None:
        import openvino

        # By itself it would compute in bfloat16 wherever the processor can.
        settings = {"INFERENCE_NUM_THREADS": thread_count(), "INFERENCE_PRECISION_HINT": "bf16" if amp else "f32"}
        core = openvino.Core()
        with _named(model, self.name):
            self._model = core.read_model(model)
            self._request = core.compile_model(self._model, "CPU", settings).create_infer_request()

    @property
    def metadata(self) -> Dict[str, str]:
        found = self._model.get_rt_info()
        return {name: value.value for name, value in found["framework"].items()} if "framework" in found else {}

    def run(self, images: np.ndarray) -> Output:
        return _output(list(self._request.infer({IMAGE: images}).values()))


class PaddleEngine:
    """PROGRAM.json, with PROGRAM.pdiparams beside it, in Paddle Inference on the CPU. Raises WeightsError as the others."""

    name = "paddle"

    def __init__(self, program: Path) -> None:
        configure_cpu()
        from paddle import inference

        config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
        config.disable_glog_info()
        # Its oneDNN does not take the upsampling layers.
        config.disable_mkldnn()
        config.set_cpu_math_library_num_threads(thread_count())
        with _named(program, self.name):
            self._predictor = inference.create_predictor(config)

    def run(self, images: np.ndarray) -> Output:
        predictor = self._predictor
        image = predictor.get_input_handle(IMAGE)
        image.reshape(images.shape)
        image.copy_from_cpu(np.ascontiguousarray(images))
        predictor.run()
        return _output([predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()])


@contextlib.contextmanager
def _named(model: Union[Path, bytes], engine: str) -> Iterator[None]:
    """Within it, whatever a library raises about a file becomes a WeightsError that names it."""
    try:
        yield
    except Exception as error:
        if isinstance(model, bytes):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{model}: {engine} cannot read it ({reason}); export the model again") from error


# Choosing


def engine_of(generator: nn.Layer, facts: ModelFacts, name: str = "auto", amp: Optional[str] = None) -> Engine:
    """An engine for a generator in evaluation mode.

    Args:
        name: what --engine says; auto takes the fastest that is installed, and the network itself on a GPU or if it is very large.
        amp: half precision of the network or of OpenVINO, which the device must have (`engine.precision.refuse_amp`).

    Raises:
        ConfigError: the engine is not installed, or does not compute in `amp`.
    """
    import paddle

    very_large = sum(value.size for value in generator.parameters()) > MOST_WEIGHTS
    as_it_is = name == "auto" and (very_large or paddle.device.get_device().startswith("gpu"))
    chosen = "network" if as_it_is else choose_engine(name, FOR_NETWORKS, amp, "onnx")
    if chosen == "network":
        return NetworkEngine(generator, amp)
    if chosen == "paddle":
        from deploy.paddle_program import save_program

        with tempfile.TemporaryDirectory() as folder:
            return PaddleEngine(save_program(generator, Path(folder) / facts.direction, facts.has_heatmap))
    from deploy.onnx_graph import to_onnx

    model = to_onnx(generator, {}, facts.has_heatmap, with_winograd=chosen == "onnxruntime").SerializeToString()
    return OnnxRuntimeEngine(model) if chosen == "onnxruntime" else OpenVinoEngine(model, amp)


def choose_engine(name: str, able: Sequence[str], amp: Optional[str] = None, *packages: str) -> str:
    """The engine to use out of those that are able, the best first.

    Args:
        packages: what ONNX Runtime and OpenVINO need beside themselves.

    Raises:
        ConfigError: `name` is not one of them, is not installed, or does not compute in `amp`.
    """
    if name not in ("auto", *able):
        raise ConfigError(f"--engine {name}: this model runs in {' or '.join(able)}")
    in_half = [engine for engine in able if engine in HALF] if amp else able
    if name == "auto":
        name = next((engine for engine in in_half if is_installed(engine, *packages)), (*in_half, *able)[0])
    if amp and name not in HALF:
        raise ConfigError(f"--amp {amp}: the engine {name} computes in float32 alone: leave out --amp, or use --engine openvino")
    if not is_installed(name, *packages):
        raise ConfigError(f"--engine {name} needs the packages {' and '.join((name, *packages))}: {INSTALL}")
    return name


def is_installed(engine: str, *packages: str) -> bool:
    """Whether ONNX Runtime or OpenVINO is there, with `packages`; the other engines always are."""
    return engine in ("network", "paddle") or all(find_spec(package) for package in (engine, *packages))
