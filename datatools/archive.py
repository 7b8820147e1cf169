"""Zip and tar archives from strangers, unpacked without trusting a word they say."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Callable, Iterator, List, NamedTuple, Optional, Set, Tuple

from tqdm import tqdm

from errors import DownloadError

MOST_BYTES = 40 * 10**9
MOST_FILES = 500_000
LONGEST_NAME = 512  # bytes of a whole path; bounds the depth of folders, too
LONGEST_PART = 255  # bytes between two slashes: what file systems take
BLOCK = 1 << 20
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
SPECIAL = "is a link, a device or another special file"
# What the libraries raise on bytes that make no sense.
NONSENSE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, LookupError)
NONSENSE += (OverflowError, RecursionError, NotImplementedError)


class Member(NamedTuple):
    """One entry of an archive: the name it gives itself, and how to read it (None for a folder)."""

    name: str
    open: Optional[Callable[[], IO[bytes]]]


def extract(archive: Path, folder: Path, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> int:
    """Unpack a zip or tar archive (plain, gzip, bzip2, xz), told apart by content, into the new folder `folder`.

    Only files and folders are taken, and only their content: no permissions, owners or times. Each entry is checked before it is
    written. Refused, with the entry's name: absolute paths, drive letters, `..`, backslashes, control characters, overlong names;
    links of either kind (image sets need none), devices, pipes, sparse files and every other kind; encrypted entries; zip
    compressions other than deflate; two entries for one file. What macOS adds (__MACOSX, .DS_Store, ._NAME) is left out.

    Args:
        most_bytes: most bytes that may come out, counted as they come: headers are not believed.
        most_files: most entries and folders, taken together.

    Returns:
        How many files were written.

    Raises:
        DownloadError: the archive is damaged, refused, too large, or holds no file. Nothing is left of `folder`.
        FileExistsError: `folder` exists. It is not touched.
        OSError: a file cannot be written, or the disk is full. Nothing is left of `folder`.
    """
    writer = _Writer(archive, folder, most_bytes, most_files)
    with ExitStack() as stack:
        raw = stack.enter_context(archive.open("rb"))
        folder.mkdir(parents=True)
        try:
            bar = stack.enter_context(tqdm(desc="unpacking", unit=" files", dynamic_ncols=True, disable=None))
            for member in _members(raw, stack, writer):
                writer.write(member)
                bar.update()
            if not writer.files:
                raise DownloadError(f"{archive}: the archive holds no file")
        except BaseException as error:  # also Ctrl-C: half a folder must not stay behind
            shutil.rmtree(folder, ignore_errors=True)
            if _is_nonsense(error):
                raise DownloadError(f"{archive}: the archive is damaged or cut short ({_one_line(error)})") from error
            raise
    return writer.files


def _is_nonsense(error: BaseException) -> bool:
    """Whether an error comes from the archive's bytes, such as a seek to before its start, and not from the disk."""
    if isinstance(error, OSError):
        return error.filename is None and error.errno in (None, errno.EINVAL)
    return isinstance(error, NONSENSE)


def _one_line(error: BaseException) -> str:
    return ascii(str(error)[:100])[1:-1] or type(error).__name__


class _Writer:
    """Writes members below a folder: checks each first, and keeps to the limits."""

    def __init__(self, archive: Path, folder: Path, most_bytes: int, most_files: int) -> None:
        self.archive, self.folder, self.most_bytes, self.most_files = archive, folder, most_bytes, most_files
        self.files = self.bytes = self.entries = 0
        self.folders: Set[Tuple[str, ...]] = set()

    def refusal(self, name: str, why: str) -> DownloadError:
        return DownloadError(f"{self.archive}: refused, because {ascii(name[:100])} {why}; nothing was unpacked")

    def write(self, member: Member) -> None:
        self._count(member.name)
        parts = self._checked_parts(member)
        if is_litter(parts):
            return
        try:
            self._make_folders(member.name, parts[:-1] if member.open else parts)
            if member.open:
                # "x": the file system itself says whether two names, such as A.png and a.png, are one file on it. A file without
                # a name would have the place of the folder.
                with member.open() as source, open(self.folder.joinpath(*parts), "xb") as target:
                    self._copy(member.name, source, target)
                self.files += 1
        except FileExistsError as error:
            raise self.refusal(member.name, "has the place of another entry") from error

    def _count(self, name: str) -> None:
        self.entries += 1
        if self.entries > self.most_files:
            raise self.refusal(name, f"is beyond the limit of {self.most_files:,} files and folders")

    def _checked_parts(self, member: Member) -> List[str]:
        """The folders and the file that a member's name is made of."""
        name = member.name
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise self.refusal(name, "has control characters, or bytes that are not UTF-8, in its name")
        if name.startswith("/") or "\\" in name:
            raise self.refusal(name, "is an absolute path or has backslashes")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or any(re.match("[A-Za-z]:", part) for part in parts):
            raise self.refusal(name, "leads out of the folder")
        if len(name.encode()) > LONGEST_NAME or any(len(part.encode()) > LONGEST_PART for part in parts):
            raise self.refusal(name, "is an overlong name")
        return parts

    def _make_folders(self, name: str, parts: List[str]) -> None:
        for depth in range(1, len(parts) + 1):
            key = tuple(parts[:depth])
            if key not in self.folders:
                self._count(name)
                self.folder.joinpath(*key).mkdir()
                self.folders.add(key)

    def _copy(self, name: str, source: IO[bytes], target: IO[bytes]) -> None:
        while block := source.read(BLOCK):
            self.bytes += len(block)
            if self.bytes > self.most_bytes:
                raise self.refusal(name, f"exceeds the limit of {self.most_bytes:,} bytes unpacked")
            target.write(block)


