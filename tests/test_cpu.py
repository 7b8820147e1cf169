"""CPU settings: what the user set stays, and importing prints nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine import cpu
from tests.helpers import FEW_IMAGES, ROOT, TINY, call, draw_dataset, environment, flags

PRINT = (
    "from engine.cpu import configure_cpu; configure_cpu(); import os; "
    "print(os.environ['OMP_NUM_THREADS'], os.environ.get('MKL_DEBUG_CPU_TYPE'))"
)


def run(**more: str) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in environment(**more).items() if k in more or k not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}
    return subprocess.run([sys.executable, "-c", PRINT], cwd=ROOT, env=clean, capture_output=True, text=True)


def test_threads_are_the_available_cores_and_nothing_is_printed():
    result = run()
    assert result.stdout.split()[0] == str(len(os.sched_getaffinity(0)))
    assert result.stderr == ""


def test_the_user_s_settings_stay():
    result = run(OMP_NUM_THREADS="3", MKL_DEBUG_CPU_TYPE="4")
    assert result.stdout.split() == ["3", "4"] and result.stderr == ""


@pytest.mark.parametrize("described, mkl_type", [
    ("vendor_id : AuthenticAMD\nflags : avx2 avx512f avx512cd avx512dq avx512bw avx512vl", "7"),
    ("vendor_id : AuthenticAMD\nflags : avx2 avx512f", "5"),
    ("vendor_id : AuthenticAMD\nflags : avx avx2", "5"),
    ("vendor_id : AuthenticAMD\nflags : avx", ""),
    ("vendor_id : GenuineIntel\nflags : avx2 avx512f avx512cd avx512dq avx512bw avx512vl", ""),
    ("", ""),
])  # fmt: skip
def test_the_matrix_library_s_code_path(monkeypatch, described, mkl_type):
    monkeypatch.setattr(cpu, "processor_description", lambda: described)
    assert cpu._mkl_type_of_amd() == mkl_type


def test_main_configures_before_paddle_is_imported():
    code = "import sys, main; assert 'paddle' not in sys.modules; main.main(['--dry_run', '--ch', '2', '--light'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == ""


def test_both_phases_are_configured_and_quiet(tmp_path):
    draw_dataset(tmp_path / "data")
    for arguments, said in (([*TINY, "--iteration", "1"], FEW_IMAGES), (["--phase", "test"], "")):
        result = call(flags(tmp_path, *arguments))
        assert result.returncode == 0 and result.stderr == said
