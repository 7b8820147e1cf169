"""Data sets fetched from a server on this machine: what arrives, and what every failure leaves: nothing, and one line."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
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
from datatools.fetch import KNOWN
from engine.checkpoint import newest_iteration
from tests.archives import make_special_tar, make_tar, make_zip
from tests.helpers import ROOT, TINY
from tests.web_server import WebServer, answer, break_off

PNG = cv2.imencode(".png", np.zeros((8, 16, 3), np.uint8))[1].tobytes()
UNPAIRED = {f"{part}{domain}/{i}.png": PNG for part, count in (("train", 3), ("test", 1)) for domain in "AB" for i in range(count)}
PAIRED = {f"{part}/{i}.png": PNG for part, count in (("train", 3), ("val", 2), ("test", 1)) for i in range(count)}


def inside(folder: str, entries: dict) -> dict:
    return {f"{folder}/{name}": content for name, content in entries.items()}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with WebServer(make_zip(inside("horse2zebra", UNPAIRED))) as server:
        yield server


def run(tmp_path: Path, *arguments: str) -> int:
    """The command line on the data root tmp_path/data."""
    return fetch_module.main([*arguments, "--data_root", str(tmp_path / "data")])


def error(capsys) -> str:
    """The one line of an error."""
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


def files(folder: Path) -> List[str]:
    """Everything below a folder, hidden things included."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# What arrives


@pytest.mark.parametrize("wrapping", ["", "horse2zebra", "some/where", "图片"])
def test_an_unpaired_set_arrives_under_its_name(wrapping, server, tmp_path, capsys):
    entries = inside(wrapping, UNPAIRED) if wrapping else UNPAIRED
    server.content = make_zip({**entries, "__MACOSX/._horse2zebra": b"x"} if wrapping else entries)
    assert run(tmp_path, "zebras", "--url", server.url) == 0
    assert os.listdir(tmp_path / "data") == ["zebras"] and files(tmp_path / "data" / "zebras") == sorted(UNPAIRED)
    assert (tmp_path / "data" / "zebras").stat().st_mode == (tmp_path / "data").stat().st_mode
    assert "testA 1, testB 1, trainA 3, trainB 3 images" in capsys.readouterr().out


def test_a_paired_set_arrives(server, tmp_path, capsys):
    server.content = make_tar({"./": b"", "./facades/": b"", **inside("./facades", PAIRED), "./README": b"x"})
    assert run(tmp_path, "facades", "--url", server.url.replace(".zip", ".tar.gz")) == 0
    assert files(tmp_path / "data") == sorted(inside("facades", PAIRED))
    out = capsys.readouterr().out
    assert "test 1, train 3, val 2 images" in out and "--method pix2pix --direction BtoA" in out


@pytest.mark.parametrize(
    "entries, methods",
    [(UNPAIRED, ["ugatit", "cyclegan"]), (PAIRED, ["pix2pix"]), ({**UNPAIRED, **PAIRED}, ["ugatit", "cyclegan", "pix2pix"])],
)
def test_the_commands_that_it_prints_train(entries, methods, server, tmp_path, capsys):
    server.content = make_zip(entries)
    assert run(tmp_path, "it's", "--url", server.url) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "main.py" in line]
    configs = [parse_arguments(shlex.split(line)[2:])[0] for line in lines]
    assert [config.method for config in configs] == methods
    assert all(open_training_data(config).longest() == 3 for config in configs)


