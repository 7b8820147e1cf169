"""Archives for tests, good ones and hostile ones, as bytes."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
from typing import Dict, Iterable, Tuple, Union

Entries = Union[Dict[str, bytes], Iterable[Tuple[object, bytes]]]


def make_zip(entries: Entries, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """`entries`: names (with / at the end for folders) or ZipInfo, with contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile sees a repeated name
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(zipfile.ZipInfo(name) if str(name).endswith("/") else name, content)
    return buffer.getvalue()


def make_special_zip(name: str, mode: int, content: bytes = b"/etc/passwd") -> bytes:
    """One entry with a Unix mode, behind a harmless one."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return make_zip([("ok.png", b"ok"), (info, content)])


def encrypted_zip() -> bytes:
    """The flag alone: both headers of a zip carry it."""
    content = bytearray(make_zip({"a.png": b"content"}, zipfile.ZIP_STORED))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def make_tar(entries: Entries, mode: str = "w:gz") -> bytes:
    """`entries`: names (with / at the end for folders) or TarInfo, with contents."""
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


def make_special_tar(kind: bytes, name: str = "special.png", linkname: str = "", **pax_headers: str) -> bytes:
    """One entry of another kind, between harmless ones; the last would go through it, were it a link to a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, linkname, pax_headers
    return make_tar([("ok.png", b"ok"), (info, b""), (f"{name}/through.png", b"evil")])
