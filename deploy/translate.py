"""--phase translate: pictures, folders of pictures and videos through a trained model."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Deque, Dict, Iterator, List, NamedTuple, Tuple, Union

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

# A picture that declares more is not decoded: as RGB it would take 200 MB, with transparency several times as much.
MOST_PIXELS = 2**26
READERS = WRITERS = 2
MOST_WAITING = 4  # pictures to be written
HEATMAP, SIDE_BY_SIDE = "heatmap", "side_by_side"
# The views of one picture by the sub-folder of OUTPUT that they go to; the translation itself is in OUTPUT.
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
    refuse_collisions(jobs, settings)
    if settings.face:
        if any(job.is_video for job in jobs):
            raise ConfigError("--face is for pictures, and --input names a video: leave it out")
        faces.detector()
    predictor = Predictor.load(
        settings.checkpoint, settings.direction, settings.engine, settings.weights, settings.device, settings.amp
    )
    predictor.check_size(settings.size)
    facts = predictor.facts
    if settings.heatmap and not facts.has_heatmap:
        raise ConfigError(
            "--heatmap: this model has no heat maps; U-GAT-IT with its CAM has, exported with --with_heatmap: leave the flag out"
        )
    left = [job for job in jobs if not is_done(job, settings)]
    already = f", {len(jobs) - len(left)} were there already (--overwrite makes them anew)" * (len(left) < len(jobs))
    if not left:
        print(f"nothing to do in {output}{already}")
        return 0
    print(
        f"translating {facts.direction} with {facts.method} at iteration {facts.iteration} ({predictor.engine.name}) into {output}"
    )
    skipped = Translator(predictor, settings, left).run()
    failed = f", {skipped} could not be translated (see above)" * bool(skipped)
    print(f"{len(left) - skipped} of {len(jobs)} files translated into {output}{already}{failed}")
    return 1 if skipped else 0


# What is translated, and where it goes


def find_jobs(pattern: str, output: Path, suffix: str) -> List[Job]:
    """The pictures and videos that --input names: a file, a folder with all below it, or a pattern. Not what is in `output`.

    Raises:
        ConfigError: `output` is the folder of the originals itself.
        DataError: there are none.
    """
    root, names = _find_names(pattern)
    if output.resolve() == root.resolve():
        raise ConfigError(f"--output {output} is the folder of the originals: name another one, such as {output / 'translated'}")
    if root.resolve() in output.resolve().parents:
        names = [name for name in names if output.resolve() not in (root / name).resolve().parents]
    videos = [name for name in names if Path(name).suffix.lower() in VIDEO_EXTENSIONS]
    targets = {**output_names([name for name in names if name not in videos], suffix), **output_names(videos, ".mp4")}
    if not names:
        known = ", ".join(EXTENSIONS + VIDEO_EXTENSIONS)
        raise DataError(f"--input {pattern}: there is no picture or video ({known})")
    return [Job(root / name, targets[name]) for name in names]


def _find_names(pattern: str) -> Tuple[Path, List[str]]:
    """A folder and paths relative to it."""
    path = Path(pattern)
    if os.path.isdir(path):
        return path, find_files(path, EXTENSIONS + VIDEO_EXTENSIONS)
    if os.path.exists(path):
        return path.parent, [path.name]
    if not glob.has_magic(pattern):
        raise DataError(f"--input {pattern}: there is no such file or folder")
    fixed = []
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed)
    # Of one file that links lead to by several ways, the shortest.
    found: Dict[Path, Path] = {}
    for file in sorted(map(Path, glob.glob(pattern, recursive=True)), key=lambda file: (len(file.parts), file)):
        if file.is_file():
            found.setdefault(file.resolve(), file)
    return root, sorted(file.relative_to(root).as_posix() for file in found.values())


def folders_of(settings: TranslateSettings) -> List[str]:
    """The sub-folders of OUTPUT that a picture's views go to, in the order in which they are written: the translation last."""
    return [*([HEATMAP] if settings.heatmap else []), *([SIDE_BY_SIDE] if settings.side_by_side else []), ""]


def refuse_collisions(jobs: List[Job], settings: TranslateSettings) -> None:
    """Raise ConfigError where a file would be written over an original, or two over each other."""
    taken = {job.source.resolve(): "an original" for job in jobs}
    for job in jobs:
        for folder in folders_of(settings):
            file = (Path(settings.output) / folder / job.target).resolve()
            if file in taken:
                raise ConfigError(
                    f"--output {settings.output}: {file} would be made of {job.source}, and is {taken[file]}; "
                    "name another folder, or rename the file"
                )
            taken[file] = f"made of {job.source} too"


def is_done(job: Job, settings: TranslateSettings) -> bool:
    """Whether all that is to be written of a file is there. Of several faces the first is written last."""
    target = _of_face(job.target, 1) if settings.face else job.target
    return not any(_is_wanted(settings, folder, target) for folder in folders_of(settings))


def _is_wanted(settings: TranslateSettings, folder: str, target: str) -> bool:
    return settings.overwrite or not os.path.exists(Path(settings.output) / folder / target)


def _of_face(target: str, number: int) -> str:
    stem, _, suffix = target.rpartition(".")
    return f"{stem}_face{number}.{suffix}"


# Translating


