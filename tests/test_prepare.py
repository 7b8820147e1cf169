"""Preparation: what each command writes loads as training data; originals and earlier files stay as they were."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict

import numpy as np
import pytest

from config import CONFIGS
from dataset import find_images, open_training_data
from datatools import prepare as prepare_module
from tests.helpers import ROOT, draw_dataset, draw_pairs
from utils import read_image, write_image


def photographs(folder: Path, count: int = 10, height: int = 20, width: int = 30) -> Path:
    rng = np.random.default_rng(1)
    for index in range(count):
        write_image(folder / f"{index}.png", rng.integers(0, 256, (height, width, 3), np.uint8))
    return folder


def prepare(command: str, *flags: object) -> int:
    return prepare_module.main([*command.split(), *map(str, flags)])


def contents(folder: Path) -> Dict[str, bytes]:
    """Every file below the folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def training_data(method: str, data_set: Path):
    return open_training_data(CONFIGS[method](dataset=data_set.name, data_root=str(data_set.parent), img_size=16))


def error_of(capsys) -> str:
    """The one line on stderr."""
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1
    return text


# split


def test_split_copies_each_file_once_and_a_second_domain_joins_the_first(tmp_path, capsys):
    faces, drawings = photographs(tmp_path / "faces"), photographs(tmp_path / "drawings", 6)
    write_image(faces / "deep" / "0.png", np.zeros((9, 9, 3), np.uint8))
    before = contents(faces)
    output = tmp_path / "data" / "set"
    assert prepare("split --domain A", "--input", faces, "--output", output, "--test", 3) == 0
    assert capsys.readouterr().out == f"wrote 11 pictures to {output} (testA 3, trainA 8)\n"
    assert prepare("split --domain B", "--input", drawings, "--output", output, "--test", 0.5) == 0
    train, test = contents(output / "trainA"), contents(output / "testA")
    assert len(test) == 3 and {**train, **test} == before == contents(faces) and not set(train) & set(test)
    assert [len(find_images(output / part)) for part in ("trainB", "testB")] == [3, 3]
    assert training_data("ugatit", output).longest() == 8
    assert sorted(path.name for path in output.iterdir()) == ["testA", "testB", "trainA", "trainB"]


def test_split_depends_on_content_and_seed_alone(tmp_path):
    faces = photographs(tmp_path / "faces", 20)
    (tmp_path / "renamed").mkdir()
    for index in range(20):
        shutil.copy(faces / f"{index}.png", tmp_path / "renamed" / f"{(index * 7) % 20}x.png")

    def test_pictures(folder: Path, seed: int) -> set:
        output = tmp_path / f"{folder.name}{seed}"
        assert prepare("split --domain A", "--input", folder, "--output", output, "--seed", seed) == 0
        return set(contents(output / "testA").values())

    chosen = [test_pictures(faces, seed) for seed in range(3)]
    assert test_pictures(tmp_path / "renamed", 0) == chosen[0] and len(chosen[0]) == 2
    assert not chosen[0] == chosen[1] == chosen[2]


def test_a_picture_added_later_moves_at_most_one_other_and_copies_stay_together():
    digests = {str(index): f"digest {index}" for index in range(100)}
    before = prepare_module.choose_test(digests, 10, seed=0)
    after = prepare_module.choose_test({**digests, "new": "another"}, 10, seed=0)
    assert len(before) == len(after) == 10 and len(before - after) <= 1
    for seed in range(5):
        copies = prepare_module.choose_test({**digests, **{f"copy {name}": each for name, each in digests.items()}}, 9, seed)
        assert len(copies) == 10 and {name.replace("copy ", "") for name in copies} == {
            name for name in copies if "copy" not in name
        }


def test_another_split_never_mixes_with_the_first(tmp_path, capsys):
    arguments = ["--input", photographs(tmp_path / "pairs", 20, 20, 40), "--output", tmp_path / "set", "--test", 10]
    assert prepare("split --paired", *arguments) == 0
    assert training_data("pix2pix", tmp_path / "set").longest() == 10
    before = contents(tmp_path / "set")
    assert prepare("split --paired --overwrite --seed 1", *arguments) == 2
    assert "of another split" in error_of(capsys) and contents(tmp_path / "set") == before
    assert prepare("split --paired --overwrite", *arguments) == 0
    assert contents(tmp_path / "set") == before


# pair, unpair


