"""Download a public data set of the CycleGAN and Pix2Pix papers, or any archive of images, into a folder to train on.

python -m datatools.fetch --list                              the data sets that have a name here
python -m datatools.fetch horse2zebra                         to dataset/horse2zebra
python -m datatools.fetch mine --url https://host/mine.zip    another archive, to dataset/mine

An interrupted download goes on with the same command. An archive that lies in the data root already, such as dataset/NAME.zip, is
unpacked instead of downloaded. The folder appears whole or not at all, and one that exists is never touched.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Union
from urllib.parse import urlsplit

from command_line import OneLineParser
from config import Config
from dataset import EXTENSIONS, find_images
from datatools.archive import extract
from datatools.download import check_file, check_request, download
from errors import ConfigError, DataError, DownloadError, UserError

UNPAIRED, PAIRED = "trainA, trainB, testA, testB", "train, val, test: A|B side by side"
SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
FOLDERS = [f"{part}{domain}" for part in ("train", "val", "test") for domain in ("", "A", "B")]


class KnownSet(NamedTuple):
    """A data set with a name: what it shows, and where it is; without an address, how to come by it."""

    about: str
    layout: str
    url: Optional[str] = None
    by_hand: str = ""


def _pix2pix(name: str, about: str) -> KnownSet:
    return KnownSet(about, PAIRED, f"http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/{name}.tar.gz")


def _cyclegan(name: str, about: str) -> KnownSet:
    return KnownSet(about, UNPAIRED, f"https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/{name}.zip")


# Two sets exist in both layouts under one name.
KNOWN: Dict[str, KnownSet] = {
    "facades": _pix2pix("facades", "photographs of facades and their label maps"),
    "maps": _pix2pix("maps", "aerial photographs and maps"),
    "edges2shoes": _pix2pix("edges2shoes", "edges and photographs of shoes"),
    "edges2handbags": _pix2pix("edges2handbags", "edges and photographs of handbags"),
    "night2day": _pix2pix("night2day", "one place by night and by day"),
    "horse2zebra": _cyclegan("horse2zebra", "horses and zebras"),
    "apple2orange": _cyclegan("apple2orange", "apples and oranges"),
    "summer2winter_yosemite": _cyclegan("summer2winter_yosemite", "Yosemite in summer and in winter"),
    "monet2photo": _cyclegan("monet2photo", "paintings by Monet and photographs"),
    "cezanne2photo": _cyclegan("cezanne2photo", "paintings by Cezanne and photographs"),
    "ukiyoe2photo": _cyclegan("ukiyoe2photo", "ukiyo-e prints and photographs"),
    "vangogh2photo": _cyclegan("vangogh2photo", "paintings by Van Gogh and photographs"),
    "iphone2dslr_flower": _cyclegan("iphone2dslr_flower", "flowers taken with a telephone and with a large sensor"),
    "facades_unpaired": _cyclegan("facades", "facades for the unpaired methods"),
    "maps_unpaired": _cyclegan("maps", "maps for the unpaired methods"),
    "selfie2anime": KnownSet(
        "portrait photographs and anime portraits",
        UNPAIRED,
        by_hand="Kaggle gives it to those with an account only: download https://www.kaggle.com/arnaud58/selfie2anime in a browser "
        "to {folder}.zip and repeat this command, or unpack it to {folder}/{{trainA,trainB,testA,testB}}",
    ),
    "cityscapes": KnownSet(
        "street scenes and their label maps",
        PAIRED,
        by_hand="its licence forbids others to hand it on: get gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip from "
        "https://www.cityscapes-dataset.com and put A and B side by side into {folder}/{{train,val,test}}",
    ),
    "portraits": KnownSet(
        "the demo set of drawn faces",
        UNPAIRED,
        by_hand="it is drawn rather than downloaded: python main.py --dataset portraits draws it",
    ),
}


def fetch(
    name: str, data_root: Union[str, Path], url: Optional[str] = None, sha256: Optional[str] = None, keep_archive: bool = False
) -> Path:
    """Download the archive of a data set and unpack it to `data_root`/`name`; returns that folder.

    Args:
        name: one of KNOWN, or any name with `url`.
        url: address of another archive (zip, tar, tar.gz, tar.bz2, tar.xz), with or without a folder around its content.
        sha256: what the archive's SHA-256 must be, 64 hexadecimal digits.
        keep_archive: leave the downloaded archive in `data_root`.

    Raises:
        ConfigError: the folder exists, the name is neither known nor comes with an address, or must be fetched by hand.
        DownloadError: the download failed, or the archive is damaged or not safe to unpack.
        DataError: the archive holds none of the known layouts.
        OSError: `data_root` cannot be written.
    """
    data_root = Path(data_root)
    folder = data_root / name
    check_request(url, sha256)
    _check_folder(name, folder)
    archive = _archive_there(folder)
    downloaded = archive is None
    if archive is None:
        url = url or _known_url(name, folder)
        archive = folder.with_name(name + _suffix(url))
        try:
            download(url, archive, sha256, label=name)
        except DownloadError as error:
            raise DownloadError(f"{error}; python -m datatools.fetch {name} --url takes another address") from error
    elif url:
        raise ConfigError(f"--url: {archive} is there already; remove it to download, or leave out --url to unpack it")
    else:
        print(f"unpacking {archive}, which is there already and stays")
        check_file(archive, sha256)
    _unpack(archive, folder, remove_bad=downloaded)
    if downloaded and not keep_archive:
        archive.unlink()
    return folder


def _check_folder(name: str, folder: Path) -> None:
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ConfigError(f"{name!r}: give the name of a data set, which becomes the name of its folder under --data_root")
    if os.path.lexists(folder):
        raise ConfigError(f"{folder} exists already and was not touched: remove it, or choose another name or --data_root")


def _archive_there(folder: Path) -> Optional[Path]:
    candidates = [folder.with_name(folder.name + suffix) for suffix in SUFFIXES]
    return next((path for path in candidates if path.is_file()), None)


def _suffix(url: str) -> str:
    """The end of an address that says what it leads to; archives are told apart by content, so any will do."""
    path = urlsplit(url).path.lower()
    return next((suffix for suffix in SUFFIXES if path.endswith(suffix)), ".zip")


def _known_url(name: str, folder: Path) -> str:
    if name not in KNOWN:
        raise ConfigError(
            f"{name}: unknown data set; python -m datatools.fetch NAME --url takes an address; known are {', '.join(KNOWN)}"
        )
    known = KNOWN[name]
    if known.url is None:
        raise ConfigError(f"{name} cannot be downloaded from here: {known.by_hand.format(folder=folder)}")
    return known.url


def _unpack(archive: Path, folder: Path, remove_bad: bool) -> None:
    """Unpack into a draft beside `folder`, then rename, so that the folder appears whole or not at all."""
    draft = Path(tempfile.mkdtemp(prefix=".unpacking.", dir=folder.parent))
    try:
        extract(archive, draft / "content")
        content = _without_wrapping(draft / "content")
        if not layouts(content):
            found = ", ".join(sorted(path.name for path in content.iterdir())[:10])
            raise DataError(
                f"{archive}: it holds neither trainA and trainB nor train with images, but {found}; "
                f"unpack it by hand to {folder}/{{trainA,trainB,testA,testB}} or {{train,val,test}}"
            )
        _check_folder(folder.name, folder)  # it may have appeared since
        content.rename(folder)
    except DownloadError:
        if remove_bad:  # else the same command would meet it again
            archive.unlink()
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _without_wrapping(content: Path) -> Path:
    """The folder that the data set's own folders are in, where archives have a folder around everything."""
    while not layouts(content):
        inside = [path for path in content.iterdir() if path.is_dir()]
        if len(inside) != 1:
            break
        content = inside[0]
    return content


