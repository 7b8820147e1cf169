"""The notebook runs from top to bottom, and is kept with small outputs of a whole run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers import ROOT, TINY

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path("notebooks/quickstart.ipynb")
LARGEST_KB = 500
SMALL = dict(TRAIN_PICTURES="4", TEST_PICTURES="4", ITERATIONS="4", MORE_ITERATIONS="6", NETWORKS=" ".join(TINY), PRINT_EVERY="2")


def read(cells: int = -1):
    """The notebook's first cells, with small values in place of the settings and without outputs."""
    notebook = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert all(f'{name}="' in settings.source for name in SMALL)
    settings.source = f"import os\nos.environ.update({SMALL})"
    notebook.cells = notebook.cells[: cells if cells > 0 else None]
    for cell in notebook.cells:
        cell.outputs = []
    return notebook


def execute(notebook, folder: Path):
    """Run it with the kernel started in `folder`. Raises where a cell fails."""
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources, coalesce_streams=True).execute()
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def text_of(outputs) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of what a fresh clone has and the notebook needs."""
    folders = ("datatools", "deploy", "engine", "foreign", "metrics", "notebooks", "weights")
    for file in (*ROOT.glob("*.py"), ROOT / "requirements.txt"):
        shutil.copy(file, tmp_path)
    for folder in filter(Path.is_dir, (ROOT / folder for folder in folders)):
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return tmp_path


def test_it_runs_from_top_to_bottom(project):
    outputs = execute(read(), project / "notebooks")
    assert "nothing was missing" in text_of(outputs["install"])
    assert "trainable by ugatit" in text_of(outputs["data"])
    assert "[4/4]" in text_of(outputs["train"])
    assert "A2B untouched" in text_of(outputs["test"])
    assert "1 of 1 files translated" in text_of(outputs["translate"])
    assert "resumed at iteration 4" in text_of(outputs["resume"]) and "[6/6]" in text_of(outputs["resume"])
    pictures = {name for name, found in outputs.items() if any("image" in kind for one in found for kind in one.get("data", {}))}
    assert "4 of 4 files translated" in text_of(outputs["weights"])
    drawn = {"data-picture", "weights-picture"}
    assert pictures == {*drawn, "first-grid", "last-grid", "curves", "test-picture", "translate-picture", "resumed-curves"}


def test_it_finds_the_project_from_its_root_too(project):
    assert "nothing was missing" in text_of(execute(read(cells=5), project)["install"])


def test_it_is_kept_with_the_outputs_of_one_whole_run():
    cells = [cell for cell in nbformat.read(ROOT / NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    text = (ROOT / NOTEBOOK).read_text(encoding="utf-8")
    assert len(text) < LARGEST_KB * 1000
    for machine_path in ("/home/", "/root/", "/tmp/", "/work/", "/Users/", "site-packages"):
        assert machine_path not in text
