"""What the doctor looks for: pure functions from a `Survey` of the data set to `Finding`s.

RULES says what may be wrong with one image, CHECKS what may be wrong with the set. `diagnose` runs both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from config import Config
from dataset import DOMAINS, LOAD_MARGIN, open_part, open_training_data, test_part
from datatools.doctor_checks.copies import near_copies
from datatools.doctor_checks.images import EXTENSIONS_OF, JOINED, THUMBNAIL, Image
from errors import DataError

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")
FOLDERS = tuple(f"{part}{domain}" for part in JOINED for domain in ("", "A", "B"))
PLAIN = 4.0  # standard deviation of grey values, of 255, below which an image shows next to nothing
SQUEEZED = 1.2  # longer side by shorter


class Case(NamedTuple):
    """One instance of a finding: the files it is about, relative to the data set, and what there is to say of them."""

    files: Tuple[str, ...]
    detail: str = ""


class Finding(NamedTuple):
    """One kind of trouble. `stops` are the methods whose training it would stop."""

    kind: str
    severity: str
    message: str
    consequence: str
    cases: Tuple[Case, ...] = ()
    stops: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """The data set as it was read: everything that the checks look at."""

    root: Path
    configs: Dict[str, Config]  # of the methods that are judged
    files: Dict[str, Tuple[str, ...]]  # names of the images of each folder that is there
    images: Tuple[Image, ...]
    passed_over: Tuple[Tuple[str, str], ...] = ()  # paths that no phase reads, and why

    @property
    def config(self) -> Config:
        """What all methods share: sizes and batch."""
        return next(iter(self.configs.values()))

    @property
    def load_size(self) -> int:
        return self.config.load_size or self.config.img_size + LOAD_MARGIN

    @property
    def readable(self) -> List[Image]:
        return [image for image in self.images if not image.trouble]

    def training_folders(self, config: Config) -> List[str]:
        """The folders that a training reads whole."""
        return ["train"] if config.paired and "train" in self.files else ["trainA", "trainB"]

    def test_folders(self, config: Config) -> List[str]:
        """The folders that --phase test reads, and of which a training reads the first images for its sample grids."""
        found = []
        for direction in config.directions:
            part = test_part(config, direction)
            if part and config.paired:
                found += [part] if part in self.files else [f"{part}A", f"{part}B"]
            elif part:
                found.append(f"{part}{DOMAINS[direction][0]}")
        return found

    def read_in_training(self, config: Config) -> Set[str]:
        """Paths of the images that a training reads."""
        paths = {f"{folder}/{name}" for folder in self.training_folders(config) for name in self.files.get(folder, ())}
        for folder in self.test_folders(config):
            paths |= {f"{folder}/{name}" for name in self.files.get(folder, ())[: config.sample_count]}
        return paths

    def stopped_by(self, wrong: Callable[[Config], object]) -> Tuple[str, ...]:
        """The methods for whose configuration something is wrong."""
        return tuple(method for method, config in self.configs.items() if wrong(config))


def counted(number: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# One image


class Rule(NamedTuple):
    """What may be said of a single readable image. `detail` returns None where it does not apply."""

    kind: str
    severity: str
    title: str  # after "3 images"
    consequence: str
    detail: Callable[[Image, Survey], Optional[str]]


def _if(condition: object, detail: str = "") -> Optional[str]:
    return detail if condition else None


def _size(image: Image) -> str:
    return "{}x{}".format(*image.shape)


RULES = (
    Rule("corrupt-jpeg", WARNING, "whose JPEG data is corrupt", "would be trained on as decoded, with wrong pixels",
         lambda image, survey: _if(image.damaged)),
    Rule("dark", WARNING, "of 16 bits that do not use them", "would come out dark, as 65535 is taken for white",
         lambda image, survey: _if(image.is_dark, f"white is {image.white}, brightest {image.brightest} of 255")),
    Rule("constant", WARNING, "of (nearly) one colour, or with such a half", "would teach nothing; in a test, tell nothing",
         lambda image, survey: _if(image.spread < PLAIN and not image.is_dark, f"standard deviation {image.spread:.1f} of 255")),
    Rule("same-halves", WARNING, "whose A equals B", "would teach the network to copy",
         lambda image, survey: _if(image.same_halves)),
    Rule("squeezed", WARNING, "far from square", "would be squeezed to {load_size}x{load_size}; "
         "to crop them instead: python -m datatools.prepare resize",
         lambda image, survey: _if(max(image.shape) > SQUEEZED * min(image.shape), _size(image))),
    Rule("small", WARNING, "smaller than --img_size", "would be enlarged to {load_size}x{load_size}, blurred",
         lambda image, survey: _if(min(image.shape) < survey.config.img_size, _size(image))),
    Rule("cmyk", WARNING, "in CMYK, a printer's colours", "would be converted to RGB without their profile, colours a little off",
         lambda image, survey: _if(image.mode == "CMYK")),
    Rule("grey", NOTE, "without colour", "would be read as three equal channels",
         lambda image, survey: _if(image.colourless and not image.is_dark and survey.config.img_ch == 3)),
    Rule("transparent", NOTE, "with transparency", "would be laid over white",
         lambda image, survey: _if(image.transparent)),
    Rule("turned", NOTE, "turned by the camera (EXIF)", "would be turned upright",
         lambda image, survey: _if(image.turned)),
    Rule("frames", NOTE, "of several frames or pages", "only the first would be read",
         lambda image, survey: _if(image.several)),
    Rule("extension", NOTE, "whose extension disagrees with the content", "would be read by content, the name does not matter",
         lambda image, survey: _if(image.extension not in EXTENSIONS_OF.get(image.format, ()), f"holds {image.format}")),
)  # fmt: skip


def check_rules(survey: Survey) -> Iterator[Finding]:
    for rule in RULES:
        details = [(image.path, rule.detail(image, survey)) for image in survey.readable]
        cases = tuple(Case((path,), detail) for path, detail in details if detail is not None)
        if cases:
            consequence = rule.consequence.format(load_size=survey.load_size)
            yield Finding(rule.kind, rule.severity, f"{counted(len(cases), 'image')} {rule.title}", consequence, cases)


# The set


def check_folders(survey: Survey) -> Iterator[Finding]:
    """Folders that are missing or empty."""

    def missing(config: Config) -> List[str]:
        return [name for name in survey.training_folders(config) + survey.test_folders(config) if name not in survey.files]

    def empty(config: Config) -> List[str]:
        return [name for name in survey.training_folders(config) + survey.test_folders(config) if survey.files.get(name) == ()]

    for kind, message, wrong in (("missing-folder", "no folder", missing), ("empty-folder", "no image in", empty)):
        names = sorted({name for config in survey.configs.values() for name in wrong(config)}, key=FOLDERS.index)
        if names:
            yield Finding(kind, NOTE, f"{message} {', '.join(names)}", "would stop the training", stops=survey.stopped_by(wrong))
    for domain in sorted({DOMAINS[d][0] for c in survey.configs.values() for d in c.directions if not test_part(c, d)}):
        message = f"no test images of domain {domain}"
        yield Finding("no-test", WARNING, message, "sample grids would show training images only, and --phase test would stop")


def check_unreadable(survey: Survey) -> Iterator[Finding]:
    yield from _stopping(survey, "unreadable", "that cannot be read", lambda image: _if(image.trouble, image.trouble))


def check_pairs_in_one_file(survey: Survey) -> Iterator[Finding]:
    """A|B files that are plainly not two images side by side."""
    yield from _stopping(
        survey,
        "not-a-pair",
        "that cannot be A and B side by side: not wider than high, or of odd width",
        lambda image: _if(not image.trouble and image.folder in JOINED and not image.is_pair, f"{image.width}x{image.height}"),
    )


def _stopping(survey: Survey, kind: str, title: str, detail: Callable[[Image], Optional[str]]) -> Iterator[Finding]:
    """Images that would stop the training of the methods that read them, and images that would stop --phase test."""
    wrong = {image.path: detail(image) for image in survey.images if detail(image) is not None}
    read = {path for config in survey.configs.values() for path in survey.read_in_training(config)}
    for consequence, paths in (
        ("would stop the training as soon as it reads one", [path for path in wrong if path in read]),
        ("would stop --phase test where it reads one", [path for path in wrong if path not in read]),
    ):
        stops = survey.stopped_by(lambda config, paths=paths: survey.read_in_training(config) & set(paths))
        if paths:
            cases = tuple(Case((path,), wrong[path]) for path in paths)
            yield Finding(kind, WARNING, f"{counted(len(paths), 'image')} {title}", consequence, cases, stops)


def check_pairs_by_name(survey: Survey) -> Iterator[Finding]:
    """Images of trainA and trainB, or testA and testB, without a counterpart of the same name."""

    def alone(config: Config) -> List[str]:
        folders = survey.training_folders(config) + survey.test_folders(config) if config.paired else []
        paths: List[str] = []
        for own, other in (("trainA", "trainB"), ("trainB", "trainA"), ("testA", "testB"), ("testB", "testA")):
            there = {_stem(name) for name in survey.files.get(other, ())}
            if own in folders and there:
                paths += [f"{own}/{name}" for name in survey.files.get(own, ()) if _stem(name) not in there]
        return paths

    paths = [path for config in survey.configs.values() for path in alone(config)]
    if paths:
        message = f"{counted(len(paths), 'image')} without a counterpart of the same name"
        cases = tuple(Case((path,)) for path in paths)
        yield Finding("unmatched", NOTE, message, "would stop the training", cases, survey.stopped_by(alone))


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]


def check_mixed_sizes(survey: Survey) -> Iterator[Finding]:
    for folder in survey.files:
        sizes = Counter((image.width, image.height) for image in survey.readable if image.folder == folder)
        if len(sizes) > 1:
            (low, _), (high, _) = min(sizes.items(), key=_area), max(sizes.items(), key=_area)
            message = f"{folder} has {len(sizes)} sizes, from {low[0]}x{low[1]} to {high[0]}x{high[1]}"
            yield Finding("mixed-sizes", NOTE, message, f"would all be resized to {survey.load_size}x{survey.load_size}")


def _area(counted_size: Tuple[Tuple[int, int], int]) -> Tuple[int, int]:
    (width, height), _ = counted_size
    return width * height, width


def check_batch(survey: Survey) -> Iterator[Finding]:
    batch = survey.config.batch_size
    folders = {folder for config in survey.configs.values() for folder in survey.training_folders(config)}
    for folder in sorted(folders, key=FOLDERS.index):
        count = len(survey.files.get(folder, ()))
        if 0 < count < batch:
            message = f"{folder} has {counted(count, 'image')}, fewer than --batch_size {batch}"
            yield Finding("few", WARNING, message, "the same image would be in a batch more than once")


# Copies: what a group of alike images is called, where it lies, and what comes of it.
COPIES = {
    "leak": (WARNING, "in training and test", "the test would show images that the training has seen"),
    "both-domains": (WARNING, "in both domains", "A and B would share them; to translate them is to copy them"),
    "duplicate": (NOTE, "in one folder", "would be seen more often than others"),
}


def _kinds(images: Sequence[Image]) -> List[str]:
    """Which kinds of COPIES a group of alike images is."""
    domains = {_domain(image) for image in images}
    parts = {(_domain(image), image.folder.startswith("train")) for image in images}
    kinds = ["leak"] if len(parts) > len(domains) else []
    kinds += ["both-domains"] if len(domains) > 1 else []
    repeated = len({image.folder for image in images}) < len(images)
    return [*kinds, "duplicate"] if repeated or not kinds else kinds


def _domain(image: Image) -> str:
    return image.folder[-1] if image.folder[-1] in "AB" else ""


def _copy_findings(prefix: str, noun: str, groups: Iterable[Tuple[List[Image], str]]) -> Iterator[Finding]:
    cases: Dict[str, List[Case]] = defaultdict(list)
    for images, detail in groups:
        for kind in _kinds(images):
            cases[kind].append(Case(tuple(image.path for image in images), detail))
    for kind, (severity, where, consequence) in COPIES.items():
        if cases[kind]:
            message = f"{counted(len(cases[kind]), 'group')} of {noun} {where}"
            yield Finding(f"{prefix}{kind}", severity, message, consequence, tuple(cases[kind]))


def check_copies(survey: Survey) -> Iterator[Finding]:
    """Images whose decoded, upright pixels are the same."""
    groups = [images for images in _by_digest(survey.readable).values() if len(images) > 1]
    yield from _copy_findings("", "equal images", ((images, "") for images in groups))


def check_near_copies(survey: Survey) -> Iterator[Finding]:
    """Images of one domain that are nearly the same: re-encoded, recoloured, moved a little, of one series, mirrored."""
    groups: List[Tuple[List[Image], str]] = []
    for domain in ("", "A", "B"):
        candidates = [image for image in survey.readable if _domain(image) == domain and image.spread >= PLAIN]
        distinct = [images[0] for images in _by_digest(candidates).values()]
        thumbnails = np.frombuffer(b"".join(image.thumbnail for image in distinct), np.uint8)
        for group in near_copies(thumbnails.reshape(-1, THUMBNAIL, THUMBNAIL)):
            groups.append(([distinct[index] for index in group.members], "mirrored" if group.mirrored else ""))
    yield from _copy_findings("near-", "nearly equal images", groups)


def _by_digest(images: Iterable[Image]) -> Dict[str, List[Image]]:
    found: Dict[str, List[Image]] = defaultdict(list)
    for image in images:
        found[image.digest].append(image)
    return found


def check_names(survey: Survey) -> Iterator[Finding]:
    """Names that differ by case alone."""
    found: Dict[str, List[str]] = defaultdict(list)
    for image in survey.images:
        found[image.path.lower()].append(image.path)
    cases = tuple(Case(tuple(paths)) for paths in found.values() if len(paths) > 1)
    if cases:
        message = f"{counted(len(cases), 'group')} of names that differ by case alone"
        yield Finding("case", WARNING, message, "one would overwrite the other on systems that do not tell case apart", cases)


def check_passed_over(survey: Survey) -> Iterator[Finding]:
    reasons: Dict[str, List[str]] = defaultdict(list)
    for path, reason in survey.passed_over:
        reasons[reason].append(path)
    for reason in sorted(reasons):
        paths = reasons[reason]
        message = f"{counted(len(paths), 'path')} passed over ({reason})"
        severity = WARNING if reason.startswith("holds") else NOTE
        yield Finding("passed-over", severity, message, "would not be read", tuple(Case((path,)) for path in paths))


CHECKS = (
    check_folders,
    check_unreadable,
    check_pairs_in_one_file,
    check_pairs_by_name,
    check_batch,
    check_copies,
    check_near_copies,
    check_rules,
    check_names,
    check_mixed_sizes,
    check_passed_over,
)


def diagnose(survey: Survey) -> Tuple[List[Finding], List[str]]:
    """All findings, the worst first, and the methods that can be trained.

    What stops every method that is judged is an error; what stops only some keeps its milder severity, unless that is all there is.
    """
    findings = [finding for check in CHECKS for finding in check(survey)]
    stopped = {method for finding in findings for method in finding.stops}
    for method, config in survey.configs.items():
        refusal = "" if method in stopped else _refusal(config)
        if refusal:
            findings.append(Finding("refused", WARNING, refusal, "would stop the training", stops=(method,)))
            stopped.add(method)
    trainable = [method for method in survey.configs if method not in stopped]
    if not trainable:
        of_all = [finding for finding in findings if len(finding.stops) == len(survey.configs)]
        errors = of_all or [finding for finding in findings if finding.stops]
        findings = [finding._replace(severity=ERROR) if finding in errors else finding for finding in findings]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)), trainable


def _refusal(config: Config) -> str:
    """What the loader itself says of the set: the last word, should the checks above have missed something."""
    try:
        open_training_data(config)
        for direction in config.directions:
            part = test_part(config, direction)
            if part:
                open_part(config, part, direction)
    except DataError as error:
        return str(error)
    return ""