def layouts(folder: Path) -> List[str]:
    """Which of the layouts UNPAIRED and PAIRED a folder has: both, one or none."""

    def has_images(name: str) -> bool:
        return any(path.suffix.lower() in EXTENSIONS for path in (folder / name).rglob("*"))

    needed = {UNPAIRED: ("trainA", "trainB"), PAIRED: ("train",)}
    return [layout for layout, names in needed.items() if all(map(has_images, names))]


def summary(folder: Path) -> str:
    """How many images a data set has, and the commands that train on it."""
    counts = [f"{name} {len(find_images(folder / name)):,}" for name in FOLDERS if (folder / name).is_dir()]
    where = f"--dataset {shlex.quote(folder.name)}"
    if str(folder.parent) != Config.data_root:
        where += f" --data_root {shlex.quote(str(folder.parent))}"
    methods = []
    if UNPAIRED in layouts(folder):
        methods += ["--method ugatit --light", "--method cyclegan"]
    if PAIRED in layouts(folder):
        methods.append("--method pix2pix --direction BtoA" if folder.name == "facades" else "--method pix2pix")
    commands = [f"  python main.py {where} {method} --phase train" for method in methods]
    return "\n".join([f"{folder}: {', '.join(counts)} images", "train with", *commands])


def listing() -> str:
    """The data sets that have a name here, a line each."""
    rows = [("NAME", "METHOD", "LAYOUT", "IMAGES")]
    for name, known in KNOWN.items():
        methods = "ugatit, cyclegan" if known.layout == UNPAIRED else "pix2pix"
        rows.append(
            (
                name,
                methods,
                known.layout,
                known.about + ("" if known.url else " (not downloaded: datatools.fetch NAME says how to get it)"),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]) for row in rows)


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = OneLineParser(
        prog="python -m datatools.fetch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a name of --list, or any with --url")
    parser.add_argument("--list", action="store_true", help="list the data sets that have a name here")
    parser.add_argument("--data_root", default=Config.data_root, metavar="DIR", help="where the folder goes (default: %(default)s)")
    parser.add_argument("--url", help="address of another archive (zip, tar, tar.gz, tar.bz2, tar.xz)")
    parser.add_argument("--sha256", metavar="HEX", help="refuse an archive that has another SHA-256")
    parser.add_argument("--keep_archive", action="store_true", help="leave the archive in --data_root")
    options = parser.parse_args(arguments)
    if not options.list and options.name is None:
        parser.error("say which data set: NAME, or --list")
    return options


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    try:
        options = _parse(arguments)
        if options.list:
            print(listing())
            return 0
        print(summary(fetch(options.name, options.data_root, options.url, options.sha256, options.keep_archive)))
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        return _fail(f"--data_root: {error.filename or options.data_root}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("stopped; repeat the command to go on", 130)
    return 0


def _fail(message: str, exit_code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
