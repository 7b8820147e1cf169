"""Archives unpacked: what good ones give, and that hostile ones give nothing at all."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import random
import re
import stat
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Callable, Dict

import pytest

from datatools import archive as archive_module
from datatools.archive import extract
from errors import DownloadError
from tests.archives import (
    encrypted_zip,
    make_repeated_zip,
    make_special_tar,
    make_special_zip,
    make_tar,
    make_zip,
    patched,
    zip_with_declared_size,
)

GOOD = {
    "set/trainA/": b"",
    "set/trainA/1.png": b"one",
    "set/trainA/二.png": b"two" * 700,
    "./set/./trainB//3.png": b"",
    "4.png": b"4",
}
UNPACKED = {"set/trainA/1.png": b"one", "set/trainA/二.png": b"two" * 700, "set/trainB/3.png": b"", "4.png": b"4"}


def contents(folder: Path) -> Dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(content: bytes, tmp_path: Path, **limits: int) -> Dict[str, bytes]:
    """What comes out of an archive, whose file has a name that says nothing."""
    (tmp_path / "archive").write_bytes(content)
    count = extract(tmp_path / "archive", tmp_path / "inside" / "folder", **limits)
    found = contents(tmp_path / "inside" / "folder")
    assert count == len(found)
    return found


def refuse(content: bytes, tmp_path: Path, **limits: int) -> str:
    """The message for an archive that must be refused, after a look that nothing was written anywhere."""
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"untouched")
    with pytest.raises(DownloadError) as caught:
        unpack(content, tmp_path, **limits)
    assert sorted(os.listdir(tmp_path)) == ["archive", "inside", "outside.txt"]
    assert os.listdir(tmp_path / "inside") == [] and outside.read_bytes() == b"untouched"
    assert str(caught.value).isprintable() and str(tmp_path / "archive") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(mode, tmp_path):
    assert unpack(make_tar(GOOD, mode), tmp_path) == UNPACKED


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(compression, tmp_path):
    assert unpack(make_zip(GOOD, compression), tmp_path) == UNPACKED


def test_a_tar_made_of_the_current_folder(tmp_path):
    assert unpack(make_tar({"./": b"", "./a.png": b"a"}), tmp_path) == {"a.png": b"a"}


def test_the_gnu_and_v7_formats(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("long" * 30 + "/a.png")
        archive.addfile(info, io.BytesIO(b""))
        old = tarfile.TarInfo("b.png")
        old.type = tarfile.AREGTYPE
        archive.addfile(old, io.BytesIO(b""))
    assert unpack(buffer.getvalue(), tmp_path) == {"long" * 30 + "/a.png": b"", "b.png": b""}


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_what_macos_adds_is_left_out(make, tmp_path):
    litter = {"__MACOSX/set/._1.png": b"x", "set/.DS_Store": b"x", "set/._1.png": b"x", "set/1.png": b"1"}
    assert unpack(make(litter), tmp_path) == {"set/1.png": b"1"}


def test_permissions_are_not_taken_over(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.mode = 0o6777
    unpack(make_tar([(info, b"x")]), tmp_path)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "inside" / "folder" / "a.png").stat().st_mode) == 0o666 & ~mask


def test_a_zip_with_permissions_is_a_file_like_others(tmp_path):
    assert unpack(make_special_zip("a.png", stat.S_IFREG | 0o4777, b"a"), tmp_path) == {"ok.png": b"ok", "a.png": b"a"}


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_bytes(b"mine")
    (tmp_path / "a.zip").write_bytes(make_zip({"a.png": b"a"}))
    with pytest.raises(FileExistsError):
        extract(tmp_path / "a.zip", tmp_path / "folder")
    assert contents(tmp_path / "folder") == {"mine.txt": b"mine"}


# Names that no archive of images has.
NAMES = {
    "parent": "../evil.png",
    "parent in the middle": "a/../../evil.png",
    "parent at the end": "a/..",
    "absolute": "/tmp/evil.png",
    "two slashes": "//server/evil.png",
    "drive": "C:/evil.png",
    "drive of a relative path": "c:evil.png",
    "drive behind": "a/C:/evil.png",
    "backslash": "..\\evil.png",
    "backslash in the middle": "a\\b.png",
    "new line": "a\nerror: b.png",
    "escape": "a\x1b[31m.png",
    "long part": "a" * 256,
    "long part in Chinese": "图" * 90,
    "long path": "a/" * 300 + "a.png",
    "only a dot": ".",
}


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("case", NAMES)
def test_names_that_are_refused(case, make, tmp_path):
    message = refuse(make({"ok.png": b"ok", NAMES[case]: b"evil"}), tmp_path)
    assert ascii(NAMES[case])[1:20] in message and "nothing was unpacked" in message


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("case", ["parent", "absolute", "drive", "backslash", "long path"])
def test_the_same_names_of_folders_and_of_litter(case, make, tmp_path):
    refuse(make({"ok.png": b"ok", NAMES[case] + "/": b""}), tmp_path)
    refuse(make({"ok.png": b"ok", NAMES[case] + "/._evil": b"evil"}), tmp_path)


@pytest.mark.parametrize("name", ["a..png", "...png", "ab:c.png", "12:30:01.png", "~", "-rf", "全角　空格.png", " a.png"])
def test_odd_names_that_are_taken(name, tmp_path):
    assert unpack(make_tar({name: b"x"}), tmp_path) == {name: b"x"}


SPARSE = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**6)}
ATTACKS: Dict[str, Callable[[], bytes]] = {
    "zip: link": lambda: make_special_zip("link.png", stat.S_IFLNK | 0o777),
    "zip: link that is named like a folder": lambda: make_special_zip("link/", stat.S_IFLNK | 0o777, b""),
    "zip: device": lambda: make_special_zip("device.png", stat.S_IFCHR | 0o666, b""),
    "zip: pipe": lambda: make_special_zip("pipe.png", stat.S_IFIFO | 0o666, b""),
    "zip: encrypted": encrypted_zip,
    "zip: NUL in a name": lambda: patched(make_zip({"ok.png": b"ok", "evil.png_.jpg": b"x"}), b"evil.png_", b"evil.png\0"),
    "zip: bzip2 inside": lambda: make_zip({"a.png": b"x"}, zipfile.ZIP_BZIP2),
    "zip: lzma inside": lambda: make_zip({"a.png": b"x"}, zipfile.ZIP_LZMA),
    "zip: one name twice": lambda: make_repeated_zip("a.png", "a.png"),
    "zip: one name in two spellings": lambda: make_repeated_zip("a/b.png", "./a//b.png"),
    "zip: a file as a folder": lambda: make_repeated_zip("a", "a/b.png"),
    "zip: a folder as a file": lambda: make_repeated_zip("a/b.png", "a"),
    "tar: link": lambda: make_special_tar(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "tar: link to the folder above": lambda: make_special_tar(tarfile.SYMTYPE, "folder", ".."),
    "tar: link inside": lambda: make_special_tar(tarfile.SYMTYPE, linkname="ok.png"),
    "tar: hard link": lambda: make_special_tar(tarfile.LNKTYPE, linkname="/etc/passwd"),
    "tar: character device": lambda: make_special_tar(tarfile.CHRTYPE),
    "tar: block device": lambda: make_special_tar(tarfile.BLKTYPE),
    "tar: pipe": lambda: make_special_tar(tarfile.FIFOTYPE),
    "tar: sparse": lambda: make_special_tar(tarfile.GNUTYPE_SPARSE),
    "tar: sparse by an extended header": lambda: make_tar([(with_pax(**SPARSE), b"x")]),
    "tar: unknown kind": lambda: make_special_tar(b"Z"),
    "tar: link as litter": lambda: make_special_tar(tarfile.SYMTYPE, "._link", ".."),
    "tar: NUL in a name": lambda: make_tar([(with_pax(path="evil\0.png"), b"x")]),
    "tar: not UTF-8": lambda: make_tar({b"\xd6\xd0.png".decode("utf-8", "surrogateescape"): b"x"}, "w:"),
    "tar: empty name": lambda: make_tar({"ok.png": b"ok", "": b"x"}),
    "tar: one name twice": lambda: make_tar([("a.png", b"1"), ("a.png", b"2")]),
    "tar: a file as a folder": lambda: make_tar([("a", b"1"), ("a/b.png", b"2")]),
    "tar: a folder as a file": lambda: make_tar([("a/b.png", b"1"), ("a", b"2")]),
}


def with_pax(**headers: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("x.png")
    info.pax_headers = headers
    return info


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(attack, tmp_path):
    assert re.search("refused, because .* nothing was unpacked$", refuse(ATTACKS[attack](), tmp_path))


# Limits


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_the_limit_on_bytes_counts_what_comes_out(make, tmp_path):
    entries = {"a.png": bytes(600_000), "b.png": bytes(600_000)}
    assert "limit of 1,000,000 bytes" in refuse(make(entries), tmp_path, most_bytes=1_000_000)
    assert len(unpack(make(entries), tmp_path, most_bytes=1_200_000)) == 2


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_the_limit_on_files_counts_folders_and_litter(make, tmp_path):
    for entries in ({f"{i}.png": b"" for i in range(6)}, {f"{i}/": b"" for i in range(6)}, {f"._{i}": b"" for i in range(6)}):
        assert "limit of 5 files and folders" in refuse(make(entries), tmp_path, most_files=5)
    assert "limit of 5 files and folders" in refuse(make({"a/b/c/d/e/f.png": b""}), tmp_path, most_files=5)
    assert len(unpack(make({f"{i}.png": b"" for i in range(5)}), tmp_path, most_files=5)) == 5


def test_a_zip_that_says_it_is_small(tmp_path):
    refuse(zip_with_declared_size(10, bytes(3_000_000)), tmp_path, most_bytes=1000)


def test_a_zip_that_says_it_is_large(tmp_path):
    content = unpack(zip_with_declared_size(2**31, b"small and true"), tmp_path, most_bytes=1000)
    assert content == {"a.png": b"small and true"}


def test_litter_that_is_passed_over_counts(tmp_path):
    content = make_tar({"._bomb": bytes(10_000_000), "a.png": b"a"})
    assert "more than 1,000,000 bytes" in refuse(content, tmp_path, most_bytes=1_000_000, most_files=10)


def test_headers_get_little_memory(tmp_path):
    content = make_tar([("ok.png", b"ok"), (with_pax(comment="x" * 3_000_000), b"x")])
    assert "overlong" in refuse(content, tmp_path)
    chained = b"".join(tar_header("x", 512, tarfile.XHDTYPE) + b"512 comment=".ljust(512, b"x") for _ in range(2000))
    refuse(chained, tmp_path)


# Damage


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"%011o\0" % size if size >= 0 else b"\xff" * 4 + struct.pack(">q", size)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(header[:512])[0]
    return bytes(header)


PLAIN_TAR = make_tar({f"{i}.png": bytes([i]) * 1000 for i in range(5)}, "w")
GZ_TAR = make_tar({f"{i}.png": random.Random(0).randbytes(1000) for i in range(5)}, "w:gz")
ZIP = make_zip({f"{i}.png": bytes([i]) * 1000 for i in range(5)})
DAMAGED = {
    "empty": b"",
    "a web page": b"<!DOCTYPE html><html>" * 100,
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "gzip of something else": gzip.compress(b"not a tar" * 1000),
    "tar cut inside a file": PLAIN_TAR[: 2 * 1536 + 700],
    "tar cut between files": PLAIN_TAR[: 2 * 1536],
    "tar with a damaged header": PLAIN_TAR[:1536] + b"\xff" * 512 + PLAIN_TAR[2048:],
    "tar.gz cut": GZ_TAR[:-100],
    "tar.gz without its checksum": GZ_TAR[:-8],
    "tar.gz with a wrong checksum": GZ_TAR[:-8] + bytes(4) + GZ_TAR[-4:],
    "tar.gz with damaged content": GZ_TAR[:2000] + b"\xff\xff" + GZ_TAR[2002:],
    "tar.bz2 cut": bz2.compress(PLAIN_TAR)[:-20],
    "tar.bz2 of nonsense": b"BZh9" + bytes(100),
    "tar.xz of nonsense": b"\xfd7zXZ\x00" + bytes(100),
    "tar that goes backwards": tar_header("a.png", 0) + tar_header("b.png", -512) + bytes(10240),
    "tar that promises more": tar_header("a.png", 10**9) + bytes(4096),
    "tar without a file": make_tar({"a/": b""}),
    "only zeros": bytes(10_240),
    "zip cut": ZIP[:-30],
    "zip cut early": ZIP[:100],
    "zip with damaged content": ZIP[:40] + b"\xff\xff\xff" + ZIP[43:],
    "zip without a file": make_zip({}),
    "zip whose two names differ": ZIP.replace(b"3.png", b"x.png", 1),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_one_line_and_leaves_nothing(case, tmp_path):
    assert re.search("damaged or cut short|neither a zip nor a tar|holds no file", refuse(DAMAGED[case], tmp_path))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_random_damage_never_gets_beyond_the_folder(kind, tmp_path):
    original = {"zip": ZIP, "tar": PLAIN_TAR}[kind]
    rng = random.Random(0)
    refused = 0
    for trial in range(150):
        content = bytearray(original)
        for _ in range(rng.choice((1, 3, 10))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        place = tmp_path / str(trial)
        place.mkdir()
        try:
            unpack(bytes(content), place)
        except DownloadError:
            refused += 1
            assert not (place / "inside" / "folder").exists()
        assert sorted(os.listdir(place)) == ["archive", "inside"]
    assert refused > 5


def test_a_full_disk_leaves_nothing_and_is_no_damage(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_module._Writer, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(ZIP, tmp_path)
    assert os.listdir(tmp_path / "inside") == []


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(archive_module._Writer, "_copy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(PLAIN_TAR, tmp_path)
    assert os.listdir(tmp_path / "inside") == []
