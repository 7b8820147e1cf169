"""The wheel: one package, which runs from any folder, also beside modules of the same names."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import List

import pytest

from engine.checkpoint import find_checkpoint
from tests.helpers import ROOT, TINY, draw_dataset, flags, run_folder, save_untrained
from tests.test_architecture import FILES
from version import __version__

try:
    OLD = int(importlib.metadata.version("setuptools").split(".")[0]) < 77
except importlib.metadata.PackageNotFoundError:
    OLD = True
pytestmark = pytest.mark.skipif(OLD, reason="setuptools 77 builds the wheel")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
PATHS = [file.relative_to(ROOT) for file in FILES]
MODULES = {path.as_posix() for path in PATHS if path.parts[0] not in ("setup.py", "test_tipc")}
TOPS = sorted({path.with_suffix("").parts[0] for path in PATHS})
IMPORT_ALL = """
import importlib, pkgutil
from ugatit_paddle.engine.cpu import configure_cpu
configure_cpu()
import ugatit_paddle
for module in pkgutil.walk_packages(ugatit_paddle.__path__, "ugatit_paddle."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name != "torch":  # tools.peer_step runs in an environment of the authors' code
            raise
    print(module.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the project, which has one checkpoint in weights/ and leftovers of an earlier build."""
    copy = tmp_path_factory.mktemp("project") / "copy"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "dataset", "results", "weights", "build", "dist")
    )
    shutil.copytree(save_untrained(copy.parent, *TINY), copy / "weights" / "tiny")
    earlier = copy / "build" / "lib" / "ugatit_paddle" / "removed.py"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."], cwd=copy, check=True)
    return next(copy.glob("dist/*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder that the wheel is installed into."""
    target = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True)
    return target


@pytest.fixture
def elsewhere(tmp_path, installed, monkeypatch) -> Path:
    """An empty folder to run in, with what is installed importable."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_wheel_is_one_package_without_tests_and_leftovers(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"ugatit_paddle", f"ugatit_paddle-{__version__}.dist-info"}
    weights = {f"weights/tiny/{name}" for name in ("generators.safetensors", "discriminators.safetensors", "meta.json")}
    packaged = {name.split("/", 1)[1] for name in names if name.startswith("ugatit_paddle/")}
    assert packaged == {*MODULES, "__init__.py", *weights, "weights/tiny/optimizer.safetensors"}


def test_every_import_of_ours_names_the_package(wheel):
    archive, seen = zipfile.ZipFile(wheel), 0
    for name in [name for name in archive.namelist() if name.endswith(".py")]:
        imported: List[str] = []
        for node in ast.walk(ast.parse(archive.read(name))):
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not {module.split(".")[0] for module in imported} & {*TOPS}, name
        seen += any(module.startswith("ugatit_paddle") for module in imported)
    assert seen > 50


@pytest.mark.parametrize(
    "written, packaged",
    [
        ("import ops", "from ugatit_paddle import ops"),
        ("    import ops as o  # why", "    from ugatit_paddle import ops as o  # why"),
        ("import deploy.sizes", "from ugatit_paddle import deploy; import ugatit_paddle.deploy.sizes"),
        ("from deploy.sizes import (\n    a,\n)", "from ugatit_paddle.deploy.sizes import (\n    a,\n)"),
        ("import operator\nfrom configparser import b", "import operator\nfrom configparser import b"),
        ('"python main.py --help", ["python", "main.py", "--x"]', '"ugatit-paddle --help", ["ugatit-paddle", "--x"]'),
        ('"python -m tools.report", ["-m", "tools.x"]', '"python -m ugatit_paddle.tools.report", ["-m", "ugatit_paddle.tools.x"]'),
    ],
)
def test_what_is_rewritten(written, packaged, monkeypatch):
    monkeypatch.chdir(ROOT)
    from setup import rewritten

    assert rewritten(written) == packaged


def test_every_module_is_imported_beside_others_of_its_name(elsewhere):
    for name in TOPS:
        (elsewhere / f"{name}.py").write_text("raise SystemExit('the decoy was imported')\n")
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(MODULES)


def command(*arguments: str) -> str:
    """What `ugatit-paddle` prints, which is on the folder of installed commands."""
    script = Path(os.environ["PYTHONPATH"]) / "bin" / "ugatit-paddle"
    done = subprocess.run([str(script), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.name == "nt", reason="commands are in another folder there")
def test_the_command_has_every_phase(elsewhere):
    assert command("--version") == f"ugatit-paddle {__version__}\n"
    said = command("--help")
    assert "usage: ugatit-paddle --dataset NAME" in said and "main.py" not in said
    draw_dataset(elsewhere / "data")
    command(*flags(elsewhere, *TINY, "--iteration", "2", "--print_freq", "1", "--phase", "train"))
    command(*flags(elsewhere, "--phase", "test"))
    assert find_checkpoint(run_folder(elsewhere)).name == "step_0000002"
    assert (run_folder(elsewhere) / "test" / "contact_A2B.png").is_file()
    # Weights that come with the project are found from anywhere.
    command("--phase", "translate", "--checkpoint", "weights/tiny", "--input", "data/tiny/testA", "--output", "translated")
    assert len(list(Path("translated").glob("*.png"))) == 2