def test_unpair_and_pair_are_inverse(tmp_path):
    original = draw_pairs(tmp_path)
    apart, together = tmp_path / "apart", tmp_path / "together"
    assert prepare("unpair", "--input", original, "--output", apart) == 0
    assert sorted(path.name for path in apart.iterdir()) == ["testA", "testB", "trainA", "trainB"]
    assert (read_image(apart / "trainB" / "1.png") == read_image(original / "train" / "1.png")[:, 32:]).all()
    assert training_data("cyclegan", apart).longest() == 3
    for part in ("train", "test"):
        assert prepare("pair", "--A", apart / f"{part}A", "--B", apart / f"{part}B", "--output", together / part) == 0
    assert find_images(together) == find_images(original)
    assert all((read_image(together / name) == read_image(original / name)).all() for name in find_images(original))
    assert training_data("pix2pix", together).longest() == 3


def test_pair_matches_names_without_extension_and_names_what_is_alone(tmp_path, capsys):
    A, B = photographs(tmp_path / "A", 3), photographs(tmp_path / "B", 3)
    (A / "0.png").rename(A / "0.PNG")
    (B / "2.png").rename(B / "two.png")
    arguments = ["--A", A, "--B", B, "--output", tmp_path / "out"]
    assert prepare("pair", *arguments) == 1
    message = error_of(capsys)
    assert str(A / "2.png") in message and str(B / "two.png") in message and not (tmp_path / "out").exists()
    (B / "two.png").rename(B / "2.png")
    assert prepare("pair", *arguments) == 0
    assert find_images(tmp_path / "out") == ["0.png", "1.png", "2.png"]
    shutil.copy(A / "1.png", A / "1.jpg")
    assert prepare("pair --overwrite", *arguments) == 1
    assert "would be the same pair" in error_of(capsys)


def test_pair_resizes_B_only_when_told(tmp_path, capsys):
    A, B = photographs(tmp_path / "A", 2), photographs(tmp_path / "B", 2, 10, 15)
    arguments = ["--A", A, "--B", B, "--output", tmp_path / "out"]
    assert prepare("pair", *arguments) == 1
    message = error_of(capsys)
    assert f"{A / '0.png'} is 30x20, {B / '0.png'} is 15x10" in message and "--resize" in message
    assert prepare("pair --resize", *arguments) == 0
    both = read_image(tmp_path / "out" / "1.png")
    assert both.shape == (20, 60, 3) and (both[:, :30] == read_image(A / "1.png")).all()


# resize


