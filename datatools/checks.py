"""What the doctor looks for, in each image (`examine`) and in the whole set (`diagnose`). KINDS says how bad it is."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import cv2
import numpy as np
import PIL.Image

from config import Config
from dataset import DOMAINS, LOAD_MARGIN, check_pair, open_part, open_training_data, test_part
from errors import DataError
from utils import Header, read_header, read_image, resize

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")
JOINED = ("train", "val", "test")  # folders whose files hold A and B side by side
FOLDERS = tuple(f"{part}{domain}" for part in JOINED for domain in ("", "A", "B"))
PLAIN = 4.0  # standard deviation of grey values, of 255, below which an image shows next to nothing
SQUEEZED = 1.2  # longer side by shorter
THUMBNAIL = 64
# Near copies. Chosen on 1160 portraits and 500 facades, where these two find series and recoloured copies and no pair that merely
# looks alike. Hashes of different facades behind one mask may differ in 4 bits, but their details agree to 0.66 at most.
MOST_BITS = 10
LEAST_AGREEMENT = 0.7
SHIFT = 6  # pixels of 64 by which a copy may be moved

# Each kind of finding: its severity, what is counted, the rest of the message, and what a training would do.
KINDS = {
    "unreadable": (WARNING, "image", "that cannot be read", "would stop {phase}"),
    "not-a-pair": (WARNING, "image", "that cannot be A and B side by side", "would stop {phase}"),
    "constant": (WARNING, "image", "of (nearly) one colour, or with such a half", "would teach nothing; in a test, tell nothing"),
    "same-halves": (WARNING, "image", "whose A equals B", "would teach the network to copy"),
    "squeezed": (WARNING, "image", "far from square",
                 "would be squeezed to {size}x{size}; to crop them instead: python -m datatools.prepare resize"),
    "small": (WARNING, "image", "smaller than --img_size", "would be enlarged to {size}x{size}, blurred"),
    "cmyk": (WARNING, "image", "in CMYK, a printer's colours", "would be converted to RGB without their profile"),
    "leak": (WARNING, "pair", "of nearly equal images in training and test",
             "the test would show images that the training has seen"),
    "both-domains": (WARNING, "pair", "of equal images in both domains", "to translate them would be to copy them"),
    "no-test": (WARNING, "folder", "of test images missing",
                "sample grids would show training images only, and --phase test would leave the direction out"),
    "other-extension": (WARNING, "image", "of an extension that is not read", "would be passed over"),
    "broken-link": (WARNING, "link", "to a file or folder that is not there", "would be passed over"),
    "special-file": (WARNING, "file", "of another kind (pipe, socket or device)", "would be passed over"),
    "duplicate": (NOTE, "pair", "of nearly equal images within training or within test",
                  "would be seen more often than others"),
    "grey": (NOTE, "image", "without colour", "would be read as three equal channels"),
    "transparent": (NOTE, "image", "with transparency", "would be laid over white"),
    "turned": (NOTE, "image", "turned by the camera (EXIF)", "would be turned upright"),
    "frames": (NOTE, "image", "of several frames or pages", "only the first would be read"),
    "extension": (NOTE, "image", "whose extension disagrees with the content", "would be read by content"),
    "repeated-link": (NOTE, "link", "to a folder that is read already", "would be passed over"),
    "other-folder": (NOTE, "folder", "that no phase reads", "would be passed over"),
    "hidden": (NOTE, "hidden path", "in the folders", "would be passed over"),
    "no-image": (NOTE, "other file", "beside the images", "would be passed over"),
}  # fmt: skip


class Image(NamedTuple):
    """What is kept of one file. Where it is unreadable, `remarks` says why, and nothing after that is known."""

    folder: str
    path: str  # relative to the data set
    header: Header
    remarks: Dict[str, str]  # what is to be said of it: kind of finding and detail
    size: str = ""  # such as 256x256
    digest: str = ""  # of the decoded pixels
    thumbnail: Optional[np.ndarray] = None  # (64, 64) grey

    @property
    def domain(self) -> str:
        """A, B, or nothing where files hold both."""
        return self.folder[-1] if self.folder[-1] in "AB" else ""


class Survey(NamedTuple):
    """The data set as it was read: everything that the checks look at."""

    root: Path
    configs: Dict[str, Config]  # of the methods that are judged
    files: Dict[str, Sequence[str]]  # names of the images of each folder that is there
    images: Sequence[Image]
    passed_over: Sequence[Tuple[str, str]]  # paths that no phase reads, and the kind of finding


class Finding(NamedTuple):
    """One kind of trouble."""

    kind: str
    severity: str
    message: str
    consequence: str
    stops: List[str]  # the methods whose training it would stop
    cases: Sequence[Dict[str, Any]] = ()  # {"files": paths relative to the data set, "detail": what there is to say of them}


def examine(root: Path, folder: str, name: str, config: Config, proportions: Optional[Tuple[float, float]]) -> Image:
    """Read one file of the data set as the loader does. `proportions` are those of the pairs in train."""
    path = root / folder / name
    header = read_header(path) or Header("unknown", "unknown", 0, 0, False, False, 1)
    remarks: Dict[str, Any] = {}
    halves: List[np.ndarray] = []
    try:
        pixels = read_image(path)
        halves = [pixels]
        if folder in JOINED:
            check_pair(pixels.shape[1], pixels.shape[0], path, None if folder == "train" else proportions)
            halves = np.split(pixels, 2, axis=1)
    except DataError as error:
        # What the loader says, without the file's name and the remedy.
        remarks["not-a-pair" if halves else "unreadable"] = str(error).replace(f"{path}: ", "").split("; ")[0]
    if not halves:
        return Image(folder, f"{folder}/{name}", header, remarks)

    # A above B, so that in a mirrored pair each half is mirrored in its place, as augmentation does.
    small = resize(np.concatenate(halves), THUMBNAIL, THUMBNAIL)
    height, width = halves[0].shape[:2]
    named = PIL.Image.registered_extensions().get(path.suffix.lower())
    remarks.update({
        "constant": min(grey(half).std() for half in halves) < PLAIN,
        "same-halves": len(halves) == 2 and np.array_equal(*halves),
        "squeezed": max(width, height) > SQUEEZED * min(width, height) and f"{width}x{height}",
        "small": min(width, height) < config.img_size and f"{width}x{height}",
        "cmyk": header.mode == "CMYK",
        "grey": config.img_ch == 3 and np.ptp(small, axis=2).mean() < 2,
        "transparent": header.has_alpha and PIL.Image.open(path).convert("RGBA").getextrema()[3][0] < 255,
        "turned": header.is_turned,
        "frames": header.frames > 1,
        "extension": header.format not in ("unknown", named) and f"holds {header.format}",
    })  # fmt: skip
    remarks = {kind: detail if isinstance(detail, str) else "" for kind, detail in remarks.items() if detail}
    size = f"{pixels.shape[1]}x{pixels.shape[0]}"
    digest = hashlib.blake2b(size.encode() + pixels.tobytes(), digest_size=16).hexdigest()
    return Image(folder, f"{folder}/{name}", header, remarks, size, digest, grey(small))


def grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB to (H, W)."""
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


