"""Download a public data set, or any archive of images, into a folder to train on.

python -m datatools.fetch --list                              the known data sets
python -m datatools.fetch horse2zebra                         to dataset/horse2zebra
python -m datatools.fetch mine --url https://host/mine.zip    another archive, to dataset/mine

To resume an interrupted download, repeat the command. An archive that you have saved as dataset/NAME.zip (or .tar.gz, .tgz, .tar)
is unpacked instead of downloaded. A folder that exists is never touched.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Union

from command_line import OneLineParser, exit_code_of
from config import Config
from dataset import find_images
from datatools.archive import extract
from datatools.download import download
from errors import ConfigError, DataError, DownloadError

PIX2PIX = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/{}.tar.gz"
CYCLEGAN = "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/{}.zip"
DRIT = "http://vllab.ucmerced.edu/hylee/DRIT/datasets/{}.zip"
KAGGLE = "https://www.kaggle.com/datasets/{} (with a Kaggle account)"


class KnownSet(NamedTuple):
    """A data set with a name."""

    about: str
    url: Optional[str] = None
    by_hand: str = ""  # where else it can be had
    larger: str = ""  # the domain with more training images, by which an archive that calls it the other one is recognized


KNOWN: Dict[str, KnownSet] = {
    "facades": KnownSet("pairs: photographs of facades and their label maps", PIX2PIX.format("facades")),
    "maps": KnownSet("pairs: aerial photographs and maps", PIX2PIX.format("maps")),
    "edges2shoes": KnownSet("pairs: edges and photographs of shoes", PIX2PIX.format("edges2shoes")),
    "edges2handbags": KnownSet("pairs: edges and photographs of handbags", PIX2PIX.format("edges2handbags")),
    "night2day": KnownSet("pairs: one place by night and by day", PIX2PIX.format("night2day")),
    "horse2zebra": KnownSet("A horses, B zebras", CYCLEGAN.format("horse2zebra")),
    "apple2orange": KnownSet("A apples, B oranges", CYCLEGAN.format("apple2orange")),
    "summer2winter_yosemite": KnownSet("Yosemite: A summer, B winter", CYCLEGAN.format("summer2winter_yosemite")),
    "monet2photo": KnownSet("A paintings by Monet, B photographs", CYCLEGAN.format("monet2photo")),
    "cezanne2photo": KnownSet("A paintings by Cezanne, B photographs", CYCLEGAN.format("cezanne2photo")),
    "ukiyoe2photo": KnownSet("A ukiyo-e prints, B photographs", CYCLEGAN.format("ukiyoe2photo")),
    "vangogh2photo": KnownSet("A van Gogh, B photographs (U-GAT-IT's photo2vangogh is B2A)", CYCLEGAN.format("vangogh2photo")),
    "iphone2dslr_flower": KnownSet("flowers: A by a telephone, B by a large sensor", CYCLEGAN.format("iphone2dslr_flower")),
    "facades_unpaired": KnownSet("facades for the unpaired methods", CYCLEGAN.format("facades")),
    "maps_unpaired": KnownSet("maps for the unpaired methods", CYCLEGAN.format("maps")),
    "selfie2anime": KnownSet("A selfies, B anime portraits", by_hand=KAGGLE.format("arnaud58/selfie2anime")),
    "cat2dog": KnownSet("A cats, B dogs", DRIT.format("cat2dog"), KAGGLE.format("waifuai/cat2dog"), larger="B"),
    "photo2portrait": KnownSet("A faces, B painted ones", DRIT.format("portrait"), "a copy of DRIT's portrait.zip", larger="A"),
}


def fetch(name: str, data_root: Union[str, Path], url: Optional[str] = None, sha256: Optional[str] = None) -> Path:
    """Download the archive of a data set and unpack it to `data_root`/`name`; returns that folder.

    `name` is one of KNOWN, or any name with `url`, the address of another archive (zip, or tar: plain, gzip, bzip2, xz).
    `sha256` is what the archive's SHA-256 must be, 64 hexadecimal digits.

    Raises:
        ConfigError: the folder exists, the name is not known and has no address, or the archive must be saved by hand.
        DownloadError, DataError, OSError: the download failed; the archive is not safe, or no data set; it cannot be written.
    """
    folder = Path(data_root) / name
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ConfigError(f"{name!r}: give the name of a data set, which becomes the name of its folder in --data_root")
    if os.path.lexists(folder):
        raise ConfigError(f"{folder} exists already and was not touched: remove it, or choose another name or --data_root")
    archives = {suffix: folder.with_name(name + suffix) for suffix in (".zip", ".tar.gz", ".tgz", ".tar")}
    saved = next((path for path in archives.values() if path.is_file()), None)
    if saved and url:
        raise ConfigError(f"--url: {saved} exists already; remove it to download, or leave out --url to unpack it")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"--sha256 {sha256!r}: give 64 hexadecimal digits")
    known = KNOWN.get(name, KnownSet(""))
    url = url or known.url or ""
    by_hand = f"save {known.by_hand} as {archives['.zip']} and repeat the command" if known.by_hand else ""
    if not saved and not url:
        unknown = "unknown data set: --list shows the known ones, --url takes the address of another archive"
        raise ConfigError(f"{name}: {by_hand or unknown}")
    archive = saved or next((archives[suffix] for suffix in archives if url.endswith(suffix)), archives[".zip"])
    try:
        found = download(url, archive, label=name)
        if sha256 and found != sha256.lower():
            raise DownloadError(f"{archive}: the SHA-256 is {found}, not {sha256.lower()}")
        _unpack(archive, folder, known.larger)
    except DownloadError as error:
        if not saved:
            archive.unlink(missing_ok=True)  # else the same command would meet it again
        raise DownloadError(f"{error}; or {by_hand}" if by_hand else str(error)) from error
    if not saved:
        archive.unlink()
    return folder


def _unpack(archive: Path, folder: Path, larger: str) -> None:
    """Unpack beside `folder`, then rename: the folder appears whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".unpacking.", dir=folder.parent) as draft:
        inside = [Path(draft) / "content"]
        inside[0].mkdir()
        extract(archive, inside[0])
        while len(inside) == 1 and not training_commands(content := inside[0]):  # many archives have a folder around everything
            inside = [path for path in content.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]
        if not training_commands(content):
            found = ", ".join(sorted(path.name for path in content.iterdir())[:10]) or "no file"
            raise DataError(f"{archive}: it holds {found}; put its images into trainA and trainB, or train, of {folder} by hand")
        counts = {domain: len(find_images(content / f"train{domain}")) for domain in "AB"}
        if larger and counts[larger] < max(counts.values()):
            print("the archive has the domains the other way round: exchanging A and B")
            for part in ("train", "test"):
                for old, new in ((f"{part}A", "draft"), (f"{part}B", f"{part}A"), ("draft", f"{part}B")):
                    if (content / old).is_dir():
                        (content / old).rename(content / new)
        content.rename(folder)


