"""Read the arrays that `paddle.save` wrote (.pdparams) without letting the file run anything.

Such a file is a pickle, a program that can import and call what it likes. Python's own unpickler reads it here, with only the
instructions that weights need. A name becomes text and is not imported; a call becomes a record of what was asked for. The records
of arrays are then turned into arrays, which together cannot be larger than the file.

This is the unpickler in Python, `pickle._Unpickler`, as joblib uses it too: the one in C makes calls by itself, and reserves
gigabytes where a file asks for a distant place in its memo.
"""

from __future__ import annotations

import io
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict

import numpy as np

from errors import WeightsError

# Paddle's own entry: which parameter of its program each name stands for.
PADDLE_NAMES = "StructuredToParameterName@@"
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
BYTE_ORDERS = ("<", ">", "|", "=")
ARRAYS = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
TUPLES = {"builtins.tuple", "__builtin__.tuple"}
# Protocol 2 writes bytes as text to be encoded.
NAMES = {*ARRAYS, *TUPLES, "numpy.ndarray", "numpy.dtype", "collections.OrderedDict", "_codecs.encode", "__builtin__.bytes"}
# The instructions of protocols 2 to 4 for text, bytes, integers, dicts, tuples and calls.
INSTRUCTIONS = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.BINUNICODE, pickle.SHORT_BINUNICODE),
    *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET),
)
# What a damaged file ends in, and an unknown instruction.
DAMAGES = (pickle.UnpicklingError, struct.error, EOFError, ValueError, TypeError, AttributeError, LookupError, MemoryError)


@dataclass
class _Call:
    """That the file calls `name` with `arguments`, and then gives the result its `state`."""

    name: str
    arguments: tuple
    state: Any = None


class _ByName(dict):
    """Keys are text: hashing a tuple of tuples, thousands deep, would crash Python."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError("a key that is not text")
        super().__setitem__(key, value)


class _Unpickler(pickle._Unpickler):
    """Builds text, bytes, integers, tuples, dicts by name, and records of calls."""

    def find_class(self, module: str, name: str) -> str:
        if f"{module}.{name}" not in NAMES:
            raise WeightsError(f"names {f'{module}.{name}'[:80]!r}, which weights never need; nothing was run")
        return f"{module}.{name}"

    def load_empty_dict(self) -> None:
        self.append(_ByName())

    def load_reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str):
            raise TypeError("a call of what is not a name")
        self.append(_ByName() if name == "collections.OrderedDict" else _Call(name, arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        self.stack[-1].state = state

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in INSTRUCTIONS}
    dispatch.update({pickle.EMPTY_DICT[0]: load_empty_dict, pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build})


def read_state(path: Path) -> Dict[str, np.ndarray]:
    """The arrays of a state dict that `paddle.save` wrote, by name; they may be read-only.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds anything but arrays by name.
    """
    try:
        content = Path(path).read_bytes()
        return _arrays(_Unpickler(io.BytesIO(content)).load(), most_bytes=len(content))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; download the published file again") from error
    except DAMAGES as error:
        raise WeightsError(f"{path}: damaged, or not arrays by name from paddle.save; download the published file again") from error


def _arrays(saved: Any, most_bytes: int) -> Dict[str, np.ndarray]:
    if not isinstance(saved, _ByName):
        raise TypeError("not a dict")
    arrays = {name: value for name, value in saved.items() if name != PADDLE_NAMES}
    for name, value in arrays.items():
        arrays[name] = _array(name, value)
        # In a real file each array has bytes of its own. Arrays that share them could fill the memory.
        most_bytes -= arrays[name].nbytes
        if most_bytes < 0:
            raise WeightsError("its arrays are larger than the file")
    return arrays


def _array(name: str, value: Any) -> np.ndarray:
    """The array that a record describes."""
    if isinstance(value, _Call) and value.name in TUPLES:
        value = value.arguments[0]
    if isinstance(value, tuple):
        _, value = value  # some versions save a tensor as (its name, its array)
    if not isinstance(value, _Call) or value.name not in ARRAYS:
        raise WeightsError(f"its entry {name[:80]!r} is not an array")
    _, shape, dtype, is_fortran, content = value.state
    byte_order, number = dtype.state[1], dtype.arguments[0]
    if byte_order not in BYTE_ORDERS or number not in NUMBERS:
        raise WeightsError(f"its entry {name[:80]!r} does not hold numbers")
    if isinstance(content, _Call):  # bytes of protocol 2
        content = content.arguments[0].encode("latin-1") if content.arguments else b""
    array = np.ndarray(shape, byte_order + number, memoryview(content), order="F" if is_fortran else "C")
    if array.nbytes != len(content):
        raise ValueError("shape and content differ")
    return array
