"""oneDNN through its C interface: Paddle's wheel ships the library, and its dynamic graph does not use it.

Here it permutes the axes of float32 tensors on the CPU, some fifty times as fast as Paddle (docs/speed.md). Where the wheel has no
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
from typing import List, Sequence, Tuple

import paddle
from paddle import Tensor

LIBRARY = Path(paddle.__file__).parent / "libs" / "libdnnl.so.3"
SWITCH = "USE_ONEDNN"

# Constants of dnnl_types.h, the same in every oneDNN 3.
CPU, DEFAULT_STREAM, FLOAT32 = 1, 1, 3
FROM, TO = 1, 17
MOST_DIMS = 12

_Handle = ctypes.c_void_p
_Dims = ctypes.c_int64 * MOST_DIMS
_Argument = type("_Argument", (ctypes.Structure,), {"_fields_": [("name", ctypes.c_int), ("memory", _Handle)]})


class _Library:
    """The library with its engine and stream, and the lock that one primitive at a time runs under."""

    def __init__(self) -> None:
        self.functions = ctypes.CDLL(str(LIBRARY))
        self.lock = threading.Lock()
        self.engine = self.make("engine_create", ctypes.c_int(CPU), ctypes.c_size_t(0))
        self.stream = self.make("stream_create", self.engine, ctypes.c_uint(DEFAULT_STREAM))

    def call(self, name: str, *arguments) -> None:
        """Call dnnl_NAME. Raises RuntimeError where it gives an error: what we ask for is always supported."""
        status = getattr(self.functions, f"dnnl_{name}")(*arguments)
        if status:
            raise RuntimeError(f"oneDNN: dnnl_{name} gave status {status}")

    def make(self, name: str, *arguments) -> _Handle:
        """What dnnl_NAME creates."""
        made = _Handle()
        self.call(name, ctypes.byref(made), *arguments)
        return made


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
    out = paddle.empty(result, x.dtype)
    _permutation(tuple(shape), tuple(order)).run(x.contiguous(), out)
    return out


class _Permutation:
    """A copy between two memory layouts of the same axes (a "reorder")."""

    def __init__(self, shape: Tuple[int, ...], order: Tuple[int, ...]) -> None:
        library = _library()
        strides = [0] * len(shape)
        for axis, stride in zip(order, _strides([shape[axis] for axis in order])):
            strides[axis] = stride
        layouts = [
            library.make("memory_desc_create_with_strides", len(shape), _Dims(*shape), FLOAT32, _Dims(*layout))
            for layout in (_strides(shape), strides)
        ]
        self.memories = [library.make("memory_create", layout, library.engine, None) for layout in layouts]
        description = library.make("reorder_primitive_desc_create", layouts[0], library.engine, layouts[1], library.engine, None)
        self.primitive = library.make("primitive_create", description)
        self.arguments = (_Argument * 2)(_Argument(FROM, self.memories[0]), _Argument(TO, self.memories[1]))
        made = [("primitive", self.primitive), ("primitive_desc", description)]
        made += [("memory", memory) for memory in self.memories] + [("memory_desc", layout) for layout in layouts]
        # Not at the end of the process, where the library may have gone before.
        weakref.finalize(self, _destroy, library, made).atexit = False

    def run(self, source: Tensor, target: Tensor) -> None:
        library = _library()
        with library.lock:
            for memory, tensor in zip(self.memories, (source, target)):
                library.call("memory_set_data_handle", memory, _Handle(tensor.data_ptr()))
            library.call("primitive_execute", self.primitive, library.stream, 2, self.arguments)


def _destroy(library: _Library, made: List[Tuple[str, _Handle]]) -> None:
    for kind, handle in made:
        library.call(f"{kind}_destroy", handle)


# More than the shapes of any run; those of a long line of image sizes replace each other.
_permutation = functools.lru_cache(maxsize=1024)(_Permutation)


def _strides(shape: Sequence[int]) -> List[int]:
    """Those of a dense array, last axis first."""
    strides, stride = [], 1
    for length in reversed(shape):
        strides.append(stride)
        stride *= length
    return strides[::-1]


def _forget() -> None:
    """A forked process makes everything anew: it inherits locks that other threads may hold."""
    for cached in (_library, _permutation):
        cached.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
