"""The demo: the set that draws itself, its preset, and the error to the true counterparts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import main
from command_line import parse_arguments
from config import CONFIGS
from dataset import find_images
from datatools import demo
from engine import progress
from errors import ConfigError
from tests.helpers import ROOT, TINY, draw_dataset, environment, save_untrained
from utils import read_image, write_image

UNPAIRED = {"trainA": 2, "trainB": 2, "testA": 2, "testB": 2}


@pytest.fixture
def small(monkeypatch):
    """A drawn set of a few tiny pictures."""
    monkeypatch.setattr(demo, "DRAWN", dict(size=32, train=2, val=1, test=2))


def portraits(tmp_path, *more):
    where = ["--dataset", "portraits", "--data_root", str(tmp_path / "data"), "--result_dir", str(tmp_path / "results")]
    return main.main([*where, "--device", "cpu", *more])


def counts(folder):
    return {part.name: len(find_images(part)) for part in sorted(folder.iterdir()) if part.is_dir()}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_drawn_pictures_stay_the_same():
    """The same bytes on one machine; other processors and versions of OpenCV differ in a few pixels."""
    recorded = read_image(ROOT / "docs" / "images" / "portraits_64.png")
    drawn = demo.draw_sheet(64, 16, 0)
    assert np.abs(drawn.astype(float) - recorded).mean() < 0.5
    assert (demo.draw_sheet(64, 16, 0) == drawn).all()


def test_portraits_draws_itself_for_every_method(tmp_path, small, capsys):
    folder = tmp_path / "data" / "portraits"
    assert portraits(tmp_path, *TINY, "--iteration", "1", "--print_freq", "1") == 0
    assert counts(folder) == UNPAIRED
    assert "drawing the demo set, 8 pictures" in capsys.readouterr().out
    before = contents(folder)

    pix2pix = ["--method", "pix2pix", "--img_size", "16", "--ch", "2", "--n_layers_D", "1"]
    assert portraits(tmp_path, *pix2pix, "--iteration", "1") == 0
    assert counts(folder) == {**UNPAIRED, "train": 2, "val": 1, "test": 2}
    assert before.items() <= contents(folder).items()

    capsys.readouterr()
    for method in ("ugatit", "pix2pix"):
        assert portraits(tmp_path, "--method", method, "--phase", "test") == 0
    out = capsys.readouterr().out
    assert "drawing" not in out
    ratios = re.findall(r"(A2B|B2A): mean absolute error .*? ratio ([\d.]+)", out)
    assert [direction for direction, _ in ratios] == ["A2B", "B2A", "A2B"]
    assert all(float(ratio) > 0 for _, ratio in ratios)


def test_the_test_phase_draws_the_test_pictures_alone(tmp_path, small):
    checkpoint = save_untrained(tmp_path / "run", "--dataset", "portraits")
    assert portraits(tmp_path, "--phase", "test", "--checkpoint", str(checkpoint)) == 0
    assert counts(tmp_path / "data" / "portraits") == {"testA": 2, "testB": 2}
    assert portraits(tmp_path, *TINY, "--iteration", "1") == 0
    assert counts(tmp_path / "data" / "portraits") == UNPAIRED


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
    demo.draw_dataset(tmp_path, size=48, seed=3, train=1, test=2, workers=1)
    numbers = ["--size", "48", "--seed", "3", "--train", "1", "--val", "1", "--test", "2"]
    assert demo.main(["--out", str(tmp_path), "--paired", *numbers]) == 0
    halves = [read_image(tmp_path / part / "00001.png") for part in ("testA", "testB")]
    assert (read_image(tmp_path / "test" / "00001.png") == np.concatenate(halves, 1)).all()


def test_a_part_is_there_only_when_it_is_whole_and_drawing_goes_on(tmp_path, small, monkeypatch, capsys):
    folder, room = tmp_path / "set", iter([0, 1, 2])  # on the disk: for testA and half of testB

    def write(path, image):
        if next(room, None) is None:
            raise OSError(28, "No space left on device", str(path))
        write_image(path, image)

    demo.draw_missing(tmp_path / "whole", paired=False, workers=1)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(demo, "write_image", write)
    assert demo.main(["--out", str(folder), "--workers", "1"]) == 1
    assert re.search(r"\nerror: .*00001.png: No space left on device; see --out and --sheet\n$", capsys.readouterr().err)
    assert counts(folder) == {".testB.0-2": 1, "testA": 2}
    (folder / ".testB.0-2" / ".00001.png.7.part").write_bytes(b"half")
    (folder / ".trainA.0-9").mkdir()  # of another plan
    room = iter(range(5))  # not enough to draw the first three again
    assert demo.main(["--out", str(folder), "--workers", "1"]) == 0
    assert contents(folder) == contents(tmp_path / "whole")
    assert "testB: 1 pictures" in capsys.readouterr().err, "the other was there"


def test_two_processes_draw_one_set_and_a_removed_part_again(tmp_path, small):
    code = "if __name__ == '__main__': from datatools import demo; demo.draw_dataset('set', size=32, train=2, test=2)"
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT))) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    first = contents(tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / "testB")
    demo.draw_missing(tmp_path / "set", paired=False, workers=1)
    assert contents(tmp_path / "set") == first and counts(tmp_path / "set") == UNPAIRED


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


def test_a_missing_data_set_names_the_known_ones(tmp_path, capsys):
    assert main.main(["--dataset", "horse3zebra", "--data_root", str(tmp_path), "--result_dir", str(tmp_path / "r")]) == 1
    err = capsys.readouterr().err
    assert all(name in err for name in ("horse3zebra", "trainA", "portraits", "python -m datatools.fetch --list"))
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


@pytest.mark.parametrize(
    "description", ['{"size": Infinity, "seed": 0}', '{"size": -5, "seed": 0}', '{"size": 64, "seed": "x"}', "[" * 100_000, "[]"]
)
def test_nothing_is_drawn_into_a_folder_whose_description_is_damaged(tmp_path, description):
    (tmp_path / "dataset.json").write_text(description)
    assert demo.drawn_as(tmp_path) is None
    demo.draw_missing(tmp_path, paired=False)
    assert [file.name for file in tmp_path.iterdir()] == ["dataset.json"]
