"""Read the arrays that `paddle.save` wrote (.pdparams), a pickle of NumPy's arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional, TypeVar

import numpy as np

from errors import WeightsError
from foreign.unpickler import ORDERED_DICT, Arrays, Budget, Call, Unpickler, mapped, one_line_errors, states_of

# Paddle's own entry: which parameter of its program each name stands for.
PADDLE_NAMES = "StructuredToParameterName@@"
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
BYTE_ORDERS = ("<", ">", "|", "=")
ARRAYS = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
TUPLES = {"builtins.tuple", "__builtin__.tuple"}
# Protocol 2 writes bytes as text to be encoded.
NAMES = {*ARRAYS, *TUPLES, "numpy.ndarray", "numpy.dtype", ORDERED_DICT, "_codecs.encode", "__builtin__.bytes"}
Result = TypeVar("Result")


def read_state(path: Path) -> Arrays:
    """The arrays of a state dict that `paddle.save` wrote, by name; they may be read-only.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds anything but arrays by name.
    """
    return _read(path, _flat)


def read_states(path: Path) -> Dict[str, Arrays]:
    """The arrays of several networks as PaddleGAN saves them, by network and name; those at the top under the network "".

    What is not an array is left out.

    Raises:
        WeightsError: the file cannot be read, is damaged, or is no dict.
    """
    return _read(path, lambda saved, budget: states_of(saved, lambda value: _array(value, budget)))


def _read(path: Path, arrays_of: Callable[[Any, Budget], Result]) -> Result:
    with one_line_errors(path, "arrays by name from paddle.save", "download the published file again"):
        content = mapped(path)
        return arrays_of(Unpickler(content, NAMES).load(), Budget(len(content)))


def _flat(saved: Any, budget: Budget) -> Arrays:
    arrays: Arrays = {}
    for name, value in saved.items():
        if name != PADDLE_NAMES:
            arrays[name] = _array(value, budget)
            if arrays[name] is None:
                raise WeightsError(f"its entry {str(name)[:80]!r} is not an array of numbers")
    return arrays


def _array(value: Any, budget: Budget) -> Optional[np.ndarray]:
    """The array that a record describes, None where it describes none."""
    if isinstance(value, Call) and value.name in TUPLES:
        value = value.arguments[0]
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]  # some versions save a tensor as (its name, its array)
    if not isinstance(value, Call) or value.name not in ARRAYS:
        return None
    _, shape, dtype, is_fortran, content = value.state
    byte_order, number = dtype.state[1], dtype.arguments[0]
    if byte_order not in BYTE_ORDERS or number not in NUMBERS:
        return None
    if isinstance(content, Call):  # bytes of protocol 2
        content = content.arguments[0].encode("latin-1") if content.arguments else b""
    array = np.ndarray(shape, byte_order + number, memoryview(content), order="F" if is_fortran else "C")
    if array.nbytes != len(content):
        raise ValueError("shape and content differ")
    budget.spend(array.nbytes)
    return array