def training_commands(folder: Path) -> List[str]:
    """The commands that train on a data set; none if it is not complete."""
    where = f"--dataset {shlex.quote(folder.name)}"
    if str(folder.parent) != Config.data_root:
        where += f" --data_root {shlex.quote(str(folder.parent))}"
    methods = []
    if find_images(folder / "trainA") and find_images(folder / "trainB"):
        methods += ["ugatit --light", "cyclegan"]
    if find_images(folder / "train"):
        methods.append("pix2pix --direction BtoA" if folder.name == "facades" else "pix2pix")
    return [f"python main.py {where} --method {method} --phase train" for method in methods]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: _run(arguments), see="--data_root", stopped="stopped; repeat the command to resume")


def _run(arguments: Optional[Sequence[str]]) -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = OneLineParser("python -m datatools.fetch", description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a name of --list, or any with --url")
    parser.add_argument("--list", action="store_true", help="list the known data sets")
    parser.add_argument("--data_root", default=Config.data_root, metavar="DIR", help="where the folder goes (default: %(default)s)")
    parser.add_argument("--url", help="address of another archive (zip, or tar: plain, gzip, bzip2, xz)")
    parser.add_argument("--sha256", metavar="HEX", help="refuse an archive with another SHA-256")
    options = parser.parse_args(arguments)
    if options.list:
        for name, known in KNOWN.items():
            methods = "pix2pix" if known.about.startswith("pairs") else "ugatit, cyclegan"
            print(f"{name:24}{methods:18}{known.about}{'' if known.url else ' (by hand: datatools.fetch NAME says how)'}")
    elif options.name is None:
        parser.error("say which data set: NAME, or --list")
    else:
        folder = fetch(options.name, options.data_root, options.url, options.sha256)
        counts = [f"{part.name} {len(find_images(part)):,}" for part in sorted(folder.iterdir()) if part.is_dir()]
        print("\n  ".join([f"{folder}: {', '.join(counts)} images; train with", *training_commands(folder)]))


if __name__ == "__main__":
    sys.exit(main())
