"""The report: its figures are the files' figures, what cannot be read is said, and nothing of others is lost or published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest

from config import CONFIGS, to_saved
from tests.helpers import ROOT
from tools import report, report_pictures
from tools.report_runs import read_runs
from utils import read_image, write_image

SIZE = 16
GOOD = dict(l1=0.12345, psnr=15.678, ssim=0.5432)
KID = dict(kid=0.2, kid_std=0.01)


def make_run(
    results: Path,
    where: str,
    scores: Optional[Dict[str, Dict[str, Any]]] = None,
    untouched: Optional[Dict[str, Any]] = None,
    machine: str = "Machine X",
    **settings: Any,
) -> Path:
    """A run in results/where/DATASET/METHOD; without `scores` it is not evaluated."""
    method, dataset = settings.pop("method", "ugatit"), settings.pop("dataset", "portraits")
    folder = results / where / dataset / method
    for iteration in (10, 20):
        checkpoint = folder / "checkpoints" / f"step_{iteration:07d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "meta.json").write_text(json.dumps(dict(iteration=iteration, seconds=4.5 * iteration, machine=machine)))
    (folder / "config.json").write_text(json.dumps({**to_saved(CONFIGS[method](dataset=dataset, img_size=SIZE)), **settings}))
    lines: List[Dict[str, Any]] = [dict(iteration=n, G_total=9.0 / n, D_A=0.5, D_B=0.25, lr=0.1) for n in (10, 20)]
    for direction, values in (scores or {}).items():
        lines += [{"iteration": n, **{f"{direction}/{name}": value for name, value in values.items() if value}} for n in (10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if scores is not None:
        base = untouched or dict(l1=0.3, psnr=9.0, ssim=0.2)
        rows = {direction: dict(translated=values, untouched=base) for direction, values in scores.items()}
        evaluation = dict(iteration=20, scores=rows, not_computed={"kid, fid": "there are no <weights>"}, notes=[])
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def make_test_phase(folder: Path, count: int = 9, truth: bool = True, seed: int = 0) -> List[np.ndarray]:
    """The translated files of A2B; returns the translations."""
    inputs, rng = np.random.default_rng(seed), np.random.default_rng(len(str(folder)))
    labels = ["real_A", "CAM A2A", "fake_B", *(["real_B"] if truth else [])]
    names, translations = [f"sub/{index:05d}.png" for index in range(count)], []
    for name in names:
        squares = [inputs.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in labels]
        translations.append(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8))
        write_image(folder / "test" / "grid" / "A2B" / name, np.concatenate(squares))
        write_image(folder / "test" / "A2B" / name, translations[-1])
    (folder / "test" / "test.json").write_text(json.dumps(dict(iteration=20, rows={"A2B": labels}, images={"A2B": names})))
    return translations


def write(results: Path, *flags: str) -> str:
    assert report.main(["--results", str(results), *flags]) == 0
    return (results / "README.md").read_text(encoding="utf-8")


def cells(page: str, label: str, heading: str) -> List[str]:
    """Of the row `label` the cells below `heading`, in every table that has both."""
    found, columns = [], []
    lines = page.splitlines()
    for line, following in zip(lines, [*lines[1:], ""]):
        row = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if following.startswith("| :--"):
            columns = row
        elif row and row[0] == label and heading in columns:
            found.append(row[columns.index(heading)])
    return found


def labels(results: Path) -> List[str]:
    return [run.label for runs in read_runs(results).values() for run in runs]


def test_the_figures_are_those_of_the_files(tmp_path):
    make_run(tmp_path, "demo/full", {"A2B": GOOD, "B2A": dict(GOOD, l1=0.2, psnr=None)})
    page = write(tmp_path)
    assert "## demo: portraits, 16x16" in page
    assert cells(page, "U-GAT-IT", "A2B L1 ↓") == ["0.1235"] and cells(page, "U-GAT-IT", "B2A L1 ↓") == ["0.2000"]
    assert cells(page, "U-GAT-IT", "A2B PSNR ↑") == ["15.68"] and cells(page, "U-GAT-IT", "B2A PSNR ↑") == ["not finite"]
    assert cells(page, "*untouched input*", "A2B L1 ↓") == ["0.3000"]
    assert cells(page, "U-GAT-IT", "iterations") == ["20"] and cells(page, "U-GAT-IT", "minutes") == ["1.5"]
    assert "- trained on Machine X\n" in page and "- KID, FID not computed: there are no \\<weights>\n" in page


def test_the_best_of_each_column_is_bold_and_ties_are_all(tmp_path):
    make_run(tmp_path, "s/a", {"A2B": dict(l1=0.20, psnr=15.001)})
    make_run(tmp_path, "s/b", {"A2B": dict(l1=0.10, psnr=15.002)}, machine="Y", method="cyclegan")
    make_run(tmp_path, "s/c", {"A2B": dict(l1=0.15, psnr=14.000)}, dict(l1=0.4, psnr=9.0), method="pix2pix")
    make_run(tmp_path, "other/c", {"A2B": dict(l1=0.01, psnr=50.0)}, method="pix2pix")
    page = write(tmp_path)

    def column(heading):
        return [cells(page, label, heading)[-1] for label in ("U-GAT-IT", "CycleGAN", "Pix2Pix", "*untouched input*")]

    assert column("A2B L1 ↓") == ["0.2000", "**0.1000**", "0.1500", "0.3000 / 0.4000"]
    assert column("A2B PSNR ↑") == ["**15.00**", "**15.00**", "14.00", "9.00"]
    assert cells(page, "Pix2Pix", "A2B L1 ↓")[0] == "0.0100", "alone in its group, and so not bold"
    assert "- CycleGAN: trained on Y\n" in page and "- U-GAT-IT; Pix2Pix: trained on Machine X\n" in page


def test_labels_name_the_ablation_and_the_settings_in_which_runs_differ(tmp_path):
    runs = [
        dict(method="pix2pix", ch=8, unconditional=True),
        dict(method="pix2pix", ch=8, lr=0.5, dropout=False),
        dict(method="pix2pix", ch=8),
        dict(method="cyclegan"),
        dict(method="cyclegan"),
        dict(light=True, no_generator_cam=True, no_discriminator_cam=True),
        dict(light=True, decoder_norm="in"),
        dict(light=True),
    ]
    for number, settings in enumerate(runs):
        make_run(tmp_path, f"demo/{number}", None, **settings)
    assert labels(tmp_path) == [
        "U-GAT-IT",
        "CycleGAN (demo/3/portraits/cyclegan)",
        "CycleGAN (demo/4/portraits/cyclegan)",
        "Pix2Pix",
        "U-GAT-IT, decoder IN",
        "U-GAT-IT, without CAM",
        "Pix2Pix, lr 0.5, dropout False",
        "Pix2Pix, unconditional",
    ]
    page = write(tmp_path)
    assert (
        "defaults, which are those of the authors' PyTorch code:\n\n- U-GAT-IT: light\n- CycleGAN: none\n- Pix2Pix: ch 8\n" in page
    )


def test_a_run_without_evaluation_is_told_with_the_command(tmp_path):
    make_run(tmp_path / "results", "my demo/full")
    command = "python main.py --method ugatit --dataset portraits --result_dir 'results/my demo/full' --phase evaluate"
    page = write(tmp_path / "results")
    assert f"- not evaluated: `{command}`" in page and cells(page, "U-GAT-IT", "iterations") == ["20"]
    assert "| *untouched input*" not in page


def test_the_papers_kid_stands_beside_ours(tmp_path):
    make_run(tmp_path, "s/a", {"A2B": KID, "B2A": KID}, dict(kid=0.5), dataset="selfie2anime")
    make_run(tmp_path, "s/b", {"A2B": KID}, dict(kid=0.5), dataset="selfie2anime", decoder_norm="in")
    page = write(tmp_path)
    assert cells(page, "U-GAT-IT", "A2B KID x100 ↓") == ["**20.00 ± 1.00**"] and cells(page, "U-GAT-IT", "A2B here") == [
        "20.00 ± 1.00"
    ]
    assert cells(page, "U-GAT-IT", "A2B in the paper") == ["11.61 ± 0.57"]
    assert cells(page, "U-GAT-IT, decoder IN", "B2A in the paper") == ["13.58"]
    assert cells(page, "U-GAT-IT, decoder IN", "B2A here") == ["–"]
    assert "CycleGAN" not in page, "of the paper only what was run"


def test_vangogh2photo_is_the_papers_photo2vangogh_the_other_way_round(tmp_path):
    make_run(tmp_path, "s", {"A2B": KID, "B2A": dict(kid=0.1, kid_std=0.02)}, method="cyclegan", dataset="vangogh2photo")
    page = write(tmp_path)
    assert cells(page, "CycleGAN", "A2B in the paper") == ["4.68 ± 0.36"]
    assert cells(page, "CycleGAN", "B2A in the paper") == ["5.46 ± 0.33"] and cells(page, "CycleGAN", "B2A here") == [
        "10.00 ± 2.00"
    ]


# Pictures


def test_pictures_are_there_small_linked_and_the_same_every_time(tmp_path):
    expected = [make_test_phase(make_run(tmp_path, "s/a", {"A2B": GOOD}))]
    expected.append(make_test_phase(make_run(tmp_path, "s/b", {"A2B": GOOD}, method="cyclegan"), truth=True))
    page = write(tmp_path)
    files = {f"images/{file.name}": file.read_bytes() for file in (tmp_path / "images").iterdir()}
    assert {line.split("(")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")} == set(files)
    assert len(files) == 4 and all(len(content) < 700_000 for content in files.values())  # two of losses, scores, one direction
    rows = read_image(tmp_path / "images" / "s_portraits_16x16_a2b.png")
    assert rows.shape[0] == 4 * SIZE, "input, two runs, truth"
    for row, translations in enumerate(expected, 1):
        shown = rows[row * SIZE : (row + 1) * SIZE, -8 * SIZE :]
        assert np.array_equal(shown, np.concatenate(translations[:8], axis=1))
    write(tmp_path)
    assert {f"images/{file.name}": file.read_bytes() for file in (tmp_path / "images").iterdir()} == files


def test_curves_have_the_scale_of_the_tables(tmp_path, monkeypatch):
    folder = make_run(tmp_path, "s", {"A2B": dict(kid=0.1)}, dict(kid=0.3))
    with open(folder / "metrics.jsonl", "w") as stream:
        for iteration, kid in ((10, 0.5), (20, 0.25), (20, 0.2)):
            stream.write(json.dumps({"iteration": iteration, "A2B/kid": kid}) + "\n")
    drawn = []
    monkeypatch.setattr(report_pictures, "_curves", lambda panels, *_, **__: drawn.append(panels) or b"")
    write(tmp_path)
    assert drawn[0] == {"A2B KID x100 ↓": {"U-GAT-IT": {10: 50.0, 20: 20.0}, "untouched input": {10: 30.0, 20: 30.0}}}


def test_other_test_images_and_those_of_older_versions_are_passed_over(tmp_path, capsys):
    make_test_phase(make_run(tmp_path, "s/a", {"A2B": GOOD}))
    make_test_phase(make_run(tmp_path, "s/b", {"A2B": GOOD}, method="cyclegan"), seed=5)
    folder = make_run(tmp_path, "s/c", {"A2B": GOOD}, method="pix2pix")
    make_test_phase(folder)
    (folder / "test" / "test.json").write_text('{"iteration": 20}')
    write(tmp_path)
    error = capsys.readouterr().err
    assert "passed over s/b/portraits/cyclegan: its test images A2B are not those" in error
    assert "passed over s/c/portraits/pix2pix: its test images A2B are incomplete" in error
    assert read_image(tmp_path / "images" / "s_portraits_16x16_a2b.png").shape[0] == 3 * SIZE


def test_pictures_of_others_are_shown_only_where_asked_for(tmp_path):
    make_test_phase(make_run(tmp_path, "系列/a", {"A2B": GOOD}, dataset="头像 $x$"))
    picture = tmp_path / "images" / "系列_头像_x_16x16_a2b.png"
    assert "may not be free to publish" in write(tmp_path) and not picture.exists()
    page = write(tmp_path, "--pictures", "--title", "结果 | <b>")
    assert page.startswith("# 结果 \\| \\<b>") and picture.exists()
    assert len(list((tmp_path / "images").iterdir())) == page.count("](images/")
    write(tmp_path)
    assert not picture.exists(), "what the page no longer shows goes"


# What goes wrong


def test_damaged_runs_are_passed_over_with_a_warning(tmp_path, capsys):
    (make_run(tmp_path, "s/config") / "config.json").write_text('{"method": "uga')
    (make_run(tmp_path, "s/method") / "config.json").write_text('{"method": "new", "dataset": "x", "img_size": 8}')
    (make_run(tmp_path, "s/empty") / "metrics.jsonl").write_text("")
    with open(make_run(tmp_path, "s/half", {"A2B": dict(GOOD, l1=0.5)}) / "metrics.jsonl", "a") as stream:
        stream.write('{"iteration": 30, "G_to')
    (make_run(tmp_path, "s/scores", {"A2B": GOOD}, method="pix2pix") / "evaluation.json").write_text('{"scores')
    page = write(tmp_path)
    error = capsys.readouterr().err
    assert all(f"warning: passed over s/{name}/portraits" in error for name in ("config", "method", "empty"))
    assert error.count("warning") == 3 and "s/empty" not in page
    assert cells(page, "U-GAT-IT", "A2B L1 ↓") == ["0.5000"], "its whole lines still count"
    assert "- Pix2Pix: not evaluated: `python main.py --method pix2pix" in page


@pytest.mark.parametrize("prepare", ["missing", "damaged"])
def test_without_runs_there_is_one_line_and_no_report(tmp_path, capsys, prepare):
    results = tmp_path / "results"
    if prepare == "damaged":
        (make_run(results, "s") / "config.json").write_text("{")
    assert report.main(["--results", str(results)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"error: --results {results}: ") and not (results / "README.md").exists()


def test_a_page_of_somebody_else_is_not_written_over(tmp_path, capsys):
    make_run(tmp_path, "s")
    (tmp_path / "README.md").write_text("my notes")
    assert report.main(["--results", str(tmp_path), "--overwrite"]) == 1
    assert "README.md was not written by this command" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "my notes" and not (tmp_path / "images").exists()


def test_a_report_of_runs_that_are_not_here_is_kept(tmp_path, capsys):
    """The repository's own report shows runs that only its author has."""
    make_run(tmp_path, "gone")
    earlier = write(tmp_path)
    pictures = sorted((tmp_path / "images").iterdir())
    (tmp_path / "gone").rename(tmp_path / "mine")
    assert report.main(["--results", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "gone/portraits/ugatit" in error and "--overwrite" in error
    assert (tmp_path / "README.md").read_text() == earlier and sorted((tmp_path / "images").iterdir()) == pictures
    assert "mine/portraits/ugatit" in write(tmp_path, "--overwrite")
    assert not any(picture.exists() for picture in pictures)
    write(tmp_path)


def test_as_users_call_it(tmp_path):
    make_run(tmp_path / "results", "demo/full", {"A2B": GOOD})
    command = [sys.executable, "-m", "tools.report", "--results", str(tmp_path / "results"), "--title", "GPU runs"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == "" and result.stdout.endswith("README.md: runs 1, pictures 2\n")
    page = (tmp_path / "results" / "README.md").read_text(encoding="utf-8")
    assert page.startswith("# GPU runs\n") and "`python -m tools.report --results results --title 'GPU runs'`" in page
