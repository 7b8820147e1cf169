"""--phase test: every image under its own name, with nothing but the run and the test folders."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

import main
from engine.method import Row
from engine.pictures import strip
from tests.helpers import TINY, draw_dataset, flags, newest, run_folder
from utils import contact_sheet, output_names, to_heat_map, write_image


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("tested")
    folder = draw_dataset(tmp_path / "data", test=2)
    for name in ("same.jpg", "same.png", "deep/a.b.webp"):
        path = folder / "testA" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8))[1])
    assert main.main(flags(tmp_path, *TINY, "--iteration", "3", "--save_freq", "1", "--lr", "0.01")) == 0
    for part in ("trainA", "trainB"):
        shutil.rmtree(folder / part)
    assert main.main(flags(tmp_path, "--phase", "test")) == 0
    return tmp_path


def test_outputs_have_the_names_of_the_inputs(tested):
    test = run_folder(tested) / "test"
    expected = {"0.png", "1.png", "same.jpg.png", "same.png.png", "deep/a.b.png"}
    for folder in (test / "A2B", test / "grid" / "A2B"):
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")} == expected
    assert len(list((test / "B2A").glob("*.png"))) == 3
    assert cv2.imread(str(test / "A2B" / "same.png.png")).shape == (24, 24, 3)
    assert cv2.imread(str(test / "grid" / "A2B" / "same.png.png")).shape == (7 * 24, 24, 3)
    assert cv2.imread(str(test / "contact_A2B.png")).shape == (48, 5 * 24 + 4 * 4, 3)


def test_the_strip_holds_input_and_output(tested):
    test = run_folder(tested) / "test"
    strip = cv2.imread(str(test / "grid" / "B2A" / "0.png"))
    assert (strip[4 * 24 : 5 * 24] == cv2.imread(str(test / "B2A" / "0.png"))).all()
    given = cv2.imread(str(tested / "data" / "tiny" / "testB" / "0.png"))
    assert (strip[:24] == cv2.resize(given, (24, 24), interpolation=cv2.INTER_AREA)).all()


def test_an_older_checkpoint_by_its_path(tested, tmp_path):
    test = run_folder(tested) / "test"
    latest = cv2.imread(str(test / "A2B" / "0.png"))
    shutil.copytree(run_folder(tested) / "checkpoints" / "step_0000001", tmp_path / "anywhere")
    arguments = flags(tested, "--phase", "test", "--checkpoint", str(tmp_path / "anywhere"))
    assert main.main([*arguments, "--result_dir", str(tmp_path / "elsewhere")]) == 0
    older = cv2.imread(str(tmp_path / "elsewhere" / "tiny" / "ugatit" / "test_anywhere" / "A2B" / "0.png"))
    assert older.shape == latest.shape and (older != latest).any()


def test_a_checkpoint_alone_names_its_data_set(tested, tmp_path):
    checkpoint = newest(run_folder(tested))
    arguments = ["--phase", "test", "--checkpoint", str(checkpoint), "--result_dir", str(tmp_path)]
    assert main.main(arguments) == 0
    assert (tmp_path / "tiny" / "ugatit" / f"test_{checkpoint.name}" / "contact_A2B.png").exists()


def test_a_checkpoint_alone_writes_beside_its_run(tested, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = run_folder(tested)
    for given, name in ((run, "step_0000003"), (run / "checkpoints" / "latest", "latest"), (run / "checkpoints", "step_0000003")):
        assert main.main(["--phase", "test", "--checkpoint", str(given)]) == 0
        assert (run / f"test_{name}" / "A2B" / "0.png").exists()
    assert not list(tmp_path.iterdir())


def test_the_record_says_what_the_files_are(tested):
    test = run_folder(tested) / "test"
    record = json.loads((test / "test.json").read_text())
    assert record["iteration"] == 3
    assert record["rows"]["A2B"] == ["real_A", "CAM A2A", "A2A", "CAM A2B", "A2B", "CAM A2B2A", "A2B2A"]
    assert sorted(record["images"]["A2B"]) == ["0.png", "1.png", "deep/a.b.png", "same.jpg.png", "same.png.png"]


def test_a_second_test_leaves_no_translations_of_images_that_are_gone(tmp_path):
    folder = draw_dataset(tmp_path / "data", test=2)
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    assert main.main(flags(tmp_path, "--phase", "test")) == 0
    (folder / "testA" / "1.png").unlink()
    test = run_folder(tmp_path) / "test"
    (test / "A2B" / "notes.txt").write_text("of the user")
    assert main.main(flags(tmp_path, "--phase", "test")) == 0
    assert sorted(path.name for path in (test / "A2B").iterdir()) == ["0.png", "notes.txt"]
    assert [path.name for path in (test / "grid" / "A2B").iterdir()] == ["0.png"]
    shutil.rmtree(folder / "testB")
    assert main.main(flags(tmp_path, "--phase", "test")) == 0
    assert not list(test.rglob("B2A/*.png")) and not list(test.glob("*B2A.png"))


@pytest.mark.parametrize("method", ["ugatit", "cyclegan"])
def test_one_test_folder_is_enough(method, tmp_path, capsys):
    folder = draw_dataset(tmp_path / "data")
    shutil.rmtree(folder / "testB")
    networks = TINY if method == "ugatit" else ["--method", "cyclegan", "--img_size", "24", "--ch", "1", "--n_layers_D", "1"]
    assert main.main(flags(tmp_path, *networks, "--iteration", "1")) == 0
    capsys.readouterr()
    assert main.main(flags(tmp_path, "--method", method, "--phase", "test")) == 0
    assert "no folder testB" in capsys.readouterr().out
    run = tmp_path / "results" / "tiny" / method
    assert (run / "test" / "A2B" / "0.png").exists() and not (run / "test" / "B2A").exists()


def test_a_name_of_the_greatest_length(tmp_path):
    folder = draw_dataset(tmp_path / "data")
    name = "n" * 251
    (folder / "testA" / "0.png").rename(folder / "testA" / f"{name}.png")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    assert main.main(flags(tmp_path, "--phase", "test")) == 0
    assert (run_folder(tmp_path) / "test" / "A2B" / f"{name}.png").exists()


def test_only_generators_are_read(tested, tmp_path):
    copy = tmp_path / "checkpoint"
    shutil.copytree(newest(run_folder(tested)), copy)
    for name in ("discriminators.safetensors", "optimizer.safetensors"):
        (copy / name).unlink()
    assert main.main(flags(tested, "--phase", "test", "--checkpoint", str(copy), "--result_dir", str(tmp_path))) == 0


def test_colliding_stems_keep_their_extension():
    assert output_names(["a.jpg", "a.png", "b/a.jpg", "c.JPG"]) == {
        "a.jpg": "a.jpg.png", "a.png": "a.png.png", "b/a.jpg": "b/a.png", "c.JPG": "c.png",
    }  # fmt: skip


def test_outputs_never_share_a_name():
    names = ["a.jpg", "a.png", "a.jpg.png", "b.png", "b.png.jpg"]
    assert len(set(output_names(names).values())) == len(names)


def test_a_constant_heat_map_has_one_colour():
    flat = to_heat_map(np.full((3, 3), 5.0, np.float32), 8, 8)
    assert flat.shape == (8, 8, 3) and len(np.unique(flat.reshape(-1, 3), axis=0)) == 1
    ramp = to_heat_map(np.arange(9, dtype=np.float32).reshape(3, 3), 8, 8)
    assert ramp[0, 0].argmax() == 2 and ramp[-1, -1].argmax() == 0, "low is blue and high is red"


def test_contact_sheet_wraps_at_eight_columns():
    white = np.full((10, 10, 3), 255, np.uint8)
    sheet = contact_sheet([(white, white)] * 9)
    assert sheet.shape == (2 * (20 + 4) - 4, 8 * 14 - 4, 3)


def test_a_strip_turns_grey_into_colour(tmp_path):
    picture = strip([Row("real_A", np.zeros((2, 1, 8, 8))), Row("CAM", np.ones((2, 1, 2, 2)), True)])
    assert picture.shape == (16, 8, 3)
    write_image(tmp_path / "a" / "b.png", picture)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]
