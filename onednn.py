"""oneDNN through its C interface: Paddle's wheel ships the library, and its dynamic graph does not use it.

Here it permutes the axes of float32 tensors on the CPU, some fifty times as fast as Paddle, and convolves in float32 and bfloat16
(docs/speed.md). All tensors are plain float32 ones; layouts and types of oneDNN's own live within a call. Where the wheel has no
oneDNN (ARM), or USE_ONEDNN=0 is set in the environment, `available` is False and nothing is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import weakref
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle import Tensor
from paddle.autograd import PyLayer

LIBRARY = Path(paddle.__file__).parent / "libs" / "libdnnl.so.3"
SWITCH = "USE_ONEDNN"

# Constants of dnnl_types.h, the same in every oneDNN 3.
CPU, DEFAULT_STREAM, ANY_LAYOUT = 1, 1, 1
BFLOAT16, FLOAT32 = 2, 3
FORWARD_TRAINING, DIRECT_CONVOLUTION = 64, 1
FROM, TO = 1, 17
SOURCE, DESTINATION, WEIGHTS = 1, 17, 33
GRADIENT = 128  # added to one of these three
# What dnnl_primitive_desc_query_md answers for each of them.
LAYOUT_OF = {
    SOURCE: 129,
    SOURCE + GRADIENT: 130,
    WEIGHTS: 131,
    WEIGHTS + GRADIENT: 132,
    DESTINATION: 133,
    DESTINATION + GRADIENT: 134,
}
MOST_DIMS = 12
ALIGNMENT = 64

_Handle = ctypes.c_void_p
_Dims = ctypes.c_int64 * MOST_DIMS
_Argument = type("_Argument", (ctypes.Structure,), {"_fields_": [("name", ctypes.c_int), ("memory", _Handle)]})


class _Library:
    """The library with its engine and stream.

    Whoever runs something holds `lock`: primitives and the scratch memory, which is as large as the most that a computation has
    needed, serve one thread at a time.
    """

    def __init__(self) -> None:
        self.functions = ctypes.CDLL(str(LIBRARY))
        self.functions.dnnl_primitive_desc_query_md.restype = _Handle
        self.functions.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
        self.lock = threading.Lock()
        self._scratch = np.empty(0, np.uint8)
        self.engine = self.make("engine_create", ctypes.c_int(CPU), ctypes.c_size_t(0))
        self.stream = self.make("stream_create", self.engine, ctypes.c_uint(DEFAULT_STREAM))

    def call(self, name: str, *arguments) -> None:
        """Call dnnl_NAME. Raises RuntimeError where it gives an error, as for a type that the processor does not have."""
        status = getattr(self.functions, f"dnnl_{name}")(*arguments)
        if status:
            raise RuntimeError(f"oneDNN: dnnl_{name} gave status {status}")

    def make(self, name: str, *arguments) -> _Handle:
        """What dnnl_NAME creates."""
        made = _Handle()
        self.call(name, ctypes.byref(made), *arguments)
        return made

    def scratch(self, sizes: Mapping[int, int]) -> Dict[int, int]:
        """Addresses of memory of these sizes in bytes, aligned, until the next call."""
        starts, end = {}, 0
        for name, size in sizes.items():
            starts[name] = end
            end += -(-size // ALIGNMENT) * ALIGNMENT
        if end + ALIGNMENT > len(self._scratch):
            self._scratch = np.empty(end + ALIGNMENT, np.uint8)
        first = -(-self._scratch.ctypes.data // ALIGNMENT) * ALIGNMENT
        return {name: first + start for name, start in starts.items()}


_library = functools.lru_cache(maxsize=None)(_Library)


@functools.lru_cache(maxsize=None)
def available() -> bool:
    """Whether the library is there, can be loaded, and is not switched off."""
    if os.environ.get(SWITCH) == "0" or not LIBRARY.exists():
        return False
    with contextlib.suppress(OSError, AttributeError, RuntimeError):
        _library()
        return True
    return False


def permute(x: Tensor, shape: Sequence[int], order: Sequence[int], result: Sequence[int]) -> Tensor:
    """x.reshape(shape).transpose(order).reshape(result), without a gradient."""
    if x.dtype != paddle.float32 or not available():
        return x.reshape(shape).transpose(order).reshape(result)
    x, out = x.contiguous(), paddle.empty(result, x.dtype)
    permutation = _permutation(tuple(shape), tuple(order))
    with _library().lock:
        permutation.run({FROM: _address(x), TO: _address(out)})
    return out


def conv2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, bfloat16: bool = False) -> Tensor:
    """Convolution with zero padding, in float32 or, where `has_bfloat16`, in bfloat16; differentiable by `backward`, once.

    x (N, C, H, W), weight (O, C, k, k), float32. In bfloat16 all but the weights' gradient are rounded to it and summed in float32.
    """
    return _Differentiable.apply(x, weight, _convolution(tuple(x.shape), tuple(weight.shape), stride, padding, bfloat16), False)


def conv2d_transpose(x: Tensor, weight: Tensor, stride: int, padding: int, output_padding: int, bfloat16: bool = False) -> Tensor:
    """Transposed convolution: the gradient of a convolution's input. x (N, C, H, W), weight (C, O, k, k); see `conv2d`."""
    batch, _, *sides = x.shape
    _, out_channels, kernel, _ = weight.shape
    sides = [(side - 1) * stride + kernel - 2 * padding + output_padding for side in sides]
    convolution = _convolution((batch, out_channels, *sides), tuple(weight.shape), stride, padding, bfloat16)
    return _Differentiable.apply(x, weight, convolution, True)


