"""Read what `paddle.save` wrote (.pdparams) without unpickling it.

A pickle is a program that can import and call anything. Here its instructions are interpreted one by one; they may build dicts,
lists, tuples, text, bytes, numbers and NumPy arrays, and nothing else. What a file names is looked up in a table, never imported.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from pickletools import genops
from typing import Any, Callable, Dict, List

import numpy as np

from errors import WeightsError

# Paddle's own entry: which parameter of its program each name stands for.
PADDLE_NAMES = "StructuredToParameterName@@"
NUMBER_TYPE = re.compile(r"[fiu][1248]|b1")
REMEDY = "fetch the published file again"


def read_state(path: Path) -> Dict[str, np.ndarray]:
    """The arrays of a saved state dict, by name.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds anything but arrays by name.
    """
    saved = read_saved(path)
    if not isinstance(saved, dict):
        raise WeightsError(f"{path}: holds a {type(saved).__name__} and not arrays by name; {REMEDY}")
    state = {}
    for name, value in saved.items():
        if name == PADDLE_NAMES:
            continue
        # Some versions save a tensor as (its name, its array).
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            value = value[1]
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise WeightsError(f"{path}: its entry {str(name)[:80]!r} is not an array; {REMEDY}")
        state[name] = value
    return state


def read_saved(path: Path) -> Any:
    """What `paddle.save` was given, as plain Python values and arrays; a tensor at depth as (its name, its array).

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds something else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _Interpreter().run(content)
    except _Refused as error:
        raise WeightsError(f"{path}: {error}, which saved weights never do; nothing of it was run; {REMEDY}") from error
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, MemoryError) as error:
        raise WeightsError(f"{path}: truncated, damaged, or not saved by paddle.save; {REMEDY}") from error


class _Refused(Exception):
    """The pickle wants something that is not on the list; the text says what."""


class _Name:
    """A function or class that the pickle names. Only `CALLS` gives it a meaning."""

    def __init__(self, module: str, name: str) -> None:
        self.full = f"{module}.{name}"
        if self.full not in CALLS:
            raise _Refused(f"it names {self.full[:80]!r}")


class _NumberType:
    """A NumPy dtype. Its byte order comes later, as its state."""

    def __init__(self, code: str) -> None:
        if not NUMBER_TYPE.fullmatch(code):
            raise _Refused(f"it holds values of type {code[:20]!r}")
        self.dtype = np.dtype(code)

    def set_state(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _set_array(array: np.ndarray, state: tuple) -> None:
    """Give an array, empty until now, its shape, type and values."""
    _, shape, number_type, is_fortran, content = state
    content = content.encode("latin-1") if isinstance(content, str) else content  # how Python 2 wrote bytes
    dtype = number_type.dtype
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError("shape and content differ")
    array.__setstate__((1, shape, dtype, bool(is_fortran), content))


def _bytes(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"it encodes text as {encoding[:20]!r}")
    return text.encode("latin-1")


def _empty_array(*_: Any) -> np.ndarray:
    return np.zeros(0, np.float32)


# What a file may name, and what stands in for it.
CALLS: Dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy._core.multiarray._reconstruct": _empty_array,
    "numpy.ndarray": _empty_array,
    "numpy.dtype": lambda code, *_: _NumberType(code),
    "_codecs.encode": _bytes,
    "__builtin__.bytes": lambda: b"",  # protocol 2 knows no empty bytes
    "collections.OrderedDict": dict,
    "builtins.tuple": tuple,
    "__builtin__.tuple": tuple,
}
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}


class _Interpreter:
    """The pickle machine, as far as plain data needs it: a stack of values, and a memo of those that recur.

    The instructions are described in Python's `pickletools`.
    """

    def __init__(self) -> None:
        self.stack: List[Any] = []
        self.memo: Dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """What the pickle builds."""
        for opcode, argument, _ in genops(content):
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name in _VALUES:
                self.stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise _Refused(f"it uses the instruction {opcode.name}")
        raise ValueError("it does not end")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark in place of a value")
        return value

    def pop_to_mark(self) -> List[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def push_tuple(self, count: int) -> None:
        self.stack.append(tuple([self.pop() for _ in range(count)][::-1]))

    def update_dict(self, keys_and_values: List[Any]) -> None:
        self.of_kind(dict).update(zip(keys_and_values[::2], keys_and_values[1::2]))

    def of_kind(self, kind: Any) -> Any:
        """The top of the stack."""
        if not isinstance(self.stack[-1], kind):
            raise TypeError("another kind of value is on the stack")
        return self.stack[-1]

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def push_name(self, module: Any, name: Any) -> None:
        self.stack.append(_Name(str(module), str(name)))

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(CALLS[function.full](*arguments))

    def set_state(self) -> None:
        state = self.pop()
        built = self.of_kind((np.ndarray, _NumberType))
        if isinstance(built, np.ndarray):
            _set_array(built, state)
        else:
            built.set_state(state)


_STEPS: Dict[str, Callable[[_Interpreter, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "APPEND": lambda machine, _: _append(machine, [machine.pop()]),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_to_mark()),
    "DICT": lambda machine, _: _push_dict(machine, machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.update_dict([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.update_dict(machine.pop_to_mark()),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "PUT": lambda machine, index: machine.remember(index),
    "BINPUT": lambda machine, index: machine.remember(index),
    "LONG_BINPUT": lambda machine, index: machine.remember(index),
    "GET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "GLOBAL": lambda machine, names: machine.push_name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.push_name(*[machine.pop(), machine.pop()][::-1]),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.set_state(),
}


def _append(machine: _Interpreter, values: List[Any]) -> None:
    machine.of_kind(list).extend(values)


def _push_dict(machine: _Interpreter, keys_and_values: List[Any]) -> None:
    machine.stack.append({})
    machine.update_dict(keys_and_values)
