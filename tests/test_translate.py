"""--phase translate as users call it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

import main
from deploy import faces
from deploy.video import VideoReader, find_ffmpeg
from tests.helpers import ROOT, command, save_untrained
from utils import read_image, write_image

SLOW_ENGINE = """
import time
from deploy.engines import NetworkEngine
run = NetworkEngine.run
NetworkEngine.run = lambda self, images: time.sleep(0.3) or run(self, images)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model"))


def translate(checkpoint: Path, source, output, *flags: str) -> int:
    where = ["--checkpoint", str(checkpoint), "--input", str(source), "--output", str(output)]
    return main.main(["--phase", "translate", *where, "--engine", "network", *flags])


def picture(height: int = 30, width: int = 40, channels: int = 3, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, channels), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)


def below(folder: Path) -> set:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def mixed_folder(folder: Path) -> Path:
    """Pictures of every kind, and files that are none."""
    folder.mkdir()
    for index in range(4):
        write_image(folder / "plain" / f"{index}.png", picture(seed=index))
        write_image(folder / "plain" / "deep" / f"{index}.jpg", picture(60, 25, seed=index))
    write_image(folder / "grey.png", picture(channels=1))
    write_image(folder / "transparent.png", picture(channels=4))
    write_image(folder / "photo.webp", picture())
    cv2.imwrite(str(folder / "16 bit.png"), picture()[:, :, ::-1].astype(np.uint16) * 257)
    image = PIL.Image.fromarray(picture())
    image.quantize(16).save(folder / "palette.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(folder / "turned.jpg", exif=exif)
    image.save(folder / "ümlaut 图.tiff")
    write_image(folder / "large.jpg", picture(2000, 2500))
    content = (folder / "plain" / "deep" / "0.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not to be read")
    with open(folder / "bomb.png", "wb") as file:
        PIL.Image.new("1", (30_000, 30_000)).save(file)
    return folder


BROKEN = {"truncated.jpg", "text.jpg", "empty.png", "bomb.png"}


def test_a_folder_of_mixed_files(checkpoint, tmp_path, capsys):
    folder = mixed_folder(tmp_path / "in")
    assert translate(checkpoint, folder, tmp_path / "out") == 1
    out, err = capsys.readouterr()
    good = {name for name in below(folder) - BROKEN if not name.endswith(".txt")}
    assert below(tmp_path / "out") == {str(Path(name).with_suffix(".png")) for name in good}
    lines = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert len(lines) == len(BROKEN) and all(any(str(folder / name) in line for line in lines) for name in BROKEN)
    assert "30000x30000 pixels are more than" in err
    assert f"{len(good)} of {len(good) + len(BROKEN)} files translated" in out and "4 could not be translated" in out
    for name in below(tmp_path / "out"):
        assert read_image(tmp_path / "out" / name).shape == (24, 24, 3)
    # The same picture in other encodings has the same translation.
    pictures = [read_image(tmp_path / "out" / name).astype(int) for name in ("16 bit.png", "ümlaut 图.png", "plain/0.png")]
    assert (pictures[0] == pictures[1]).all() and (pictures[0] == pictures[2]).all()


def test_transparency_is_carried_over(checkpoint, tmp_path):
    image = picture(48, 48, 4)
    image[:24, :, 3], image[24:, :, 3] = 0, 255
    write_image(tmp_path / "a.png", image)
    assert translate(checkpoint, tmp_path / "a.png", tmp_path / "out") == 0
    translated = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert translated.shape == (24, 24, 4)
    assert (translated[:12, :, 3] == 0).all() and (translated[12:, :, 3] == 255).all()
    assert translate(checkpoint, tmp_path / "a.png", tmp_path / "out", "--format", "jpg") == 0
    assert (read_image(tmp_path / "out" / "a.jpg")[:8] > 245).all()  # white shows through


def test_grey_stays_grey_on_request(checkpoint, tmp_path):
    write_image(tmp_path / "in" / "grey.png", picture(channels=1))
    write_image(tmp_path / "in" / "colour.png", picture())
    for flags, is_grey in (((), False), (("--keep_grey",), True)):
        output = tmp_path / ("out" + "".join(flags))
        assert translate(checkpoint, tmp_path / "in", output, *flags) == 0
        grey, colour = (read_image(output / name) for name in ("grey.png", "colour.png"))
        assert (grey[..., :1] == grey[..., 1:]).all() == is_grey
        assert not (colour[..., :1] == colour[..., 1:]).all()


def test_a_turned_photograph_is_translated_upright(checkpoint, tmp_path):
    image = picture(30, 40)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    write_image(tmp_path / "upright.png", np.rot90(image, -1))
    for name in ("turned", "upright"):
        assert translate(checkpoint, tmp_path / f"{name}.png", tmp_path / "out", "--size", "keep") == 0
    turned, upright = (read_image(tmp_path / "out" / f"{name}.png") for name in ("turned", "upright"))
    assert turned.shape == (40, 30, 3) and (turned == upright).all()


@pytest.mark.parametrize("size, shape", [("model", (24, 24)), ("keep", (30, 40)), ("60", (60, 80))])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_sizes_and_formats(checkpoint, tmp_path, size, shape, suffix):
    write_image(tmp_path / "a.png", picture())
    flags = ["--size", size, "--format", suffix, "--quality", "80"]
    assert translate(checkpoint, tmp_path / "a.png", tmp_path / "out", *flags, "--heatmap", "--side_by_side") == 0
    assert below(tmp_path / "out") == {f"{folder}a.{suffix}" for folder in ("", "heatmap/", "side_by_side/")}
    assert read_image(tmp_path / "out" / f"a.{suffix}").shape[:2] == shape
    assert read_image(tmp_path / "out" / "heatmap" / f"a.{suffix}").shape[:2] == shape
    both = read_image(tmp_path / "out" / "side_by_side" / f"a.{suffix}").astype(int)
    assert both.shape[:2] == (shape[0], 2 * shape[1])
    assert PIL.Image.open(tmp_path / "out" / f"a.{suffix}").format == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[suffix]
    if suffix == "png" and size == "keep":
        assert (both[:, :40] == picture()).all()
        assert (both[:, 40:] == read_image(tmp_path / "out" / "a.png")).all()


def test_a_pattern_and_names_that_collide(checkpoint, tmp_path):
    for name in ("a/1.png", "a/1.jpg", "b/1.png", "b/2.bmp", "b/not.gif"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(picture()).save(tmp_path / "in" / name)
    assert translate(checkpoint, tmp_path / "in" / "*" / "1.*", tmp_path / "out") == 0
    assert below(tmp_path / "out") == {"a/1.png.png", "a/1.jpg.png", "b/1.png"}
    assert translate(checkpoint, f"{tmp_path}/in/**/*.bmp", tmp_path / "deep") == 0
    assert below(tmp_path / "deep") == {"b/2.png"}


def test_what_is_there_is_left_unless_overwrite(checkpoint, tmp_path, capsys):
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.png", picture())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out") == 0
    assert "1 of 2 files translated" in capsys.readouterr().out
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out", "--overwrite") == 0
    assert read_image(tmp_path / "out" / "a.png").shape == (24, 24, 3)


def test_originals_are_never_overwritten(checkpoint, tmp_path, capsys):
    for name in ("in/a.png", "in/b.jpg", "in/deep/a.png", "in/side_by_side/a.png"):
        write_image(tmp_path / name, picture())
    before = {name: (tmp_path / "in" / name).read_bytes() for name in below(tmp_path / "in")}
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for source, output in (("in", "in"), ("in", "link"), ("in/*.jpg", "in"), ("in/a.png", "in"), ("link", "in")):
        assert translate(checkpoint, tmp_path / source, tmp_path / output, "--overwrite") == 2
        assert "is the folder of the originals: name another one" in capsys.readouterr().err
    # A folder of the input has the name of a view's.
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out", "--side_by_side") == 2
    assert "in/side_by_side/a.png, and is made of" in capsys.readouterr().err
    # The originals lie below the output.
    assert translate(checkpoint, tmp_path / "in" / "deep", tmp_path, "--overwrite") == 0
    assert read_image(tmp_path / "a.png").shape == (24, 24, 3)
    assert {name: (tmp_path / "in" / name).read_bytes() for name in below(tmp_path / "in")} == before


def test_views_that_are_missing_are_added(checkpoint, tmp_path):
    write_image(tmp_path / "in" / "a.png", picture())
    film(tmp_path / "in" / "film.mp4")
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out") == 0
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out", "--heatmap") == 0
    assert below(tmp_path / "out") == {"a.png", "film.mp4", "heatmap/a.png", "heatmap/film.mp4"}
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"


def test_what_cannot_be_written_is_skipped(checkpoint, tmp_path, capsys):
    write_image(tmp_path / "in" / "a.png", picture())
    write_image(tmp_path / "in" / "wide.png", np.zeros((1, 17_000, 3), np.uint8))
    write_image(tmp_path / "in" / f"{'n' * 251}.png", picture())
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out", "--size", "keep", "--format", "webp") == 1
    err = capsys.readouterr().err
    assert "the format has no room for 17000x1 pixels" in err and "the name is too long" in err and err.count("skipped: ") == 2
    assert below(tmp_path / "out") == {"a.webp"}
    assert translate(checkpoint, tmp_path / "in" / "wide.png", tmp_path / "out", "--size", "9999") == 1
    assert "wide.png: --size 9999: its translation would have" in capsys.readouterr().err


def test_headers_that_pillow_stumbles_over(checkpoint, tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.png", picture())

    def stumble(path):
        raise TypeError("Missing dimensions")

    monkeypatch.setattr(PIL.Image, "open", stumble)
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out") == 0
    with open(tmp_path / "in" / "huge.png", "wb") as file:
        file.truncate(2**30)
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out") == 1
    assert "huge.png: 1,073,741,824 bytes are too many for a picture" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_line_and_leaves_no_half_file(checkpoint, tmp_path, number):
    film(tmp_path / "in" / "film.mp4", frames=200)
    arguments = ["--phase", "translate", "--checkpoint", str(checkpoint), "--input", str(tmp_path / "in")]
    arguments += ["--output", str(tmp_path / "out"), "--engine", "network"]
    process = subprocess.Popen(
        command(arguments, SLOW_ENGINE), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not below(tmp_path / "out") and not list(tmp_path.glob("out/.*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == "error: stopped; the same command goes on"
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_folder_inside_the_input_is_not_translated_again(checkpoint, tmp_path):
    write_image(tmp_path / "in" / "a.png", picture())
    for _ in range(2):
        assert translate(checkpoint, tmp_path / "in", tmp_path / "in" / "out", "--overwrite") == 0
    assert below(tmp_path / "in") == {"a.png", "out/a.png"}


def test_killed_half_way_it_goes_on(checkpoint, tmp_path):
    for index in range(12):
        write_image(tmp_path / "in" / f"{index:02d}.png", picture(seed=index))
    arguments = ["--phase", "translate", "--checkpoint", str(checkpoint), "--input", str(tmp_path / "in")]
    arguments += ["--output", str(tmp_path / "out"), "--engine", "network", "--side_by_side"]
    process = subprocess.Popen(command(arguments, SLOW_ENGINE), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "02.png").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("[0-9]*.png")}
    assert 3 <= len(done) < 12
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out", "--side_by_side") == 0
    for index in range(12):
        name = f"{index:02d}.png"
        assert read_image(tmp_path / "out" / name).shape == (24, 24, 3)
        assert read_image(tmp_path / "out" / "side_by_side" / name).shape == (24, 48, 3)
        assert (tmp_path / "out" / name).stat().st_mtime_ns == done.get(name, (tmp_path / "out" / name).stat().st_mtime_ns)


def test_a_full_disk_is_one_line(checkpoint, tmp_path, capsys, monkeypatch):
    write_image(tmp_path / "a.png", picture())

    def no_room(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_room)
    assert translate(checkpoint, tmp_path / "a.png", tmp_path / "out") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {tmp_path / 'out' / 'a.png'}: No space left on device")
    assert below(tmp_path / "out") == set()


@pytest.mark.parametrize("flags, words", [
    (["--input", "nowhere"], "--input nowhere: there is no such file or folder"),
    (["--input", "nowhere/*.png"], "--input nowhere/*.png: there is no picture or video"),
])  # fmt: skip
def test_nothing_to_translate(checkpoint, tmp_path, capsys, flags, words):
    assert main.main(["--phase", "translate", "--checkpoint", str(checkpoint), "--output", str(tmp_path), *flags]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("flags, words", [
    ([], "--phase translate needs --checkpoint and --input and --output"),
    (["--ch", "4"], "--ch is not a flag of --phase translate"),
    (["--size", "big"], "--size big: use model, keep, or the pixels of the shorter side"),
    (["--size", "0"], "--size 0: use model, keep"),
    (["--size", "9" * 5000], "use model, keep"),
    (["--size", "\u00b2"], "use model, keep"),
    (["more"], "unknown argument more: put a pattern or a name with spaces in quotes (python main.py --phase translate --help"),
    (["--quality", "0"], "--quality 0: use 1 or more"),
    (["--direction", "AtoB"], "--direction"),
])  # fmt: skip
def test_wrong_commands(capsys, flags, words):
    where = ["--checkpoint", "a", "--input", "b", "--output", "c"] if flags else []
    assert main.main(["--phase", "translate", *where, *flags]) == 2
    assert words in capsys.readouterr().err


def test_what_a_model_cannot_do(tmp_path, capsys):
    write_image(tmp_path / "a.png", picture())
    full = save_untrained(tmp_path / "full", "--light", "false")
    assert translate(full, tmp_path / "a.png", tmp_path / "out", "--size", "keep") == 2
    assert "takes images of 24x24 alone: use --size model" in capsys.readouterr().err
    no_cam = save_untrained(tmp_path / "no_cam", "--no_generator_cam")
    assert translate(no_cam, tmp_path / "a.png", tmp_path / "out", "--heatmap") == 2
    assert "--heatmap: this model has no heat maps" in capsys.readouterr().err
    assert translate(no_cam, tmp_path / "a.png", tmp_path / "out", "--weights", "averaged") == 2
    shutil.rmtree(no_cam)
    assert translate(no_cam, tmp_path / "a.png", tmp_path / "out") == 1
    assert not (tmp_path / "out").exists()


def test_help_shows_the_flags_of_the_phase(capsys):
    with pytest.raises(SystemExit):
        main.main(["--phase", "translate", "--help"])
    out = capsys.readouterr().out
    assert "--side_by_side" in out and "--lambda_L1" not in out and "examples:" in out


def film(path: Path, frames: int = 6, fps: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (40, 30))
    for index in range(frames):
        writer.write(np.ascontiguousarray(picture(seed=index)))
    writer.release()
    return path


@pytest.mark.parametrize("ffmpeg", [False, True])
def test_a_video_keeps_its_frames_and_rate(checkpoint, tmp_path, monkeypatch, capsys, ffmpeg):
    if not ffmpeg:
        monkeypatch.setattr("deploy.video.find_ffmpeg", lambda: None)
    elif not find_ffmpeg():
        pytest.skip("ffmpeg is not installed")
    film(tmp_path / "in" / "film.avi")
    write_image(tmp_path / "in" / "a.png", picture())
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out", "--size", "keep", "--side_by_side") == 0
    assert below(tmp_path / "out") == {"a.png", "film.mp4", "side_by_side/a.png", "side_by_side/film.mp4"}
    assert ("install ffmpeg" in capsys.readouterr().out) == (not ffmpeg)
    for name, width in (("film.mp4", 40), ("side_by_side/film.mp4", 80)):
        video = VideoReader(tmp_path / "out" / name)
        frames = list(video)
        assert (video.fps, len(frames), frames[0].shape) == (12, 6, (30, width, 3))
    assert np.abs(frames[3][:, :40].astype(int) - picture(seed=3)[:, :, ::-1]).mean() < 12


def test_a_broken_video_is_skipped(checkpoint, tmp_path, capsys):
    content = film(tmp_path / "film.mp4").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.mp4").write_bytes(content[: len(content) // 2])
    write_image(tmp_path / "in" / "a.png", picture())
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out") == 1
    assert "skipped: " in capsys.readouterr().err
    assert below(tmp_path / "out") == {"a.png"}
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out", "--face") == 2
    assert "--face is for pictures" in capsys.readouterr().err


@pytest.fixture()
def two_faces(monkeypatch):
    """A detector that finds two faces in every picture but the black ones."""
    boxes = [faces.Box(0, 0, 20, 9), faces.Box(20, 10, 12, 9)]
    monkeypatch.setattr(faces, "detector", lambda: None)
    monkeypatch.setattr(faces, "find_faces", lambda image: boxes if image.any() else [])


def test_each_face_is_a_picture_of_its_own(checkpoint, tmp_path, two_faces, capsys):
    write_image(tmp_path / "in" / "a.png", picture())
    write_image(tmp_path / "in" / "black.png", np.zeros((30, 40, 3), np.uint8))
    assert translate(checkpoint, tmp_path / "in", tmp_path / "out", "--face", "--size", "keep", "--side_by_side") == 1
    assert "black.png: no face was found" in capsys.readouterr().err
    expected = {"a_face1.png", "a_face2.png"}
    assert below(tmp_path / "out") == {*expected, *(f"side_by_side/{name}" for name in expected)}
    for number, (top, left, side) in enumerate(((0, 0, 20), (10, 20, 12)), 1):
        both = read_image(tmp_path / "out" / "side_by_side" / f"a_face{number}.png")
        assert (both[:, :side] == picture()[top : top + side, left : left + side]).all()
    # All faces are there when the first is.
    (tmp_path / "out" / "a_face1.png").unlink()
    assert translate(checkpoint, tmp_path / "in" / "a.png", tmp_path / "out", "--face") == 0
    assert "nothing to do" not in capsys.readouterr().out
    assert translate(checkpoint, tmp_path / "in" / "a.png", tmp_path / "out", "--face") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_without_a_detector_nothing_is_begun(checkpoint, tmp_path, monkeypatch, capsys):
    write_image(tmp_path / "a.png", picture())
    monkeypatch.delattr(cv2, "CascadeClassifier", raising=False)
    assert translate(checkpoint, tmp_path / "a.png", tmp_path / "out", "--face") == 2
    assert "--face: OpenCV 5 has no face detector" in capsys.readouterr().err and not (tmp_path / "out").exists()
