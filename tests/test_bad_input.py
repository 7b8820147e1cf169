"""Whatever is in a file, who reads it does its work or says in one line what is wrong: cases made by machine (hypothesis)."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Dict, Iterator

import cv2
import numpy as np
import PIL.Image
import pytest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

import main
from config import Config
from dataset import DESCRIPTION, has_test_pairs
from datatools.archive import extract
from datatools.demo import drawn_as
from deploy.exported import _read_metadata, open_exported
from deploy.facts import ModelFacts, from_metadata, to_metadata
from engine.checkpoint import META, CheckpointFolder, _checksum, load
from foreign import pdparams, pytorch
from tests import torch_files
from tests.archives import make_tar, make_zip
from tests.fuzzing import (
    NESTED_TOO_DEEPLY,
    SMALL,
    bounded_memory,  # noqa: F401
    cases,
    check_command,
    json_values,
    mutated,
    mutated_json,
    works_or_says_why,
)
from tests.helpers import draw_pairs, flags, newest
from tools import import_weights
from utils import read_header, read_picture

GOLDEN = Path(__file__).parent / "golden"
MOST_PIXELS = 2**16
MOST_UNPACKED = 2**20
pytestmark = pytest.mark.usefixtures("bounded_memory")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Cases write over each other's files."""
    return tmp_path_factory.mktemp("bad_input")


# Pictures


def _pictures() -> Dict[str, bytes]:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (9, 12, 4), np.uint8)
    image = PIL.Image.fromarray(colour[:, :, :3])
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    made = {}
    for name, kind, options in (
        ("png", "PNG", {}),
        ("jpeg", "JPEG", {"exif": exif}),
        ("progressive", "JPEG", {"progressive": True}),
        ("webp", "WEBP", {"exif": exif}),
        ("bmp", "BMP", {}),
        ("tiff", "TIFF", {}),
        ("packed tiff", "TIFF", {"compression": "tiff_lzw"}),
        ("deflated tiff", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("gif", "GIF", {}),
        ("ppm", "PPM", {}),
        ("jpeg 2000", "JPEG2000", {}),
    ):
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        made[name] = stream.getvalue()
    stream = io.BytesIO()
    image.quantize(4).save(stream, "PNG", transparency=1)
    made["palette png"] = stream.getvalue()
    deep = rng.integers(0, 65536, (9, 12, 4)).astype(np.uint16)
    for name, suffix, array in (
        ("transparent png", ".png", colour),
        ("deep png", ".png", deep),
        ("deep tiff", ".tiff", deep),
        ("float tiff", ".tiff", deep.astype(np.float32)),
        ("double tiff", ".tiff", deep.astype(np.float64)),
        ("grey tiff", ".tiff", deep[:, :, 0].astype(np.float32)),
        ("radiance", ".hdr", deep[:, :, :3].astype(np.float32)),
        ("portable float map", ".pfm", deep[:, :, 0].astype(np.float32)),
        ("sun", ".ras", colour[:, :, :3]),
    ):
        made[name] = cv2.imencode(suffix, array)[1].tobytes()
    return made


PICTURES = _pictures()


def with_checksums(png: bytes) -> bytes:
    """The same chunks with their checksums made right, so that what is in them is looked at."""
    content, position = bytearray(png), 8
    while png[:4] == b"\x89PNG" and position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[position + 4 : end]))
        position = end + 4
    return bytes(content)


pictures = (
    st.binary(max_size=64)
    | st.sampled_from(sorted(PICTURES)).flatmap(lambda name: mutated(PICTURES[name]))
    | st.sampled_from([name for name in sorted(PICTURES) if "png" in name])
    .flatmap(lambda name: mutated(PICTURES[name]))
    .map(with_checksums)
)


@given(pictures)
@cases(5)
def test_pictures(folder, content):
    file = folder / "picture.png"
    file.write_bytes(content)
    with works_or_says_why():
        header = read_header(file)
        assert header is None or header.width > 0
    with works_or_says_why():
        image, alpha = read_picture(file, MOST_PIXELS)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert image.shape[0] * image.shape[1] <= MOST_PIXELS
        assert alpha is None or alpha.shape == image.shape[:2]


# Checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with a data set and a run of one iteration."""
    where = tmp_path_factory.mktemp("run")
    draw_pairs(where / "data")
    assert main.main(flags(where, *SMALL["pix2pix"], "--iteration", "1", "--ema", "0.9", "--num_workers", "0")) == 0
    return where


def meta_with_checksum(meta: object) -> str:
    """meta.json with these values and the checksum that belongs to them."""
    if isinstance(meta, dict):
        meta = {name: value for name, value in meta.items() if name != "checksum"}
        meta["checksum"] = _checksum(meta)
    return json.dumps(meta)


