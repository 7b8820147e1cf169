"""Image files, arrays and sheets. Images are (H, W, C) uint8 RGB or grey; network images are (C, H, W) float32 in [-1, 1]."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence, Union

import cv2
import numpy as np
import PIL.Image

from errors import DataError

# Silent: our own error names the file. OpenCV 5 moved the function into a module.
getattr(cv2.utils, "logging", cv2).setLogLevel(0)
PIL.Image.MAX_IMAGE_PIXELS = None  # a limit on what is decoded; here Pillow reads headers
warnings.filterwarnings("ignore", module=r"PIL\.")
FONT = cv2.FONT_HERSHEY_SIMPLEX
MOST_PIXELS = 2**30  # of an image, unless the environment variable OPENCV_IO_MAX_IMAGE_PIXELS says more
EXIF_ORIENTATION = 0x0112
READABLE = (np.uint8, np.uint16)  # the types of pixels that have an 8-bit meaning


# Files


def write_bytes(path: Union[str, Path], content: bytes) -> None:
    """Write a file as `replacing` does. Raises OSError as that does."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def append_bytes(path: Union[str, Path], content: bytes) -> None:
    """Append to a file all of `content`, or nothing where the disk is full. Makes the folder.

    Raises:
        OSError: it cannot be written; its `filename` is `path`.
    """
    size, path = None, Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as stream:
            size = stream.tell()
            stream.write(content)
    except OSError as error:
        if size is not None:
            with contextlib.suppress(OSError):
                os.truncate(path, size)
        error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing(path: Union[str, Path]) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends, so a reader never sees half a file. Makes the folder.

    Raises:
        OSError: it cannot be written; its `filename` is `path`. What was there before stays.
    """
    path = Path(path)
    # Not made of the name itself, which may be as long as names can be.
    temporary = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}-{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk comes without a name, and the temporary one says nothing to a user
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sha256_of(path: Union[str, Path]) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def from_json(text: str) -> Any:
    """What a JSON text holds. Raises ValueError where it is none, or nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_image(path: Union[str, Path], image: np.ndarray, quality: int = 95) -> None:
    """Write an (H, W, C) uint8 image in the format of the path's suffix: .png, .jpg or .webp. The path may hold any characters.

    Args:
        image: C is 1 (grey), 3 (RGB) or 4 (RGB with transparency, which .jpg lays over white).
        quality: of .jpg and .webp, 1 to 100.

    Raises:
        DataError: the format does not hold an image of this size.
        OSError: the file cannot be written.
    """
    suffix = Path(path).suffix
    if image.shape[2] == 4:
        image = over_white(image[:, :, :3], image[:, :, 3]) if suffix == ".jpg" else cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA)
    if image.shape[2] == 3:
        image = image[:, :, ::-1]
    parameters = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality], ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}.get(suffix, [])
    done, encoded = cv2.imencode(suffix, np.ascontiguousarray(image), parameters)
    if not done:
        height, width = image.shape[:2]
        raise DataError(f"{path}: the format has no room for {width}x{height} pixels (webp: sides up to 16383; jpg: up to 65535)")
    write_bytes(path, encoded.tobytes())


def output_names(names: Sequence[str], suffix: str = ".png") -> Dict[str, str]:
    """Where each relative path goes: its stem with `suffix`, or, where two would collide, its whole name with it."""
    stems = {name: str(PurePosixPath(name).with_suffix("")) for name in names}
    # A stem also collides with a whole name: a.jpg, a.png and a.jpg.png.
    shared = Counter([*stems.values(), *names])
    return {name: f"{name}{suffix}" if shared[stem] > 1 else f"{stem}{suffix}" for name, stem in stems.items()}


class Picture(NamedTuple):
    """An image (H, W, 3) uint8 RGB, laid over white, and its transparency (H, W) uint8, 0 where nothing is to be seen, if any."""

    image: np.ndarray
    alpha: Optional[np.ndarray] = None


def read_image(path: Union[str, Path], channels: int = 3) -> np.ndarray:
    """Read an image file as (H, W, channels) uint8, RGB or grey, transparency laid over white. Raises as `read_picture`."""
    image = read_picture(path).image
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None] if channels == 1 else image


