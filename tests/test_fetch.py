"""Data sets fetched from a server on this machine: what arrives, and what every failure leaves: nothing, and one line."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest

import main
from command_line import parse_arguments
from dataset import open_training_data
from datatools import archive as archive_module
from datatools import fetch as fetch_module
from datatools.fetch import KNOWN, fetch
from errors import ConfigError, DownloadError
from tests.archives import make_special_tar, make_special_zip, make_tar, make_zip
from tests.helpers import ROOT, TINY
from tests.web_server import WebServer, answer, break_off

PNG = cv2.imencode(".png", np.zeros((8, 16, 3), np.uint8))[1].tobytes()
UNPAIRED = {f"{part}{domain}/{i}.png": PNG for part, count in (("train", 3), ("test", 1)) for domain in "AB" for i in range(count)}
PAIRED = {f"{part}/{i}.png": PNG for part, count in (("train", 3), ("val", 2), ("test", 1)) for i in range(count)}


def inside(folder: str, entries: dict) -> dict:
    return {f"{folder}/{name}": content for name, content in entries.items()}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with WebServer(make_zip(inside("horse2zebra", UNPAIRED))) as server:
        yield server


def run(tmp_path: Path, *arguments: str) -> int:
    """The command line on the data root tmp_path/data."""
    return fetch_module.main([*arguments, "--data_root", str(tmp_path / "data")])


def error(capsys) -> str:
    """The one line of an error."""
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


def files(folder: Path) -> List[str]:
    """Everything below a folder, hidden things included."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# What arrives


@pytest.mark.parametrize("wrapping", ["", "horse2zebra", "some/where", "图片"])
def test_an_unpaired_set_arrives_under_its_name(wrapping, server, tmp_path, capsys):
    server.content = make_zip(inside(wrapping, UNPAIRED) if wrapping else UNPAIRED)
    assert run(tmp_path, "zebras", "--url", server.url) == 0
    assert sorted(os.listdir(tmp_path / "data")) == ["zebras"]
    assert files(tmp_path / "data" / "zebras") == sorted(UNPAIRED)
    assert "trainA 3, trainB 3, testA 1, testB 1 images" in capsys.readouterr().out


def test_a_paired_set_arrives(server, tmp_path, capsys):
    server.content = make_tar(
        {"./": b"", "./facades/": b"", **inside("./facades", PAIRED), "./README": b"x", "__MACOSX/._facades": b"x"}
    )
    assert run(tmp_path, "facades", "--url", server.url.replace(".zip", ".tar.gz")) == 0
    assert files(tmp_path / "data") == sorted(inside("facades", PAIRED))
    out = capsys.readouterr().out
    assert "train 3, val 2, test 1 images" in out and "--method pix2pix --direction BtoA" in out


@pytest.mark.parametrize(
    "entries, methods", [(UNPAIRED, ["ugatit", "cyclegan"]), (PAIRED, ["pix2pix"]), ({**UNPAIRED, **PAIRED}, None)]
)
def test_the_commands_that_it_prints_train(entries, methods, server, tmp_path, capsys):
    server.content = make_zip(entries)
    assert run(tmp_path, "it's", "--url", server.url) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "main.py" in line]
    configs = [parse_arguments(shlex.split(line)[2:])[0] for line in lines]
    assert [config.method for config in configs] == (methods or ["ugatit", "cyclegan", "pix2pix"])
    for config in configs:
        assert open_training_data(config).longest() == 3


def test_the_default_data_root_needs_no_flag(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fetch_module.main(["zebras", "--url", server.url]) == 0
    assert (tmp_path / "dataset" / "zebras" / "trainA").is_dir()
    assert "  python main.py --dataset zebras --method cyclegan --phase train\n" in capsys.readouterr().out


def test_a_known_name_has_its_address(server, tmp_path, monkeypatch):
    monkeypatch.setitem(KNOWN, "maps", KNOWN["maps"]._replace(url=server.url))
    assert fetch("maps", str(tmp_path)) == tmp_path / "maps"
    assert files(tmp_path) == sorted(inside("maps", UNPAIRED))


def test_the_archive_can_be_kept(server, tmp_path, capsys):
    assert run(tmp_path, "zebras", "--url", server.url, "--keep_archive") == 0
    assert (tmp_path / "data" / "zebras.zip").read_bytes() == server.content
    assert sorted(os.listdir(tmp_path / "data")) == ["zebras", "zebras.zip"]


def test_an_archive_that_is_there_is_unpacked_and_stays(server, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "selfie2anime.zip").write_bytes(server.content)
    assert run(tmp_path, "selfie2anime", "--url", server.url) == 2
    assert "selfie2anime.zip is there already" in error(capsys)
    assert run(tmp_path, "selfie2anime", "--sha256", "0" * 64) == 1
    assert hashlib.sha256(server.content).hexdigest() in error(capsys)
    assert run(tmp_path, "selfie2anime") == 0
    assert server.requests == [] and "unpacking" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "data")) == ["selfie2anime", "selfie2anime.zip"]


