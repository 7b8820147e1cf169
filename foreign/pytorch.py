"""Read the arrays that `torch.save` wrote (.pt, .pth), without PyTorch.

Such a file is a pickle, where a tensor is a call that names its storage, and the storages, which hold the bytes of the tensors.
Since version 1.6 these are members of an uncompressed zip archive; in the legacy format before that, they follow one another. The
file is mapped: arrays are views of it, and take memory where they are looked at.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from errors import WeightsError
from foreign.unpickler import ORDERED_DICT, Arrays, Budget, Call, Unpickler, mapped, one_line_errors, states_of

# NumPy has no bfloat16: the upper half of a float32.
BFLOAT16 = "torch.BFloat16Storage"
TYPES = {
    **{"torch.FloatStorage": "f4", "torch.DoubleStorage": "f8", "torch.HalfStorage": "f2", BFLOAT16: "u2"},
    **{"torch.LongStorage": "i8", "torch.IntStorage": "i4", "torch.ByteStorage": "u1", "torch.BoolStorage": "b1"},
}
TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
PARAMETER = "torch._utils._rebuild_parameter"
NAMES = {*TYPES, *TENSORS, PARAMETER, ORDERED_DICT}
# The legacy format begins with this number as a pickle.
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
LEGACY_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."
# Bytes of the pickle without the storages: ten thousand tensors have 2 MB.
MOST_PICKLED = 1 << 22
REMEDY = "take the published file, or save a dict of state dicts alone with torch.save"


def read_states(path: Path) -> Dict[str, Arrays]:
    """The arrays of several networks, by network and name; those of a state dict by itself under the network "".

    What is not an array is left out. Where a tensor was (on a GPU, say) is of no account. bfloat16 becomes float32.

    Returns:
        Arrays of the tensors' shapes; they may be read-only and need not be contiguous.

    Raises:
        WeightsError: the file cannot be read, is damaged, or asks for anything but tensors.
    """
    with one_line_errors(path, "weights from torch.save", REMEDY):
        content = mapped(path)
        storages = _Archive(content) if content[:2] == b"PK" else _Legacy(content)
        return states_of(storages.saved, _Tensors(storages, Budget(len(content))).array)


class _Pickle(Unpickler):
    """Takes down the storages that are asked for: type and number of elements by key."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, NAMES)
        self.storages: Dict[str, Tuple[str, int]] = {}

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, _, count, *view = pid
        if not isinstance(count, int) or view not in ([], [None]):
            raise TypeError("not a storage")
        storage = _text(kind), count
        if self.storages.setdefault(_text(key), storage) != storage:
            raise ValueError("one storage with two types or lengths")
        return key


class _Archive:
    """The members of the zip archive."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.members = {member.filename: member for member in zipfile.ZipFile(content).infolist()}
        (pickled,) = (name for name in self.members if name.count("/") == 1 and name.endswith("/data.pkl"))
        self.folder = pickled[: -len("data.pkl")]
        if self.members[pickled].file_size > MOST_PICKLED:
            raise WeightsError(f"more than {MOST_PICKLED} bytes of names")
        reader = _Pickle(io.BytesIO(self._member("data.pkl")))
        self.saved, self.storages = reader.load(), reader.storages
        is_big = f"{self.folder}byteorder" in self.members and self._member("byteorder") == b"big"
        self.byte_order = ">" if is_big else "<"

    def bytes_of(self, key: str) -> memoryview:
        return self._member(f"data/{key}")

    def _member(self, name: str) -> memoryview:
        member = self.members[self.folder + name]
        if member.compress_type != zipfile.ZIP_STORED:
            raise WeightsError("is compressed, which torch.save never does")
        start = member.header_offset
        lengths = struct.unpack("<HH", self.content[start + 26 : start + 30])  # of its name and of what else the header has
        start += 30 + sum(lengths)
        data = memoryview(self.content)[start : start + member.file_size]
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise WeightsError("its bytes have changed since it was saved")
        return data


class _Legacy:
    """Pickles: a magic number, a version, the system, what was saved, the storages' keys; then each storage's length and bytes."""

    def __init__(self, content: mmap.mmap) -> None:
        stream = io.BytesIO(content[:MOST_PICKLED])
        if [_Pickle(stream).load() for _ in range(2)] != [MAGIC, VERSION]:
            raise ValueError("another magic number")
        _Pickle(stream).load()
        reader = _Pickle(stream)
        self.saved, self.storages = reader.load(), reader.storages
        self.byte_order = "<"
        self.places: Dict[str, memoryview] = {}
        keys, place = _Pickle(stream).load(), stream.tell()
        for key in map(_text, keys):
            kind, count = self.storages[key]
            start, place = place + 8, place + 8 + count * np.dtype(TYPES[kind]).itemsize
            if int.from_bytes(content[start - 8 : start], "little") != count or not start <= place <= len(content):
                raise EOFError
            self.places[key] = memoryview(content)[start:place]

    def bytes_of(self, key: str) -> memoryview:
        return self.places[key]


class _Tensors:
    """Makes arrays of the records of tensors."""

    def __init__(self, storages: Any, budget: Budget) -> None:
        self.storages, self.budget = storages, budget
        self.bytes: Dict[str, memoryview] = {}
        self.made: Dict[tuple, np.ndarray] = {}

    def array(self, value: Any) -> Optional[np.ndarray]:
        """The array that a record describes, None where it describes none."""
        if isinstance(value, Call) and value.name == PARAMETER:
            value = value.arguments[0]
        if not isinstance(value, Call) or value.name not in TENSORS:
            return None
        key, offset, shape, strides = value.arguments[:4]
        kind, count = self.storages.storages[_text(key)]
        if key not in self.bytes:
            self.bytes[key] = self.storages.bytes_of(key)
        dtype = np.dtype(self.storages.byte_order + TYPES[kind])
        if len(self.bytes[key]) != count * dtype.itemsize:
            raise ValueError("a storage of another length")
        # NumPy refuses what reaches beyond the storage.
        places = [stride * dtype.itemsize for stride in strides]
        array = np.ndarray(shape, dtype, self.bytes[key], offset * dtype.itemsize, places)
        if array.size > count:
            raise ValueError("elements that are used twice")
        # A tensor may have several names.
        made = (key, offset, array.shape, array.strides)
        if made not in self.made:
            self.budget.spend(array.nbytes)
            self.made[made] = _to_float32(array) if kind == BFLOAT16 else array
        return self.made[made]


def _text(value: Any) -> str:
    """The value itself. Hashing a tuple of tuples, thousands deep, would crash Python."""
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _to_float32(bfloat16: np.ndarray) -> np.ndarray:
    return np.asarray(np.left_shift(bfloat16, 16, dtype=np.uint32, order="C")).view(np.float32)