def read_picture(path: Union[str, Path], most_pixels: Optional[int] = None) -> Picture:
    """Read an image file with its transparency.

    16-bit images are scaled to 8 bits, and the camera's orientation (EXIF) is applied.

    Args:
        most_pixels: files that declare more, or have more than 8 bytes for each of them, are not read.

    Raises:
        DataError: the file is missing, not an image, cut short, larger than `most_pixels` or than OpenCV reads, or of a kind that
            has no 8-bit meaning (floating point).
    """
    path = Path(path)
    header = read_header(path) if most_pixels else None
    if header is not None and header.width * header.height > most_pixels:
        raise DataError(f"{path}: {header.width}x{header.height} pixels are more than {most_pixels:,}; make the picture smaller")
    try:
        if most_pixels and path.stat().st_size > 8 * most_pixels:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes are too many for a picture; remove the file")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if is_damaged(content):
        raise DataError(f"{path}: the image is truncated or damaged; replace or remove the file")
    picture = _decode(content)
    if picture is None:
        raise DataError(f"{path}: {_why_unreadable(path, content)}")
    kind = picture.image.dtype
    if kind not in READABLE:
        raise DataError(f"{path}: pixels of type {kind} have no 8-bit meaning; convert the file to 8 or 16 bits")
    return Picture(*(_in_8_bits(values) for values in picture))


def _in_8_bits(values: Optional[np.ndarray]) -> Optional[np.ndarray]:
    if values is None or values.dtype == np.uint8:
        return values
    return (values.astype(np.float32) / 257).round().astype(np.uint8)


def _decode(content: bytes) -> Optional[Picture]:
    """The picture in the file's own depth, upright; None where OpenCV cannot."""
    buffer = np.frombuffer(content, np.uint8)
    if not buffer.size:
        return None
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is None:
            return None
        # Only this mode keeps alpha, and it ignores the orientation; a JPEG has no alpha.
        raw = None if content[:2] == b"\xff\xd8" else cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if image.dtype not in READABLE:
        return Picture(image)  # the colours of some types cannot even be converted
    alpha = None
    if raw is not None and raw.ndim == 3 and raw.shape[2] == 4:
        raw = _turned_like(raw, image)
        alpha = np.ascontiguousarray(raw[:, :, 3])
        image = over_white(raw[:, :, :3], alpha)
    return Picture(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), alpha)


def _why_unreadable(path: Path, content: bytes) -> str:
    """Why `_decode` gives None, and the remedy."""
    remedy = "replace or remove the file"
    if not content:
        return f"the file is empty; {remedy}"
    if content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return f"not an image but HTML or XML; {remedy}"
    header = read_header(path)
    if header is None:
        return f"not a readable image; {remedy}"
    pixels = header.width * header.height
    if pixels > MOST_PIXELS:
        return (
            f"{header.width}x{header.height} pixels are more than OpenCV reads by default, {MOST_PIXELS}: make the image smaller, "
            f"or set the environment variable OPENCV_IO_MAX_IMAGE_PIXELS={pixels}"
        )
    return f"not a readable image, though it begins as {header.format}; {remedy}"


class Header(NamedTuple):
    """What an image file says of itself. `format` and `mode` are Pillow's names, such as JPEG and RGB."""

    format: str
    mode: str
    width: int  # pixels, upright
    height: int
    is_turned: bool  # by the camera's orientation (EXIF)
    has_alpha: bool
    frames: int  # or pages


def read_header(path: Path) -> Optional[Header]:
    """The header of an image file, without decoding it; None where Pillow does not know it."""
    try:
        with PIL.Image.open(path) as image:
            # A PNG without EXIF would be decoded in search of it.
            has_exif = "exif" in image.info or image.format == "TIFF"
            orientation = image.getexif().get(EXIF_ORIENTATION, 1) if has_exif else 1
            width, height = image.size[::-1] if orientation > 4 else image.size
            has_alpha = "A" in image.mode or "transparency" in image.info
            kind = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with more pictures behind it
            return Header(kind, image.mode, width, height, orientation > 1, has_alpha, getattr(image, "n_frames", 1))
    except Exception:  # of a damaged file Pillow raises what it likes
        return None