@given(st.data())
@cases(0.5)
def test_metadata_of_checkpoints(run, data):
    """Whole by its checksum, it is read, and the commands that use it work, or say why not."""
    checkpoint = newest(run / "results" / "tiny" / "pix2pix")
    original = (checkpoint / META).read_text()
    meta = data.draw(mutated_json(json.loads(original)))
    phase = data.draw(st.sampled_from(("train --resume --iteration 1", "train --resume --iteration 2", "test")))
    copy = run / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run / "results", copy)
    (copy / checkpoint.relative_to(run / "results") / META).write_text(meta_with_checksum(meta))
    check_command([*flags(run, "--method", "pix2pix", "--phase", *phase.split()), "--result_dir", str(copy)])


ARRAYS = st.one_of(
    st.sampled_from((np.zeros((0,), np.float32), np.zeros((1,), np.int64), np.zeros((2, 3), np.float64), np.array(1, np.float32))),
    st.sampled_from((np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_)),
    st.sampled_from((np.ravel, np.transpose, lambda array: np.stack([array, array]), lambda array: array[:0])),
    st.sampled_from(("remove", "rename", "add")),
)


def change(data: st.DataObject, arrays: Dict[str, np.ndarray]) -> None:
    """Change one of the arrays in place: its type, its shape, its name, or that it is there."""
    name, changed = data.draw(st.sampled_from(sorted(arrays))), data.draw(ARRAYS)
    array = arrays.pop(name)
    if isinstance(changed, np.ndarray):
        arrays[name] = changed
    elif isinstance(changed, type):
        arrays[name] = array.astype(changed)
    elif callable(changed):
        arrays[name] = np.ascontiguousarray(changed(array))
    elif changed != "remove":
        arrays[data.draw(st.sampled_from(("x", "G.x", "G", "extra/x", "G/x", "", "a\nb")))] = array
        if changed == "add":
            arrays[name] = array


@given(st.data())
@cases(0.5)
def test_arrays_of_checkpoints(run, data):
    """Of other types, shapes and names, in files whose checksums are right."""
    state = load(newest(run / "results" / "tiny" / "pix2pix"))
    for _ in range(data.draw(st.integers(1, 2))):
        change(data, state.arrays[data.draw(st.sampled_from(sorted(state.arrays)))])
    phase = data.draw(st.sampled_from(("train --resume --iteration 2", "test", "test --weights raw")))
    copy = run / "copy_of_arrays"
    shutil.rmtree(copy, ignore_errors=True)
    CheckpointFolder(copy / "tiny" / "pix2pix" / "checkpoints").save(state)
    check_command([*flags(run, "--method", "pix2pix", "--phase", *phase.split()), "--result_dir", str(copy)])


# Weights of others

STATE = {"genA2B": {"weight": torch_files.tensor(), "bias": torch_files.tensor(shape=(6,), strides=(1,))}}
TORCH_PICKLE = torch_files.pickled({key: torch_files.pickled(value)[2:-1] for key, value in STATE.items()})
TORCH_FILES = [
    torch_files.archive(TORCH_PICKLE),
    torch_files.legacy(TORCH_PICKLE),
    *((GOLDEN / name).read_bytes() for name in ("half_net_G_A.pth", "legacy_net_G_A.pth")),
]


@st.composite
def torch_archives(draw: st.DrawFn) -> bytes:
    """Mutated instructions in an archive or a legacy file that is whole otherwise, its checksums right."""
    pickled = draw(mutated(TORCH_PICKLE))
    return draw(st.sampled_from((torch_files.archive, torch_files.legacy)))(pickled)


@given(st.sampled_from(TORCH_FILES).flatmap(mutated) | torch_archives() | st.binary(max_size=64).map(pytorch.LEGACY_START.__add__))
@cases(5)
def test_weights_of_pytorch(folder, content):
    file = folder / "weights.pth"
    file.write_bytes(content)
    with works_or_says_why():
        for arrays in pytorch.read_states(file).values():
            assert all(isinstance(array, np.ndarray) for array in arrays.values())


def _paddle_files() -> Iterator[bytes]:
    paddle = pytest.importorskip("paddle")
    for protocol in (2, 4):
        stream = io.BytesIO()
        paddle.save({"weight": paddle.ones([2, 3]), "bias": paddle.zeros([2])}, stream, protocol=protocol)
        yield stream.getvalue()


PADDLE_FILES = list(_paddle_files())


@given(st.sampled_from(PADDLE_FILES).flatmap(mutated) | st.binary(max_size=64))
@cases(5)
def test_weights_of_paddle(folder, content):
    file = folder / "weights.pdparams"
    file.write_bytes(content)
    for read in (pdparams.read_state, pdparams.read_states):
        with works_or_says_why():
            read(file)


@given(st.sampled_from([*TORCH_FILES, *PADDLE_FILES, save({"genA2B.weight": np.zeros((2, 3), np.float32)})]).flatmap(mutated))
@cases(2)
def test_files_to_import(folder, content):
    """Whatever kind of file its bytes say it is."""
    file = folder / "latest_net_G.pth"
    file.write_bytes(content)
    with works_or_says_why():
        import_weights.read_networks(file)


