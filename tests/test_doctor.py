"""The dataset doctor: a clean set passes, and a set that is broken in many ways gets a finding for each."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

import main
from command_line import parse_arguments
from config import CONFIGS
from dataset import open_training_data
from datatools import doctor
from datatools.checks import KINDS
from engine import progress
from errors import DataError
from tests.helpers import ROOT, draw_dataset, draw_pairs, flags
from utils import read_image, write_image

SIZE = 64
DATA = ROOT.parent / "shared" / "data"


def picture(seed: int, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    """Soft patches of colour: (height, width, 3) uint8, which JPEG keeps nearly, and unlike any other seed's."""
    patches = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), np.uint8)
    return cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(kind: str, image: np.ndarray, mode: str = "", **options) -> bytes:
    """The image's file, in Pillow's words."""
    content, page = io.BytesIO(), PIL.Image.fromarray(image)
    (page.convert(mode) if mode else page).save(content, kind, **options)
    return content.getvalue()


def unpaired(root: Path) -> None:
    draw_dataset(root.parent, root.name, 8, 7, SIZE)  # with one image more in B than in A


def matched(root: Path) -> None:
    unpaired(root)
    (root / "trainB" / "8.png").unlink()
    (root / "testB" / "7.png").unlink()


def paired(root: Path) -> None:
    draw_pairs(root.parent, root.name, SIZE)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


def arguments(root: Path, *flags: str) -> list:
    where = ["--data_root", str(root.parent), "--dataset", root.name, "--result_dir", str(root.parent / "results")]
    return [*where, "--img_size", str(SIZE), *flags]


def report(root: Path, capsys, *flags: str) -> dict:
    """What --json prints, with the findings by their kinds; the exit code agrees with it."""
    exit_code = doctor.main(arguments(root, "--json", *flags))
    found = json.loads(capsys.readouterr().out)
    assert exit_code == (0 if found["trainable"] else 1)
    severities = [finding["severity"] for finding in found["findings"]]
    assert severities == sorted(severities, key=("error", "warning", "note").index)
    return {**found, "findings": {finding["kind"]: finding for finding in found["findings"]}}


@pytest.mark.parametrize("draw, size, trainable, counts", [
    (unpaired, "64x64", ["ugatit", "cyclegan"], {"trainA": 8, "trainB": 9, "testA": 7, "testB": 8}),
    (paired, "128x64", ["pix2pix"], {"train": 3, "test": 2}),
])  # fmt: skip
def test_a_clean_set_is_trainable_and_gets_its_sheets(draw, size, trainable, counts, root, capsys):
    draw(root)
    found = report(root, capsys)
    assert [method for method, good in found["methods"].items() if good] == trainable
    assert set(found["findings"]) <= {"refused"}  # by Pix2Pix, for the image more
    for name, folder in found["folders"].items():
        bytes_of_it = sum(path.stat().st_size for path in (root / name).iterdir())
        assert folder == {
            "images": counts[name], "read": counts[name], "unreadable": 0, "bytes": bytes_of_it, "sizes": {size: counts[name]},
            "modes": {"RGB": counts[name]}, "formats": {"PNG": counts[name]},
        }  # fmt: skip
    assert found["disk_bytes"] == sum(folder["bytes"] for folder in found["folders"].values())
    # In a line of at most 8, or each A above its B.
    assert [Path(sheet).stem for sheet in found["sheets"]] == list(found["folders"]) == list(counts)
    assert read_image(found["sheets"][0]).shape[0] == (2 if draw is paired else 1) * 128