def _turned_like(raw: np.ndarray, image: np.ndarray) -> np.ndarray:
    """`raw` (H, W, 4) in the one of EXIF's eight orientations in which its colours are those of `image`."""
    for turns in range(4):
        for turned in (np.rot90(raw, turns), np.rot90(raw, turns)[:, ::-1]):
            if turned.shape[:2] == image.shape[:2] and np.array_equal(turned[:, :, :3], image):
                return turned
    return raw


def over_white(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) seen through its transparency (H, W) before a white ground; both of the same unsigned type."""
    largest = int(np.iinfo(image.dtype).max)
    # Products of two values fit into twice as many bits, and so does the sum of these two, rounded to the nearest.
    wide = np.uint16 if image.dtype == np.uint8 else np.uint32
    opacity = alpha[:, :, None].astype(wide)
    return ((image * opacity + (largest - opacity) * wide(largest) + wide(largest // 2)) // wide(largest)).astype(image.dtype)


def is_damaged(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end marker, or a PNG's checksums are wrong.

    Decoders fill what is missing with grey and say nothing. A JPEG has no checksums: bytes changed inside one show as a picture.
    """
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return not _is_whole_png(content)
    if content[:2] != b"\xff\xd8":
        return False
    position = 2
    # Walk over the header's segments: a thumbnail inside them has an end marker of its own.
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xDA:
            return content.find(b"\xff\xd9", position) < 0
        if marker == 0xFF:
            position += 1
            continue
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return True


def _is_whole_png(content: bytes) -> bool:
    position = 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        body = content[position + 4 : position + 8 + length]
        checksum = content[position + 8 + length : position + 12 + length]
        if len(checksum) < 4 or zlib.crc32(body) != int.from_bytes(checksum, "big"):
            return False
        if body[:4] == b"IEND":
            return True
        position += 12 + length
    return False


# Arrays


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize (H, W, C) uint8: area filter along a side that shrinks, bilinear along one that grows."""
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    if smaller != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image.reshape(height, width, -1)


def to_network(image: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 to (C, H, W) float32 in [-1, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / 127.5 - 1.0


def to_image(array: np.ndarray) -> np.ndarray:
    """(C, H, W) in [-1, 1] to (H, W, C) uint8."""
    return np.clip((array.transpose(1, 2, 0) + 1.0) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def to_heat_map(array: np.ndarray, width: int, height: int) -> np.ndarray:
    """(h, w) of any range to (height, width, 3) uint8 RGB in the authors' colours; a constant map is all blue."""
    low, high = float(array.min()), float(array.max())
    scaled = (array - low) / (high - low) if high > low else np.zeros_like(array)
    grey = cv2.resize((255 * scaled).astype(np.uint8), (width, height))
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)


def to_colour(image: np.ndarray) -> np.ndarray:
    """(H, W, 1 or 3) to (H, W, 3)."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


# Sheets


def labelled_grid(pictures: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
    """Strips side by side, with the rows' labels in a white margin on the left."""
    height = pictures[0].shape[0]
    scale = max(0.4, height / len(labels) / 320)
    width = 12 + max(cv2.getTextSize(label, FONT, scale, 1)[0][0] for label in labels)
    margin = np.full((height, width, 3), 255, np.uint8)
    for index, label in enumerate(labels):
        middle = int((index + 0.5) * height / len(labels)) + 4
        cv2.putText(margin, label, (6, middle), FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([margin, *pictures], axis=1)


def contact_sheet(stacks: Sequence[Sequence[np.ndarray]], columns: int = 8, gap: int = 4) -> np.ndarray:
    """Each stack's images one below the other, the stacks in up to `columns` columns, white between them."""
    joined = [np.concatenate([to_colour(image) for image in stack], axis=0) for stack in stacks]
    height, side = joined[0].shape[:2]
    columns = min(columns, len(joined))
    lines = -(-len(joined) // columns)
    sheet = np.full((lines * (height + gap) - gap, columns * (side + gap) - gap, 3), 255, np.uint8)
    for index, stack in enumerate(joined):
        top, left = index // columns * (height + gap), index % columns * (side + gap)
        sheet[top : top + height, left : left + side] = stack
    return sheet
