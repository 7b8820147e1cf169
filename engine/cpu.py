"""CPU settings. They only work before Paddle is imported, so `configure_cpu` is called first and imports it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Iterator
from unittest import mock

# Lines that Paddle prints at import about settings that are right for us.
EXPECTED_AT_IMPORT = ("OMP_NUM_THREADS", "No ccache found", "warnings.warn(warning_message)")

# What MKL's code for AVX-512 uses.
AVX512 = {"avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl"}

# glibc's names for the parameters of mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def available_cores() -> int:
    """Cores this process may use, which containers and `taskset` can make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """OMP_NUM_THREADS, which `configure_cpu` sets, or as many threads as there are cores."""
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(value) if value.isdigit() and int(value) else available_cores()


def configure_cpu() -> None:
    """Set threads, the matrix library's code path and memory reuse, then import Paddle quietly.

    What the user has set in the environment (OMP_NUM_THREADS, MKL_DEBUG_CPU_TYPE, MALLOC_*) is respected.
    """
    if "paddle" not in sys.modules:
        # Without it Paddle uses one thread.
        processes = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))  # that paddle.distributed.launch has started on this machine
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
        if mkl_type := _mkl_type_of_amd():
            os.environ.setdefault("MKL_DEBUG_CPU_TYPE", mkl_type)
        os.environ.setdefault("GLOG_minloglevel", "2")
        _keep_freed_memory()
    _import_paddle_quietly()


def _mkl_type_of_amd() -> str:
    """Which processor Paddle's MKL should take an AMD one for; empty where it need not be told.

    By itself it runs its oldest code on processors that are not Intel's, at a third of the speed of that for AVX2 (type 5). That
    for AVX-512 (type 7) doubles it once more on Zen 5, costs nothing on Zen 4, and is an illegal instruction before.
    """
    described = set(processor_description().split())
    if "AuthenticAMD" not in described:
        return ""
    if described >= AVX512:
        return "7"
    return "5" if "avx2" in described else ""


@functools.lru_cache(maxsize=None)
def processor_description() -> str:
    """/proc/cpuinfo; empty on systems that have none."""
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16: its flags name AVX512-BF16 or AMX-BF16."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor_description().split())


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed feature maps.

    By default it returns every block over 32 MB at once and maps it anew, page by page, for the next operation: that took
    more time than most operations themselves (adding two maps of 8 MB: 14 ms, with this 1.7 ms).
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 64 * 2**20)


@contextlib.contextmanager
def temporary_home() -> Iterator[None]:
    """Within it HOME is a temporary folder.

    Paddle and VisualDL make folders in the home when they are imported, and the home of a container or cluster may be read-only.
    """
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, HOME=home):
        yield


def _import_paddle_quietly() -> None:
    said = io.StringIO()
    with temporary_home(), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle

        paddle.disable_signal_handler()  # they print a C++ traceback at SIGTERM
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # ours, which has gone with them
    for line in said.getvalue().splitlines():
        if line.strip() and not any(expected in line for expected in EXPECTED_AT_IMPORT):
            print(line, file=sys.stderr)
