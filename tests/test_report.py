"""The report: its figures are the files' figures, and what cannot be read is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
import pytest

import config
from config import CONFIGS, to_saved
from tests.helpers import ROOT
from tools import report, report_pictures
from tools.report_runs import group_runs, read_runs
from tools.report_tables import METRICS, safe
from utils import contact_sheet, read_image, write_image

SIZE = 16
GOOD = dict(l1=0.12345, psnr=15.678, ssim=0.5432)
NO_WEIGHTS = {"kid, fid": "no Inception weights: /home/somebody/.cache/weights.safetensors is missing"}


def make_run(
    results: Path,
    where: str,
    scores: Optional[Dict[str, Dict[str, Any]]] = None,
    untouched: Optional[Dict[str, Any]] = None,
    not_computed: Optional[Dict[str, str]] = None,
    meta: Optional[Dict[str, Any]] = None,
    **settings: Any,
) -> Path:
    """A run in results/where/DATASET/METHOD; without `scores` it is not evaluated."""
    method, dataset = settings.pop("method", "ugatit"), settings.pop("dataset", "portraits")
    saved = {**to_saved(CONFIGS[method](dataset=dataset, img_size=SIZE)), **settings}
    folder = results / where / dataset / method
    (folder / "checkpoints" / "latest").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(saved))
    lines: List[Dict[str, Any]] = [dict(iteration=n, G_total=9.0 / n, D_A=0.5, D_B=0.25, lr=0.1) for n in (10, 20)]
    for direction, values in (scores or {}).items():
        lines += [{"iteration": n, f"{direction}/l1": values.get("l1") or 0.1} for n in (10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if scores is not None:
        base = untouched or dict(l1=0.3, psnr=9.0, ssim=0.2)
        evaluation = dict(
            iteration=20,
            test_images=dict.fromkeys(scores, 3),
            kid_subsets=100,
            kid_subset_size=1000,
            scores={direction: dict(translated=values, untouched=base) for direction, values in scores.items()},
            not_computed=NO_WEIGHTS if not_computed is None else not_computed,
            notes=[],
        )
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    told = dict(iteration=20, seconds=90.0, machine="Machine X, 2 threads", paddle="3.3.1")
    (folder / "checkpoints" / "latest" / "meta.json").write_text(json.dumps({**told, **(meta or {})}))
    return folder


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
        elif row and row[0].split(" <sup>")[0] == label and heading in columns:
            found.append(row[columns.index(heading)])
    return found


def labels(results: Path) -> List[str]:
    return [run.label for group in group_runs(read_runs(results)[0]) for run in group.runs]


def test_the_figures_are_those_of_the_files(tmp_path):
    results = tmp_path / "results"
    make_run(results, "demo/full", {"A2B": GOOD, "B2A": dict(GOOD, l1=0.2)})
    page = write(results)
    assert "## demo: portraits, 16x16" in page
    assert cells(page, "U-GAT-IT", "A2B L1 ↓") == ["0.1235"] and cells(page, "U-GAT-IT", "B2A L1 ↓") == ["0.2000"]
    assert cells(page, "U-GAT-IT", "A2B PSNR ↑") == ["15.68"] and cells(page, "U-GAT-IT", "A2B SSIM ↑") == ["0.543"]
    assert cells(page, "*untouched input*", "A2B L1 ↓") == ["0.3000"]
    assert cells(page, "U-GAT-IT", "iterations") == ["20"] and cells(page, "U-GAT-IT", "minutes") == ["1.5"]
    assert cells(page, "U-GAT-IT", "size") == ["16x16"]
    assert "Machine: Machine X, 2 threads, Paddle 3.3.1." in page


def test_kid_is_shown_times_100_with_its_deviation(tmp_path):
    results = tmp_path / "results"
    kid = dict(kid=0.11614, kid_std=0.0057, fid=98.7654)
    make_run(results, "a", {"A2B": kid}, dict(kid=0.2, kid_std=0.001, fid=150.0), not_computed={})
    page = write(results)
    assert cells(page, "U-GAT-IT", "A2B KID x100 ↓") == ["11.61 ± 0.57"] and cells(page, "U-GAT-IT", "A2B FID ↓") == ["98.77"]
    assert cells(page, "*untouched input*", "A2B KID x100 ↓") == ["20.00"]
    assert "100 random subsets of up to 1000 images" in page


def test_the_best_of_each_column_is_bold_and_ties_are_all(tmp_path):
    results = tmp_path / "results"
    make_run(results, "s/a", {"A2B": dict(l1=0.20, psnr=15.001, ssim=0.5)})
    make_run(results, "s/b", {"A2B": dict(l1=0.10, psnr=15.002, ssim=0.4)}, method="cyclegan")
    make_run(results, "s/c", {"A2B": dict(l1=0.15, psnr=14.000, ssim=0.3)}, method="pix2pix")
    make_run(results, "other/c", {"A2B": dict(l1=0.01, psnr=50.0, ssim=0.9)}, method="pix2pix")
    page = write(results).replace("KID", "")

    def column(heading):
        return [cells(page, label, heading)[-1] for label in ("U-GAT-IT", "CycleGAN", "Pix2Pix", "*untouched input*")]

    assert column("A2B L1 ↓") == ["0.2000", "**0.1000**", "0.1500", "0.3000"]
    assert column("A2B PSNR ↑") == ["**15.00**", "**15.00**", "14.00", "9.00"]
    assert column("A2B SSIM ↑") == ["**0.500**", "0.400", "0.300", "0.200"]
    assert cells(page, "Pix2Pix", "A2B L1 ↓")[0] == "0.0100", "alone in its group, and so not bold"


def test_what_is_missing_says_why_and_names_no_path(tmp_path):
    results = tmp_path / "results"
    make_run(results, "a", {"A2B": GOOD})
    page = write(results)
    assert cells(page, "U-GAT-IT", "A2B KID x100 ↓") == ["not computed <sup>1</sup>"]
    assert cells(page, "U-GAT-IT", "A2B FID ↓") == ["not computed <sup>1</sup>"]
    assert "<sup>1</sup> not computed: no Inception weights: weights.safetensors is missing" in page
    assert "/home" not in page and str(tmp_path) not in page


def test_a_figure_is_not_reported_where_the_evaluation_says_it_was_not_computed(tmp_path):
    results = tmp_path / "results"
    make_run(results, "a", {"A2B": dict(GOOD, kid=0.5, fid=77.7)}, dict(l1=0.3, kid=0.6, fid=88.8))
    page = write(results)
    assert cells(page, "U-GAT-IT", "A2B KID x100 ↓") == ["not computed <sup>1</sup>"]
    assert "50.00" not in page and "77.7" not in page and "88.8" not in page


def test_what_is_not_finite_is_said_and_no_nan_printed(tmp_path):
    results = tmp_path / "results"
    folder = make_run(results, "a", {"A2B": dict(l1=float("nan"), psnr=None, ssim=0.5)})
    (folder / "metrics.jsonl").write_text('{"iteration": 10, "G_total": NaN, "D_A": Infinity}\n{"iteration": 20, "G_total": 1}\n')
    page = write(results)
    assert cells(page, "U-GAT-IT", "A2B L1 ↓") == ["not finite"] == cells(page, "U-GAT-IT", "A2B PSNR ↑")
    words = page.replace("Inception", "").lower().replace("|", " ").split()
    assert not {"nan", "inf", "infinity", "none"} & set(words)


def test_labels_name_the_ablation_and_full_methods_come_first(tmp_path):
    results = tmp_path / "results"
    runs = [
        dict(method="pix2pix", no_skip=True),
        dict(method="pix2pix", lambda_GAN=0.0),
        dict(method="pix2pix", recon_loss="none", unconditional=True),
        dict(method="pix2pix"),
        dict(method="cyclegan"),
        dict(no_generator_cam=True, no_discriminator_cam=True, decoder_norm="adalin"),
        dict(no_discriminator_cam=True, decoder_norm="adalin"),
        dict(decoder_norm="in"),
        dict(),
    ]
    for number, settings in enumerate(runs):
        make_run(results, f"demo/{number}", None, **settings)
    assert labels(results) == [
        "U-GAT-IT",
        "CycleGAN",
        "Pix2Pix",
        "U-GAT-IT without CAM",
        "U-GAT-IT without discriminator CAM",
        "U-GAT-IT, decoder IN",
        "Pix2Pix, GAN only",
        "Pix2Pix, L1 only",
        "Pix2Pix, no skips",
    ]


def test_labels_name_other_settings_in_which_runs_differ(tmp_path):
    results = tmp_path / "results"
    for number, settings in enumerate([dict(ch=8), dict(ch=8, n_layers_D=0), dict(ch=8, lr=0.5)]):
        make_run(results, f"demo/{number}", None, method="pix2pix", **settings)
    make_run(results, "demo/3", None)
    make_run(results, "demo/4", None)
    assert labels(results) == [
        "U-GAT-IT (demo/3/portraits/ugatit)",
        "U-GAT-IT (demo/4/portraits/ugatit)",
        "Pix2Pix",
        "Pix2Pix, 1x1 patches",
        "Pix2Pix, lr 0.5",
    ]
    page = write(results)
    assert "- Pix2Pix: ch 8\n" in page and "- U-GAT-IT: all the paper's\n" in page


def test_sizes_and_series_are_not_mixed(tmp_path):
    results = tmp_path / "results"
    make_run(results, "demo/a", {"A2B": GOOD})
    make_run(results, "demo/b", {"A2B": GOOD}, img_size=32)
    make_run(results, ".", {"A2B": GOOD})
    page = write(results)
    assert [line for line in page.splitlines() if line.startswith("## ")][:3] == [
        "## portraits, 16x16",
        "## demo: portraits, 16x16",
        "## demo: portraits, 32x32",
    ]


def test_runs_that_disagree_about_the_untouched_input_are_not_compared(tmp_path):
    results = tmp_path / "results"
    make_run(results, "s/a", {"A2B": GOOD}, dict(l1=0.3, psnr=9.0, ssim=0.2))
    make_run(results, "s/b", {"A2B": dict(GOOD, l1=0.01)}, dict(l1=0.4, psnr=9.0, ssim=0.2), method="cyclegan")
    page = write(results)
    assert cells(page, "*untouched input*", "A2B L1 ↓")[0].startswith("differs <sup>")
    assert "(0.3: U-GAT-IT; 0.4: CycleGAN)" in page
    assert cells(page, "CycleGAN", "A2B L1 ↓") == ["0.0100"]
    assert cells(page, "*untouched input*", "A2B PSNR ↑") == ["9.00"]


def test_several_machines_have_a_column(tmp_path):
    results = tmp_path / "results"
    make_run(results, "s/a", {"A2B": GOOD})
    make_run(results, "s/b", {"A2B": GOOD}, method="cyclegan", meta=dict(machine="Machine | Y"))
    page = write(results)
    assert cells(page, "U-GAT-IT", "machine") == ["Machine X, 2 threads, Paddle 3.3.1"]
    assert cells(page, "CycleGAN", "machine") == ["Machine \\| Y, Paddle 3.3.1"]
    assert "Machine: " not in page


def test_a_run_without_evaluation_is_told_with_the_command(tmp_path):
    results = tmp_path / "results"
    make_run(results, "my demo/full")
    page = write(results)
    assert (
        "- U-GAT-IT: `python main.py --method ugatit --dataset portraits --result_dir 'results/my demo/full' --phase evaluate`"
        in page
    )
    assert cells(page, "U-GAT-IT", "iterations") == ["20"]


def test_minutes_of_other_iterations_are_marked(tmp_path):
    make_run(tmp_path, "s", {"A2B": GOOD}, meta=dict(iteration=40))
    page = write(tmp_path)
    assert cells(page, "U-GAT-IT", "iterations") == ["20"] and "minutes of 40 iterations" in page


def test_the_papers_figures_stand_beside_ours(tmp_path):
    results = tmp_path / "results"
    kid = dict(kid=0.2, kid_std=0.01)
    make_run(results, "s/a", {"A2B": kid, "B2A": kid}, dict(kid=0.5), not_computed={}, dataset="selfie2anime")
    make_run(results, "s/b", {"A2B": kid}, dict(kid=0.5), not_computed={}, dataset="selfie2anime", decoder_norm="in")
    page = write(results)
    assert cells(page, "U-GAT-IT", "A2B here") == ["20.00 ± 1.00"]
    assert cells(page, "U-GAT-IT", "A2B in the paper") == ["11.61 ± 0.57"]
    assert cells(page, "U-GAT-IT, decoder IN", "B2A in the paper") == ["13.58"]
    assert cells(page, "U-GAT-IT, decoder IN", "B2A here") == ["–"]
    assert "Table 1" in page and "not comparable number by number" in page
    assert "CycleGAN" not in page and "decoder LN" not in page, "of the paper only what was run"


def test_pix2pix_alone_has_no_paper_to_compare_with(tmp_path):
    make_run(tmp_path, "s/a", {"A2B": GOOD}, method="pix2pix")
    assert "paper's figures" not in write(tmp_path)


# Pictures


def draw_test_phase(folder: Path, direction: str, count: int = 3, truth: bool = True, seed: int = 0) -> List[List[np.ndarray]]:
    """A contact sheet as the test phase writes it."""
    inputs, translated = np.random.default_rng(seed), np.random.default_rng(len(str(folder)))
    shape = (SIZE, SIZE, 3)
    stacks = [[r.integers(0, 256, shape, np.uint8) for r in (inputs, translated, *[inputs] * truth)] for _ in range(count)]
    columns = [np.concatenate(stack) for stack in stacks]
    lines = -(-count // 8)
    sheet = np.full((lines * (len(columns[0]) + 4) - 4, min(8, count) * (SIZE + 4) - 4, 3), 255, np.uint8)
    for index, column in enumerate(columns):
        top, left = index // 8 * (len(column) + 4), index % 8 * (SIZE + 4)
        sheet[top : top + len(column), left : left + SIZE] = column
    write_image(folder / "test" / f"contact_{direction}.png", sheet)
    return stacks


def test_pictures_are_there_small_and_linked(tmp_path):
    results = tmp_path / "results"
    for where, method in (("s/a", "ugatit"), ("s/b", "cyclegan")):
        draw_test_phase(make_run(results, where, {"A2B": GOOD, "B2A": GOOD}, method=method), "A2B")
    page = write(results)
    linked = {line.split("(")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")}
    files = {f"images/{file.name}" for file in (results / "images").iterdir()}
    assert linked == files and len(files) == 4  # two runs' losses, the scores, one direction
    for file in files:
        assert read_image(results / file).std() > 0 and (results / file).stat().st_size < 700_000
    rows = read_image(results / "images" / "s_portraits_16x16_a2b.png")
    assert rows.shape[0] == 4 * SIZE, "input, two runs, truth"


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("count", [3, 8, 20, 72, 104])  # 72 with truth and 104 without make sheets of one size
def test_the_first_line_of_a_contact_sheet_is_read_back(tmp_path, truth, count):
    stacks = draw_test_phase(tmp_path, "A2B", count, truth)
    read = report_pictures.read_contact(tmp_path / "test" / "contact_A2B.png", SIZE)
    assert len(read) == min(count, 8)
    for stack, expected in zip(read, stacks):
        assert len(stack) == len(expected) and all(np.array_equal(*pair) for pair in zip(stack, expected))


def test_the_layout_is_that_of_the_projects_contact_sheet(tmp_path):
    pairs = [tuple(np.full((SIZE, SIZE, 3), 10 * i + j, np.uint8) for j in range(2)) for i in range(9)]
    write_image(tmp_path / "sheet.png", contact_sheet(pairs))
    read = report_pictures.read_contact(tmp_path / "sheet.png", SIZE)
    assert [[int(cell[0, 0, 0]) for cell in stack] for stack in read] == [[10 * i, 10 * i + 1] for i in range(8)]


def test_curves_have_the_scale_of_the_tables(tmp_path, monkeypatch):
    folder = make_run(tmp_path, "s", {"A2B": dict(kid=0.1)}, dict(kid=0.3), not_computed={})
    with open(folder / "metrics.jsonl", "w") as stream:
        for iteration, kid in ((10, 0.5), (20, 0.25), (20, 0.2)):
            stream.write(json.dumps({"iteration": iteration, "A2B/kid": kid}) + "\n")
    drawn = []
    monkeypatch.setattr(report_pictures, "_png", lambda figure: drawn.append(figure) or b"")
    write(tmp_path)
    run, untouched = drawn[0].axes[0].lines
    assert list(run.get_xdata()) == [10, 20] and list(run.get_ydata()) == pytest.approx([50, 20])
    assert list(untouched.get_ydata()) == pytest.approx([30, 30])
    assert drawn[0].axes[0].get_title() == "A2B KID x100 ↓"


def test_other_test_images_and_damaged_sheets_are_passed_over(tmp_path, capsys):
    results = tmp_path / "results"
    draw_test_phase(make_run(results, "s/a", {"A2B": GOOD}), "A2B")
    draw_test_phase(make_run(results, "s/b", {"A2B": GOOD}, method="cyclegan"), "A2B", seed=5)
    folder = make_run(results, "s/c", {"A2B": GOOD}, method="pix2pix")
    draw_test_phase(folder, "A2B")
    sheet = folder / "test" / "contact_A2B.png"
    sheet.write_bytes(sheet.read_bytes()[:-30])
    page = write(results)
    assert "- s/b/portraits/cyclegan: test/contact_A2B.png shows other test images" in page
    assert "- s/c/portraits/pix2pix: test/contact_A2B.png is damaged" in page
    assert capsys.readouterr().err.count("warning: passed over") == 2
    assert read_image(results / "images" / "s_portraits_16x16_a2b.png").shape[0] == 3 * SIZE


def test_pictures_of_others_are_shown_only_where_asked_for(tmp_path):
    results = tmp_path / "results"
    draw_test_phase(make_run(results, "s/a", {"A2B": GOOD}, dataset="facades"), "A2B")
    assert "may not be free to publish" in write(results)
    assert not (results / "images" / "s_facades_16x16_a2b.png").exists()
    assert "(images/s_facades_16x16_a2b.png)" in write(results, "--pictures")
    assert (results / "images" / "s_facades_16x16_a2b.png").exists()
    write(results)
    assert not (results / "images" / "s_facades_16x16_a2b.png").exists(), "what the page no longer shows goes"


def test_names_may_hold_any_characters(tmp_path):
    results = tmp_path / "results"
    for where in ("系列/a", "系列/b|c"):
        draw_test_phase(make_run(results, where, {"A2B": GOOD}, dataset="头像 $x$"), "A2B")
    page = write(results, "--pictures", "--title", "结果 | <b>")
    assert page.startswith("# 结果 \\| &lt;b>") and "## 系列: 头像 $x$, 16x16" in page
    assert len(list((results / "images").iterdir())) == page.count("](images/")


# What goes wrong


def test_two_reports_are_byte_identical(tmp_path):
    results = tmp_path / "results"
    for where, method in (("s/a", "ugatit"), ("s/b", "cyclegan")):
        draw_test_phase(make_run(results, where, {"A2B": GOOD}, method=method), "A2B")
    write(results)
    first = {file: file.read_bytes() for file in [results / "README.md", *(results / "images").iterdir()]}
    write(results)
    assert {file: file.read_bytes() for file in [results / "README.md", *(results / "images").iterdir()]} == first


def test_damaged_runs_are_passed_over_with_a_warning(tmp_path, capsys):
    results = tmp_path / "results"
    make_run(results, "s/good", {"A2B": GOOD})
    (make_run(results, "s/config") / "config.json").write_text('{"method": "uga')
    (make_run(results, "s/list") / "config.json").write_text("[1]")
    (make_run(results, "s/method", method="cyclegan") / "config.json").write_text(
        '{"method": "new", "dataset": "x", "img_size": 8}'
    )
    (make_run(results, "s/none") / "config.json").unlink()
    (make_run(results, "s/empty") / "metrics.jsonl").write_text("")
    half = make_run(results, "s/half", {"A2B": dict(GOOD, l1=0.5)}, method="cyclegan")
    with open(half / "metrics.jsonl", "a") as stream:
        stream.write('{"iteration": 30, "G_to')
    (make_run(results, "s/scores", {"A2B": GOOD}, method="pix2pix") / "evaluation.json").write_text('{"scores": 3}')
    page = write(results)
    passed_over = page.split("## Passed over")[1].split()
    for name in ("config", "list", "method", "none", "empty"):
        assert any(word.startswith(f"s/{name}/portraits/") for word in passed_over), name
        assert f"`s/{name}/portraits" not in page.split("## Passed over")[0]
    assert "- s/half/portraits/cyclegan: line 5 of metrics.jsonl is damaged and left out" in page
    assert cells(page, "CycleGAN", "A2B L1 ↓") == ["0.5000"], "its whole lines still count"
    assert "- s/scores/portraits/pix2pix: evaluation.json does not hold the scores of an evaluation" in page
    assert "- Pix2Pix: `python main.py --method pix2pix" in page
    assert capsys.readouterr().err.count("warning: passed over s/") == 7


@pytest.mark.parametrize("prepare", ["missing", "empty", "damaged"])
def test_without_runs_there_is_one_line_and_no_report(tmp_path, capsys, prepare):
    results = tmp_path / "results"
    if prepare != "missing":
        results.mkdir()
    if prepare == "damaged":
        (make_run(results, "s") / "config.json").write_text("{")
    assert report.main(["--results", str(results)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"error: --results {results}: ") and not (results / "README.md").exists()


def test_a_page_of_somebody_else_is_not_written_over(tmp_path, capsys):
    make_run(tmp_path, "s")
    (tmp_path / "README.md").write_text("my notes")
    assert report.main(["--results", str(tmp_path)]) == 1
    assert "README.md was not written by this command" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "my notes" and not (tmp_path / "images").exists()


def test_as_users_call_it(tmp_path):
    make_run(tmp_path / "results", "demo/full", {"A2B": GOOD})
    command = [sys.executable, "-m", "tools.report", "--results", str(tmp_path / "results"), "--title", "GPU runs"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "warning" not in result.stderr and "Traceback" not in result.stderr
    assert result.stdout.splitlines()[-1].endswith("README.md: runs 1, pictures 2")
    page = (tmp_path / "results" / "README.md").read_text(encoding="utf-8")
    assert page.startswith("# GPU runs\n") and "`python -m tools.report --title 'GPU runs'`" in page


def test_text_of_files_stays_text():
    assert (
        safe("see /root/.cache/a.pdparams, https://host/x/y.pdparams and A/B")
        == "see a.pdparams, https://host/x/y.pdparams and A/B"
    )
    assert safe("a|b\n<c> *d*") == "a\\|b &lt;c> \\*d\\*"


def test_every_metric_of_an_evaluation_has_its_column():
    known = getattr(config, "BEST", {})
    assert set(known) <= set(METRICS)
    assert all(METRICS[name].more_is_better == more for name, more in known.items())


def test_small_pictures_stay_below_the_limit(tmp_path, monkeypatch):
    draw_test_phase(make_run(tmp_path, "s/a"), "A2B", 8)
    monkeypatch.setattr(report_pictures, "SIDES", (16, 8, 4))
    monkeypatch.setattr(report_pictures, "MOST_BYTES", 3500)
    content, problems = report_pictures.comparison(group_runs(read_runs(tmp_path)[0])[0], "A2B")
    assert problems == [] and len(content) <= 3500
    assert cv2.imdecode(np.frombuffer(content, np.uint8), 1).shape[0] in (3 * 8, 3 * 4)


def test_a_report_of_runs_that_are_not_here_is_kept(tmp_path, capsys):
    """The repository's own report shows runs that only its author has."""
    results = tmp_path / "results"
    earlier = (
        "# Results\n\n<!-- written by tools.report -->\n\nU-GAT-IT (`demo/ugatit/portraits/ugatit`):\n\n![x](images/demo.png)\n"
    )
    make_run(results, "mine")
    (results / "README.md").write_text(earlier)
    (results / "images").mkdir(exist_ok=True)
    (results / "images" / "demo.png").write_bytes(b"a picture")
    assert report.main(["--results", str(results)]) == 1
    assert "demo/ugatit/portraits/ugatit" in (error := capsys.readouterr().err) and "--overwrite" in error
    assert (results / "README.md").read_text() == earlier and (results / "images" / "demo.png").exists()
    assert report.main(["--results", str(results), "--overwrite"]) == 0
    assert "mine/portraits/ugatit" in (results / "README.md").read_text() and not (results / "images" / "demo.png").exists()
