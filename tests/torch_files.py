"""Files as `torch.save` writes them, made byte by byte without PyTorch, so that they can be anything."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any, Dict, Sequence, Tuple

import numpy as np

from foreign.pytorch import MAGIC, VERSION

STORAGE = np.arange(6, dtype=np.float32)


def value(thing: Any) -> bytes:
    """The instructions that make text, a number, a tuple or None."""
    return pickle.dumps(thing, 2)[2:-1]


def name(dotted: str) -> bytes:
    module, _, last = dotted.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def call(dotted: str, *arguments: bytes) -> bytes:
    """A call of a name with arguments that are instructions."""
    return name(dotted) + b"(" + b"".join(arguments) + b"tR"


def storage(key: bytes = value("0"), kind: bytes = name("torch.FloatStorage"), count: Any = 6, *more: Any) -> bytes:
    return b"(" + value("storage") + kind + key + value("cuda:0") + value(count) + b"".join(map(value, more)) + b"tQ"


def tensor(
    place: bytes = storage(),  # noqa: B008
    offset: Any = 0,
    shape: Any = (2, 3),
    strides: Any = (3, 1),
    maker: str = "torch._utils._rebuild_tensor_v2",
) -> bytes:
    return call(maker, place, value(offset), value(shape), value(strides), value(False), call("collections.OrderedDict"))


def pickled(entries: Dict[str, bytes]) -> bytes:
    """A dict of what instructions make, as a whole pickle."""
    return b"\x80\x02}(" + b"".join(value(key) + made for key, made in entries.items()) + b"u."


def archive(content: bytes, storages: Sequence[Tuple[str, bytes]] = (("0", STORAGE.tobytes()),), **options: Any) -> bytes:
    """A zip archive as torch.save makes it; `options` are those of ZipFile."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as members:
        members.writestr("any/data.pkl", content)
        for key, data in storages:
            members.writestr(key if "/" in key else f"any/data/{key}", data)
    return file.getvalue()


def legacy(content: bytes, storages: Sequence[Tuple[str, bytes]] = (("0", STORAGE.tobytes()),), itemsize: int = 4) -> bytes:
    """The format before PyTorch 1.6."""
    header = b"".join(pickle.dumps(thing, 2) for thing in (MAGIC, VERSION, {"little_endian": True}))
    bytes_of = b"".join((len(data) // itemsize).to_bytes(8, "little") + data for _, data in storages)
    return header + content + pickle.dumps([key for key, _ in storages], 2) + bytes_of