# The set


def training_folders(config: Config, files: Dict[str, Sequence[str]]) -> List[str]:
    """The folders that a training reads whole."""
    return ["train"] if config.paired and "train" in files else ["trainA", "trainB"]


def read_in_training(config: Config, files: Dict[str, Sequence[str]]) -> Set[str]:
    """Paths of the images that a training reads: all to train on, and the first to test on, for its sample grids."""
    part = test_part(config, config.directions[0]) or "test"
    test_folders = [part] if config.paired and part in files else [f"{part}A", f"{part}B"]
    most = {**dict.fromkeys(test_folders, config.sample_count), **dict.fromkeys(training_folders(config, files))}
    return {f"{folder}/{name}" for folder in most for name in files.get(folder, ())[: most[folder]]}


def diagnose(survey: Survey) -> Tuple[List[Finding], List[str]]:
    """All findings, the worst first, and the methods that can be trained.

    Where none can, what stops the most of them is an error.
    """
    config = next(iter(survey.configs.values()))
    size = config.load_size or config.img_size + LOAD_MARGIN
    remarks = [([image.path], kind, detail) for image in survey.images for kind, detail in image.remarks.items()]
    untested = {f"test{DOMAINS[d][0]}" for c in survey.configs.values() for d in c.directions if not test_part(c, d)}
    others = [([path], kind, "") for path, kind in [*survey.passed_over, *((path, "no-test") for path in sorted(untested))]]
    cases: Dict[str, List[Dict[str, Any]]] = defaultdict(list)
    for files, kind, detail in remarks + others + copies([image for image in survey.images if image.size]):
        cases[kind].append({"files": files, "detail": detail})

    findings = refusals(survey)
    for kind, (severity, noun, rest, consequence) in KINDS.items():
        paths = {path for case in cases[kind] for path in case["files"]}
        is_fatal = "{phase}" in consequence
        stops = [m for m, config in survey.configs.items() if is_fatal and read_in_training(config, survey.files) & paths]
        consequence = consequence.format(phase="the training" if stops else "--phase test", size=size)
        if paths:
            findings.append(Finding(kind, severity, f"{counted(len(cases[kind]), noun)} {rest}", consequence, stops, cases[kind]))

    trainable = [method for method in survey.configs if not any(method in finding.stops for finding in findings)]
    if not trainable:
        most = max(len(finding.stops) for finding in findings)
        findings = [finding._replace(severity=ERROR) if len(finding.stops) == most else finding for finding in findings]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)), trainable


