"""--phase translate: pictures, folders of pictures and videos through a trained model."""

from __future__ import annotations

import contextlib
import glob
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Deque, Dict, List, NamedTuple, Tuple, Union

import numpy as np

from dataset import EXTENSIONS, find_files, read_ahead
from deploy import faces
from deploy.predictor import Predictor
from deploy.settings import TranslateSettings
from deploy.video import EXTENSIONS as VIDEO_EXTENSIONS
from deploy.video import VideoReader, VideoWriter
from engine.progress import Progress, track
from errors import ConfigError, DataError
from utils import Picture, output_names, read_picture, resize, to_colour, to_heat_map, write_image

# A picture that declares more is not decoded: as RGB it would take half a gigabyte.
MOST_PIXELS = 2**27
READERS = WRITERS = 2
MOST_WAITING = 4  # pictures to be written
HEATMAP, SIDE_BY_SIDE = "heatmap", "side_by_side"
# The views of one picture by the sub-folder of OUTPUT that they go to; the translation itself, in OUTPUT, is the last.
Views = Dict[str, np.ndarray]


class Job(NamedTuple):
    """A file to translate, and the name of its translation below OUTPUT."""

    source: Path
    target: str

    @property
    def is_video(self) -> bool:
        return self.source.suffix.lower() in VIDEO_EXTENSIONS


def translate(settings: TranslateSettings) -> int:
    """Translate what --input names; returns the exit code: 1 where a file could not be translated.

    Raises:
        ConfigError, CheckpointError, WeightsError: the command or the model is not what it should be.
        DataError: there is nothing to translate.
        OSError: a translation cannot be written.
    """
    output = Path(settings.output)
    jobs = find_jobs(settings.input, output, f".{settings.format}")
    _refuse_to_overwrite_originals(jobs, output)
    if settings.face and any(job.is_video for job in jobs):
        raise ConfigError("--face is for pictures, and --input names a video: leave it out")
    if settings.face:
        faces.detector()
    left = [job for job in jobs if settings.overwrite or not (output / _first_written_last(job.target, settings.face)).exists()]
    already = f", {len(jobs) - len(left)} were there already (--overwrite makes them anew)" * (len(left) < len(jobs))
    if not left:
        print(f"nothing to do in {output}{already}")
        return 0
    predictor = Predictor.load(
        settings.checkpoint, settings.direction, settings.engine, settings.weights, settings.device, settings.amp
    )
    predictor.check_size(settings.size)
    if settings.heatmap and not predictor.facts.has_heatmap:
        raise ConfigError("--heatmap: this model has no heat maps (U-GAT-IT with its CAM has): leave the flag out")
    facts = predictor.facts
    print(
        f"translating {facts.direction} with {facts.method} at iteration {facts.iteration} ({predictor.engine.name}) into {output}"
    )
    translator = Translator(predictor, settings, output)
    translator.run(left)
    skipped = f", {translator.skipped} could not be translated (see above)" * bool(translator.skipped)
    print(f"{len(left) - translator.skipped} of {len(jobs)} files translated into {output}{already}{skipped}")
    return 1 if translator.skipped else 0


# What is translated, and where it goes


def find_jobs(pattern: str, output: Path, suffix: str) -> List[Job]:
    """The pictures and videos that --input names: a file, a folder with all below it, or a pattern. Not what is in `output`.

    Raises:
        DataError: there are none.
    """
    root, names = _find_names(pattern)
    names = [
        name for name in names if output.resolve() not in (root / name).resolve().parents or output.resolve() == root.resolve()
    ]
    videos = [name for name in names if Path(name).suffix.lower() in VIDEO_EXTENSIONS]
    targets = {**output_names([name for name in names if name not in videos], suffix), **output_names(videos, ".mp4")}
    if not names:
        known = ", ".join(EXTENSIONS + VIDEO_EXTENSIONS)
        raise DataError(f"--input {pattern}: there is no picture or video ({known})")
    return [Job(root / name, targets[name]) for name in names]


def _find_names(pattern: str) -> Tuple[Path, List[str]]:
    """A folder and paths relative to it."""
    path = Path(pattern)
    if path.is_dir():
        return path, find_files(path, EXTENSIONS + VIDEO_EXTENSIONS)
    if path.exists():
        return path.parent, [path.name]
    if not glob.has_magic(pattern):
        raise DataError(f"--input {pattern}: there is no such file or folder")
    fixed = []
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed)
    found = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    return root, [file.relative_to(root).as_posix() for file in found if file.is_file()]


