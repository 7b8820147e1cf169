"""Image sets, augmentation and the loader.

Every random choice is drawn from (seed, domain, iteration, sample), so that what an iteration sees depends neither on workers
nor on interruptions.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import cv2
import numpy as np

from config import Config
from errors import DataError
from utils import from_json, read_header, read_image, resize, to_image, to_network

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff", ".webp")
LOAD_MARGIN = 30
# What a data set may say of itself, beside its folders: {"test_pairs": true} where testA and testB show the same things.
DESCRIPTION = "dataset.json"
DOMAINS = {"A2B": ("A", "B"), "B2A": ("B", "A")}
MOST_LISTED = 10
# A file whose width by height differs from train's by more than this factor is no pair.
OTHER_PROPORTION = 1.25
REPAIR = "repair or remove the file, or put the images into trainA, trainB, testA and testB for --method pix2pix"

cv2.setNumThreads(0)  # the loader's threads are the parallelism; OpenCV's own would fight with Paddle's
Batch = Dict[str, np.ndarray]
Item = TypeVar("Item")


class Sample(NamedTuple):
    """An image (C, H, W) in [-1, 1] to translate, and its true counterpart where there is one."""

    image: np.ndarray
    truth: Optional[np.ndarray] = None


class Part(NamedTuple):
    """The images of one direction of train or test: their names, and how to read one for the networks."""

    names: List[str]
    read: Callable[[int], Sample]


class TestSet(NamedTuple):
    """What an evaluation translates, and the real images (H, W, C) uint8 of the target domain, all at the networks' size.

    `real_count` is 0 where there are no real images.
    """

    __test__ = False  # for pytest: the name begins with Test

    count: int
    read: Callable[[int], Sample]
    real_count: int
    real: Callable[[int], np.ndarray]


def walk(folder: Path) -> Iterator[str]:
    """All paths below `folder` but those of the folders that it looks into.

    Links to folders are followed. Not looked into, and so given as they are: hidden folders, and links to a folder that was looked
    into before or holds `folder` itself.

    Raises:
        DataError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # of a folder that is not there, nothing is below
            raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror}); change its permissions, or remove it")

    seen = {str(parent) for parent in folder.resolve().parents}
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            yield parent
            continue
        seen.add(real)
        # Text: of a million files, Path objects would take a minute.
        yield from (os.path.join(parent, name) for name in names + [name for name in folders if is_hidden(name)])
        folders[:] = sorted(name for name in folders if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over for its name."""
    return name.startswith((".", "__MACOSX"))


def find_images(folder: Path) -> List[str]:
    """Paths of the images below `folder`, as `find_files` gives them."""
    return find_files(folder, EXTENSIONS)


def find_files(folder: Path, extensions: Sequence[str]) -> List[str]:
    """Paths of the files below `folder` with these extensions, relative to it, with forward slashes, sorted.

    Hidden files are passed over.

    Raises:
        DataError: a folder cannot be read.
    """
    inside, endings = len(os.path.join(folder, "")), tuple(extensions)
    found = (path for path in walk(folder) if path.lower().endswith(endings) and not is_hidden(os.path.basename(path)))
    return sorted(path[inside:].replace(os.sep, "/") for path in found if os.path.isfile(path))


class ImageFolder:
    """The images of one folder, in a fixed order.

    Raises:
        DataError: the folder is missing, cannot be read or holds no image.
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


def open_data_set(config: Config) -> Path:
    """The folder of the data set that `config` names. Raises DataError where it is missing."""
    root = Path(config.data_root) / config.dataset
    if not root.is_dir():
        raise DataError(f"--data_root, --dataset: there is no folder {root}; expected {layout(config)}")
    return root


def open_folder(config: Config, part: str) -> ImageFolder:
    """A folder such as trainA of the data set. Raises DataError where it is missing or holds no image."""
    return ImageFolder(open_data_set(config) / part, config.img_ch, layout(config))


def layout(config: Config) -> str:
    """Where the data set's images should be, for people."""
    root = Path(config.data_root) / config.dataset
    unpaired = f"{root}/{{trainA,trainB,testA,testB}} with pictures in each"
    if not config.paired:
        return unpaired
    return f"{root}/{{train,val,test}} with A and B side by side in each picture, or {unpaired}, matched by name"


class PairedFolder:
    """Pairs of images of one part (train, val or test) in either convention, in a fixed order.

    DATA_SET/train holds A and B side by side in one file, or DATA_SET/trainA and trainB hold them under the same names (whatever
    their extensions).

    Raises:
        DataError: neither is there, a folder holds no image, or images lack a counterpart.
    """

    def __init__(self, config: Config, part: str) -> None:
        root = open_data_set(config)
        self.together, self.apart = None, None
        self.proportions: Optional[Tuple[float, float]] = None
        if config.paired and (root / part).is_dir():
            self.together = open_folder(config, part)
            self.names = self.together.names
            self.image_folders = [self.together]
            if part != "train":
                self.proportions = train_proportions(root)
            return
        self.image_folders = folders = [ImageFolder(root / f"{part}{domain}", config.img_ch, layout(config)) for domain in "AB"]
        by_stem = [_by_stem(folder) for folder in folders]
        alone = [f"{part}A/{stem}" for stem in sorted(set(by_stem[0]) - set(by_stem[1]))]
        alone += [f"{part}B/{stem}" for stem in sorted(set(by_stem[1]) - set(by_stem[0]))]
        if alone:
            more = f" and {len(alone) - MOST_LISTED} more" if len(alone) > MOST_LISTED else ""
            raise DataError(
                f"--dataset: images of {root} without a counterpart of the same name: {', '.join(alone[:MOST_LISTED])}{more}; "
                "add or remove files"
            )
        self.apart = [(folders[0], by_stem[0][stem], folders[1], by_stem[1][stem]) for stem in sorted(by_stem[0])]
        self.names = [folder.names[index] for folder, index, _, _ in self.apart]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Tuple[np.ndarray, np.ndarray]:
        """Pair `index` as A and B, each (H, W, channels) uint8.

        Raises:
            DataError: a file cannot be read, or is plainly not two images side by side as in train.
        """
        if self.apart is not None:
            folder_A, index_A, folder_B, index_B = self.apart[index]
            return folder_A.read(index_A), folder_B.read(index_B)
        return halves(self.together.read(index), self.together.folder / self.names[index], self.proportions)


def halves(both: np.ndarray, path: Path, proportions: Optional[Tuple[float, float]] = None) -> Tuple[np.ndarray, np.ndarray]:
    """The left and the right half of A and B side by side (H, W, C). Raises DataError as `check_pair` does."""
    height, width = both.shape[:2]
    check_pair(width, height, path, proportions)
    return both[:, : width // 2], both[:, width // 2 :]


def check_pair(width: int, height: int, path: Path, proportions: Optional[Tuple[float, float]] = None) -> None:
    """Raise DataError where the image `path` is plainly not two side by side.

    Args:
        proportions: smallest and largest width by height of the pairs in train. A file far from them is a single image.
    """
    if width % 2:
        raise DataError(f"{path}: a width of {width} is odd; it needs A and B side by side, equally wide; {REPAIR}")
    if width <= height:
        raise DataError(f"{path}: {width}x{height} is not two images side by side; {REPAIR}")
    low, high = proportions or (width / height, width / height)
    if not low / OTHER_PROPORTION <= width / height <= high * OTHER_PROPORTION:
        usual = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
        raise DataError(
            f"{path}: {width}x{height} is {width / height:.2f} times as wide as high, but the pairs in train are {usual} times; "
            f"{REPAIR}"
        )


def train_proportions(root: Path) -> Optional[Tuple[float, float]]:
    """Smallest and largest width by height of the files in `root`/train, of at most 500 of them; None where there are none."""
    names = find_images(root / "train") if (root / "train").is_dir() else []
    headers = [read_header(root / "train" / name) for name in names[:: len(names) // 500 + 1]]
    found = [header.width / header.height for header in headers if header is not None]
    return (min(found), max(found)) if found else None


def _by_stem(folder: ImageFolder) -> Dict[str, int]:
    """Index of each image by its name without the extension. Raises DataError where two images share one."""
    found: Dict[str, int] = {}
    for index, name in enumerate(folder.names):
        stem = name.rsplit(".", 1)[0]
        if stem in found:
            raise DataError(f"{folder.folder}: {folder.names[found[stem]]} and {name} would be the same pair; rename one")
        found[stem] = index
    return found


# Randomness


def sample_index(seed: int, domain: int, position: int, count: int) -> int:
    """Which of `count` images stands at `position` of an endless sequence of shuffled epochs."""
    epoch, place = divmod(position, count)
    return int(_permutation(seed, domain, epoch, count)[place])


@lru_cache(maxsize=8)  # the domains at their current epoch, and at the next one for workers that are ahead
def _permutation(seed: int, domain: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, domain, epoch]).permutation(count)


def augment(images: Sequence[np.ndarray], size: int, load_size: int, rng: np.random.Generator) -> List[np.ndarray]:
    """Flip with probability 1/2, resize to load_size, crop size x size at random; all images alike.

    U-GAT-IT, section 4.2; CycleGAN, appendix 7.1; Pix2Pix, appendix 6.2.
    """
    flip = rng.random() < 0.5
    top, left = rng.integers(0, load_size - size + 1, 2)
    if flip:
        images = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    return [resize(image, load_size, load_size)[top : top + size, left : left + size] for image in images]


class TrainingData:
    """The batches of a training and its sample images. A batch is a function of its iteration alone.

    Args:
        processes: how many share each batch, config.batch_size images each.
        rank: which of them reads here, from 0 on.
    """

    def __init__(self, config: Config, rank: int = 0, processes: int = 1) -> None:
        self.config, self.rank, self.processes = config, rank, processes
        self.load_size = config.load_size or config.img_size + LOAD_MARGIN

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations in which every image of the larger domain is seen once."""
        return -(-self.longest() // (self.processes * self.config.batch_size))

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of iterations first..last."""
        return read_ahead(self.batch, first, last, self.config.num_workers)

    def batch(self, iteration: int) -> Batch:
        """{"real_A": (N, C, size, size), "real_B": the same}, float32 in [-1, 1]."""
        size = self.config.batch_size
        first = (iteration - 1) * self.processes * size
        own = range(self.rank * size, (self.rank + 1) * size)
        pairs = [self.pair(iteration, sample, first + sample) for sample in own]
        real_A, real_B = zip(*pairs)
        return {"real_A": np.stack(real_A), "real_B": np.stack(real_B)}

    def _augmented(self, images: Sequence[np.ndarray], *key: int) -> List[np.ndarray]:
        rng = np.random.default_rng([self.config.seed, *key])
        return [to_network(image) for image in augment(images, self.config.img_size, self.load_size, rng)]

    def file_sizes(self) -> Dict[str, int]:
        """Size in bytes of each training file, by its path in the data set."""
        root = open_data_set(self.config)
        sizes: Dict[str, int] = {}
        for folder in self.image_folders():
            part = folder.folder.relative_to(root).as_posix()
            sizes.update((f"{part}/{name}", os.path.getsize(os.path.join(folder.folder, name))) for name in folder.names)
        return sizes

    def image_counts(self) -> Dict[str, int]:
        """Images in each training folder."""
        return {folder.folder.name: len(folder) for folder in self.image_folders()}

    def image_folders(self) -> List[ImageFolder]:
        """The folders that are read."""
        raise TypeError(f"{type(self).__name__} defines no image_folders")

    def longest(self) -> int:
        """Images of the larger domain."""
        raise TypeError(f"{type(self).__name__} defines no longest")

    def pair(self, iteration: int, sample: int, position: int) -> Sequence[np.ndarray]:
        """A and B of one sample; `position` counts the samples of the whole run."""
        raise TypeError(f"{type(self).__name__} defines no pair")

    def samples(self) -> Dict[str, List[Sample]]:
        """For each direction the first training images, then, where there are any, the first test images."""
        found: Dict[str, List[Sample]] = {}
        for direction in self.config.directions:
            parts = [open_part(self.config, "train", direction)]
            test = open_test_part(self.config, direction)
            if test is None:
                print(f"no test images of domain {DOMAINS[direction][0]}: sample grids show training images only")
            else:
                parts.append(test)
            most = self.config.sample_count
            found[direction] = [part.read(index) for part in parts for index in range(min(most, len(part.names)))]
        return found


class UnpairedData(TrainingData):
    """trainA and trainB, each in its own order. Raises DataError where one is missing or holds no image."""

    def __init__(self, config: Config, rank: int = 0, processes: int = 1) -> None:
        super().__init__(config, rank, processes)
        root = open_data_set(config)
        if (root / "train").is_dir() and not (root / "trainA").is_dir():
            raise DataError(
                f"--dataset: {root} has pairs in train and no trainA and trainB: use --method pix2pix, or part the pairs with "
                "python -m datatools.prepare unpair"
            )
        self.folders = [open_folder(config, "trainA"), open_folder(config, "trainB")]

    def image_folders(self) -> List[ImageFolder]:
        return self.folders

    def longest(self) -> int:
        return max(len(folder) for folder in self.folders)

    def pair(self, iteration: int, sample: int, position: int) -> Sequence[np.ndarray]:
        images = []
        for domain, folder in enumerate(self.folders):
            image = folder.read(sample_index(self.config.seed, domain, position, len(folder)))
            images += self._augmented([image], domain, iteration, sample)
        return images


class PairedData(TrainingData):
    """Pairs that are augmented alike. Raises DataError as `PairedFolder` does."""

    def __init__(self, config: Config, rank: int = 0, processes: int = 1) -> None:
        super().__init__(config, rank, processes)
        self.folder = PairedFolder(config, "train")

    def image_folders(self) -> List[ImageFolder]:
        return self.folder.image_folders

    def longest(self) -> int:
        return len(self.folder)

    def pair(self, iteration: int, sample: int, position: int) -> Sequence[np.ndarray]:
        images = self.folder.read(sample_index(self.config.seed, 0, position, len(self.folder)))
        return self._augmented(images, 0, iteration, sample)


def open_training_data(config: Config, rank: int = 0, processes: int = 1) -> TrainingData:
    """What `config`'s method trains on, for one of the processes that share each batch. Raises DataError."""
    return (PairedData if config.paired else UnpairedData)(config, rank, processes)


def open_part(config: Config, part: str, direction: str) -> Part:
    """The images of a part (train, val or test) to translate in `direction`, with their counterparts where they are pairs.

    All are resized to img_size.

    Raises:
        DataError: they are missing.
    """
    source, _ = DOMAINS[direction]
    size = config.img_size

    def prepared(image: np.ndarray) -> np.ndarray:
        return to_network(resize(image, size, size))

    if not config.paired and not (part == "test" and has_test_pairs(config)):
        folder = open_folder(config, f"{part}{source}")
        return Part(folder.names, lambda index: Sample(prepared(folder.read(index))))
    pairs = PairedFolder(config, part)

    def read_pair(index: int) -> Sample:
        pair = [prepared(image) for image in pairs.read(index)]
        return Sample(*(pair if source == "A" else pair[::-1]))

    return Part(pairs.names, read_pair)


def open_test_part(config: Config, direction: str) -> Optional[Part]:
    """The test images of a direction (for pairs also those of val, where there is no test), or None where there are none.

    Raises:
        DataError: there is a folder, and it holds no image.
    """
    part = test_part(config, direction)
    if part == "val":
        print(f"no folder test in {open_data_set(config)}: using val")
    return part and open_part(config, part, direction)


def test_part(config: Config, direction: str) -> Optional[str]:
    """Which part of the data set holds the test images of a direction: test, else, for pairs, val, else None."""
    root = open_data_set(config)
    if (config.paired and (root / "test").is_dir()) or (root / f"test{DOMAINS[direction][0]}").is_dir():
        return "test"
    return "val" if config.paired and (root / "val").is_dir() else None


def open_test_parts(config: Config, directions: Sequence[str]) -> Dict[str, Part]:
    """The test images of each of these directions that has some; the others are named on stdout.

    Raises:
        DataError: no direction has any.
    """
    found = {direction: open_test_part(config, direction) for direction in directions}
    parts = {direction: part for direction, part in found.items() if part is not None}
    if not parts:
        raise DataError(f"--data_root, --dataset: no test images in {open_data_set(config)}; expected {layout(config)}")
    for direction in found.keys() - parts.keys():
        print(f"no folder test{DOMAINS[direction][0]} in {open_data_set(config)}: {direction} is left out")
    return parts


def open_test_set(config: Config, direction: str) -> Optional[TestSet]:
    """The test images of a direction with the real images of its target domain; None where it has no test images.

    Raises:
        DataError: there is a folder, and it holds no image.
    """
    part = open_test_part(config, direction)
    if part is None:
        return None
    if config.paired:
        return TestSet(len(part.names), part.read, len(part.names), lambda index: to_image(part.read(index).truth))
    target = open_test_part(config, direction[::-1])
    if target is None:
        return TestSet(len(part.names), part.read, 0, part.read)
    return TestSet(len(part.names), part.read, len(target.names), lambda index: to_image(target.read(index).image))


def has_test_pairs(config: Config) -> bool:
    """Whether an unpaired data set has testA and testB, and its description says that they are pairs of the same names.

    Raises:
        DataError: the description is not JSON.
    """
    root = open_data_set(config)
    file = root / DESCRIPTION
    if not file.is_file() or not all((root / f"test{domain}").is_dir() for domain in "AB"):
        return False
    try:
        return from_json(file.read_text(encoding="utf-8")).get("test_pairs") is True
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file}: not a JSON object; repair it, or remove it") from error


def read_ahead(batch: Callable[[int], Item], first: int, last: int, num_workers: int) -> Iterator[Item]:
    """The batches (or other items) of iterations first..last in order, made ahead of time by `num_workers` threads.

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
