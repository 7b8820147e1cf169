"""Archives for tests, good ones and hostile ones, as bytes."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
from typing import Dict, Union

Entries = Dict[str, bytes]


def make_zip(entries: Entries, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Names that end with / become folders."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name) if name.endswith("/") else name, content)
    return buffer.getvalue()


def make_special_zip(name: str, mode: int, content: bytes = b"/etc/passwd") -> bytes:
    """One entry with a Unix mode, behind a harmless one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ok.png", b"ok")
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, content)
    return buffer.getvalue()


def make_repeated_zip(first: str, second: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(first, b"first")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile sees a repeated name
            archive.writestr(second, b"second")
    return buffer.getvalue()


def patched(archive: bytes, old: bytes, new: bytes) -> bytes:
    """The archive with some bytes exchanged for as many others, wherever they are."""
    assert old in archive and len(old) == len(new)
    return archive.replace(old, new)


def encrypted_zip() -> bytes:
    """The flag alone: both headers of a zip carry it."""
    content = bytearray(make_zip({"a.png": b"content"}, zipfile.ZIP_STORED))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def zip_with_declared_size(size: int, content: bytes) -> bytes:
    """An entry that says in both headers that it holds `size` bytes."""
    archive = make_zip({"a.png": content})
    return patched(archive, len(content).to_bytes(4, "little"), size.to_bytes(4, "little"))


def make_tar(entries: Union[Entries, list], mode: str = "w:gz") -> bytes:
    """`entries`: names with contents, or (TarInfo, content) pairs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if str(name).endswith("/"):
                info.type = tarfile.DIRTYPE
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_special_tar(kind: bytes, name: str = "special.png", linkname: str = "") -> bytes:
    """One entry of another kind, between harmless ones; the last would go through it, were it a link to a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return make_tar([("ok.png", b"ok"), (info, b""), (f"{name}/through.png", b"evil")])
