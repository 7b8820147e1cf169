"""Unpack zip and tar archives from the web without trusting them."""

from __future__ import annotations

import errno
import re
import stat
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, Tuple

from engine.progress import Progress
from errors import DownloadError

MOST_BYTES = 40 * 10**9
MOST_FILES = 500_000
MOST_HEADER_BYTES = 1 << 20
# Absolute paths, .., drive names, backslashes, control characters, bytes that are not UTF-8.
UNSAFE = re.compile(r"^/|(^|/)\.\.(/|$)|(^|/)[A-Za-z]:|[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
File = Tuple[str, int, Callable[[Path], object]]  # name, size, and what unpacks it into a folder


class _Refused(Exception):
    """An entry that is not safe: its name, and why."""


def extract(archive: Path, folder: Path, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> None:
    """Unpack a zip or tar archive (plain, gzip, bzip2, xz), told apart by content, into the existing, empty `folder`.

    Only plain files and the folders around them are written, and of each file no more bytes than the size that it declares. After
    an error the caller removes `folder`.

    Raises:
        DownloadError: the archive is damaged, exceeds a limit, or has an entry that is not safe.
        OSError: a file cannot be written.
    """
    try:
        with archive.open("rb") as stream, Progress("unpacking", unit="files") as progress:
            files = _zip_files if stream.read(2) == b"PK" else _tar_files
            for name, size, unpack in files(archive):
                progress.update()
                most_bytes -= size
                if UNSAFE.search(name):
                    raise _Refused(name, "leads out of the folder, or has characters that are not allowed")
                if most_bytes < 0 or progress.done > most_files or name.count("/") > 10:
                    raise _Refused(name, "exceeds the limits on bytes, files, or folders inside each other")
                if (folder / name).is_file():
                    raise _Refused(name, "is there twice")
                unpack(folder)
    except _Refused as error:
        name, why = error.args
        raise DownloadError(f"{archive}: refused, {ascii(name[:100])} {why}") from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise DownloadError(f"{archive}: refused, a file and a folder have the same name") from error
    except Exception as error:  # on damaged archives the libraries raise all kinds: zlib.error, struct.error, EOFError, LookupError
        if isinstance(error, OSError) and (error.filename or error.errno not in (None, errno.EINVAL)):
            raise  # the disk, not the archive
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DownloadError(
            f"{archive}: not a zip or tar archive, or damaged, or cut short ({ascii(reason[:100])[1:-1]})"
        ) from error


def _zip_files(path: Path) -> Iterator[File]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            is_plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)  # 0: by a system without kinds
            # The other compressions are read without a limit on memory.
            if info.flag_bits & 1 or not is_plain or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _Refused(info.filename, "is encrypted, a link, another special file, or not compressed by deflate")
            if not info.is_dir():
                yield info.filename, info.file_size, partial(archive.extract, info)


class _BoundedTarInfo(tarfile.TarInfo):
    """tarfile reads the headers that hold long names into memory, whatever size they declare."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if not (self.isreg() or self.isdir()) and self.size > MOST_HEADER_BYTES:
            raise _Refused(self.name, f"has a header of {self.size:,} bytes")
        return super()._proc_member(archive)


def _tar_files(path: Path) -> Iterator[File]:
    with tarfile.open(path, tarinfo=_BoundedTarInfo) as archive:
        archive.extraction_filter = lambda info, folder: info  # tarfile's own filter allows links, and not every Python has it
        while info := archive.next():
            if info.size < 0 or info.issparse() or not (info.isreg() or info.isdir()):
                raise _Refused(info.name, "is a link, a device, another special file, or has an impossible size")
            if info.isreg():
                yield info.name, info.size, partial(archive.extract, info, set_attrs=False)
            archive.members.clear()  # it would keep all of them
        # At a damaged header tarfile stops as at the end, which is two blocks of zeros.
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("unexpected end of data")
        while archive.fileobj.read(1 << 20):  # compressed files have their checksum at the end
            pass
