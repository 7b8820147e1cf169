"""Archives unpacked: what good ones give, and that hostile ones are refused without a file outside the folder."""

from __future__ import annotations

import bz2
import gzip
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

from datatools.archive import extract
from errors import DownloadError
from tests.archives import encrypted_zip, make_special_tar, make_special_zip, make_tar, make_zip

GOOD = {
    "set/trainA/": b"",
    "set/trainA/1.png": b"one",
    "set/trainA/二　.png": b"two" * 700,
    "./set/./trainB//3.png": b"",
    "12:30:01..png": b"4",
}
UNPACKED = {"set/trainA/1.png": b"one", "set/trainA/二　.png": b"two" * 700, "set/trainB/3.png": b"", "12:30:01..png": b"4"}
MAKERS = pytest.mark.parametrize("make", [make_zip, make_tar])


def contents(folder: Path) -> Dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(content: bytes, tmp_path: Path, **limits: int) -> Dict[str, bytes]:
    """What comes out of an archive, whose file has a name that says nothing."""
    (tmp_path / "archive").write_bytes(content)
    (tmp_path / "folder").mkdir()
    extract(tmp_path / "archive", tmp_path / "folder", **limits)
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o7111 == 0 for path in (tmp_path / "folder").rglob("*") if path.is_file())
    return contents(tmp_path / "folder")


def refuse(content: bytes, tmp_path: Path, **limits: int) -> str:
    """The message for an archive that must be refused, after a look that nothing was written outside the folder."""
    (tmp_path / "outside.txt").write_bytes(b"untouched")
    with pytest.raises(DownloadError) as caught:
        unpack(content, tmp_path, **limits)
    assert sorted(os.listdir(tmp_path)) == ["archive", "folder", "outside.txt"]
    assert (tmp_path / "outside.txt").read_bytes() == b"untouched"
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert str(caught.value).isprintable() and str(tmp_path / "archive") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(mode, tmp_path):
    info = tarfile.TarInfo("long" * 30 + "/a.png")
    info.mode = 0o6777  # is not taken over
    assert unpack(make_tar([*GOOD.items(), (info, b"a")], mode), tmp_path) == {**UNPACKED, info.name: b"a"}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(compression, tmp_path):
    assert unpack(make_zip(GOOD, compression), tmp_path) == UNPACKED


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
    "new line": "a\nerror: b.png",
    "escape": "a\x1b[31m.png",
    "many folders": "a/" * 30 + "a.png",
}


@MAKERS
@pytest.mark.parametrize("case", NAMES)
def test_names_that_are_refused(case, make, tmp_path):
    assert ascii(NAMES[case])[1:20] in refuse(make({"ok.png": b"ok", NAMES[case]: b"evil"}), tmp_path)


@MAKERS
@pytest.mark.parametrize("case", ["parent", "absolute", "drive", "backslash"])
def test_folders_of_such_names_are_not_made(case, make, tmp_path):
    assert unpack(make({"ok.png": b"ok", NAMES[case] + "/": b""}), tmp_path) == {"ok.png": b"ok"}
    assert sorted(os.listdir(tmp_path)) == ["archive", "folder"] and os.listdir(tmp_path / "folder") == ["ok.png"]


