"""Read a pickle without letting it run anything: the kind of file that Paddle and PyTorch keep weights in.

A pickle is a program that can import and call what it likes. Python's own unpickler reads it here, with only the instructions that
weights need. A name becomes text and is not imported; a call becomes a record of what was asked for, for the format's own reader to
turn into an array.

This is the unpickler in Python, `pickle._Unpickler`, as joblib uses it too: the one in C makes calls by itself, and reserves
gigabytes where a file asks for a distant place in its memo.
"""

from __future__ import annotations

import contextlib
import mmap
import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Container, Dict, Iterator, Optional, Union

import numpy as np

from errors import WeightsError

Arrays = Dict[str, np.ndarray]
ORDERED_DICT = "collections.OrderedDict"
# The instructions of protocols 2 to 4 for text, bytes, numbers, dicts, lists, tuples and calls.
INSTRUCTIONS = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE, pickle.SHORT_BINUNICODE),
    *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINSTRING, pickle.SHORT_BINSTRING),
    *(
        pickle.EMPTY_TUPLE,
        pickle.TUPLE,
        pickle.TUPLE1,
        pickle.TUPLE2,
        pickle.TUPLE3,
        pickle.EMPTY_LIST,
        pickle.APPEND,
        pickle.APPENDS,
    ),
    *(pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET, pickle.BINPERSID),
)
# What a damaged file ends in, and an unknown instruction.
DAMAGES = (
    *(pickle.UnpicklingError, struct.error, zipfile.BadZipFile, EOFError, NotImplementedError),
    *(ValueError, TypeError, AttributeError, LookupError, OverflowError, MemoryError),
)


@dataclass
class Call:
    """That the file calls `name` with `arguments`, and then gives the result its `state`."""

    name: str
    arguments: Any
    state: Any = None


class ByName(dict):
    """Keys are text, or numbers in optimizers: hashing a tuple of tuples, thousands deep, would crash Python."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, (str, int)):
            raise TypeError("a key that is not text")
        super().__setitem__(key, value)


class Unpickler(pickle._Unpickler):
    """Builds text, bytes, numbers, tuples, lists, dicts by name, and records of calls.

    Args:
        stream: with read and readline.
        names: what may be called, such as "collections.OrderedDict".
    """

    def __init__(self, stream: Union[BinaryIO, mmap.mmap], names: Container[str]) -> None:
        super().__init__(stream)
        self.names = names

    def find_class(self, module: str, name: str) -> str:
        if f"{module}.{name}" not in self.names:
            raise WeightsError(f"names {f'{module}.{name}'[:80]!r}, which weights never need; nothing was run")
        return f"{module}.{name}"

    def load_empty_dict(self) -> None:
        self.append(ByName())

    def load_reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str):
            raise TypeError("a call of what is not a name")
        made = Call(name, arguments)
        if name == ORDERED_DICT:
            made = ByName()
            for key, value in arguments[0] if arguments else ():  # Python 2 gives the entries along
                made[key] = value
        self.append(made)

    def load_build(self) -> None:
        state = self.stack.pop()
        self.stack[-1].state = state

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in INSTRUCTIONS}
    dispatch.update({pickle.EMPTY_DICT[0]: load_empty_dict, pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build})


def states_of(saved: Any, array_of: Callable[[Any], Optional[np.ndarray]]) -> Dict[str, Arrays]:
    """The arrays in a dict under the name "", and those in each dict inside it under its name.

    Args:
        array_of: the array that an entry describes; None, for which the entry is left out, where it is none.

    Raises:
        TypeError: `saved` is not a dict.
    """
    if not isinstance(saved, ByName):
        raise TypeError("not a dict")
    dicts = {"": saved, **{name: value for name, value in saved.items() if isinstance(value, ByName)}}
    states = {
        str(name): {str(key): array for key, value in entries.items() if (array := array_of(value)) is not None}
        for name, entries in dicts.items()
    }
    return {name: arrays for name, arrays in states.items() if arrays}


def mapped(path: Path) -> mmap.mmap:
    """The file as memory that is read from disk where it is looked at. Raises OSError, or ValueError where it is empty."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Budget:
    """Bytes that arrays may take together, which in a real file each have bytes of their own: others could fill the memory."""

    def __init__(self, most: int) -> None:
        self.left = most

    def spend(self, count: int) -> None:
        """Raises WeightsError where less is left."""
        self.left -= count
        if self.left < 0:
            raise WeightsError("its arrays are larger than the file")


@contextlib.contextmanager
def one_line_errors(path: Path, expected: str, remedy: str) -> Iterator[None]:
    """Within it whatever a file can cause is a WeightsError of one line that names it."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; {remedy}") from error
    except DAMAGES as error:
        raise WeightsError(f"{path}: damaged, or not {expected}; {remedy}") from error
