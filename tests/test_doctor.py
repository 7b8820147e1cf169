"""The dataset doctor: a clean set passes, and a set that is broken in many ways gets a finding for each."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, List

import cv2
import numpy as np
import pytest

import main
from config import CONFIGS
from dataset import find_images, open_training_data
from datatools import doctor as doctor_module
from datatools.doctor_checks.copies import near_copies
from datatools.doctor_checks.images import sniff
from errors import DataError
from tests.helpers import ROOT, draw_dataset, flags
from utils import read_image, write_image

SIZE = 64
DATA = ROOT.parent / "shared" / "data"


def picture(seed: int, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    """Coloured shapes on a sloping ground: (height, width, 3) uint8, smooth enough for JPEG, and unlike any other seed's."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    ground = 255 * np.stack([y / height, x / width, (x + y) / (width + height)], 2)
    image = np.ascontiguousarray((ground * rng.uniform(0.3, 1, 3)).astype(np.uint8))
    for _ in range(12):
        centre, radius = rng.integers(0, (width, height)), rng.integers(4, SIZE // 4)
        cv2.circle(image, centre.tolist(), int(radius), rng.integers(0, 256, 3).tolist(), -1)
    return image


def encode(extension: str, image: np.ndarray, *options: int) -> bytes:
    ordered = image[:, :, [2, 1, 0, 3][: image.shape[2]]] if image.ndim == 3 else image
    return cv2.imencode(extension, np.ascontiguousarray(ordered), options)[1].tobytes()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def unpaired(root: Path) -> Path:
    """A clean set: trainA, trainB, testA, testB with other names in A than in B."""
    for number, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        for index in range(8):
            write_image(root / folder / f"{folder[-1]}{index}.png", picture(100 * number + index))
    return root


def paired(root: Path) -> Path:
    """A clean set: train and test with A and B side by side."""
    for number, part in enumerate(("train", "test")):
        for index in range(8):
            halves = [picture(1000 + 100 * number + 10 * domain + index) for domain in (0, 5)]
            write_image(root / part / f"{index}.png", np.concatenate(halves, 1))
    return root


def doctor(root: Path, *flags: str) -> List[str]:
    where = ["--data_root", str(root.parent), "--dataset", root.name, "--result_dir", str(root.parent / "results")]
    return [*where, "--img_size", str(SIZE), *flags]


def report(root: Path, capsys, *flags: str) -> dict:
    """What --json prints; the exit code agrees with it."""
    exit_code = doctor_module.main(doctor(root, "--json", *flags))
    found = json.loads(capsys.readouterr().out)
    assert exit_code == (0 if found["trainable"] else 1)
    return found


def kinds(found: dict) -> Dict[str, dict]:
    return {finding["kind"]: finding for finding in found["findings"]}


@pytest.mark.parametrize("draw, trainable", [(unpaired, ["ugatit", "cyclegan"]), (paired, ["pix2pix"])])
def test_a_clean_set_is_trainable_and_gets_its_sheets(draw, trainable, tmp_path, capsys):
    root = draw(tmp_path / "set")
    found = report(root, capsys)
    assert [method for method, good in found["methods"].items() if good] == trainable
    assert set(kinds(found)) <= {"unmatched"}
    assert [Path(sheet).stem for sheet in found["sheets"]] == list(found["folders"])
    for sheet in found["sheets"]:
        # 8 pictures: in two lines of four, or each A above its B in one line of eight.
        height, width = read_image(sheet).shape[:2]
        assert height == 2 * 128 and width > (8 if draw is paired else 4) * 128
    for folder in found["folders"].values():
        assert folder["images"] == 8 and folder["unreadable"] == 0 and folder["formats"] == {"PNG": 8}
    assert found["disk_bytes"] == sum(folder["bytes"] for folder in found["folders"].values())


# The set that is broken: each function breaks it in one way, and says which files its finding must name.


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    body = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def corrupt(jpeg: bytes) -> bytes:
    """Zeros in the middle of the scan: libjpeg decodes, and complains."""
    middle = len(jpeg) * 2 // 3
    return jpeg[:middle] + bytes(200) + jpeg[middle + 200 :]


def as_cmyk(jpeg: bytes) -> bytes:
    """A CMYK JPEG of one colour, 64x64: four components that share the tables of a grey JPEG."""
    start, scan = jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xda")
    components = b"".join(bytes([index, 0x11, 0]) for index in range(1, 5))
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 8 + 12, 8, SIZE, SIZE, 4) + components
    order = b"\xff\xda" + struct.pack(">HB", 6 + 8, 4) + b"".join(bytes([index, 0]) for index in range(1, 5)) + b"\0\x3f\0"
    after = start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
    # A block of the usual tables: no difference (00), end of block (1010). Three bytes hold four.
    blocks = bytes([0b00101000, 0b10100010, 0b10001010]) * (SIZE // 8) ** 2
    return jpeg[:start] + frame + jpeg[after:scan] + order + blocks + b"\xff\xd9"


def ppm16(image: np.ndarray, white: int) -> bytes:
    values = (image.astype(np.uint32) * white // 255).astype(">u2")
    return b"P6\n# by hand\n%d %d\n%d\n" % (image.shape[1], image.shape[0], white) + values.tobytes()


def two_pages(image: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.tiff"
        assert cv2.imwritemulti(str(path), [np.ascontiguousarray(image[:, :, ::-1])] * 2)
        return path.read_bytes()


JPEG = encode(".jpg", picture(1))
RGBA = np.dstack([picture(2), np.where(np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 3, 255, 0).astype(np.uint8)])
# kind: the severity, and what to write where. The finding must name exactly these files (but those of `CONTEXT`).
BROKEN: Dict[str, tuple] = {
    "unreadable": ("error", {
        "trainA/page.jpg": b"<!DOCTYPE html><html>404</html>", "trainA/cut.jpg": JPEG[:-50], "trainB/empty.png": b"",
        "trainB/changed.png": encode(".png", picture(3))[:200] + b"?" + encode(".png", picture(3))[201:],
    }),
    "corrupt-jpeg": ("warning", {"trainA/corrupt.jpg": corrupt(encode(".jpg", picture(4)))}),
    "constant": ("warning", {"trainB/blank.png": encode(".png", np.full((SIZE, SIZE, 3), (9, 99, 200), np.uint8))}),
    "squeezed": ("warning", {"trainA/wide.png": encode(".png", picture(5, 200, 100))}),
    "small": ("warning", {"trainB/stamp.png": encode(".png", picture(6)[::4, ::4])}),
    "dark": ("warning", {
        "trainA/dark.ppm": ppm16(picture(7), 1023), "trainA/ten_bits.png": encode(".png", picture(8).astype(np.uint16) * 4),
    }),
    "cmyk": ("warning", {"trainB/printed.jpg": as_cmyk(encode(".jpg", picture(9)[:, :, 0]))}),
    "grey": ("note", {"trainA/grey.png": encode(".png", picture(10)[:, :, 0])}),
    "transparent": ("note", {"trainB/clear.png": encode(".png", RGBA)}),
    "turned": ("note", {"trainA/turned.jpg": with_orientation(encode(".jpg", picture(11)), 6)}),
    "frames": ("note", {"trainB/pages.tif": two_pages(picture(12))}),
    "extension": ("note", {"trainA/named.png": encode(".jpg", picture(13))}),
    "passed-over": ("note", {
        "trainA/moving.gif": b"GIF89a" + bytes(20), "trainA/.hidden.png": encode(".png", picture(14)), "trainB/notes.txt": b"text",
        "trainB/new.avif": b"\0\0\0\x20ftypavif" + bytes(20), "photos/one.png": encode(".png", picture(15)),
    }),
    "leak": ("warning", {"trainA/seen.png": encode(".png", picture(16)), "testA/seen.bmp": encode(".bmp", picture(16))}),
    "near-leak": ("warning", {
        "trainB/near.png": encode(".png", picture(17)),
        "testB/near.jpg": encode(".jpg", picture(17)[:, ::-1], cv2.IMWRITE_JPEG_QUALITY, 80),
    }),
    "duplicate": ("note", {"trainA/twin.png": encode(".png", picture(18)), "trainA/twin.ppm": encode(".ppm", picture(18))}),
    "both-domains": ("warning", {"trainA/both.png": encode(".png", picture(19)), "trainB/both.png": encode(".png", picture(19))}),
    "near-duplicate": ("note", {
        "trainB/like.png": encode(".png", picture(20)), "trainB/like.jpg": encode(".jpg", picture(20)),
    }),
    "case": ("warning", {"trainA/Name.png": encode(".png", picture(21)), "trainA/name.png": encode(".png", picture(22))}),
}  # fmt: skip


def break_set(root: Path, *broken: str) -> None:
    for kind in broken or BROKEN:
        for path, content in BROKEN[kind][1].items():
            write(root / path, content)


def named(kind: str) -> List[str]:
    return sorted("photos/" if path.startswith("photos") else path for path in BROKEN[kind][1])


def test_a_set_broken_in_every_way_gets_a_finding_for_each(tmp_path, capsys):
    root = unpaired(tmp_path / "set")
    break_set(root)
    found = report(root, capsys)
    assert found["trainable"] is False
    files: Dict[str, List[str]] = {}
    for finding in found["findings"]:
        files.setdefault(finding["kind"], []).extend(finding["files"])
    side_effects = {"grey": {"trainB/printed.jpg"}, "constant": {"trainB/printed.jpg"}}
    for kind, (severity, _) in BROKEN.items():
        assert severity in [finding["severity"] for finding in found["findings"] if finding["kind"] == kind], kind
        assert sorted(set(files[kind]) - side_effects.get(kind, set())) == named(kind), kind
    over = [finding for finding in found["findings"] if finding["kind"] == "passed-over"]
    passed_over = {path: finding["severity"] for finding in over for path in finding["files"]}
    assert passed_over["trainA/moving.gif"] == "warning" and passed_over["photos/"] == "note"
    order = [("error", "warning", "note").index(finding["severity"]) for finding in found["findings"]]
    assert order == sorted(order)
    assert found["folders"]["trainA"]["unreadable"] == 2 and found["folders"]["trainB"]["unreadable"] == 2
    assert report(root, capsys)["findings"] == found["findings"]  # whatever the threads' order


@pytest.mark.parametrize("kind", BROKEN)
def test_each_way_alone_is_found_and_no_other(kind, tmp_path, capsys):
    root = unpaired(tmp_path / "set")
    break_set(root, kind)
    found = report(root, capsys, "--method", "cyclegan")
    expected = {"grey", "constant", kind} if kind == "cmyk" else {"mixed-sizes", kind}
    assert kind in kinds(found) and set(kinds(found)) <= expected
    assert found["trainable"] is (kind != "unreadable")


def test_details_say_what_is_wrong(tmp_path, capsys):
    root = unpaired(tmp_path / "set")
    break_set(root)
    found = kinds(report(root, capsys))
    details = {case["files"][0]: case["detail"] for kind in found for case in found[kind]["cases"] if case["detail"]}
    assert "it holds HTML" in details["trainA/page.jpg"] and "truncated" in details["trainA/cut.jpg"]
    assert details["trainB/empty.png"] == "the file is empty"
    assert details["trainA/wide.png"] == "200x100" and "white is 1023" in details["trainA/dark.ppm"]
    assert details["trainA/named.png"] == "holds JPEG" and details["trainB/near.png"] == "mirrored"
    assert f"{SIZE + 30}x{SIZE + 30}" in found["squeezed"]["consequence"]


def test_the_text_is_short_and_ends_with_the_verdict(tmp_path, capsys):
    root = unpaired(tmp_path / "set")
    for index in range(13):
        write(root / "trainA" / f"bad{index:02}.jpg", b"<html>")
    assert doctor_module.main(doctor(root)) == 1
    lines = capsys.readouterr().out.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("error: 13 images that cannot be read: would stop"))
    listed = " ".join(lines[first + 1 : first + 8])
    assert "bad09.jpg" in listed and "bad10.jpg" not in listed and "and 3 more" in listed
    assert lines[-1] == "not trainable by ugatit, cyclegan, pix2pix: mend the 1 error above"


def test_the_command_of_the_verdict_is_valid(tmp_path, capsys):
    root = paired(tmp_path / "set")
    assert doctor_module.main(doctor(root)) == 0
    verdict, command = capsys.readouterr().out.splitlines()[-1].split(": python main.py ")
    assert verdict == "trainable by pix2pix"
    config, _ = doctor_module.parse_arguments(command.split())
    assert config.method == "pix2pix" and open_training_data(config).longest() == 8


# What stops a training: the doctor and the loader must agree.


def remove(path: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for name in find_images(root / path) if (root / path).is_dir() else [""]:
            (root / path / name).unlink()

    return change


def remove_folder(path: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        remove(path)(root)
        (root / path).rmdir()

    return change


def put(path: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: write(root / path, content)


def to_names_of_pairs(root: Path) -> None:
    for folder in ("trainB", "testB"):
        for name in find_images(root / folder):
            os.rename(root / folder / name, root / folder / name.replace("B", "A"))


def pairs_with(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(root: Path) -> None:
        to_names_of_pairs(root)
        change(root)

    return both


STOPPING = {
    "nothing, ugatit": (unpaired, lambda root: None, "ugatit", None),
    "nothing, pix2pix": (paired, lambda root: None, "pix2pix", None),
    "pairs by name": (unpaired, to_names_of_pairs, "pix2pix", None),
    "only train": (paired, remove_folder("test"), "pix2pix", None),
    "val for test": (paired, lambda root: os.rename(root / "test", root / "val"), "pix2pix", None),
    "no trainB": (unpaired, remove_folder("trainB"), "cyclegan", "missing-folder"),
    "empty trainA": (unpaired, remove("trainA"), "ugatit", "empty-folder"),
    "empty testB": (unpaired, remove("testB"), "ugatit", "empty-folder"),
    "empty train": (paired, remove("train"), "pix2pix", "empty-folder"),
    "pairs for ugatit": (paired, lambda root: None, "ugatit", "missing-folder"),
    "names that do not match": (unpaired, lambda root: None, "pix2pix", "unmatched"),
    "one name without counterpart": (unpaired, pairs_with(remove("trainB/A3.png")), "pix2pix", "unmatched"),
    "one test name without counterpart": (unpaired, pairs_with(remove("testA/A3.png")), "pix2pix", "unmatched"),
    "testB alone": (unpaired, pairs_with(remove_folder("testB")), "pix2pix", "missing-folder"),
    "two files of one stem": (unpaired, pairs_with(put("trainA/A3.jpg", JPEG)), "pix2pix", "refused"),
    "odd width": (paired, put("train/odd.png", encode(".png", picture(30, 129))), "pix2pix", "not-a-pair"),
    "not wide": (paired, put("train/square.png", encode(".png", picture(31))), "pix2pix", "not-a-pair"),
    "unreadable": (paired, put("train/bad.png", b"?"), "pix2pix", "unreadable"),
    "unreadable sample": (unpaired, put("testA/A0.png", b"?"), "ugatit", "unreadable"),
    "unreadable, not a sample": (unpaired, put("testA/z.png", b"?"), "ugatit", None),
}


@pytest.mark.parametrize("case", STOPPING)
def test_it_stops_what_the_loader_stops(case, tmp_path, capsys):
    draw, change, method, kind = STOPPING[case]
    root = draw(tmp_path / "set")
    change(root)
    found = report(root, capsys, "--method", method, *(["--n_dis", "4"] if method == "ugatit" else []))
    errors = [finding["kind"] for finding in found["findings"] if finding["severity"] == "error"]
    assert errors == ([kind] if kind else [])
    config = CONFIGS[method](dataset="set", data_root=str(tmp_path), img_size=SIZE, num_workers=0)

    def load() -> None:
        data = open_training_data(config)
        data.samples()
        for _ in data.batches(1, data.iterations_per_epoch):
            pass

    if kind is None:
        load()
    else:
        with pytest.raises(DataError):
            load()


def test_unmatched_images_are_all_named_and_stop_pix2pix_alone(tmp_path, capsys):
    root = unpaired(tmp_path / "set")
    to_names_of_pairs(root)
    remove("trainB/A3.png")(root)
    found = report(root, capsys)
    assert found["methods"] == {"ugatit": True, "cyclegan": True, "pix2pix": False}
    unmatched = kinds(found)["unmatched"]
    assert unmatched["files"] == ["trainA/A3.png"] and unmatched["severity"] == "note" and unmatched["stops"] == ["pix2pix"]


def test_halves_are_looked_at_apart(tmp_path, capsys):
    root = paired(tmp_path / "set")
    half, flat = picture(40), np.full((SIZE, SIZE, 3), 90, np.uint8)
    write_image(root / "train" / "same.png", np.concatenate([half, half], 1))
    write_image(root / "train" / "flat.png", np.concatenate([picture(41), flat], 1))
    # Mirrored as augmentation does: each half in its place.
    pair = read_image(root / "train" / "0.png")
    write_image(root / "test" / "mirrored.png", np.concatenate([pair[:, SIZE - 1 :: -1], pair[:, : SIZE - 1 : -1]], 1))
    found = kinds(report(root, capsys))
    assert found["same-halves"]["files"] == ["train/same.png"]
    assert found["constant"]["files"] == ["train/flat.png"]
    assert found["near-leak"]["cases"] == [{"files": ["train/0.png", "test/mirrored.png"], "detail": "mirrored"}]
    assert "squeezed" not in found


def test_a_batch_larger_than_a_folder_and_folders_without_test_images(tmp_path, capsys):
    root = unpaired(tmp_path / "set")
    remove_folder("testA")(root)
    found = report(root, capsys, "--method", "ugatit", "--batch_size", "9", "--n_dis", "4")
    assert found["trainable"] is True and {"few", "no-test"} <= set(kinds(found))
    assert "testA" not in found["folders"]


# Near copies


def thumbnails(*images: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 64)) for image in images])


def test_near_copies_find_what_was_changed_a_little():
    rng = np.random.default_rng(0)
    image = picture(50, 96, 96)
    noisy = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    dimmed, smaller = (image * 0.7).astype(np.uint8), cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA)
    others = [picture(seed) for seed in range(51, 71)]
    groups = near_copies(thumbnails(image, *others, noisy, dimmed, smaller, np.ascontiguousarray(image[:, ::-1])))
    assert [group.members for group in groups] == [[0, 21, 22, 23, 24]] and groups[0].mirrored
    assert near_copies(thumbnails(*others)) == []
    assert near_copies(np.zeros((0, 64, 64), np.uint8)) == []


def test_formats_by_content():
    assert {extension: sniff(encode(extension, picture(1))) for extension in (".jpg", ".png", ".bmp", ".ppm", ".tif", ".webp")} == {
        ".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".ppm": "PPM", ".tif": "TIFF", ".webp": "WebP",
    }  # fmt: skip
    assert sniff(b"\0\0\0\x18ftypheic") == "HEIC" and sniff(b"\xef\xbb\xbf \n<HTML>") == "HTML" and sniff(b"?") == "unknown"


# The command line


@pytest.mark.parametrize("arguments, exit_code, words", [
    (["--dataset", "absent"], 1, ["--data_root", "absent"]),
    (["--dataset", "a/b"], 2, ["--dataset"]),
    (["--dataset", "set", "--method", "dualgan"], 2, ["--method", "dualgan"]),
    (["--dataset", "set", "--deep"], 2, ["--deep"]),
    (["--dataset", "set", "--method", "ugatit", "--img_size", "30"], 2, ["--img_size 30"]),
    (["--dataset", "set", "--result_dir", "file"], 1, ["--result_dir"]),
])  # fmt: skip
def test_mistakes_get_one_line(arguments, exit_code, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paired(tmp_path / "dataset" / "set")
    (tmp_path / "file").write_text("a file where a folder should be")
    assert doctor_module.main(arguments) == exit_code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and all(word in err for word in words), err


def test_as_users_call_it(tmp_path):
    root = unpaired(tmp_path / "自拍 set")
    break_set(root, "corrupt-jpeg")
    os.rename(root / "trainA" / "A0.png", root / "trainA" / "照片.png")
    command = [sys.executable, "-m", "datatools.doctor", *doctor(root, "--num_workers", "0")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0 and result.stderr == ""  # libjpeg's complaint is in the report, not on the terminal
    assert "warning: 1 image whose JPEG data is corrupt" in result.stdout and "trainA/corrupt.jpg" in result.stdout
    assert (tmp_path / "results" / "自拍 set" / "check" / "trainA.png").is_file()


@pytest.mark.skipif(not (DATA / "facades").is_dir(), reason="the real sets are not there")
@pytest.mark.parametrize("name, kind, files", [
    ("selfie2anime", "near-leak", ["trainA/00156.jpg", "testA/00225.jpg", "trainA/00375.jpg", "testA/00529.jpg"]),
    ("facades", "constant", ["test/55.jpg"]),
])  # fmt: skip
def test_on_the_real_sets(name, kind, files, tmp_path, capsys):
    arguments = ["--data_root", str(DATA), "--dataset", name, "--result_dir", str(tmp_path), "--json"]
    assert doctor_module.main(arguments) == 0
    assert kinds(json.loads(capsys.readouterr().out))[kind]["files"] == files


# main.py --phase check


def test_the_check_phase_judges_as_the_tool_does(tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, "--phase", "check")) == 0
    assert "trainable by ugatit, cyclegan" in capsys.readouterr().out
    assert main.main(flags(tmp_path, "--phase", "check", "--method", "pix2pix")) == 1
    assert "not trainable by pix2pix" in capsys.readouterr().out
    assert main.main(flags(tmp_path, "--phase", "check", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["trainable"] is True
    assert (tmp_path / "results" / "tiny" / "check" / "trainA.png").exists()
    assert main.main(flags(tmp_path, "--phase", "check", "--dataset", "absent")) == 1
    assert "absent" in capsys.readouterr().err