def is_litter(parts: List[str]) -> bool:
    """Whether a path is what macOS adds to archives."""
    return any(part in ("__MACOSX", ".DS_Store") or part.startswith("._") for part in parts)


def _members(raw: IO[bytes], stack: ExitStack, writer: _Writer) -> Iterator[Member]:
    """The entries of an archive, each of which must be read before the next."""
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(ZIP_MAGIC):
        yield from _zip_members(stack.enter_context(zipfile.ZipFile(raw)), writer)
        return
    stream = raw
    for magic, decompressed in COMPRESSIONS.items():
        if start.startswith(magic):
            stream = stack.enter_context(decompressed(raw))
    yield from _tar_members(_Forward(stream, writer), writer)


def _zip_members(archive: zipfile.ZipFile, writer: _Writer) -> Iterator[Member]:
    for info in archive.infolist():
        name = info.orig_filename  # `filename` is already cut at the first NUL
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive comes from a system without kinds
        if info.flag_bits & 0x1:
            raise writer.refusal(name, "is encrypted")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise writer.refusal(name, SPECIAL)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile expands the others without a limit on memory.
            raise writer.refusal(name, f"has compression {info.compress_type}, and only deflate is read")
        is_folder = name.endswith("/") or kind == stat.S_IFDIR
        yield Member(name, None if is_folder else lambda info=info: archive.open(info))


def _tar_members(stream: _Forward, writer: _Writer) -> Iterator[Member]:
    try:
        archive = tarfile.TarFile(fileobj=stream)
    except tarfile.ReadError as error:
        raise DownloadError(f"{writer.archive}: neither a zip nor a tar archive") from error
    while info := archive.next():
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or info.issparse():
            raise writer.refusal(info.name, SPECIAL)
        stream.header_bytes = None
        yield Member(info.name, None if info.isdir() else lambda info=info: archive.extractfile(info))
        stream.header_bytes = BLOCK
        archive.members.clear()  # it would keep all of them
    stream.finish()


class _Forward:
    """A stream for tarfile that only goes forward, and gives few bytes to headers.

    So a header can neither send the reader in circles nor have it take gigabytes of made-up metadata into memory; and content
    that is passed over counts as well.
    """

    def __init__(self, stream: IO[bytes], writer: _Writer) -> None:
        self.stream, self.writer, self.position, self.last = stream, writer, 0, b""
        self.header_bytes: Optional[int] = BLOCK  # how many the next header may still take; None while content is read
        # Beside the content: headers, and the padding of each to 512 bytes.
        self.end = writer.most_bytes + 4096 * writer.most_files

    def read(self, count: int) -> bytes:
        if self.header_bytes is not None:
            self.header_bytes -= count
            if count < 0 or self.header_bytes < 0:
                raise tarfile.ReadError("a header is overlong")
        self.last = self.stream.read(count)
        self._advance(len(self.last))
        return self.last

    def seek(self, position: int) -> None:
        if position < self.position:
            raise tarfile.ReadError("a header points backwards")
        while position > self.position:
            block = self.stream.read(min(BLOCK, position - self.position))
            if not block:
                raise tarfile.ReadError("unexpected end of data")
            self._advance(len(block))

    def tell(self) -> int:
        return self.position

    def finish(self) -> None:
        """Read to the end, where compressed streams have their checksum. Raises ReadError where the tar's end mark is missing."""
        # At a damaged header tarfile just stops, as if the archive ended there.
        if self.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("the end mark is missing")
        while block := self.stream.read(BLOCK):
            self._advance(len(block))

    def _advance(self, count: int) -> None:
        self.position += count
        if self.position > self.end:
            most = self.writer.most_bytes
            raise DownloadError(f"{self.writer.archive}: refused, because more than {most:,} bytes come out; nothing was unpacked")