@given(st.data())
@cases(0.5)
def test_arrays_to_import(folder, data):
    """The generator of another project with arrays of other types, shapes and names."""
    name = data.draw(st.sampled_from(("pix2pix_latest_net_G.pth", "cyclegan_latest_net_G_A.pth")))
    arrays = {key: np.ascontiguousarray(array) for key, array in pytorch.read_states(GOLDEN / name)[""].items()}
    for _ in range(data.draw(st.integers(1, 2))):
        change(data, arrays)
    file, output = folder / name.split("_", 1)[1], folder / "imported"
    file.write_bytes(save(arrays))
    shutil.rmtree(output, ignore_errors=True)
    more = data.draw(st.sampled_from(([], ["--method", "pix2pix"], ["--method", "cyclegan"], ["--method", "ugatit"])))
    code = check_command([str(file), "--output", str(output), *more], import_weights.main)
    assert output.exists() == (code == 0)


@pytest.fixture(scope="module")
def exported(run) -> bytes:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    checkpoint = str(run / "results" / "tiny" / "pix2pix")
    assert main.main(["--phase", "export", "--checkpoint", checkpoint, "--output", str(run / "exported")]) == 0
    return (run / "exported" / "A2B.onnx").read_bytes()


@given(data=st.data())
@cases(0.5)
def test_onnx_files(exported, folder, data):
    file = folder / "A2B.onnx"
    file.write_bytes(data.draw(mutated(exported)))
    with works_or_says_why():
        open_exported(file, engine="onnxruntime")


# Archives

names = st.sampled_from(
    ("a.png", "a/b.png", "a", "a/", ".", "..", "../a", "/a", "a//b", "./a", "C:a", "a\\b", "a\0b", "a\nb", "é", "", "/", "x" * 300)
) | st.text(max_size=6)
contents = st.binary(max_size=30)


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    entries = []
    for name in draw(st.lists(names, max_size=4)):
        info = zipfile.ZipInfo(name.split("\0")[0] or "a")
        info.create_system = 3
        kind = draw(st.sampled_from((0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO)))
        info.external_attr = kind << 16
        entries.append((info, draw(contents)))
    return make_zip(entries, draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))))


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    entries = []
    for name in draw(st.lists(names, max_size=4)):
        info = tarfile.TarInfo(name)
        kinds = (
            tarfile.REGTYPE,
            tarfile.REGTYPE,
            tarfile.DIRTYPE,
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            b"x",
            b"g",
            b"S",
        )
        info.type, info.linkname = draw(st.sampled_from(kinds)), draw(names)
        info.pax_headers = draw(
            st.dictionaries(st.sampled_from(("path", "size", "linkpath", "GNU.sparse.size", "mtime")), names, max_size=2)
        )
        info.mode = draw(st.integers(0, 0o7777))
        entries.append((info, draw(contents)))
    return make_tar(entries, draw(st.sampled_from(("w", "w:gz", "w:bz2", "w:xz"))))


@given(st.data())
@cases(5)
def test_archives(tmp_path_factory, data):
    try:
        content = data.draw(zips() | tars())
    except (ValueError, UnicodeError, AttributeError):  # what those who write archives refuse themselves
        hypothesis.reject()
    if data.draw(st.booleans()):
        content = data.draw(mutated(content))
    where = tmp_path_factory.mktemp("archive")
    (where / "out").mkdir()
    (where / "archive").write_bytes(content)
    with works_or_says_why(OSError):
        extract(where / "archive", where / "out", MOST_UNPACKED, most_files=20)
    assert sorted(path.name for path in where.iterdir()) == ["archive", "out"]
    unpacked = list((where / "out").rglob("*"))
    assert not any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in unpacked)
    assert sum(path.stat().st_size for path in unpacked if path.is_file()) <= MOST_UNPACKED


# JSON


def texts(original: object) -> st.SearchStrategy:
    """Files that should hold `original`: with other values in it, with other bytes, nested too deeply, or anything else."""
    text = json.dumps(original)
    return (
        mutated_json(original).map(json.dumps).map(str.encode)
        | json_values.map(json.dumps).map(str.encode)
        | mutated(text.encode())
        | st.just(NESTED_TOO_DEEPLY.encode())
    )


@given(texts({"test_pairs": True, "size": 64, "seed": 0}))
@cases(5)
def test_descriptions_of_data_sets(folder, content):
    root = folder / "YOUR_DATASET_NAME"
    for name in ("testA", "testB"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / DESCRIPTION).write_bytes(content)
    with works_or_says_why():
        assert has_test_pairs(dataclasses.replace(Config(), data_root=str(folder))) in (True, False)
    with works_or_says_why():
        known = drawn_as(root)
        assert known is None or (known["size"] >= 16 and known["seed"] >= 0 and known["size"] < 2**16)


FACTS = ModelFacts("ugatit", "portraits", 1, "A2B", 64, 3, 4, None, True)


@given(texts(to_metadata(FACTS)))
@cases(5)
def test_metadata_of_exported_files(folder, content):
    file = folder / "A2B.metadata.json"
    file.write_bytes(content)
    with works_or_says_why():
        facts = from_metadata(_read_metadata(file), file)
        assert facts.direction in ("A2B", "B2A") and type(facts.has_heatmap) is bool and type(facts.iteration) is int
        assert 0 < facts.multiple <= 2**20 and 0 < facts.img_size <= 2**20