def _refuse_to_overwrite_originals(jobs: List[Job], output: Path) -> None:
    originals = {job.source.resolve() for job in jobs}
    for job in jobs:
        if (output / job.target).resolve() in originals:
            raise ConfigError(f"--output {output}: {job.target} there is an original; name another folder, or another --format")


def _first_written_last(target: str, face: bool) -> str:
    """The file whose presence says that all of a picture was written."""
    return _of_face(target, 1) if face else target


def _of_face(target: str, number: int) -> str:
    stem, _, suffix = target.rpartition(".")
    return f"{stem}_face{number}.{suffix}"


# Translating


class Translator:
    """Reads ahead, translates, and writes behind, so that the processor waits for no file.

    Args:
        output: folder of the translations.
    """

    def __init__(self, predictor: Predictor, settings: TranslateSettings, output: Path) -> None:
        self.predictor, self.settings, self.output = predictor, settings, output
        self.size = settings.size if not settings.size.isdigit() else int(settings.size)
        self.skipped = 0
        self.waiting: Deque[Future] = deque()

    def run(self, jobs: List[Job]) -> None:
        """Translate all; what cannot be is said in a line of its own, and counted in `skipped`."""
        readings = read_ahead(lambda index: _read(jobs[index]), 0, len(jobs) - 1, READERS)
        with ThreadPoolExecutor(WRITERS) as self.writers, Progress(self.predictor.facts.direction, len(jobs), "files") as progress:
            with contextlib.closing(readings):
                for job, reading in zip(jobs, readings):
                    try:
                        self._translate(job, reading)
                    except DataError as error:
                        self.skipped += 1
                        progress.say(f"skipped: {error}")
                    progress.update()
            self._wait(0)

    def _translate(self, job: Job, reading: Union[None, Picture, DataError]) -> None:
        if isinstance(reading, DataError):
            raise reading
        if job.is_video:
            self._translate_video(job)
        elif self.settings.face:
            self._translate_faces(job, reading)
        else:
            self._write(job.target, self.views(reading))

    def _translate_faces(self, job: Job, picture: Picture) -> None:
        crops = faces.face_crops(picture.image)
        if not crops:
            raise DataError(f"{job.source}: no face was found")
        # The first face is written last: its file says that all are there.
        for number, crop in reversed(list(enumerate(crops, 1))):
            self._write(_of_face(job.target, number), self.views(Picture(crop)))
            self._wait(0)

    def _translate_video(self, job: Job) -> None:
        with contextlib.ExitStack() as stack:
            video = VideoReader(job.source)
            writers: Dict[str, VideoWriter] = {}
            for frame in track(video, job.source.name, video.count, "frames"):
                for folder, view in self.views(Picture(frame)).items():
                    if folder not in writers:
                        target = self.output / folder / job.target
                        writers[folder] = stack.enter_context(VideoWriter(target, video.fps, sound_from=job.source))
                    writers[folder].write(to_colour(view))

    def views(self, picture: Picture) -> Views:
        """What is written of one picture."""
        translated, heatmap = self.predictor.translate(picture.image, self.size)
        height, width = translated.shape[:2]
        original = resize(picture.image, width, height)
        views: Views = {}
        if self.settings.heatmap:
            views[HEATMAP] = (original // 2) + (to_heat_map(heatmap, width, height) // 2)
        if self.settings.side_by_side:
            views[SIDE_BY_SIDE] = np.concatenate([original, translated], axis=1)
        if self.settings.keep_grey and _is_grey(picture.image):
            translated = translated.mean(2, keepdims=True).round().astype(np.uint8)
        if picture.alpha is not None:
            translated = np.dstack([to_colour(translated), resize(picture.alpha[:, :, None], width, height)])
        return {**views, "": translated}

    def _write(self, target: str, views: Views) -> None:
        self._wait(MOST_WAITING)
        self.waiting.append(self.writers.submit(self._write_now, target, views))

    def _write_now(self, target: str, views: Views) -> None:
        for folder, view in views.items():
            write_image(self.output / folder / target, view, self.settings.quality)

    def _wait(self, most: int) -> None:
        """Until at most so many pictures are still to be written. Raises OSError where one cannot be."""
        while len(self.waiting) > most:
            self.waiting.popleft().result()


def _read(job: Job) -> Union[None, Picture, DataError]:
    """The picture, or why it cannot be read; None for a video, which is read frame by frame."""
    if job.is_video:
        return None
    try:
        return read_picture(job.source, MOST_PIXELS)
    except DataError as error:
        return error


def _is_grey(image: np.ndarray) -> bool:
    return bool((image[:, :, :1] == image[:, :, 1:]).all())
