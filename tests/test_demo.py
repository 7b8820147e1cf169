"""The demo: the set that draws itself, its preset, and the error to the true counterparts."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

import main
from command_line import parse_arguments
from config import CONFIGS
from dataset import find_images
from datatools import demo
from errors import ConfigError
from tests.helpers import ROOT, TINY, draw_dataset
from utils import read_image

UNPAIRED = {"trainA": 2, "trainB": 2, "testA": 2, "testB": 2}


@pytest.fixture
def small(monkeypatch):
    """A drawn set of a few tiny pictures."""
    monkeypatch.setattr(demo, "DRAWN", dict(train=2, val=1, test=2))
    monkeypatch.setattr(demo, "DRAWN_SIZE", 32)


def portraits(tmp_path, *more):
    where = ["--dataset", "portraits", "--data_root", str(tmp_path / "data"), "--result_dir", str(tmp_path / "results")]
    return main.main([*where, "--device", "cpu", *more])


def counts(folder):
    return {part.name: len(find_images(part)) for part in sorted(folder.iterdir()) if part.is_dir()}


def test_the_drawn_pictures_stay_the_same():
    """Bit for bit with the OpenCV that drew the sheet; other versions round a pixel in five hundred by one."""
    recorded = read_image(ROOT / "docs" / "images" / "portraits_64.png")
    drawn = demo.draw_sheet(64, 16, 0)
    difference = np.abs(drawn.astype(float) - recorded)
    assert difference.mean() < 0.5
    if cv2.__version__.startswith("5.0."):
        assert difference.max() == 0


def test_portraits_draws_itself_for_every_method(tmp_path, small, capsys):
    folder = tmp_path / "data" / "portraits"
    assert portraits(tmp_path, *TINY, "--iteration", "1", "--print_freq", "1") == 0
    assert counts(folder) == UNPAIRED
    assert "drawing the demo set, 8 pictures" in capsys.readouterr().out
    before = {name: (folder / name).read_bytes() for name in find_images(folder)}

    pix2pix = ["--method", "pix2pix", "--img_size", "16", "--ch", "2", "--n_layers_D", "1"]
    assert portraits(tmp_path, *pix2pix, "--iteration", "1") == 0
    assert counts(folder) == {**UNPAIRED, "train": 2, "val": 1, "test": 2}
    assert all((folder / name).read_bytes() == content for name, content in before.items())

    capsys.readouterr()
    for method in ("ugatit", "pix2pix"):
        assert portraits(tmp_path, "--method", method, "--phase", "test") == 0
    out = capsys.readouterr().out
    assert "drawing" not in out
    ratios = re.findall(r"(A2B|B2A): mean absolute error .*? ratio ([\d.]+)", out)
    assert [direction for direction, _ in ratios] == ["A2B", "B2A", "A2B"]
    assert all(float(ratio) > 0 for _, ratio in ratios)


def test_the_check_phase_draws_too_and_prints_json_alone(tmp_path, small, capsys):
    assert portraits(tmp_path, "--phase", "check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["methods"]["ugatit"] is True


def test_the_printed_ratio_is_that_of_the_written_pictures(tmp_path, small, capsys):
    assert portraits(tmp_path, *TINY, "--iteration", "1") == 0
    assert portraits(tmp_path, "--phase", "test") == 0
    test = tmp_path / "results" / "portraits" / "ugatit" / "test"
    sheet = read_image(test / "contact_A2B.png").astype(float)
    # Two stacks of input, translation and truth, 24x24 each, with 4 white pixels between them.
    errors = np.zeros(2)
    for left in (0, 28):
        shown, translated, truth = (sheet[top : top + 24, left : left + 24] for top in (0, 24, 48))
        errors += [np.abs(translated - truth).mean(), np.abs(shown - truth).mean()]
    out = capsys.readouterr().out
    assert f"A2B: mean absolute error to the true counterparts {errors[0] / 2:.1f} of 255" in out
    assert f"ratio {errors[0] / errors[1]:.3f}" in out


def test_nothing_is_drawn_into_a_folder_of_somebody_else(tmp_path, small):
    folder = draw_dataset(tmp_path / "data", "portraits", train=1, test=0)
    assert portraits(tmp_path, *TINY, "--iteration", "1") == 0
    (folder / "dataset.json").write_text(json.dumps({"test_pairs": True}))
    demo.draw_missing(folder, paired=True)
    assert counts(folder) == {"trainA": 1, "trainB": 2}


def test_the_other_layout_shows_the_same_faces_of_the_same_size(tmp_path, small):
    folder = tmp_path / "portraits"
    demo.draw_dataset(folder, size=48, seed=3, train=1, test=2, workers=1)
    demo.draw_missing(folder, paired=True, workers=1)
    halves = [read_image(folder / part / "00001.png") for part in ("testA", "testB")]
    assert (read_image(folder / "test" / "00001.png") == np.concatenate(halves, 1)).all()


def test_a_part_that_was_removed_is_drawn_again(tmp_path, small):
    folder = tmp_path / "portraits"
    demo.draw_missing(folder, paired=False, workers=1)
    first = {name: (folder / name).read_bytes() for name in find_images(folder)}
    for file in (folder / "testB").iterdir():
        file.unlink()
    (folder / "testB").rmdir()
    demo.draw_missing(folder, paired=False, workers=1)
    assert {name: (folder / name).read_bytes() for name in find_images(folder)} == first


def test_a_failure_leaves_no_half_set(tmp_path, small, monkeypatch):
    monkeypatch.setattr(demo, "draw_anime", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        demo.draw_missing(tmp_path / "portraits", paired=False, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_unpaired_sets_have_no_counterparts_unless_they_say_so(tmp_path, capsys):
    folder = draw_dataset(tmp_path / "data", "portraits")
    assert portraits(tmp_path, *TINY, "--iteration", "1") == 0
    assert portraits(tmp_path, "--phase", "test") == 0
    assert "counterparts" not in capsys.readouterr().out
    (folder / "dataset.json").write_text("[not json")
    assert portraits(tmp_path, "--phase", "test") == 1
    assert "dataset.json: not a JSON object" in capsys.readouterr().err
    (folder / "dataset.json").write_text(json.dumps({"test_pairs": True}))
    assert portraits(tmp_path, "--phase", "test") == 1
    assert "without a counterpart of the same name: testB/2" in capsys.readouterr().err


def test_a_missing_data_set_lists_the_known_names(tmp_path, capsys):
    assert main.main(["--dataset", "horse3zebra", "--data_root", str(tmp_path), "--result_dir", str(tmp_path / "r")]) == 1
    err = capsys.readouterr().err
    assert all(name in err for name in ("horse3zebra", "portraits", "facades", "horse2zebra", "--download"))
    assert err.count("\n") == 1 and not (tmp_path / "r").exists()


# --preset


@pytest.mark.parametrize("method", sorted(CONFIGS))
def test_a_preset_sets_what_is_not_typed(method):
    values = CONFIGS[method].presets["demo"]
    assert values, f"{method} has no demo preset"
    config, typed = parse_arguments(["--method", method, "--preset", "demo", "--ch", "7"])
    config.check_networks()
    assert config.ch == 7
    assert all(getattr(config, name) == value for name, value in values.items() if name != "ch")
    assert set(values) <= set(typed)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ConfigError, match="demo"):
        parse_arguments(["--preset", "large"])


def test_help_shows_what_a_preset_sets(capsys):
    with pytest.raises(SystemExit):
        main.main(["--method", "pix2pix", "--help"])
    out = capsys.readouterr().out
    assert "--preset demo: " in out and "--img_size 64" in out


def test_resuming_another_run_with_a_preset_is_refused(tmp_path, small, capsys):
    assert portraits(tmp_path, *TINY, "--iteration", "1") == 0
    assert portraits(tmp_path, "--preset", "demo", "--resume") == 2
    assert "--resume cannot change" in capsys.readouterr().err
