"""tools.reproduce: a suite runs to its end, goes on where it was stopped, and reports what did not fail."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import ROOT, TINY, draw_dataset, draw_pairs
from tools import reproduce
from tools.reproduce import SUITES, Suite

PIX2PIX = ["--method", "pix2pix", "--img_size", "16", "--ch", "2", "--n_layers_D", "1"]


def tiny_suite(iterations: int = 2, **more) -> Suite:
    shared = ["--device", "cpu", "--iteration", str(iterations), "--print_freq", "1", "--checkpoint_freq", "1"]
    return Suite("tiny", shared, {"ugatit": TINY, "pix2pix": PIX2PIX, **more})


@pytest.fixture
def suite(monkeypatch, tmp_path):
    """A suite of two tiny runs, and the flags that say where."""
    draw_dataset(tmp_path / "data")
    draw_pairs(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(SUITES, "demo", tiny_suite())
    return ["--suite", "demo", "--results", str(tmp_path / "results"), "--data_root", str(tmp_path / "data")]


def test_every_suite_has_valid_commands():
    for name, suite in SUITES.items():
        runner = reproduce.Runner(suite, ROOT / "results" / name, [], None)
        configs = {run: runner.config(run) for run in suite.runs}
        for config in configs.values():
            config.check_networks()
        assert len({config.iteration for config in configs.values()}) == 1, "equal budgets"
    names = {"ugatit", "cyclegan", "pix2pix", "ugatit_in", "ugatit_ln", "ugatit_adain", "ugatit_no_cam"}
    assert set(SUITES["demo"].runs) == names


def test_a_suite_runs_to_its_end_once(suite, tmp_path, capsys):
    assert reproduce.main([*suite, "--jobs", "2"]) == 0
    results = tmp_path / "results"
    assert capsys.readouterr().out.count("finished") == 2
    for run in (results / "demo" / "ugatit" / "tiny" / "ugatit", results / "demo" / "pix2pix" / "tiny" / "pix2pix"):
        for name in ("checkpoints/latest/meta.json", "test/test.json", "test/contact_A2B.png", "evaluation.json"):
            assert (run / name).exists(), name
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
    assert "wrong ended with exit code 1" in error and error.count("error:") == 2
    assert "Pix2Pix" in (tmp_path / "results" / "README.md").read_text()


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
    stopped_at = json.loads((log.parent / "checkpoints" / "latest" / "meta.json").read_text())["iteration"]
    assert 3 < stopped_at < 400
    SUITES["demo"] = tiny_suite(400)
    assert reproduce.main([*suite, "--only", "pix2pix"]) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["iteration"] for line in lines if "G_total" in line] == list(range(1, 401))


@pytest.mark.parametrize("arguments, word", [(["--only", "ugatit,absent"], "absent"), (["--jobs", "0"], "--jobs 0")])
def test_wrong_commands(suite, arguments, word, capsys):
    assert reproduce.main([*suite, *arguments]) == 2
    assert word in capsys.readouterr().err
