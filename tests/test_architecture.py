"""Imports run downward only: main, then methods, then machinery, then config and utils."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHODS = {"UGATIT", "CycleGAN", "Pix2Pix"}
# What each part may import of ours. `tools` may import anything; only main imports tools.
ALLOWED = {
    "errors": set(),
    "utils": {"errors"},
    "config": {"errors", "metrics"},
    "command_line": {"config", "errors"},
    "ops": set(),
    "layers": {"ops"},
    "networks": {"layers", "ops"},
    "losses": {"ops"},
    "dataset": {"config", "errors", "utils"},
    "engine": {"engine", "datatools", "config", "errors", "utils"},
    "metrics": {"metrics", "datatools", "config", "errors", "utils"},
    "methods": {"engine", "layers", "networks", "losses", "config", "errors", "utils"},
    "main": {"methods", "datatools", "engine", "metrics", "dataset", "command_line", "config", "errors", "utils"},
}
OURS = {*ALLOWED, *METHODS, "datatools", "tools", "tests"}


def part_of(module: str) -> str:
    top = module.split(".")[0]
    return "methods" if top in METHODS else top


def imports(file: Path) -> set:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert not any(alias.name == "*" for alias in node.names), f"{file} has a wildcard import"
            found.add(node.module)
    return {part_of(name) for name in found if name.split(".")[0] in OURS}


FILES = sorted([*ROOT.glob("*.py"), *(ROOT / "engine").glob("*.py"), *(ROOT / "metrics").glob("*.py")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_run_downward(file):
    relative = file.relative_to(ROOT).with_suffix("")
    part = part_of(relative.parts[0])
    assert imports(file) <= ALLOWED[part]


@pytest.mark.parametrize("file", sorted((ROOT / "engine").glob("*.py")), ids=lambda file: file.name)
def test_the_engine_knows_no_method(file):
    text = file.read_text(encoding="utf-8").lower()
    for word in ("ugatit", "cyclegan", "pix2pix", "gena2b"):
        assert word not in text


def test_the_metrics_take_only_the_downloader_from_the_engine():
    for file in (ROOT / "metrics").glob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if "datatools" in line and "import" in line:
                assert line == "    from datatools.download import download", file


def test_networks_and_losses_import_paddle_alone():
    for name in ("ops", "layers", "networks", "losses"):
        tree = ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8"))
        tops = {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        tops |= {alias.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
        assert tops <= {"__future__", "math", "typing", "functools", "contextlib", "paddle", "ops", "layers"}


def test_nothing_is_pickled():
    for file in [*FILES, *(ROOT / "tools").rglob("*.py")]:
        if file == ROOT / "metrics" / "pdparams.py":
            continue  # its unpickler calls and imports nothing
        text = file.read_text(encoding="utf-8")
        for word in ("import pickle", "paddle.load(", "paddle.save(", "torch.load("):
            assert word not in text, file