ATTACKS: Dict[str, Callable[[], bytes]] = {
    "zip: link": lambda: make_special_zip("link.png", stat.S_IFLNK | 0o777),
    "zip: link that is named like a folder": lambda: make_special_zip("link/", stat.S_IFLNK | 0o777, b""),
    "zip: device": lambda: make_special_zip("device.png", stat.S_IFCHR | 0o666, b""),
    "zip: fifo": lambda: make_special_zip("pipe.png", stat.S_IFIFO | 0o666, b""),
    "zip: encrypted": encrypted_zip,
    "zip: bzip2 inside": lambda: make_zip({"a.png": b"x"}, zipfile.ZIP_BZIP2),
    "zip: one name twice": lambda: make_zip([("a.png", b"1"), ("a.png", b"2")]),
    "zip: one name in two spellings": lambda: make_zip([("a/b.png", b"1"), ("./a//b.png", b"2")]),
    "zip: a file as a folder": lambda: make_zip([("a", b"1"), ("a/b.png", b"2")]),
    "zip: a folder as a file": lambda: make_zip([("a/b.png", b"1"), ("a", b"2")]),
    "tar: link": lambda: make_special_tar(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "tar: link to the folder above": lambda: make_special_tar(tarfile.SYMTYPE, "folder", ".."),
    "tar: link inside": lambda: make_special_tar(tarfile.SYMTYPE, linkname="ok.png"),
    "tar: hard link": lambda: make_special_tar(tarfile.LNKTYPE, linkname="/etc/passwd"),
    "tar: character device": lambda: make_special_tar(tarfile.CHRTYPE),
    "tar: block device": lambda: make_special_tar(tarfile.BLKTYPE),
    "tar: fifo": lambda: make_special_tar(tarfile.FIFOTYPE),
    "tar: sparse": lambda: make_special_tar(tarfile.GNUTYPE_SPARSE),
    "tar: sparse by an extended header": lambda: make_special_tar(
        tarfile.REGTYPE, **{"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000"}
    ),
    "tar: negative size by an extended header": lambda: make_special_tar(tarfile.REGTYPE, size="-1024"),
    "tar: a long name that would fill memory": lambda: make_special_tar(tarfile.REGTYPE, path="a" * 3_000_000),
    "tar: unknown kind": lambda: make_special_tar(b"Z"),
    "tar: NUL in a name": lambda: make_special_tar(tarfile.REGTYPE, path="evil\0.png"),
    "tar: not UTF-8": lambda: make_tar({b"\xd6\xd0.png".decode("utf-8", "surrogateescape"): b"x"}, "w:"),
    "tar: empty name": lambda: make_tar({"ok.png": b"ok", "": b"x"}),
    "tar: one name twice": lambda: make_tar([("a.png", b"1"), ("a.png", b"2")]),
    "tar: a file as a folder": lambda: make_tar([("a", b"1"), ("a/b.png", b"2")]),
    "tar: a folder as a file": lambda: make_tar([("a/b.png", b"1"), ("a", b"2")]),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(attack, tmp_path):
    assert "refused, " in refuse(ATTACKS[attack](), tmp_path)


@MAKERS
def test_the_limits(make, tmp_path):
    entries = {"a.png": bytes(600_000), "b.png": bytes(600_000)}
    for limits in (dict(most_bytes=1_000_000), dict(most_files=1)):
        place = tmp_path / str(limits)
        place.mkdir()
        assert "exceeds the limits" in refuse(make(entries), place, **limits)
        assert sorted(contents(place / "folder")) == ["a.png"]
    assert len(unpack(make(entries), tmp_path, most_bytes=1_200_000, most_files=2)) == 2


@pytest.mark.parametrize("size", [10, 2**31])
def test_a_zip_that_lies_about_its_size_gives_no_more_than_it_declares(size, tmp_path):
    content = make_zip({"a.png": bytes(3_000_000)}).replace((3_000_000).to_bytes(4, "little"), size.to_bytes(4, "little"))
    refuse(content, tmp_path, most_bytes=1000)
    assert not any(len(content) > 1000 for content in contents(tmp_path / "folder").values())


# Damage


def tar_header(name: str, size: int) -> bytes:
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"%011o\0" % size if size >= 0 else b"\xff" * 4 + struct.pack(">q", size)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(header[:512])[0]
    return bytes(header)


PLAIN_TAR = make_tar({f"{i}.png": bytes([i]) * 1000 for i in range(5)}, "w")
GZ_TAR = make_tar({f"{i}.png": random.Random(0).randbytes(1000) for i in range(5)}, "w:gz")
ZIP = make_zip({f"{i}.png": bytes([i]) * 1000 for i in range(5)})
DAMAGED = {
    "empty": b"",
    "a web page": b"<!DOCTYPE html><html>" * 100,
    "gzip of something else": gzip.compress(b"not a tar" * 1000),
    "tar cut inside a file": PLAIN_TAR[: 2 * 1536 + 700],
    "tar cut between files": PLAIN_TAR[: 2 * 1536],
    "tar with a damaged header": PLAIN_TAR[:1536] + b"\xff" * 512 + PLAIN_TAR[2048:],
    "tar.gz cut": GZ_TAR[:-100],
    "tar.gz without its checksum": GZ_TAR[:-8],
    "tar.gz with a wrong checksum": GZ_TAR[:-8] + bytes(4) + GZ_TAR[-4:],
    "tar.gz with damaged content": GZ_TAR[:2000] + b"\xff\xff" + GZ_TAR[2002:],
    "tar.bz2 cut": bz2.compress(PLAIN_TAR)[:-20],
    "tar.xz of nonsense": b"\xfd7zXZ\x00" + bytes(100),
    "tar that goes backwards": tar_header("a.png", 0) + tar_header("b.png", -512) + bytes(10240),
    "tar that promises more": tar_header("a.png", 10**9) + bytes(4096),
    "zip cut": ZIP[:-30],
    "zip cut early": ZIP[:100],
    "zip with damaged content": ZIP[:40] + b"\xff\xff\xff" + ZIP[43:],
    "zip whose two names differ": ZIP.replace(b"3.png", b"x.png", 1),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_one_line(case, tmp_path):
    assert re.search("damaged, or cut short|impossible size", refuse(DAMAGED[case], tmp_path))


@pytest.mark.parametrize("original", [ZIP, PLAIN_TAR], ids=["zip", "tar"])
def test_random_damage_never_gets_beyond_the_folder(original, tmp_path):
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
        assert sorted(os.listdir(place)) == ["archive", "folder"]
    assert refused > 5