def test_cover_crops_the_centre_and_contain_pads():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, :20], image[:, 20:40], image[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert (prepare_module.fit(image, 8) == (0, 255, 0)).all()
    assert (prepare_module.fit(image.transpose(1, 0, 2), 8) == (0, 255, 0)).all()
    padded = prepare_module.fit(image, 12, "contain")
    assert padded.shape == (12, 12, 3) and (padded[:4] == 255).all() and (padded[8:] == 255).all()
    assert (padded[4:8, :4] == (255, 0, 0)).all() and (padded[4:8, 8:] == (0, 0, 255)).all()
    assert prepare_module.fit(np.zeros((1, 900, 3), np.uint8), 8, "contain").shape == (8, 8, 3)


def test_resize_keeps_the_layout_of_a_whole_data_set(tmp_path):
    original = draw_dataset(tmp_path)
    (original / "trainA" / "0.png").rename(original / "trainA" / "1.bmp")  # a name that would collide keeps its extension
    assert prepare("resize --size 20 --fit contain", "--input", original, "--output", tmp_path / "small") == 0
    assert find_images(tmp_path / "small" / "trainA") == ["1.bmp.png", "1.png.png", "2.png"]
    assert find_images(tmp_path / "small" / "testB") == find_images(original / "testB")
    assert read_image(tmp_path / "small" / "testB" / "0.png").shape == (20, 20, 3)
    assert training_data("ugatit", tmp_path / "small").longest() == 4


def test_resize_of_pairs_keeps_both_halves(tmp_path, capsys):
    image = np.zeros((20, 80, 3), np.uint8)
    image[:, :40], image[:, 40:] = (255, 0, 0), (0, 0, 255)
    write_image(tmp_path / "set" / "train" / "0.png", image)
    arguments = ["--input", tmp_path / "set", "--output", tmp_path / "out"]
    assert prepare("resize --size 16", *arguments) == 2
    assert "--paired" in error_of(capsys)
    assert prepare("resize --size 16 --paired", *arguments) == 0
    small = read_image(tmp_path / "out" / "train" / "0.png")
    assert small.shape == (16, 32, 3) and (small[:, :16] == (255, 0, 0)).all() and (small[:, 16:] == (0, 0, 255)).all()


# edges, grey


def test_edges_are_black_on_white_beside_the_photograph(tmp_path):
    photograph = np.full((32, 32, 3), 40, np.uint8)
    photograph[:, 16:] = 200
    write_image(tmp_path / "photos" / "深" / "图.png", photograph)
    assert prepare("edges", "--input", tmp_path / "photos", "--output", tmp_path / "set" / "train") == 0
    both = read_image(tmp_path / "set" / "train" / "深" / "图.png")
    edges = both[:, :32]
    assert (both[:, 32:] == photograph).all()
    assert (edges[:, :14] == 255).all() and (edges[:, 18:] == 255).all() and ((edges[:, 14:18] == 0).sum(1) == 1).all()
    assert training_data("pix2pix", tmp_path / "set").batch(1)["real_A"].shape == (1, 3, 16, 16)


def test_thresholds_and_blur_leave_fewer_edges():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    counts = [(prepare_module.edges_of(noise, *settings) == 0).sum() for settings in ((20, 60, 0), (200, 600, 0), (20, 60, 6))]
    assert counts[0] > counts[1] and counts[0] > counts[2]
    assert prepare_module.edges_of(noise, 20, 60, 1.4).shape == (64, 64, 1)


def test_grey_has_three_equal_channels_beside_the_colours(tmp_path, capsys):
    photos = photographs(tmp_path / "photos", 2)
    assert prepare("grey", "--input", photos, "--output", tmp_path / "set" / "train") == 0
    both = read_image(tmp_path / "set" / "train" / "0.png")
    assert (both[:, 30:] == read_image(photos / "0.png")).all()
    assert (both[:, :30] == read_image(photos / "0.png", channels=1)).all()
    tall = photographs(tmp_path / "tall", 1, 60, 30)
    assert prepare("grey", "--input", tall, "--output", tmp_path / "out") == 1
    assert "too tall" in error_of(capsys)
    assert prepare("grey --size 16", "--input", tall, "--output", tmp_path / "out") == 0


@pytest.mark.parametrize("command", ["edges", "grey", "split --domain A"])
def test_a_data_set_of_two_domains_is_not_taken_for_one(tmp_path, capsys, command):
    assert prepare(command, "--input", draw_dataset(tmp_path), "--output", tmp_path / "out") == 2
    assert "trainA" in error_of(capsys) and not (tmp_path / "out").exists()


# Nothing is lost


@pytest.mark.parametrize("where", ["photos", "photos/inside/deep", "link", "link/new", "link_below", "."])
def test_originals_are_never_touched(tmp_path, capsys, where):
    photos = photographs(tmp_path / "photos", 2)
    (tmp_path / "link").symlink_to(photos)
    # Below the parent, photos/photos/0.png would be written to photos/0.png.
    write_image(photos / "photos" / "0.png", np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "link_below").symlink_to(photos / "photos")
    before = contents(tmp_path)
    assert prepare("resize --size 8 --overwrite", "--input", photos, "--output", tmp_path / where) == 2
    assert "among the originals" in error_of(capsys) and contents(tmp_path) == before


def test_an_original_behind_a_link_is_not_overwritten(tmp_path, capsys):
    real = photographs(tmp_path / "real", 1)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.png").symlink_to(real / "0.png")
    before = contents(real)
    assert prepare("resize --size 8 --overwrite", "--input", tmp_path / "photos", "--output", real) == 2
    assert "is an original" in error_of(capsys) and contents(real) == before


def test_existing_files_are_an_error_before_the_work_begins(tmp_path, capsys, monkeypatch):
    photos, output = photographs(tmp_path / "photos"), tmp_path / "out"
    output.mkdir()
    (output / "9.png").write_bytes(b"precious")
    (output / "other.txt").write_bytes(b"kept")
    with monkeypatch.context() as patched:
        patched.delattr(prepare_module, "fit")
        assert prepare("resize --size 8", "--input", photos, "--output", output) == 2
    assert f"{output} holds 9.png already" in error_of(capsys)
    assert contents(output) == {"9.png": b"precious", "other.txt": b"kept"}
    assert prepare("resize --size 8 --overwrite", "--input", photos, "--output", output) == 0
    assert read_image(output / "9.png").shape == (8, 8, 3)
    assert len(contents(output)) == 11 and (output / "other.txt").read_bytes() == b"kept"


def test_files_that_appear_in_the_meantime_are_kept(tmp_path, capsys, monkeypatch):
    photos, output = photographs(tmp_path / "photos"), tmp_path / "out"
    fit = prepare_module.fit

    def fit_while_another_command_writes(*arguments):
        output.mkdir(exist_ok=True)
        (output / "3.png").write_bytes(b"another's")
        return fit(*arguments)

    monkeypatch.setattr(prepare_module, "fit", fit_while_another_command_writes)
    assert prepare("resize --size 8", "--input", photos, "--output", output) == 2
    assert "holds 3.png already" in error_of(capsys) and contents(output) == {"3.png": b"another's"}


@pytest.mark.parametrize("way", ["file", "file/below", "dangling", "folder"])
def test_an_output_that_cannot_be_written_is_an_error(tmp_path, capsys, way):
    photos = photographs(tmp_path / "photos", 1)
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder" / "0.png").mkdir(parents=True)
    assert prepare("grey --overwrite", "--input", photos, "--output", tmp_path / way) == 2
    assert "cannot be written" in error_of(capsys) and (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize("command", ["resize", "edges", "grey", "split --domain A"])
def test_unreadable_pictures_are_named_or_passed_over(tmp_path, capsys, command):
    photos = photographs(tmp_path / "photos", 4)
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes()[:50])
    arguments = ["--input", photos, "--output", tmp_path / "out"]
    assert prepare(command, *arguments) == 1
    message = error_of(capsys)
    assert str(photos / "2.png") in message and "--skip_unreadable" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]
    assert prepare(f"{command} --skip_unreadable", *arguments) == 0
    captured = capsys.readouterr()
    assert f"passed over {photos / '2.png'}" in captured.err and "wrote 3 pictures" in captured.out
    assert len(find_images(tmp_path / "out")) == 3


