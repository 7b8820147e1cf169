"""Videos read and written frame by frame: read by OpenCV, written by ffmpeg with the sound of the original, or else by OpenCV."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Iterator, List, Optional, Union

import cv2
import numpy as np

import utils  # noqa: F401 - it silences OpenCV
from errors import DataError

# Silent too; a value that the user has set stays.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

EXTENSIONS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
# H.264 at a quality where loss is hardly seen. Players guess the colours of a file that does not say them.
H264 = ["-vf", "scale=out_color_matrix=bt709", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-crf", "18"]
COLOURS = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
# Some containers only estimate their number of frames, from a rate that varies or from sound that lasts a little longer.
MISSING = 0.05
FRAMES_OFF = 2  # a header's rate is believed where it puts the last frame at most so many frames away from its time


class VideoReader:
    """A video, decoded once when it is opened, which finds what its header may not say: the number of frames and their rate.

    Iterating over it decodes it again and gives (H, W, 3) uint8 RGB frames, upright (a phone's rotation is applied); one frame is
    in memory at a time. An animated GIF is read as well.

    Attributes:
        fps: frames a second, such as 30000/1001. Of a variable rate the average: every frame is kept, and the duration too.
        count: frames.

    Raises:
        DataError: the file is missing, no readable video, or its pictures end long before the time that its header says: it is
            truncated, or, in containers that count no frames such as MKV, its sound lasts longer. The message says how to cut it.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{self.path}: there is no such file")
        with _opened(self.path) as capture:
            said_count, said_fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
            seconds = []
            while capture.grab():
                seconds.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        if not seconds:
            raise DataError(f"{self.path}: no frame can be read; replace or remove the file")
        self.count = len(seconds)
        last = int(np.argmax(seconds))  # of those that have a time: in some files the very last ones have none
        self.fps = _rate(last, seconds[last] - seconds[0], said_fps)
        if said_fps > 0:
            end, said_end = seconds[last] + float((self.count - last) / self.fps), said_count / said_fps
            if self.count < said_count * (1 - MISSING) - FRAMES_OFF and end < said_end * (1 - MISSING):
                raise DataError(
                    f"{self.path}: truncated, its pictures end after {end:.1f} of {said_end:.1f} seconds; replace the file, or cut "
                    f"it there: ffmpeg -i IN -t {end:.1f} -c copy OUT"
                )

    def __iter__(self) -> Iterator[np.ndarray]:
        with _opened(self.path) as capture:
            while True:
                is_read, frame = capture.read()
                if not is_read:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    # An absolute path is never taken for a protocol, such as the colon in a:b.mp4.
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise DataError(f"{path}: not a readable video, or truncated; replace or remove the file")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        yield capture
    finally:
        capture.release()


def _rate(frames: int, seconds: float, said_fps: float) -> Fraction:
    """Frames a second: what the header says, or, where the time of so many frames contradicts it, their average."""
    fps = said_fps if said_fps > 0 else 25.0
    if seconds > 0 and abs(seconds * fps - frames) > FRAMES_OFF:
        fps = frames / seconds
    return Fraction(fps).limit_denominator(1001)


@lru_cache(maxsize=None)
def find_ffmpeg() -> Optional[str]:
    """The ffmpeg on the PATH, else that of the package imageio-ffmpeg, else None."""
    found = shutil.which("ffmpeg")
    if found is None:
        with contextlib.suppress(ImportError, RuntimeError):
            import imageio_ffmpeg

            found = imageio_ffmpeg.get_ffmpeg_exe()
    return found


class VideoWriter:
    """Writes an MP4 file, a context manager. It appears under its name when the block ends, and not at all where that fails.

    With ffmpeg: H.264, and the sound of `sound_from` copied, or encoded as AAC where MP4 does not take it. Without: MPEG-4 by
    OpenCV, its rate to a hundredth, no sound, and one line on stdout that says so. An odd side grows by one pixel, its last row
    or column again.

    Args:
        target: the file, ending in .mp4. Its folder is made; a file that is there is replaced.
        fps: frames a second.
        sound_from: a video whose sound is taken, all of it.

    Raises:
        DataError: the video cannot be written, or no frame was.
        OSError: the folder cannot be written.
    """

    def __init__(self, target: Union[str, Path], fps: Fraction, sound_from: Union[str, Path, None] = None) -> None:
        self.target, self.fps = Path(target), fps
        self.sound_from = None if sound_from is None else Path(sound_from)
        self.ffmpeg = find_ffmpeg()
        self._sink: Union[_FFmpegSink, _OpenCVSink, None] = None
        self._written = 0

    def __enter__(self) -> VideoWriter:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=self.target.absolute().parent))
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append an (H, W, 3) uint8 RGB frame; all are of one size."""
        height, width = frame.shape[:2]
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._sink is None:
            self._sink = self._open(frame.shape[1], frame.shape[0])
            self._shape = frame.shape
        if frame.shape != self._shape:
            raise ValueError(f"a frame of shape {frame.shape} in a video of {self._shape}")
        self._sink.write(frame)
        self._written += 1

    def _open(self, width: int, height: int) -> Union[_FFmpegSink, _OpenCVSink]:
        pictures = self._folder / "pictures.mp4"
        if self.ffmpeg:
            return _FFmpegSink(self.ffmpeg, self.target, pictures, width, height, self.fps)
        print(f"{self.target}: no sound, as MPEG-4: for sound and H.264 install ffmpeg, or pip install imageio-ffmpeg")
        return _OpenCVSink(self.target, pictures, width, height, self.fps)

    def __exit__(self, failure: object, *_: object) -> None:
        try:
            if failure is None:
                self._finish()
        finally:
            if self._sink is not None:
                self._sink.abandon()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        if self._sink is None:
            raise DataError(f"{self.target}: no frame to write")
        self._sink.close()
        result = self._folder / "pictures.mp4"
        if self.ffmpeg and self.sound_from:
            result = self._with_sound(result)
        self._refuse_cut(result)
        os.replace(result, self.target)

    def _refuse_cut(self, result: Path) -> None:
        """Raise DataError where frames are missing: for ffmpeg and OpenCV a full disk is no failure."""
        try:
            count = VideoReader(result).count
        except DataError:
            count = 0
        if count != self._written:
            raise DataError(f"{self.target}: only {count} of {self._written} frames could be written; make room on the disk")

    def _with_sound(self, pictures: Path) -> Path:
        """The file with pictures and sound; where the sound cannot be read, that of the pictures alone, and a line on stdout."""
        result = self._folder / "both.mp4"
        inputs = ["-i", str(pictures), "-i", str(self.sound_from.absolute()), "-map", "0:v", "-map", "1:a?"]
        for sound in (["copy"], ["aac", "-b:a", "192k"]):
            command = [*_command(self.ffmpeg), *inputs, "-c:v", "copy", "-c:a", *sound, "-movflags", "+faststart", str(result)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
            if done.returncode == 0:
                return result
        print(f"{self.target}: no sound: {_last_line(done.stderr)}")
        return pictures


class _FFmpegSink:
    """Raw frames through a pipe."""

    def __init__(self, ffmpeg: str, target: Path, file: Path, width: int, height: int, fps: Fraction) -> None:
        self.target = target
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}", "-framerate", str(fps), "-i", "-"]
        # Not a pipe, which fills up and stops ffmpeg where nobody reads.
        self.said = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*_command(ffmpeg), *raw, *H264, *COLOURS, "-movflags", "+faststart", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            start_new_session=True,  # Ctrl-C is for us
        )

    def write(self, frame: np.ndarray) -> None:
        try:
            self.process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            self.process.wait()
            raise self._failure() from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        if self.process.wait() != 0:
            raise self._failure()

    def _failure(self) -> DataError:
        self.said.seek(0)
        return DataError(f"{self.target}: ffmpeg could not write it: {_last_line(self.said.read())}")

    def abandon(self) -> None:
        self.process.kill()
        self.process.wait()
        self.said.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()


class _OpenCVSink:
    def __init__(self, target: Path, file: Path, width: int, height: int, fps: Fraction) -> None:
        self.writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), float(fps), (width, height))
        if not self.writer.isOpened():
            raise DataError(f"{target}: OpenCV cannot write a video of {width}x{height} pixels; install ffmpeg")

    def write(self, frame: np.ndarray) -> None:
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self.writer.release()

    abandon = close


def _command(ffmpeg: str) -> List[str]:
    return [ffmpeg, "-hide_banner", "-loglevel", "error", "-y"]


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it gave no reason")