def test_a_known_name_has_its_address_and_the_default_data_root(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(KNOWN, "maps", KNOWN["maps"]._replace(url=server.url))
    monkeypatch.chdir(tmp_path)
    assert fetch_module.main(["maps"]) == 0
    assert files(tmp_path) == sorted(inside("dataset/maps", UNPAIRED))
    assert "  python main.py --dataset maps --method cyclegan --phase train\n" in capsys.readouterr().out


def test_an_archive_saved_by_hand_is_unpacked_and_stays(server, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "selfie2anime.zip").write_bytes(server.content)
    assert run(tmp_path, "selfie2anime", "--url", server.url) == 2
    assert "selfie2anime.zip exists already" in error(capsys)
    assert run(tmp_path, "selfie2anime", "--sha256", "0" * 64) == 1
    assert hashlib.sha256(server.content).hexdigest() in error(capsys)
    assert run(tmp_path, "selfie2anime") == 0
    assert server.requests == [] and sorted(os.listdir(tmp_path / "data")) == ["selfie2anime", "selfie2anime.zip"]


@pytest.mark.parametrize("name, larger", [("cat2dog", "B"), ("photo2portrait", "A")])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_domains_of_drit_sets_are_told_by_their_sizes(name, larger, swapped, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    domain = {"A": "B", "B": "A"}[larger] if swapped else larger
    archive = make_zip(inside("drit", {**UNPAIRED, f"train{domain}/more.png": PNG, f"test{domain}/more.png": PNG}))
    (tmp_path / "data" / f"{name}.zip").write_bytes(archive)
    assert run(tmp_path, name) == 0
    expected = {**UNPAIRED, f"train{larger}/more.png": PNG, f"test{larger}/more.png": PNG}
    assert files(tmp_path / "data" / name) == sorted(expected) and ("exchanging A and B" in capsys.readouterr().out) == swapped


def test_an_interrupted_download_is_resumed(server, tmp_path, capsys):
    half = len(server.content) // 2
    server.script = [break_off(half)]
    assert run(tmp_path, "zebras", "--url", server.url) == 1
    assert "repeat the command" in error(capsys) and files(tmp_path / "data") == [".zebras.zip.part"]
    assert run(tmp_path, "zebras", "--url", server.url) == 0
    assert files(tmp_path / "data") == sorted(inside("zebras", UNPAIRED)) and server.ranges == [None, f"bytes={half}-"]


# What every failure leaves

HOSTILE = {
    "zip that leads out": (lambda: make_zip({**UNPAIRED, "../evil.png": PNG}), "leads out"),
    "tar with a link": (lambda: make_special_tar(b"2", "trainA", ".."), "link"),
    "too large": (lambda: make_zip({"trainA/0.png": bytes(3_000_000)}), "exceeds the limits"),
    "too many files": (lambda: make_tar({f"trainA/{i}.png": b"" for i in range(60)}), "exceeds the limits"),
    "cut short": (lambda: make_tar(UNPAIRED)[:-20], "cut short"),
    "a web page": (lambda: b"<html>Please log in</html>", "not a zip or tar archive"),
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
    (tmp_path / "data" / "mine.zip").write_bytes(server.content)
    assert run(tmp_path, "mine") == 1 and os.listdir(tmp_path / "data") == ["mine.zip"]  # the user's own file stays


def test_an_archive_without_a_layout_stays_to_be_sorted_by_hand(server, tmp_path, capsys):
    server.content = make_zip({"set/A/1.png": PNG, "set/B/1.png": PNG})
    assert run(tmp_path, "mine", "--url", server.url) == 1
    message = error(capsys)
    assert "it holds A, B; put its images into trainA" in message and "mine.zip" in message
    assert os.listdir(tmp_path / "data") == ["mine.zip"]


def test_an_existing_folder_is_never_touched(server, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "data" / "zebras"

    def extract_while_the_folder_appears(archive: Path, draft: Path) -> None:
        folder.mkdir()
        (folder / "mine.png").write_bytes(PNG)
        archive_module.extract(archive, draft)

    monkeypatch.setattr(fetch_module, "extract", extract_while_the_folder_appears)
    assert run(tmp_path, "zebras", "--url", server.url) == 1
    assert "not empty" in error(capsys) and files(tmp_path / "data") == ["zebras.zip", "zebras/mine.png"]
    assert run(tmp_path, "zebras", "--url", server.url) == 2
    assert "exists already and was not touched" in error(capsys) and len(server.requests) == 1


def test_ctrl_c_while_unpacking_keeps_the_archive_and_no_draft(server, tmp_path, capsys, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(archive_module.Progress, "update", interrupt)
        patched.setattr(fetch_module, "download", lambda url, archive, label: archive.write_bytes(server.content))
        (tmp_path / "data").mkdir()
        assert run(tmp_path, "zebras", "--url", server.url) == 130
    assert "stopped" in error(capsys) and os.listdir(tmp_path / "data") == ["zebras.zip"]
    assert run(tmp_path, "zebras") == 0


def test_a_wrong_sum_or_a_missing_file_leaves_nothing(server, tmp_path, capsys):
    right = hashlib.sha256(server.content).hexdigest()
    assert run(tmp_path, "zebras", "--url", server.url, "--sha256", "0" * 64) == 1
    assert right in error(capsys) and files(tmp_path) == []
    server.script = [answer(404)]
    assert run(tmp_path, "zebras", "--url", server.url) == 1
    message = error(capsys)
    assert "404" in message and files(tmp_path) == []
    assert run(tmp_path, "zebras", "--url", server.url, "--sha256", right.upper()) == 0


def test_a_data_root_that_is_a_file(server, tmp_path, capsys):
    (tmp_path / "data").write_bytes(b"a file")
    assert run(tmp_path, "zebras", "--url", server.url) == 1
    assert "--data_root" in error(capsys)


def test_without_a_network_the_command_says_so_in_one_line(tmp_path):
    command = [sys.executable, "-m", "datatools.fetch", "mine", "--data_root", str(tmp_path / "data")]
    command += ["--url", "http://nowhere.invalid/mine.zip"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and result.stdout == ""
    assert result.stderr.startswith("error: http://nowhere.invalid/mine.zip") and list(tmp_path.iterdir()) == []


# Names


def test_the_list_names_every_set_with_its_methods(capsys):
    assert fetch_module.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(KNOWN)
    assert all(("pix2pix" in line) != ("ugatit, cyclegan" in line) for line in lines)
    assert "photo2vangogh is B2A" in next(line for line in lines if line.startswith("vangogh2photo"))


@pytest.mark.parametrize(
    "name, words",
    [
        ("selfie2anime", ["www.kaggle.com", "account", "data/selfie2anime.zip"]),
        ("unknown", ["--url", "--list"]),
        ("../up", ["../up", "name of a data set"]),
        (".hidden", [".hidden", "name of a data set"]),
    ],
)
def test_what_cannot_be_downloaded_says_what_to_do(name, words, tmp_path, capsys):
    assert run(tmp_path, name) == 2
    message = error(capsys)
    assert all(word in message for word in words) and list(tmp_path.iterdir()) == []


def test_a_set_whose_server_is_gone_says_how_to_get_it_by_hand(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(KNOWN, "cat2dog", KNOWN["cat2dog"]._replace(url="http://127.0.0.1:9/cat2dog.zip"))
    assert run(tmp_path, "cat2dog") == 1
    message = error(capsys)
    assert "refused" in message and f"as {tmp_path / 'data' / 'cat2dog.zip'} and repeat the command" in message


@pytest.mark.parametrize(
    "arguments", [[], ["a", "b"], ["a", "--foo"], ["a", "--url", "ftp://host/a"], ["cat2dog", "--sha256", "12"]]
)
def test_a_wrong_command_is_one_line(arguments, tmp_path, capsys):
    assert run(tmp_path, *arguments) == 2
    error(capsys)
    assert list(tmp_path.iterdir()) == []


# main.py --download


def train(tmp_path: Path, *arguments: str) -> int:
    where = ["--data_root", str(tmp_path / "data"), "--result_dir", str(tmp_path / "results"), "--device", "cpu"]
    return main.main([*where, *TINY, "--iteration", "1", *arguments])


def test_main_downloads_a_known_set_once(server, tmp_path, monkeypatch):
    monkeypatch.setitem(KNOWN, "horse2zebra", KNOWN["horse2zebra"]._replace(url=server.url))
    assert train(tmp_path, "--dataset", "horse2zebra", "--download") == 0
    assert newest_iteration(tmp_path / "results" / "horse2zebra" / "ugatit" / "checkpoints") == 1
    assert train(tmp_path, "--dataset", "horse2zebra", "--download", "--result_dir", str(tmp_path / "again")) == 0
    assert len(server.ranges) == 1


def test_main_without_the_network_or_an_account_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(KNOWN, "horse2zebra", KNOWN["horse2zebra"]._replace(url="http://127.0.0.1:9/horse2zebra.zip"))
    assert train(tmp_path, "--dataset", "horse2zebra", "--download") == 1
    assert "the download failed" in error(capsys)
    assert train(tmp_path, "--dataset", "selfie2anime", "--download") == 2
    assert "www.kaggle.com" in error(capsys)
    assert not (tmp_path / "results").exists()