@functools.lru_cache(maxsize=None)
def has_bfloat16() -> bool:
    """Whether the library convolves in bfloat16 on this processor."""
    if not available():
        return False
    with contextlib.suppress(RuntimeError):
        _Convolution((1, 16, 8, 8), (16, 16, 3, 3), 1, 1, bfloat16=True)
        return True
    return False


class _Differentiable(PyLayer):
    """A convolution, or its gradient of the input, which is a transposed convolution."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, convolution: _Convolution, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.convolution, ctx.transposed = convolution, transposed
        ctx.need_gradient = (not x.stop_gradient, not weight.stop_gradient)
        return (convolution.gradient_of_x if transposed else convolution.forward)(x, weight)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tuple[Optional[Tensor], Optional[Tensor]]:
        (x, weight), convolution = ctx.saved_tensor(), ctx.convolution
        x_gradient = weight_gradient = None
        if ctx.need_gradient[0]:
            x_gradient = (convolution.forward if ctx.transposed else convolution.gradient_of_x)(gradient, weight)
        if ctx.need_gradient[1]:
            weight_gradient = convolution.gradient_of_weight(*((gradient, x) if ctx.transposed else (x, gradient)))
        return x_gradient, weight_gradient


def _address(x: Tensor) -> int:
    """Where a contiguous tensor begins. Raises ValueError where C could not read it as float32."""
    if x.dtype != paddle.float32 or not x.place.is_cpu_place():
        raise ValueError(f"oneDNN takes float32 tensors on the CPU, not {x.dtype} on {x.place}")
    return x.data_ptr()


class _Primitive:
    """Something that oneDNN does with memory: `make` describes it, `memories` are its arguments by name.

    What was made is given back when Python forgets the object, but not at the end of the process, where the library may have gone
    before.
    """

    def __init__(self, description: _Handle, layouts: Mapping[int, _Handle], owned: Sequence[_Handle] = ()) -> None:
        library = _library()
        self.memories = {name: library.make("memory_create", layout, library.engine, None) for name, layout in layouts.items()}
        self.primitive = library.make("primitive_create", description)
        arguments = [_Argument(name, memory) for name, memory in self.memories.items()]
        self.arguments = (_Argument * len(arguments))(*arguments)
        made = [("primitive", self.primitive), ("primitive_desc", description)]
        made += [("memory", memory) for memory in self.memories.values()] + [("memory_desc", layout) for layout in owned]
        weakref.finalize(self, _destroy, library, made).atexit = False

    def run(self, addresses: Mapping[int, int]) -> None:
        """Run on memory at these addresses, by argument; the caller holds the lock."""
        library = _library()
        for name, memory in self.memories.items():
            library.call("memory_set_data_handle", memory, _Handle(addresses[name]))
        library.call("primitive_execute", self.primitive, library.stream, len(self.arguments), self.arguments)


def _destroy(library: _Library, made: List[Tuple[str, _Handle]]) -> None:
    for kind, handle in made:
        library.call(f"{kind}_destroy", handle)


def _layout(shape: Sequence[int], strides: Optional[Sequence[int]] = None) -> _Handle:
    """A float32 layout, dense or with the strides given."""
    dims, strides = _Dims(*shape), _Dims(*(strides or _strides(shape)))
    return _library().make("memory_desc_create_with_strides", len(shape), dims, FLOAT32, strides)


def _reorder(source: _Handle, target: _Handle, owned: Sequence[_Handle] = ()) -> _Primitive:
    library = _library()
    description = library.make("reorder_primitive_desc_create", source, library.engine, target, library.engine, None)
    return _Primitive(description, {FROM: source, TO: target}, owned)


def _permutation(shape: Tuple[int, ...], order: Tuple[int, ...]) -> _Primitive:
    """A copy between two memory layouts of the same axes."""
    strides = [0] * len(shape)
    for axis, stride in zip(order, _strides([shape[axis] for axis in order])):
        strides[axis] = stride
    layouts = (_layout(shape), _layout(shape, strides))
    return _reorder(*layouts, owned=layouts)


class _Computation:
    """A primitive between dense tensors: brings its inputs into the layouts and types that it prefers, and its output back."""

    def __init__(self, description: _Handle, inputs: Sequence[int], output: int, dense: Mapping[int, _Handle]) -> None:
        functions = _library().functions
        preferred: Dict[int, _Handle] = {}
        self.reorders: Dict[int, _Primitive] = {}
        self.bytes: Dict[int, int] = {}
        for name in (*inputs, output):
            preferred[name] = own = _Handle(functions.dnnl_primitive_desc_query_md(description, LAYOUT_OF[name], 0))
            plain = dense[name % GRADIENT]
            if not functions.dnnl_memory_desc_equal(own, plain):
                self.reorders[name] = _reorder(own, plain) if name == output else _reorder(plain, own)
                self.bytes[name] = functions.dnnl_memory_desc_get_size(own)
        self.inputs, self.output = inputs, output
        self.primitive = _Primitive(description, preferred)

    def run(self, inputs: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        inputs, out = [tensor.contiguous() for tensor in inputs], paddle.empty(shape, "float32")
        dense = {name: _address(tensor) for name, tensor in zip((*self.inputs, self.output), (*inputs, out))}
        library = _library()
        with library.lock:
            own = {**dense, **library.scratch(self.bytes)}
            for name in self.inputs:
                if name in self.reorders:
                    self.reorders[name].run({FROM: dense[name], TO: own[name]})
            self.primitive.run(own)
            if self.output in self.reorders:
                self.reorders[self.output].run({FROM: own[self.output], TO: dense[self.output]})
        return out


class _Convolution:
    """Convolution with zero padding of one shape, and its gradients. x (N, C, H, W), weight (O, C, k, k), out (N, O, H', W')."""

    def __init__(self, x: Tuple[int, ...], weight: Tuple[int, ...], stride: int, padding: int, bfloat16: bool) -> None:
        library = _library()
        self.x, self.weight = x, weight
        sides = [(side + 2 * padding - weight[2]) // stride + 1 for side in x[2:]]
        self.out = (x[0], weight[0], *sides)
        shapes = {SOURCE: self.x, WEIGHTS: self.weight, DESTINATION: self.out}
        dense = {name: _layout(shape) for name, shape in shapes.items()}

        def any_layout(name: int, dtype: int = BFLOAT16 if bfloat16 else FLOAT32) -> _Handle:
            shape = shapes[name]
            return library.make("memory_desc_create_with_tag", len(shape), _Dims(*shape), dtype, ANY_LAYOUT)

        # Lower and upper padding, of which the last is what the stride leaves over.
        over = [stride * (out - 1) + weight[2] - side - padding for out, side in zip(sides, x[2:])]
        geometry = (_Dims(stride, stride), _Dims(0, 0), _Dims(padding, padding), _Dims(*over))
        maps, weights, result = any_layout(SOURCE), any_layout(WEIGHTS), any_layout(DESTINATION)
        # The weights' gradient is not rounded.
        gradient = any_layout(WEIGHTS, FLOAT32)
        create = "convolution_{}_primitive_desc_create"
        forward = library.make(
            create.format("forward"),
            *(library.engine, FORWARD_TRAINING, DIRECT_CONVOLUTION, maps, weights, None, result, *geometry, None),
        )
        of_x = library.make(
            create.format("backward_data"),
            *(library.engine, DIRECT_CONVOLUTION, maps, weights, result, *geometry, forward, None),
        )
        of_weight = library.make(
            create.format("backward_weights"),
            *(library.engine, DIRECT_CONVOLUTION, maps, gradient, None, result, *geometry, forward, None),
        )
        self._forward = _Computation(forward, (SOURCE, WEIGHTS), DESTINATION, dense)
        self._of_x = _Computation(of_x, (DESTINATION + GRADIENT, WEIGHTS), SOURCE + GRADIENT, dense)
        self._of_weight = _Computation(of_weight, (SOURCE, DESTINATION + GRADIENT), WEIGHTS + GRADIENT, dense)
        layouts = [*dense.values(), maps, weights, result, gradient]
        weakref.finalize(self, _destroy, library, [("memory_desc", layout) for layout in layouts]).atexit = False

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._forward.run((x, weight), self.out)

    def gradient_of_x(self, gradient: Tensor, weight: Tensor) -> Tensor:
        return self._of_x.run((gradient, weight), self.x)

    def gradient_of_weight(self, x: Tensor, gradient: Tensor) -> Tensor:
        return self._of_weight.run((x, gradient), self.weight)


# More than the shapes of any run; those of a long line of image sizes replace each other.
_permutation = functools.lru_cache(maxsize=1024)(_permutation)
_convolution = functools.lru_cache(maxsize=256)(_Convolution)


def _strides(shape: Sequence[int]) -> List[int]:
    """Those of a dense array, last axis first."""
    strides, stride = [], 1
    for length in reversed(shape):
        strides.append(stride)
        stride *= length
    return strides[::-1]


def _forget() -> None:
    """A forked process makes everything anew: it inherits locks that other threads may hold."""
    for cached in (_library, _permutation, _convolution, available, has_bfloat16):
        cached.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

# Loaded now, before there are threads that could load it twice.
available()