def counted(number: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def refusals(survey: Survey) -> List[Finding]:
    """What the loader itself says: folders that are missing or empty, names without counterpart."""
    refused = defaultdict(list)
    for method, config in survey.configs.items():
        try:
            open_training_data(config)
            for direction in config.directions:
                part = test_part(config, direction)
                if part:
                    open_part(config, part, direction)
        except DataError as error:
            refused[str(error)].append(method)
    return [Finding("refused", NOTE, text, "would stop the training", methods) for text, methods in refused.items()]


# Copies


def copies(images: Sequence[Image]) -> List[Tuple[List[str], str, str]]:
    """(files, kind, detail) of images of one domain that are nearly the same, and of equal images in both domains."""
    found = []
    for domain in ("", "A", "B"):
        shown = [image for image in images if image.domain == domain and "constant" not in image.remarks]
        for earlier, later, is_mirrored in near_copies([image.thumbnail for image in shown]):
            one, other = shown[earlier], shown[later]
            kind = "leak" if one.folder.startswith("train") and not other.folder.startswith("train") else "duplicate"
            detail = "equal" if one.digest == other.digest else "mirrored" if is_mirrored else ""
            found.append(([one.path, other.path], kind, detail))
    in_A, in_B = ({image.digest: image.path for image in images if image.domain == domain} for domain in "AB")
    return found + [([in_A[digest], in_B[digest]], "both-domains", "") for digest in in_A if digest in in_B]


def near_copies(thumbnails: Sequence[np.ndarray]) -> List[Tuple[int, int, bool]]:
    """(earlier, later, whether mirrored) for each picture that is nearly the same as an earlier one: the first such.

    A perceptual hash finds candidates, a look at the details decides.
    """
    found = []
    # The hashes hold +1 and -1: their dot product is 64 minus twice the number of bits in which they differ.
    bits = np.array([perceptual_hash(thumbnail) for thumbnail in thumbnails], np.float32)
    for later in range(1, len(thumbnails)):
        views = (thumbnails[later], np.ascontiguousarray(thumbnails[later][:, ::-1]))
        hashes = np.stack([perceptual_hash(view) for view in views], axis=1)
        for earlier, is_mirrored in np.argwhere(bits[:later] @ hashes >= 64 - 2 * MOST_BITS).tolist():
            if agree(thumbnails[earlier], views[is_mirrored]):
                found.append((earlier, later, bool(is_mirrored)))
                break
    return found


def perceptual_hash(thumbnail: np.ndarray) -> np.ndarray:
    """(64, 64) uint8 to (64,) of +1 and -1: which of the 8x8 lowest cosine frequencies lie above their median (pHash)."""
    low = cv2.dct(cv2.resize(thumbnail, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32))[:8, :8].ravel()
    bits = np.where(low > np.median(low[1:]), 1, -1).astype(np.float32)
    bits[0] = 1  # the mean brightness says nothing
    return bits


def agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the middle of each picture is found in the other, detail against detail (normalized correlation)."""
    details = [picture - cv2.GaussianBlur(picture, (0, 0), 3) for picture in (one.astype(np.float32), other.astype(np.float32))]
    middles = [np.ascontiguousarray(picture[SHIFT:-SHIFT, SHIFT:-SHIFT]) for picture in details]
    matches = [cv2.matchTemplate(details[i], middles[1 - i], cv2.TM_CCOEFF_NORMED).max() for i in (0, 1)]
    return min(matches) >= LEAST_AGREEMENT