WHOLE = encode("PNG", picture(3))
ALPHA = np.where(np.arange(SIZE * SIZE).reshape(SIZE, SIZE, 1) % 3, 255, 0).astype(np.uint8)
TURNED = PIL.Image.Exif()
TURNED[0x0112] = 6
# Kind of finding: the files that it must name, and nothing else. None is a pipe, a path is what a link leads to.
BROKEN = {
    "unreadable": {
        "trainA/page.jpg": b"<!DOCTYPE html><html>404</html>", "trainA/cut.jpg": encode("JPEG", picture(1))[:-50],
        "trainB/empty.png": b"", "trainB/changed.png": WHOLE[:200] + b"?" + WHOLE[201:],
    },
    "constant": {"trainB/blank.png": encode("PNG", np.full((SIZE, SIZE, 3), (9, 99, 200), np.uint8))},
    "squeezed": {"trainA/wide.png": encode("PNG", picture(5, 200, 100))},
    "small": {"trainB/stamp.png": encode("PNG", picture(6)[::4, ::4])},
    "cmyk": {"trainB/printed.jpg": encode("JPEG", picture(9), "CMYK")},
    "grey": {"trainA/grey.png": encode("PNG", picture(10)[:, :, 0])},
    "transparent": {"trainB/clear.png": encode("PNG", np.dstack([picture(2), ALPHA]))},
    "turned": {"trainA/turned.jpg": encode("JPEG", picture(11), exif=TURNED.tobytes())},
    "frames": {"trainB/pages.tif": encode("TIFF", picture(12), save_all=True, append_images=[PIL.Image.new("RGB", (9, 9))])},
    "extension": {"trainA/named.png": encode("JPEG", picture(13))},
    "other-extension": {"trainA/moving.gif": encode("GIF", picture(14)), "trainB/new.heic": b"as telephones write it"},
    "hidden": {"trainA/.hidden.png": WHOLE},
    "no-image": {"trainB/notes.txt": b"text"},
    "other-folder": {"photos": Path(ROOT / "docs")},
    "broken-link": {"trainA/gone.png": Path("nowhere.png"), "trainC": Path("nowhere")},
    "repeated-link": {"trainA/around": Path("..")},
    "special-file": {"trainB/pipe.png": None},
    "leak": {
        "trainA/seen.png": encode("PNG", picture(16)), "testA/seen.bmp": encode("BMP", picture(16)),
        "trainB/near.png": encode("PNG", picture(17)), "testB/near.jpg": encode("JPEG", picture(17)[:, ::-1], quality=80),
    },
    "duplicate": {
        "trainA/twin.png": encode("PNG", picture(18)), "trainA/twin.ppm": encode("PPM", picture(18)),
        "trainA/noisy.png": encode("PNG", picture(18) // 2 + np.random.default_rng(0).integers(0, 20, (SIZE, SIZE, 3), np.uint8)),
        "trainB/like.png": encode("PNG", picture(20)), "trainB/like.jpg": encode("JPEG", picture(20)),
    },
    "both-domains": {"trainA/both.png": encode("PNG", picture(19)), "trainB/both.png": encode("PNG", picture(19))},
}  # fmt: skip


def spoil(root: Path, *broken: str) -> None:
    for path, content in ((root / path, content) for kind in broken for path, content in BROKEN[kind].items()):
        if isinstance(content, Path):
            path.symlink_to(content)
        elif content is None:
            os.mkfifo(path)
        else:
            path.write_bytes(content)


def test_a_set_broken_in_every_way_gets_a_finding_for_each(root, capsys):
    unpaired(root)
    spoil(root, *BROKEN)
    found = report(root, capsys)
    assert set(KINDS) - {"not-a-pair", "same-halves", "no-test"} == set(BROKEN) == set(found["findings"]) - {"refused"}
    for kind, files in BROKEN.items():
        assert set(found["findings"][kind]["files"]) == set(files), kind
        assert found["findings"][kind]["severity"] == ("error" if kind == "unreadable" else KINDS[kind][0])
    assert found["folders"]["trainA"]["unreadable"] == 2 and found["folders"]["trainB"]["unreadable"] == 2
    cases = [case for finding in found["findings"].values() for case in finding["cases"]]
    details = {case["files"][0]: case["detail"] for case in cases if case["detail"]}
    assert "HTML" in details["trainA/page.jpg"] and "truncated" in details["trainA/cut.jpg"]
    assert details["trainB/empty.png"] == "the file is empty" and details["trainA/wide.png"] == "200x100"
    assert details["trainA/named.png"] == "holds JPEG"
    assert details["trainA/seen.png"] == "equal" and details["trainB/near.png"] == "mirrored"


@pytest.mark.parametrize("kind", BROKEN)
def test_each_way_alone_is_found_and_no_other(kind, root, capsys):
    unpaired(root)
    spoil(root, kind)
    found = report(root, capsys, "--method", "cyclegan")
    assert set(found["findings"]) == {kind} and found["trainable"] is (kind != "unreadable")


def test_halves_are_looked_at_apart(root, capsys):
    paired(root)
    write_image(root / "train" / "same.png", np.tile(picture(40), (1, 2, 1)))
    write_image(root / "train" / "flat.png", np.concatenate([picture(41), np.full((SIZE, SIZE, 3), 90, np.uint8)], 1))
    # Mirrored as augmentation does: each half in its place.
    halves = picture(42), picture(43)
    write_image(root / "train" / "pair.png", np.concatenate(halves, 1))
    write_image(root / "test" / "mirrored.png", np.concatenate([half[:, ::-1] for half in halves], 1))
    found = report(root, capsys)["findings"]
    assert {kind: finding["files"] for kind, finding in found.items()} == {
        "same-halves": ["train/same.png"], "constant": ["train/flat.png"], "leak": ["train/pair.png", "test/mirrored.png"],
    }  # fmt: skip


# A set, what is done to it, the method, and the error that it gets: none where the loader can train.
STOPPING = {
    "pairs by name": (matched, lambda root: None, "pix2pix", None),
    "only train": (paired, lambda root: shutil.rmtree(root / "test"), "pix2pix", None),
    "no trainB": (unpaired, lambda root: shutil.rmtree(root / "trainB"), "cyclegan", "refused"),
    "empty testB": (unpaired, lambda root: [path.unlink() for path in root.glob("testB/*")], "ugatit", "refused"),
    "pairs for ugatit": (paired, lambda root: None, "ugatit", "refused"),
    "no counterpart": (matched, lambda root: (root / "testA/3.png").unlink(), "pix2pix", "refused"),
    "odd width": (paired, lambda root: write_image(root / "train/odd.png", picture(30, 129)), "pix2pix", "not-a-pair"),
    "single": (paired, lambda root: write_image(root / "test/0.png", picture(32, 64, 60)), "pix2pix", "not-a-pair"),
    "unreadable": (paired, lambda root: (root / "train/bad.png").write_bytes(b"?"), "pix2pix", "unreadable"),
    "unreadable sample": (unpaired, lambda root: (root / "testA/0.png").write_bytes(b"?"), "ugatit", "unreadable"),
    "unreadable, not a sample": (unpaired, lambda root: (root / "testA/z.png").write_bytes(b"?"), "ugatit", None),
}


@pytest.mark.parametrize("case", STOPPING)
def test_it_stops_what_the_loader_stops(case, root, capsys):
    draw, change, method, kind = STOPPING[case]
    draw(root)
    change(root)
    found = report(root, capsys, "--method", method, *(["--n_dis", "4"] if method == "ugatit" else []))["findings"]
    assert [finding["kind"] for finding in found.values() if finding["severity"] == "error"] == ([kind] if kind else [])
    assert ("no-test" in found) is (case in ("only train", "pairs for ugatit"))

    with contextlib.nullcontext() if kind is None else pytest.raises(DataError):
        data = open_training_data(CONFIGS[method](dataset=root.name, data_root=str(root.parent), img_size=SIZE, num_workers=0))
        data.samples()
        assert list(data.batches(1, data.iterations_per_epoch))


# The command


def test_the_text_is_short_and_ends_with_the_verdict(root, capsys):
    unpaired(root)
    assert doctor.main(arguments(root)) == 0
    verdict, command = capsys.readouterr().out.splitlines()[-1].split(": python main.py ")
    assert verdict == "trainable by ugatit, cyclegan (not by pix2pix)"
    assert open_training_data(parse_arguments(command.split())[0]).longest() == 9
    for index in range(13):
        (root / "trainA" / f"bad{index:02}.jpg").write_bytes(b"<html>")
    assert doctor.main(arguments(root)) == 1
    text = capsys.readouterr().out
    assert "\nerror: 13 images that cannot be read: would stop the training\n    trainA/bad00.jpg (not an image but HTML" in text
    assert "bad09.jpg" in text and "bad10.jpg" not in text and "and 3 more" in text
    assert text.endswith("\nnot trainable by ugatit, cyclegan, pix2pix: repair the 1 error above\n")


@pytest.mark.parametrize("more, exit_code, words", [
    (["--dataset", "absent"], 1, "absent"), (["--method", "dualgan"], 2, "--method"), (["--deep"], 2, "--deep"),
    (["--result_dir", "set/trainA/0.png"], 1, "--result_dir"), (["--method", "ugatit", "--img_size", "30"], 2, "--img_size 30"),
])  # fmt: skip
def test_mistakes_get_one_line(more, exit_code, words, root, capsys, monkeypatch):
    unpaired(root)
    monkeypatch.chdir(root.parent)
    assert doctor.main(arguments(root, *more)) == exit_code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_progress_and_a_full_disk(root, capsys, monkeypatch):
    unpaired(root)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    assert doctor.main(arguments(root, "--json")) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["trainable"] and "\r" not in err
    assert err.splitlines()[-1].startswith("reading: 32 images, ") and err.endswith("32 in all, 0:00:00 left\n")

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert doctor.main(arguments(root)) == 1
    assert "results/set/check/trainA.png: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("encoding, shown", [("utf-8", "照片.png"), ("ascii", r"\u7167\u7247.png")])
def test_names_of_any_kind_as_users_call_it(encoding, shown, tmp_path):
    root = tmp_path / "自拍 set"
    unpaired(root)
    for name in ("照片.png", os.fsdecode(b"\xff.png")):
        (root / "trainA" / name).write_bytes(encode("JPEG", picture(70)))
    command = [sys.executable, "-m", "datatools.doctor", *arguments(root, "--num_workers", "0")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert result.returncode == 0 and result.stderr == b""
    assert shown in result.stdout.decode(encoding) and r"\udcff.png" in result.stdout.decode(encoding)
    assert (tmp_path / "results" / "自拍 set" / "check" / "trainA.png").is_file()


@pytest.mark.skipif(not (DATA / "facades").is_dir(), reason="the real sets are not there")
@pytest.mark.parametrize("name, kind, files", [
    ("selfie2anime", "leak", ["trainA/00156.jpg", "testA/00225.jpg", "trainA/00375.jpg", "testA/00529.jpg"]),
    ("facades", "constant", ["test/55.jpg"]),
])  # fmt: skip
def test_on_the_real_sets(name, kind, files, tmp_path, capsys):
    found = report(DATA / name, capsys, "--img_size", "256", "--result_dir", str(tmp_path))
    assert found["trainable"] and found["findings"][kind]["files"] == files


def test_the_check_phase_judges_as_the_tool_does(tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    for more, exit_code, words in (
        ([], 0, "trainable by ugatit, cyclegan"),
        (["--method", "pix2pix"], 1, "not trainable by pix2pix"),
        (["--json"], 0, '"trainable": true'),
    ):
        assert main.main(flags(tmp_path, "--phase", "check", *more)) == exit_code
        assert words in capsys.readouterr().out
    assert (tmp_path / "results" / "tiny" / "check" / "trainA.png").exists()


def test_quick_reads_some_and_lists_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "MOST_READ_QUICKLY", 2)
    root = draw_dataset(tmp_path / "data", train=5)
    (root / "trainA" / "note.txt").write_text("a note")
    arguments = ["--dataset", "tiny", "--data_root", str(tmp_path / "data"), "--result_dir", str(tmp_path / "results")]
    assert main.main([*arguments, "--phase", "check", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "trainA  5 images, 2 of them read" in said and "note.txt" in said
    assert doctor.evenly_spread(["a", "b", "c", "d", "e"]) == ["a", "e"]