def test_an_interrupted_download_goes_on(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    half = len(server.content) // 2
    server.script = [break_off(half), answer(404)]
    assert run(tmp_path, "zebras", "--url", server.url) == 1
    assert "404" in error(capsys) and files(tmp_path / "data") == [".zebras.zip.part", ".zebras.zip.part.json"]
    assert run(tmp_path, "zebras", "--url", server.url) == 0
    assert files(tmp_path / "data") == sorted(inside("zebras", UNPAIRED))
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half}-"]


# What every failure leaves

HOSTILE = {
    "zip that leads out": (lambda: make_zip({**UNPAIRED, "../evil.png": PNG}), "leads out"),
    "zip with an absolute path": (lambda: make_zip({**UNPAIRED, "/evil.png": PNG}), "absolute"),
    "zip with a link": (lambda: make_special_zip("trainA", 0o120777), "link"),
    "tar that leads out": (lambda: make_tar({**UNPAIRED, "trainA/../../../evil.png": PNG}), "leads out"),
    "tar with a link": (lambda: make_special_tar(b"2", "trainA", ".."), "link"),
    "tar with a hard link": (lambda: make_special_tar(b"1", "a.png", "../outside.txt"), "link"),
    "tar with a device": (lambda: make_special_tar(b"3"), "special file"),
    "too large": (lambda: make_zip({"trainA/0.png": bytes(3_000_000)}), "limit of 2,000,000 bytes"),
    "too many files": (lambda: make_tar({f"trainA/{i}.png": b"" for i in range(60)}), "limit of 50 files"),
    "cut short": (lambda: make_tar(UNPAIRED)[:-20], "damaged or cut short"),
    "a web page": (lambda: b"<html>Please log in</html>", "neither a zip nor a tar"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_archive_leaves_nothing(attack, server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archive_module.extract, "__defaults__", (2_000_000, 50))
    make, words = HOSTILE[attack]
    server.content = make()
    (tmp_path / "outside.txt").write_bytes(b"untouched")
    assert run(tmp_path, "evil", "--url", server.url) == 1
    assert words in error(capsys)
    assert sorted(os.listdir(tmp_path)) == ["data", "outside.txt"] and os.listdir(tmp_path / "data") == []
    assert (tmp_path / "outside.txt").read_bytes() == b"untouched"


def test_a_bad_archive_of_the_users_own_stays(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.zip").write_bytes(b"nonsense")
    assert run(tmp_path, "mine") == 1
    assert "mine.zip" in error(capsys) and files(tmp_path / "data") == ["mine.zip"]


def test_an_archive_without_a_layout_stays_to_be_sorted_by_hand(server, tmp_path, capsys):
    server.content = make_zip({"set/A/1.png": PNG, "set/B/1.png": PNG, "set/trainA/": b"", "set/trainB/": b""})
    assert run(tmp_path, "mine", "--url", server.url) == 1
    message = error(capsys)
    assert "but A, B, trainA, trainB" in message and "mine.zip" in message
    assert sorted(os.listdir(tmp_path / "data")) == ["mine.zip"]


def test_an_existing_folder_is_never_touched(server, tmp_path, capsys):
    folder = tmp_path / "data" / "zebras"
    for prepare in (lambda: folder.mkdir(parents=True), lambda: (folder / "mine.png").write_bytes(PNG)):
        prepare()
        before = files(tmp_path)
        assert run(tmp_path, "zebras", "--url", server.url) == 2
        assert "exists already and was not touched" in error(capsys)
        assert files(tmp_path) == before and server.requests == []


def test_a_folder_that_appears_meanwhile_is_never_touched(server, tmp_path, capsys, monkeypatch):
    def unpack_slowly(archive: Path, folder: Path) -> int:
        (tmp_path / "data" / "zebras").mkdir()
        return archive_module.extract(archive, folder)

    monkeypatch.setattr(fetch_module, "extract", unpack_slowly)
    assert run(tmp_path, "zebras", "--url", server.url) == 2
    assert "exists already" in error(capsys)
    assert sorted(os.listdir(tmp_path / "data")) == ["zebras", "zebras.zip"] and os.listdir(tmp_path / "data" / "zebras") == []


def test_ctrl_c_while_unpacking_keeps_the_archive_and_no_draft(server, tmp_path, capsys, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(archive_module._Writer, "_copy", interrupt)
        assert run(tmp_path, "zebras", "--url", server.url) == 130
    assert "stopped" in error(capsys) and os.listdir(tmp_path / "data") == ["zebras.zip"]
    assert run(tmp_path, "zebras") == 0


def test_a_wrong_sum_leaves_nothing(server, tmp_path, capsys):
    assert run(tmp_path, "zebras", "--url", server.url, "--sha256", "0" * 64) == 1
    assert hashlib.sha256(server.content).hexdigest() in error(capsys) and files(tmp_path) == []
    right = hashlib.sha256(server.content).hexdigest()
    assert run(tmp_path, "zebras", "--url", server.url, "--sha256", right) == 0


def test_a_missing_file_leaves_nothing(server, tmp_path, capsys):
    server.script = [answer(404)]
    assert run(tmp_path, "zebras", "--url", server.url) == 1
    message = error(capsys)
    assert "404 (Not Found)" in message and "--url" in message and list(tmp_path.iterdir()) == []


def test_a_data_root_that_is_a_file(server, tmp_path, capsys):
    (tmp_path / "data").write_bytes(b"a file")
    assert run(tmp_path, "zebras", "--url", server.url) == 1
    assert "--data_root" in error(capsys)


def test_without_a_network_the_command_says_so_in_one_line(tmp_path):
    command = [sys.executable, "-m", "datatools.fetch", "mine", "--data_root", str(tmp_path / "data")]
    command += ["--url", "http://nowhere.invalid/mine.zip"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and result.stdout == ""
    assert result.stderr.startswith("error: http://nowhere.invalid/mine.zip cannot be reached") and list(tmp_path.iterdir()) == []


# Names


def test_the_list_names_every_set_with_method_and_layout(capsys):
    assert fetch_module.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(KNOWN)
    for line in lines[1:]:
        assert ("pix2pix" in line and "A|B" in line) or ("ugatit, cyclegan" in line and "trainA, trainB" in line)


def test_the_known_addresses_are_those_of_the_papers():
    host = "://efrosgans.eecs.berkeley.edu/"
    assert KNOWN["facades"].url == f"http{host}pix2pix/datasets/facades.tar.gz"
    assert KNOWN["facades_unpaired"].url == f"https{host}cyclegan/datasets/facades.zip"
    assert KNOWN["horse2zebra"].url == f"https{host}cyclegan/datasets/horse2zebra.zip"
    assert [name for name, known in KNOWN.items() if not known.url] == ["selfie2anime", "cityscapes", "portraits"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("selfie2anime", ["www.kaggle.com", "account", "selfie2anime/{trainA,trainB,testA,testB}"]),
        ("cityscapes", ["licence", "cityscapes-dataset.com", "cityscapes/{train,val,test}"]),
        ("portraits", ["python main.py --dataset portraits"]),
        ("unknown", ["--url", "horse2zebra", "facades", "selfie2anime"]),
        ("../up", ["../up", "name of a data set"]),
        (".hidden", [".hidden", "name of a data set"]),
        ("", ["name of a data set"]),
    ],
)
def test_what_cannot_be_downloaded_says_what_to_do(name, words, tmp_path, capsys):
    assert run(tmp_path, name) == 2
    message = error(capsys)
    assert all(word in message for word in words) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a", "--foo"], ["a", "--url", "ftp://host/a"], ["a", "--sha256", "12"]])
def test_a_wrong_command_is_one_line(arguments, tmp_path, capsys):
    assert run(tmp_path, *arguments) == 2
    error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_errors_are_those_that_main_shows(server, tmp_path):
    with pytest.raises(ConfigError):
        fetch("unknown", tmp_path)
    server.script = [answer(404)]
    with pytest.raises(DownloadError):
        fetch("mine", tmp_path, server.url)


# main.py --download


def train(tmp_path: Path, *arguments: str) -> int:
    where = ["--data_root", str(tmp_path / "data"), "--result_dir", str(tmp_path / "results"), "--device", "cpu"]
    return main.main([*where, *TINY, "--iteration", "1", *arguments])


def test_main_downloads_a_known_set_once(server, tmp_path, monkeypatch):
    monkeypatch.setitem(KNOWN, "horse2zebra", KNOWN["horse2zebra"]._replace(url=server.url))
    assert train(tmp_path, "--dataset", "horse2zebra", "--download") == 0
    assert (tmp_path / "results" / "horse2zebra" / "ugatit" / "checkpoints" / "latest").is_dir()
    assert train(tmp_path, "--dataset", "horse2zebra", "--download", "--result_dir", str(tmp_path / "again")) == 0
    assert len(server.ranges) == 1


def test_main_without_the_network_or_an_account_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(KNOWN, "horse2zebra", KNOWN["horse2zebra"]._replace(url="http://127.0.0.1:9/horse2zebra.zip"))
    assert train(tmp_path, "--dataset", "horse2zebra", "--download") == 1
    assert "cannot be reached" in error(capsys)
    assert train(tmp_path, "--dataset", "selfie2anime", "--download") == 2
    assert "www.kaggle.com" in error(capsys)
    assert not (tmp_path / "results").exists()