class Translator:
    """Reads ahead, translates, and writes behind, so that the processor waits for no file. Runs once."""

    def __init__(self, predictor: Predictor, settings: TranslateSettings, jobs: List[Job]) -> None:
        self.predictor, self.settings, self.jobs = predictor, settings, jobs
        self.output, self.folders = Path(settings.output), folders_of(settings)
        self.skipped: List[Path] = []
        self.waiting: Deque[Future] = deque()
        self.writers = ThreadPoolExecutor(WRITERS)
        self.progress = Progress(predictor.facts.direction, len(jobs), "files")

    def run(self) -> int:
        """Translate all; what cannot be is said in a line of its own. Returns how many those are."""
        readings = read_ahead(lambda index: _read(self.jobs[index]), 0, len(self.jobs) - 1, READERS)
        with self.writers, self.progress, contextlib.closing(readings):
            for job, reading in zip(self.jobs, readings):
                with self._skipping(job):
                    self._translate(job, reading)
                self.progress.update()
            self._wait(0)
        return len(self.skipped)

    @contextlib.contextmanager
    def _skipping(self, job: Job) -> Iterator[None]:
        """Within it, what is wrong with this file alone becomes a line."""
        try:
            yield
        except DataError as error:
            self.skipped.append(job.source)
            named = "" if str(job.source) in str(error) else f"{job.source}: "
            self.progress.say(f"skipped: {named}{error}")

    def _translate(self, job: Job, reading: Union[None, Picture, DataError]) -> None:
        if isinstance(reading, DataError):
            raise reading
        if job.is_video:
            self._translate_video(job)
        elif self.settings.face:
            self._translate_faces(job, reading)
        else:
            self._write(job, self.views(reading))

    def _translate_faces(self, job: Job, picture: Picture) -> None:
        crops = faces.face_crops(picture.image)
        if not crops:
            raise DataError(f"{job.source}: no face was found")
        for number, crop in reversed(list(enumerate(crops, 1))):
            self._write(job._replace(target=_of_face(job.target, number)), self.views(Picture(crop)))
            self._wait(0)

    def _translate_video(self, job: Job) -> None:
        wanted = [folder for folder in self.folders if _is_wanted(self.settings, folder, job.target)]
        video = VideoReader(job.source)
        with contextlib.ExitStack() as stack:
            # Opened first, the translation itself is finished last.
            writers = {
                folder: stack.enter_context(VideoWriter(self.output / folder / job.target, video.fps, sound_from=job.source))
                for folder in reversed(wanted)
            }
            for frame in track(video, job.source.name, video.count, "frames"):
                views = self.views(Picture(frame))
                for folder, writer in writers.items():
                    writer.write(to_colour(views[folder]))

    def views(self, picture: Picture) -> Views:
        """What is written of one picture."""
        translated, heatmap = self.predictor.translate(picture.image, self.settings.size)
        height, width = translated.shape[:2]
        original = resize(picture.image, width, height)
        views: Views = {}
        if self.settings.heatmap:
            views[HEATMAP] = heat_over(original, heatmap)
        if self.settings.keep_grey and _is_grey(picture.image):
            translated = translated.mean(2, keepdims=True).round().astype(np.uint8)
        if self.settings.side_by_side:
            views[SIDE_BY_SIDE] = np.concatenate([original, to_colour(translated)], axis=1)
        return {**views, "": as_transparent(translated, picture)}

    def _write(self, job: Job, views: Views) -> None:
        self._wait(MOST_WAITING)
        self.waiting.append(self.writers.submit(self._write_now, job, views))

    def _write_now(self, job: Job, views: Views) -> None:
        with self._skipping(job):
            for folder in self.folders:
                if _is_wanted(self.settings, folder, job.target):
                    _write_file(self.output / folder / job.target, views[folder], self.settings.quality)

    def _wait(self, most: int) -> None:
        """Until at most so many pictures are still to be written. Raises OSError where one cannot be."""
        while len(self.waiting) > most:
            self.waiting.popleft().result()


def heat_over(original: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Where the CAM looks, (h, w) of any range, over the picture (H, W, 3) uint8; returns the same."""
    height, width = original.shape[:2]
    return (original // 2) + (to_heat_map(heatmap, width, height) // 2)


def as_transparent(translated: np.ndarray, picture: Picture) -> np.ndarray:
    """A translation (H, W, C) uint8 with the transparency of the original, if it has any: then (H, W, 4)."""
    if picture.alpha is None:
        return translated
    height, width = translated.shape[:2]
    return np.dstack([to_colour(translated), resize(picture.alpha[:, :, None], width, height)])


def _read(job: Job) -> Union[None, Picture, DataError]:
    """The picture, or why it cannot be read; None for a video, which is read frame by frame."""
    if job.is_video:
        return None
    try:
        return read_picture(job.source, MOST_PIXELS)
    except DataError as error:
        return error


def _write_file(file: Path, view: np.ndarray, quality: int) -> None:
    """Raises DataError where the format or the length of the name forbids it, else OSError."""
    try:
        write_image(file, view, quality)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise DataError(f"{file}: the name is too long; rename the original") from error


def _is_grey(image: np.ndarray) -> bool:
    return bool((image[:, :, :1] == image[:, :, 1:]).all())