def test_nothing_readable_is_an_error(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no picture")
    for command in ("grey", "split --domain A"):
        assert prepare(f"{command} --skip_unreadable", "--input", tmp_path / "photos", "--output", tmp_path / "out") == 1
        assert "error: " in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("existing", [False, True])
def test_ctrl_c_leaves_nothing(tmp_path, capsys, monkeypatch, existing):
    photos = photographs(tmp_path / "photos")
    if existing:
        (tmp_path / "out").mkdir()
    before = sorted(tmp_path.rglob("*"))
    sent = threading.Event()

    def fit_and_signal(*arguments):
        if not sent.is_set():
            sent.set()
            time.sleep(0.3)  # until all threads have started: Python cannot wait for one that was interrupted while starting
            os.kill(os.getpid(), signal.SIGINT)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(prepare_module, "fit", fit_and_signal)
    assert prepare("resize --size 8", "--input", photos, "--output", tmp_path / "out") == 130
    assert "stopped" in error_of(capsys) and sorted(tmp_path.rglob("*")) == before


# The command line


@pytest.mark.parametrize(
    "arguments, exit_code, words",
    [
        ("", 2, "COMMAND"),
        ("resize --input photos", 2, "--output"),
        ("resize --input photos --output out --size 0", 2, "--size 0"),
        ("resize --input photos --output out --sise 3", 2, "--sise"),
        ("edges --input photos --output out --low 90", 2, "--low 90"),
        ("edges --input photos --output out --blur -1", 2, "--blur -1"),
        ("split --input photos --output out", 2, "--domain --paired"),
        ("split --input photos --output out --domain A --test 0", 2, "a share between 0 and 1"),
        ("split --input photos --output out --domain A --test 1.5", 2, "a share between 0 and 1"),
        ("split --input photos --output out --domain A --test nan", 2, "a share between 0 and 1"),
        ("split --input photos --output out --domain A --test 3", 1, "--test 3"),
        ("split --input photos --output out --paired --test 1", 1, "not two images side by side"),
        ("grey --input nowhere --output out", 1, "nowhere is not a folder with images"),
        ("grey --input empty --output out", 1, "empty is not a folder with images"),
        ("unpair --input photos --output out", 1, "no folder train, val or test"),
        ("pair --A photos --B others --output out", 1, "without a counterpart of the same name"),
    ],
)
def test_mistakes_get_one_line_and_write_nothing(tmp_path, capsys, monkeypatch, arguments, exit_code, words):
    monkeypatch.chdir(tmp_path)
    photographs(Path("photos"), 3, 20, 20)
    write_image(Path("others") / "x.png", np.zeros((20, 20, 3), np.uint8))
    Path("empty").mkdir()
    assert prepare_module.main(arguments.split()) == exit_code
    assert words in error_of(capsys) and not Path("out").exists()


def test_as_users_call_it(tmp_path):
    photos = photographs(tmp_path / "photos", 3)
    program = [sys.executable, "-m", "datatools.prepare"]
    command = [*program, "grey", "--input", str(photos), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("wrote 3 pictures")
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.startswith("error: --output") and again.stderr.count("\n") == 1
    help = subprocess.run([*program, "split", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert help.startswith("usage: python -m datatools.prepare split") and "(default: 0.1)" in help
