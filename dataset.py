"""Image sets, augmentation and the loader.

Every random choice is drawn from (seed, domain, iteration, sample), so that what an iteration sees depends neither on workers
nor on interruptions.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List

import cv2
import numpy as np

from config import Config
from errors import DataError
from utils import read_image, resize, to_network

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff", ".webp")
LOAD_MARGIN = 30
TRAIN_FOLDERS = {"A2B": "trainA", "B2A": "trainB"}
TEST_FOLDERS = {"A2B": "testA", "B2A": "testB"}

cv2.setNumThreads(0)  # the loader's threads are the parallelism; OpenCV's own would fight with Paddle's
Batch = Dict[str, np.ndarray]


def find_images(folder: Path) -> List[str]:
    """Paths of the images below `folder`, relative to it, with forward slashes, sorted. Hidden files are passed over."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file()]
    relative = [path.relative_to(folder) for path in found]
    return sorted(path.as_posix() for path in relative if not any(part.startswith((".", "__MACOSX")) for part in path.parts))


class ImageFolder:
    """The images of one folder, in a fixed order.

    Raises:
        DataError: the folder is missing or holds no image.
    """

    def __init__(self, folder: Path, channels: int = 3, layout: str = "") -> None:
        self.folder, self.channels = Path(folder), channels
        expected = f"; expected {layout}" if layout else ""
        if not self.folder.is_dir():
            raise DataError(f"--data_root, --dataset: there is no folder {self.folder}{expected}")
        self.names = find_images(self.folder)
        if not self.names:
            raise DataError(f"--data_root, --dataset: {self.folder} holds no image ({', '.join(EXTENSIONS)}){expected}")

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> np.ndarray:
        """Image `index` as (H, W, channels) uint8."""
        return read_image(self.folder / self.names[index], self.channels)

    def read_for_test(self, index: int, size: int) -> np.ndarray:
        """Image `index` resized to size x size, as (channels, size, size) float32 in [-1, 1]."""
        return to_network(resize(self.read(index), size, size))


def open_folders(config: Config, parts: Iterable[str]) -> Dict[str, ImageFolder]:
    """Folders such as trainA and trainB of the data set that `config` names.

    Raises:
        DataError: the data set or one of the folders is missing, or holds no image.
    """
    root = Path(config.data_root) / config.dataset
    layout = f"{root}/{{trainA,trainB,testA,testB}} with pictures in each"
    if not root.is_dir():
        raise DataError(f"--data_root, --dataset: there is no folder {root}; expected {layout}")
    return {part: ImageFolder(root / part, config.img_ch, layout) for part in parts}


# Randomness


def sample_index(seed: int, domain: int, position: int, count: int) -> int:
    """Which of `count` images stands at `position` of an endless sequence of shuffled epochs."""
    epoch, place = divmod(position, count)
    return int(_permutation(seed, domain, epoch, count)[place])


@lru_cache(maxsize=8)  # the domains at their current epoch, and at the next one for workers that are ahead
def _permutation(seed: int, domain: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, domain, epoch]).permutation(count)


def augment(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Flip with probability 1/2, resize to size + 30, crop size x size at random (U-GAT-IT, section 4.2)."""
    load_size = size + LOAD_MARGIN
    flip = rng.random() < 0.5
    top, left = rng.integers(0, LOAD_MARGIN + 1, 2)
    if flip:
        image = image[:, ::-1]
    return resize(np.ascontiguousarray(image), load_size, load_size)[top : top + size, left : left + size]


class TrainingData:
    """The batches and the sample images of a training on two unpaired folders.

    Raises:
        DataError: trainA or trainB is missing or holds no image.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folders = open_folders(config, TRAIN_FOLDERS.values())

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of iterations first..last."""
        return read_ahead(self.batch, first, last, self.config.num_workers)

    def batch(self, iteration: int) -> Batch:
        """{"real_A": (N, C, size, size), "real_B": the same}, float32 in [-1, 1]: a function of the iteration alone."""
        return {
            name: np.stack([self._sample(domain, part, iteration, sample) for sample in range(self.config.batch_size)])
            for domain, (name, part) in enumerate((("real_A", "trainA"), ("real_B", "trainB")))
        }

    def _sample(self, domain: int, part: str, iteration: int, sample: int) -> np.ndarray:
        seed, folder = self.config.seed, self.folders[part]
        position = (iteration - 1) * self.config.batch_size + sample
        image = folder.read(sample_index(seed, domain, position, len(folder)))
        rng = np.random.default_rng([seed, domain, iteration, sample])
        return to_network(augment(image, self.config.img_size, rng))

    def samples(self) -> Dict[str, np.ndarray]:
        """For each direction the first training images, then, where there are any, the first test images (N, C, H, W)."""
        found = {}
        for direction in TRAIN_FOLDERS:
            folders = [self.folders[TRAIN_FOLDERS[direction]]]
            try:
                folders += open_folders(self.config, [TEST_FOLDERS[direction]]).values()
            except DataError:
                print(f"no images in {TEST_FOLDERS[direction]}: sample grids show training images only")
            size, most = self.config.img_size, self.config.sample_count
            found[direction] = np.stack(
                [folder.read_for_test(index, size) for folder in folders for index in range(min(most, len(folder)))]
            )
        return found


def read_ahead(batch: Callable[[int], Batch], first: int, last: int, num_workers: int) -> Iterator[Batch]:
    """The batches of iterations first..last in order, made ahead of time by `num_workers` threads.

    Threads suffice: OpenCV and NumPy release Python's lock while they decode and resize.
    """
    if num_workers == 0:
        yield from map(batch, range(first, last + 1))
        return
    with ThreadPoolExecutor(num_workers, thread_name_prefix="images") as pool:
        iterations = iter(range(first, last + 1))
        waiting = deque(pool.submit(batch, iteration) for iteration in islice(iterations, 2 * num_workers))
        try:
            while waiting:
                ready = waiting.popleft().result()
                waiting.extend(pool.submit(batch, iteration) for iteration in islice(iterations, 1))
                yield ready
        finally:
            for future in waiting:
                future.cancel()
