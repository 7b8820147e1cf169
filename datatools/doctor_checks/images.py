"""What the doctor knows of one image file: an `Image`, from the file's bytes and from what `utils.read_image` makes of them."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Tuple

import cv2
import numpy as np

from errors import DataError
from utils import read_image, resize

THUMBNAIL = 64
JOINED = ("train", "val", "test")  # folders whose files hold A and B side by side
# Formats by their first bytes, and the extensions they go by.
SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
)
EXTENSIONS_OF = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm",),
    "WebP": (".webp",),
}
IMAGE_FORMATS = {*EXTENSIONS_OF, "GIF", "JPEG 2000", "AVIF", "HEIC"}
TEXT_STARTS = ((b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<svg", "SVG"), (b"<?xml", "XML"))


@dataclass(frozen=True)
class Image:
    """One file that the data set's folders hold under an image's name. Where `trouble` is set nothing after it is known."""

    folder: str
    name: str
    size: int  # bytes
    format: str  # by its content
    trouble: str = ""  # why it cannot be read
    width: int = 0  # pixels, upright
    height: int = 0
    mode: str = ""  # grey, colour or CMYK, with alpha
    white: int = 255  # the value that the file means as white: 255, 65535, or what a PPM says
    brightest: int = 255  # its largest value, of 255
    spread: float = 0.0  # standard deviation of its grey values, of 255; of the plainer half of A|B
    colourless: bool = False
    transparent: bool = False
    turned: bool = False  # by the camera's orientation (EXIF)
    several: bool = False  # more frames or pages than the first
    same_halves: bool = False  # A|B whose A equals B
    damaged: bool = False  # libjpeg complains, yet decodes
    digest: str = ""  # of the decoded pixels
    thumbnail: bytes = b""  # (64, 64) grey; of A|B, A above B, so that both are mirrored in place as augmentation does

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def extension(self) -> str:
        return os.path.splitext(self.name)[1].lower()

    @property
    def is_pair(self) -> bool:
        """Whether it can be A and B side by side."""
        return self.width % 2 == 0 and self.width > self.height

    @property
    def is_dark(self) -> bool:
        """Whether its 16 bits hold 10 or 12: `utils.read_image` takes 65535 for white."""
        return 255 < self.white < 65535 or (self.white == 65535 and self.brightest < 32)

    @property
    def shape(self) -> Tuple[int, int]:
        """Width and height of what a network is given: of one half of A|B."""
        return (self.width // 2 if self.folder in JOINED and self.is_pair else self.width), self.height


def sniff(content: bytes) -> str:
    """The format by its first bytes: one of IMAGE_FORMATS, HTML, SVG, XML, "empty" or "unknown"."""
    if not content:
        return "empty"
    for signature, name in SIGNATURES:
        if content.startswith(signature):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        return "AVIF" if brand[:3] == b"avi" else "HEIC" if brand[:3] in (b"hei", b"hev", b"mif", b"msf") else "video"
    if re.match(rb"P[1-6]\s", content):
        return "PPM"
    start = content[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((name for text, name in TEXT_STARTS if start.startswith(text)), "unknown")


def examine(root: Path, folder: str, name: str) -> Image:
    """Read one file of the data set. Never raises for what the file holds: that is `Image.trouble`."""
    path = root / folder / name
    try:
        content = path.read_bytes()
        pixels = read_image(path)
    except OSError as error:
        return Image(folder, name, 0, "unknown", f"cannot be read ({error.strerror})")
    except DataError as error:
        return Image(folder, name, len(content), sniff(content), _trouble(str(error)[len(f"{path}: ") :], sniff(content), path))

    kind = sniff(content)
    height, width = pixels.shape[:2]
    mode, white, transparent = _encoding(content, kind)
    joined = folder in JOINED and width % 2 == 0 and width > height
    halves = [pixels[:, : width // 2], pixels[:, width // 2 :]] if joined else [pixels]
    view = resize(np.concatenate(halves), THUMBNAIL, THUMBNAIL)
    return Image(
        folder,
        name,
        len(content),
        kind,
        width=width,
        height=height,
        mode=mode,
        white=white,
        brightest=int(pixels.max()),
        spread=min(float(cv2.meanStdDev(_grey(half))[1][0, 0]) for half in halves),
        colourless=float(np.ptp(view, axis=2).mean()) < 2,
        transparent=transparent,
        turned=_is_turned(content, kind),
        several=_has_several(content, kind),
        same_halves=joined and np.array_equal(*halves),
        digest=hashlib.blake2b(b"%dx%d" % (width, height) + pixels.tobytes(), digest_size=16).hexdigest(),
        thumbnail=_grey(view).tobytes(),
    )


def _trouble(message: str, kind: str, path: Path) -> str:
    """What `read_image` says without its remedy, and what the file holds where that is not what its name says."""
    reason = message.split(";")[0]
    if kind == "empty":
        return "the file is empty"
    if kind == "unknown" or path.suffix.lower() in EXTENSIONS_OF.get(kind, ()):
        return reason
    return f"{reason}: it holds {kind}"


def _grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


def _encoding(content: bytes, kind: str) -> Tuple[str, int, bool]:
    """Mode, white, and whether anything shows through."""
    if kind == "JPEG":
        return {1: "grey", 4: "CMYK"}.get(_jpeg_components(content), "colour"), 255, False
    raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    white = int(np.iinfo(raw.dtype).max)
    header = re.match(rb"P[2356](?:\s+(?:#[^\n]*\n\s*)*(\d+)){3}\s", content) if kind == "PPM" else None
    # OpenCV scales a PPM whose white is below 255, but not one whose white lies between 255 and 65535.
    means = int(header.group(1)) if header and white > 255 else white
    channels = 1 if raw.ndim == 2 else raw.shape[2]
    mode = {1: "grey", 4: "colour with alpha"}.get(channels, "colour")
    return mode, means, channels == 4 and bool(raw[:, :, 3].min() < white)


def _jpeg_components(content: bytes) -> int:
    """1 grey, 3 colour, 4 CMYK; 0 where no frame header is found."""
    position = 2
    while position + 10 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return content[position + 9]
        position += 1 if marker == 0xFF else 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return 0


def _is_turned(content: bytes, kind: str) -> bool:
    """Whether OpenCV turns it upright. Asked of OpenCV itself, and only where an orientation can be."""
    if kind != "TIFF" and not any(mark in content for mark in (b"Exif\0", b"eXIf", b"EXIF")):
        return False
    buffer = np.frombuffer(content, np.uint8)
    upright = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    return not np.array_equal(upright, cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION))


def _has_several(content: bytes, kind: str) -> bool:
    """Whether there are frames or pages after the first: animated PNG, WebP or GIF, and TIFF of several pages."""
    if kind == "PNG":
        return b"acTL" in content[: content.find(b"IDAT")]
    if kind == "WebP":
        return content[12:16] == b"VP8X" and bool(content[20] & 2)
    if kind == "GIF":
        return content.count(b"\x21\xf9\x04") > 1
    if kind == "TIFF":
        order = "<" if content[:2] == b"II" else ">"
        first = struct.unpack_from(f"{order}I", content, 4)[0]
        entries = struct.unpack_from(f"{order}H", content, first)[0]
        return struct.unpack_from(f"{order}I", content, first + 2 + 12 * entries)[0] != 0
    return False


# JPEGs have no checksums, but libjpeg notices when it runs out of step, and says so on the process's stderr alone.


@contextmanager
def decoders_output() -> Iterator[Callable[[], str]]:
    """Keep what the decoders' libraries print on stderr away from the terminal; gives a function that returns it."""
    with tempfile.TemporaryFile() as file:

        def printed() -> str:
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield printed
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def is_corrupt_jpeg(path: Path) -> bool:
    """Whether libjpeg complains of the data while it decodes. One at a time: stderr belongs to the whole process.

    Changed bytes that still decode, with wrong colours from there on, cannot be told from a picture.
    """
    with decoders_output() as printed:
        # Read at an eighth: every bit is still decoded, which is where libjpeg notices.
        cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
        return "Corrupt JPEG data" in printed()
