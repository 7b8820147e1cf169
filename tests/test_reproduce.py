"""tools.reproduce: a suite runs to its end, goes on where it was stopped, and replaces no report without reason."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from command_line import parse_arguments
from engine.checkpoint import newest_iteration
from tests.helpers import ROOT, TINY, draw_dataset, draw_pairs
from tools import report, reproduce
from tools.report_runs import read_json
from tools.reproduce import SUITES, Suite

PIX2PIX = ["--method", "pix2pix", "--img_size", "16", "--ch", "2", "--n_layers_D", "1"]
CYCLEGAN = [
    "--method",
    "cyclegan",
    "--img_size",
    "16",
    "--ch",
    "2",
    "--n_layers_D",
    "1",
    "--n_blocks",
    "1",
    "--n_epochs",
    "1",
    "--n_epochs_decay",
    "0",
]


def tiny_suite(iterations: int = 2, **more) -> Suite:
    shared = ["--device", "cpu", "--iteration", str(iterations), "--print_freq", "1", "--checkpoint_freq", "1"]
    return Suite(["tiny"], shared, {"ugatit": TINY, "pix2pix": PIX2PIX, **more})


@pytest.fixture
def suite(monkeypatch, tmp_path):
    """A suite of two tiny runs, and the flags that say where."""
    folder = draw_dataset(tmp_path / "data")
    (folder / "testB" / "2.png").unlink()
    (folder / "dataset.json").write_text('{"test_pairs": true}')
    draw_pairs(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(SUITES, "demo", tiny_suite())
    return ["--suite", "demo", "--results", str(tmp_path / "results"), "--data_root", str(tmp_path / "data")]


def test_every_suite_has_valid_commands():
    for name, suite in SUITES.items():
        configs = [parse_arguments([*suite.shared, *flags])[0] for flags in suite.runs.values()]
        for config in configs:
            config.check_networks()
        budgets = {1_000_000, None} if name == "paper" else {configs[0].iteration}
        assert {config.iteration for config in configs} == budgets, "equal, but for `paper` those of the authors"
    names = {"ugatit", "cyclegan", "pix2pix", "ugatit_in", "ugatit_ln", "ugatit_adain", "ugatit_no_cam"}
    assert set(SUITES["demo"].runs) == names and len(SUITES["selfie2anime"].runs) == 9
    assert set(SUITES["paper"].datasets) == set(report.PAPER_KID), "the report has the paper's figures for each"


def test_a_suite_runs_to_its_end_once(suite, tmp_path, capsys):
    assert reproduce.main([*suite, "--jobs", "2"]) == 0
    results = tmp_path / "results"
    assert capsys.readouterr().out.count("finished") == 2
    for run in (results / "demo" / "ugatit" / "tiny" / "ugatit", results / "demo" / "pix2pix" / "tiny" / "pix2pix"):
        assert newest_iteration(run / "checkpoints") == 2
        assert all((run / name).exists() for name in ("test/test.json", "evaluation.json"))
    page = (results / "README.md").read_text()
    l1 = json.loads((run / "evaluation.json").read_text())["scores"]["A2B"]["translated"]["l1"]
    assert "U-GAT-IT" in page and "Pix2Pix" in page and f"{l1:.4f}" in page

    assert reproduce.main(suite) == 0
    assert "python main.py" not in capsys.readouterr().out, "what is finished is left as it is"


def test_more_training_is_translated_and_scored_anew(suite, tmp_path, monkeypatch, capsys):
    only = [*suite, "--only", "pix2pix"]
    assert reproduce.main(only) == 0
    monkeypatch.setitem(SUITES, "demo", tiny_suite(iterations=3))
    assert reproduce.main(only) == 0
    run = tmp_path / "results" / "demo" / "pix2pix" / "tiny" / "pix2pix"
    assert all(json.loads((run / name).read_text())["iteration"] == 3 for name in ("test/test.json", "evaluation.json"))


def test_a_run_that_fails_does_not_cost_the_report(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SUITES, "demo", tiny_suite(wrong=[*PIX2PIX, "--lr", "1e30", "--iteration", "9"]))
    assert reproduce.main([*suite, "--only", "wrong,pix2pix"]) == 1
    error = capsys.readouterr().err
    assert "wrong on tiny ended with exit code 1" in error and error.count("error:") == 2
    assert "Pix2Pix" in (tmp_path / "results" / "README.md").read_text()


def test_where_nothing_ran_nothing_is_written(suite, tmp_path, monkeypatch, capsys):
    page = tmp_path / "results" / "README.md"
    page.parent.mkdir()
    page.write_text("an earlier report")
    assert reproduce.main(["--suite", "paper", *suite[2:]]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5 and all(any(name in line for line in lines) for name in SUITES["paper"].datasets)
    assert all("python -m datatools.fetch" in line and len(line) < 300 for line in lines)
    monkeypatch.setitem(SUITES, "demo", tiny_suite(wrong=["--load_size", "1"]))
    assert reproduce.main([*suite, "--only", "wrong"]) == 1
    assert page.read_text() == "an earlier report" and not (page.parent / "images").exists()


def test_another_report_is_replaced_only_where_asked_for(suite, tmp_path, capsys):
    only = [*suite, "--only", "pix2pix"]
    page = tmp_path / "results" / "README.md"
    page.parent.mkdir()
    page.write_text(earlier := f"{report.MARK}\n\nU-GAT-IT (`demo/gone/portraits/ugatit`):\n")
    assert reproduce.main(only) == 1
    assert "demo/gone/portraits/ugatit" in capsys.readouterr().err and page.read_text() == earlier
    assert reproduce.main([*only, "--overwrite"]) == 0
    assert "Pix2Pix" in page.read_text()
    assert reproduce.main(only) == 0, "the report of its own runs is replaced"


def test_the_data_sets_that_are_there_are_run_and_the_others_named(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        SUITES, "paper", Suite(["absent", "tiny"], ["--device", "cpu", "--print_freq", "1"], {"cyclegan": CYCLEGAN})
    )
    arguments = ["--suite", "paper", *suite[2:]]
    assert reproduce.main(arguments) == 0
    assert "missing: data set absent" in (error := capsys.readouterr().err) and error.count("\n") == 1
    run = tmp_path / "results" / "paper" / "cyclegan" / "tiny" / "cyclegan"
    assert newest_iteration(run / "checkpoints") == read_json(run / "config.json")["iteration"] == 4, (
        "one epoch of the larger domain"
    )
    assert reproduce.main(arguments) == 0
    assert "python main.py" not in capsys.readouterr().out, "also epochs are finished"


def test_an_interrupted_suite_goes_on(suite, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tools import reproduce
from tests.test_reproduce import tiny_suite
if __name__ == "__main__":
    reproduce.SUITES["demo"] = tiny_suite(400)
    sys.exit(reproduce.main({[*suite, "--only", "pix2pix"]!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "results" / "demo" / "pix2pix" / "tiny" / "pix2pix" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error == "error: stopped; the same command goes on\n"
    assert 3 < newest_iteration(log.parent / "checkpoints") < 400
    SUITES["demo"] = tiny_suite(400)
    assert reproduce.main([*suite, "--only", "pix2pix"]) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["iteration"] for line in lines if "G_total" in line] == list(range(1, 401))


@pytest.mark.parametrize("arguments, word", [(["--only", "ugatit,absent"], "absent"), (["--jobs", "0"], "--jobs 0")])
def test_wrong_commands(suite, arguments, word, capsys):
    assert reproduce.main([*suite, *arguments]) == 2
    assert word in capsys.readouterr().err
