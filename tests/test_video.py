"""Videos: frames, rate, duration and sound as they were, with ffmpeg and without, and no half file."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deploy import video
from deploy.video import VideoReader, VideoWriter, find_ffmpeg
from errors import DataError

NTSC = Fraction(30000, 1001)
needs_ffmpeg = pytest.mark.skipif(find_ffmpeg() is None, reason="no ffmpeg")


def ffmpeg(*arguments: object) -> bytes:
    return subprocess.run(
        [find_ffmpeg(), "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL, capture_output=True
    ).stdout


def frames(count: int = 12, height: int = 48, width: int = 64) -> list:
    """A white square that moves over a grey that changes: OpenCV 4 reads colours a little off."""
    drawn = []
    for index in range(count):
        frame = np.full((height, width, 3), 40 + 10 * index % 200, np.uint8)
        frame[8:24, 3 * index : 3 * index + 16] = 255
        drawn.append(frame)
    return drawn


def write(path: Path, images: list, fps: Fraction = NTSC, sound_from: object = None) -> Path:
    with VideoWriter(path, fps, sound_from) as out:
        for image in images:
            out.write(image)
    return path


def with_sound(path: Path, *codec: str, count: int = 12) -> Path:
    """A video with a tone, as long as its pictures."""
    pictures = write(path.with_name("silent.mp4"), frames(count))
    tone = f"sine=frequency=440:duration={float(count / NTSC)}"
    ffmpeg("-i", pictures, "-f", "lavfi", "-i", tone, "-c:v", "copy", *codec, path)
    return path


def sound_of(path: Path) -> bytes:
    """A checksum of the encoded sound."""
    return ffmpeg("-i", path, "-map", "0:a", "-c", "copy", "-f", "md5", "-")


def close(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and np.abs(first.astype(int) - second).mean() < 4


@pytest.fixture(params=[pytest.param(True, marks=needs_ffmpeg, id="ffmpeg"), pytest.param(False, id="opencv")])
def engine(request, monkeypatch):
    """The way with ffmpeg and the way without."""
    if not request.param:
        monkeypatch.setattr(video, "find_ffmpeg", lambda: None)


def test_what_is_written_is_read(engine, tmp_path):
    written = frames()
    read = VideoReader(write(tmp_path / "new" / "ä:%d.mp4", written))
    assert read.count == 12 and abs(read.fps - NTSC) < 0.001
    for _ in range(2):
        again = list(read)
        assert len(again) == 12 and all(close(*pair) for pair in zip(written, again))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ä:%d.mp4"]


@pytest.mark.parametrize("height, width", [(47, 64), (48, 63), (47, 63)])
def test_odd_sides_grow_by_one_pixel(engine, tmp_path, height, width):
    image = frames(1, height, width)[0]
    (read,) = VideoReader(write(tmp_path / "a.mp4", [image]))
    assert read.shape == (48, 64, 3) and close(read[:height, :width], image)
    assert np.abs(read[:, -1].astype(int) - read[:, -2]).mean() < 4, "no black line"


def test_a_failure_leaves_what_was_there(engine, tmp_path):
    target = tmp_path / "a.mp4"
    target.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), VideoWriter(target, NTSC) as out:
        out.write(frames(1)[0])
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="a.mp4: no frame"), VideoWriter(target, NTSC):
        pass
    with pytest.raises(ValueError, match="shape"), VideoWriter(target, NTSC) as out:
        out.write(frames(1)[0])
        out.write(frames(1, height=40)[0])
    assert target.read_bytes() == b"before" and list(tmp_path.iterdir()) == [target]
    write(target, frames(1))
    assert VideoReader(target).count == 1


def test_without_ffmpeg_one_line_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(video.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    find_ffmpeg.cache_clear()
    try:
        write(tmp_path / "a.mp4", frames(3), sound_from=tmp_path / "any.mp4")
    finally:
        find_ffmpeg.cache_clear()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "no sound" in said and "pip install imageio-ffmpeg" in said
    assert VideoReader(tmp_path / "a.mp4").count == 3


def test_the_package_s_ffmpeg_is_found(monkeypatch):
    package = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(video.shutil, "which", lambda name: None)
    assert find_ffmpeg.__wrapped__() == package.get_ffmpeg_exe()


@needs_ffmpeg
def test_sound_is_copied(tmp_path):
    source = with_sound(tmp_path / "source.mp4", "-c:a", "aac")
    read = VideoReader(source)
    result = write(tmp_path / "result.mp4", list(read), read.fps, source)
    assert sound_of(result) == sound_of(source)
    assert VideoReader(result).count == 12 and VideoReader(result).fps == NTSC


@needs_ffmpeg
def test_sound_that_mp4_does_not_take_is_encoded(tmp_path):
    source = with_sound(tmp_path / "source.mkv", "-c:a", "adpcm_ms")
    result = write(tmp_path / "result.mp4", frames(), sound_from=source)
    assert sound_of(result) != sound_of(source)
    seconds = len(ffmpeg("-i", result, "-map", "0:a", "-f", "s16le", "-ac", "1", "-ar", "8000", "-")) / 2 / 8000
    assert abs(seconds - 12 / NTSC) < 0.1


@needs_ffmpeg
def test_unreadable_sound_does_not_cost_the_pictures(tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    result = write(tmp_path / "a.mp4", frames(), sound_from=tmp_path / "text.mp4")
    assert VideoReader(result).count == 12
    assert "a.mp4: no sound: " in capsys.readouterr().out
    write(result, frames(), sound_from=write(tmp_path / "silent.mp4", frames()))
    assert capsys.readouterr().out == "", "a silent video is nothing to speak of"


@needs_ffmpeg
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 200, 0), (30, 90, 220)])
def test_colours_are_those_that_any_player_shows(tmp_path, colour):
    path = write(tmp_path / "a.mp4", [np.full((64, 64, 3), colour, np.uint8)] * 2)
    shown = np.frombuffer(ffmpeg("-i", path, "-frames:v", 1, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8)
    assert np.abs(shown.reshape(-1, 3).astype(int) - colour).max() <= 4


@needs_ffmpeg
def test_a_failing_ffmpeg_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "H264", ["-c:v", "no_such_encoder"])
    with pytest.raises(DataError, match="a.mp4: ffmpeg could not write it: .*(no_such_encoder|not found)") as error:
        write(tmp_path / "a.mp4", frames(200))
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


@needs_ffmpeg
def test_a_phone_s_rotation_is_applied(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 255  # top left
    upright = write(tmp_path / "upright.mp4", [image] * 3)
    turned = tmp_path / "turned.mov"
    try:  # as ffmpeg 6 and newer say it
        ffmpeg("-display_rotation:v:0", "90", "-i", upright, "-c", "copy", turned)
    except subprocess.CalledProcessError:
        ffmpeg("-i", upright, "-c", "copy", "-metadata:s:v:0", "rotate=90", turned)
    shown = np.frombuffer(ffmpeg("-i", turned, "-frames:v", 1, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8)
    first = next(iter(VideoReader(turned)))
    assert first.shape == (64, 48, 3) and close(first, shown.reshape(64, 48, 3))
    assert close(first, np.rot90(image))


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_variable_rate_keeps_its_frames_and_its_duration(tmp_path, name):
    # 30 a second, then 10 a second: 60 + 20 frames in 4 seconds.
    select = "select=lt(t\\,2)+not(mod(n\\,3))"
    rate = ["-fps_mode", "vfr"] if b"fps_mode" in ffmpeg("-h", "full") else ["-vsync", "vfr"]
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=30:duration=4", "-vf", select, *rate, tmp_path / name)
    read = VideoReader(tmp_path / name)
    assert read.count == len(list(read)) == 80
    assert abs(read.count / read.fps - 4) < 0.1


@pytest.mark.parametrize("content", [b"", b"no video\n" * 50], ids=["empty", "text"])
def test_no_video_is_one_line(tmp_path, content, capfd):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DataError, match="a.mp4: not a readable video"):
        VideoReader(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="b.mp4: there is no such file"):
        VideoReader(tmp_path / "b.mp4")
    assert capfd.readouterr() == ("", "")


def test_a_picture_s_animation_is_read(tmp_path):
    import PIL.Image

    images = [PIL.Image.fromarray(frame) for frame in frames(5)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100)
    read = VideoReader(tmp_path / "a.gif")
    assert read.count == 5 and read.fps == 10
    assert all(np.abs(shown.astype(int) - drawn).mean() < 16 for shown, drawn in zip(read, frames(5)))


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_truncated_video_is_one_line(tmp_path, name, capfd):
    images = [np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8) for index in range(40)]
    whole = write(tmp_path / "whole.mp4", images)
    ffmpeg("-i", whole, "-c", "copy", "-movflags", "+faststart", tmp_path / name)
    assert VideoReader(tmp_path / name).count == 40
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated") as error:
        VideoReader(tmp_path / name)
    assert "\n" not in str(error.value)
    # The remedy that it names.
    seconds = str(error.value).split("-t ")[1].split()[0]
    subprocess.run(
        [find_ffmpeg(), "-v", "quiet", "-i", str(tmp_path / name), "-t", seconds, "-c", "copy", str(tmp_path / f"cut_{name}")],
        check=True,
    )
    assert 5 < VideoReader(tmp_path / f"cut_{name}").count < 25
    # Its index lies at the end, so that nothing can be read.
    ffmpeg("-i", whole, "-c", "copy", tmp_path / "end.mp4")
    content = (tmp_path / "end.mp4").read_bytes()
    (tmp_path / "end.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="end.mp4: not a readable video, or truncated"):
        VideoReader(tmp_path / "end.mp4")
    assert capfd.readouterr() == ("", "")


@needs_ffmpeg
def test_a_header_that_counts_fields_for_frames_is_not_believed(tmp_path):
    ffmpeg("-i", write(tmp_path / "a.mp4", frames(40)), "-c", "copy", tmp_path / "a.avi")
    read = VideoReader(tmp_path / "a.avi")
    assert read.count == 40 and abs(read.fps - NTSC) < 0.1


@needs_ffmpeg
def test_memory_is_that_of_one_frame(tmp_path):
    """A process of its own, as the peak of a process never falls."""
    program = f"""
import resource, numpy as np
from deploy.video import VideoReader, VideoWriter
def copy(count):
    with VideoWriter({str(tmp_path / "a.mp4")!r}, 30) as out:
        for index in range(count):
            out.write(np.full((480, 640, 3), index % 256, np.uint8))
    assert sum(1 for frame in VideoReader({str(tmp_path / "a.mp4")!r})) == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = copy(20)
print((copy(200) - before) / 1024)
"""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(video.__file__).parents[1])
    assert float(done.stdout) < 50, done.stderr  # 200 frames are 176 MiB


def test_a_video_that_a_full_disk_has_cut_is_not_kept(tmp_path, monkeypatch):
    """ffmpeg and OpenCV end well then: a frame less stands for what did not fit."""
    with (
        pytest.raises(DataError, match="only 11 of 12 frames could be written; make room"),
        VideoWriter(tmp_path / "a.mp4", NTSC) as out,
    ):
        for frame in frames(12):
            out.write(frame)
        monkeypatch.setattr(video.VideoReader, "__init__", lambda self, path: setattr(self, "count", 11))
    assert list(tmp_path.iterdir()) == []
