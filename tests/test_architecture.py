"""Imports run downward only: main, then methods, metrics and data commands, then machinery, then config and utils."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each module or folder may import of ours, from the bottom up.
ALLOWED = {
    "setup": set(),
    "version": set(),
    "errors": set(),
    "metrics.facts": set(),
    "utils": {"errors"},
    "config": {"errors", "metrics.facts"},
    "command_line": {"config", "errors", "version"},
    "foreign": {"foreign", "errors"},
    "onednn": set(),
    "winograd": {"onednn"},
    "ops": {"onednn", "winograd"},
    "layers": {"ops"},
    "networks": {"layers", "ops"},
    "losses": {"ops"},
    "dataset": {"config", "errors", "utils"},
    "engine": {"engine", "onednn", "dataset", "config", "errors", "utils"},
    "datatools": {"datatools", "engine", "dataset", "command_line", "config", "errors", "utils"},
    "metrics": {"metrics", "metrics.facts", "foreign", "datatools", "engine", "dataset", "config", "errors", "utils"},
    **{method: {"engine", "layers", "networks", "losses", "config", "errors"} for method in ("UGATIT", "CycleGAN", "Pix2Pix")},
    "methods": {"UGATIT", "CycleGAN", "Pix2Pix", "engine", "ops", "config"},
    "deploy": {
        "deploy",
        "methods",
        "networks",
        "layers",
        "ops",
        "winograd",
        "engine",
        "dataset",
        "datatools",
        "command_line",
        "config",
        "errors",
        "utils",
        "version",
    },
    "main": {"methods", "deploy", "metrics", "datatools", "engine", "dataset", "command_line", "config", "errors"},
}
# Commands beside the project may import anything, and nothing imports them.
ALLOWED["tools"] = ALLOWED["test_tipc"] = {"tools", *ALLOWED}
PATTERNS = (
    "*.py",
    "engine/*.py",
    "foreign/*.py",
    "metrics/*.py",
    "deploy/*.py",
    "datatools/**/*.py",
    "tools/*.py",
    "test_tipc/*.py",
)
FILES = sorted(file for pattern in PATTERNS for file in ROOT.glob(pattern))


def part_of(name: str) -> str:
    """The part of ALLOWED that a dotted name belongs to, the most special one, or its first word."""
    while name not in ALLOWED and "." in name:
        name = name.rsplit(".", 1)[0]
    return name


def imports(file: Path) -> set:
    """The parts of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and not any(alias.name == "*" for alias in node.names), f"{file}: relative or wildcard import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {part_of(name) for name in found} & {*ALLOWED, "tests"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_run_downward(file):
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    assert imports(file) <= ALLOWED[part_of(module)]


@pytest.mark.parametrize("file", sorted((ROOT / "engine").glob("*.py")), ids=lambda file: file.name)
def test_the_engine_knows_no_method_and_no_metric(file):
    text = file.read_text(encoding="utf-8")
    for word in ("ugatit", "cyclegan", "pix2pix", "gena2b", "inception"):
        assert word not in text.lower()
    names = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not any(name.endswith("Config") and name != "Config" for name in names), "no method's configuration"


def test_networks_and_losses_import_paddle_alone():
    for name in ("layers", "networks", "losses"):
        tree = ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8"))
        tops = {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        tops |= {alias.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
        assert tops <= {"__future__", "math", "typing", "functools", "paddle", "ops", "layers"}


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python 3.9 does not list its modules")
def test_no_module_hides_one_of_python_s():
    """Started as a script, a file finds those beside it before Python's own."""
    assert not {file.stem for file in FILES} - {"__init__"} & sys.stdlib_module_names


def test_nothing_is_pickled():
    for file in FILES:
        if file == ROOT / "foreign" / "unpickler.py":
            continue  # it calls and imports nothing
        text = file.read_text(encoding="utf-8")
        for word in ("import pickle", "paddle.load(", "paddle.save(", "torch.load("):
            assert word not in text, file
