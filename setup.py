"""Packs everything as one package, `ugatit_paddle`: modules named `utils` or `config` would hide those of other programs.

In the copies that go into the wheel, imports name the package, and messages name the commands as they are called there.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

PACKAGE = "ugatit_paddle"
FOLDERS = find_packages(exclude=["tests", "tests.*"])
OURS = "|".join(sorted({*(file.stem for file in Path().glob("*.py")), *(folder.split(".")[0] for folder in FOLDERS)}))
REWRITES = {
    rf"^( *)from ({OURS})\b": rf"\1from {PACKAGE}.\2",
    rf"^( *)import ({OURS})\b(?!\.)": rf"\1from {PACKAGE} import \2",
    rf"^( *)import (({OURS})\.[\w.]+)": rf"\1from {PACKAGE} import \3; import {PACKAGE}.\2",
    # As text, and as a list of arguments.
    r'python(?: |", ")main\.py': "ugatit-paddle",
    r'-m( |", ")(tools|datatools)\b': rf"-m\1{PACKAGE}.\2",
}


def rewritten(source: str) -> str:
    """The source of one of our modules as it is in the wheel."""
    for pattern, replacement in REWRITES.items():
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    return source


class BuildPackage(build_py):
    """Copies the modules, then rewrites the copies."""

    def run(self) -> None:
        if self.editable_mode:
            raise SystemExit("pip install -e . is not supported: in a checkout, `python main.py` runs the files as they are")
        package = Path(self.build_lib) / PACKAGE
        # What an earlier build left there would go into the wheel too.
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        (package / "setup.py").unlink()
        for file in package.rglob("*.py"):
            file.write_text(rewritten(file.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.copy(package / "version.py", package / "__init__.py")


if __name__ == "__main__":
    setup(
        packages=[PACKAGE, *(f"{PACKAGE}.{folder}" for folder in FOLDERS)],
        package_dir={PACKAGE: "."},
        package_data={PACKAGE: ["weights/*/*.safetensors", "weights/*/meta.json"]},
        cmdclass={"build_py": BuildPackage},
    )
