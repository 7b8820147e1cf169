"""What the property tests share: bytes and JSON made wrong by machine, and what may happen to who reads them.

HYPOTHESIS_PROFILE=soak tries many more cases, other ones each time; without it the cases are few and always the same.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import warnings
from pathlib import Path
from typing import Any, Callable, Iterator, List, Sequence

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import main
from errors import UserError
from tests.helpers import TINY

MOST_SECONDS = 60  # of one case, on a machine that does other things too
MOST_BYTES = 500 * 2**20
COMMON = dict(deadline=None, database=None, phases=set(Phase) - {Phase.explain}, suppress_health_check=list(HealthCheck))
settings.register_profile("suite", max_examples=60, derandomize=True, **COMMON)
settings.register_profile("soak", max_examples=3000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


def cases(part_of_all: float) -> settings:
    """The profile with a part of its number of cases, for what is slower than the reading of a small file."""
    phases = settings.default.phases if part_of_all >= 1 else (Phase.explicit, Phase.generate)  # slow cases are not made smaller
    return settings(max_examples=max(1, round(settings.default.max_examples * part_of_all)), phases=phases)


# Bytes


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """`original` with a few bytes changed, cut out, put in or doubled, and numbers of several bytes made huge."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        # Headers are at the beginning.
        place = draw(st.integers(0, min(64, len(content))) | st.integers(0, len(content)))
        kind = draw(st.sampled_from(("change", "cut", "drop", "insert", "double", "number")))
        if kind == "change":
            content[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del content[place:]
        elif kind == "drop":
            del content[place : place + draw(st.integers(1, 16))]
        elif kind == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "double":
            content[place:place] = content[place : place + draw(st.integers(1, 64))]
        else:
            size, order = draw(st.sampled_from((2, 4, 8))), draw(st.sampled_from(("big", "little")))
            number = draw(st.sampled_from((0, 1, 2**15, 2**16 - 1, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)))
            content[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, order)
    return bytes(content)


# JSON

NESTED_TOO_DEEPLY = '{"a":' * 20_000 + "1" + "}" * 20_000
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 70)
    | st.sampled_from((2**31, 2**63, -(2**63), 10**400, float("inf"), float("nan"), -0.0, 1e308))
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(("", "none", "../..", "a\nb", "a\0b", "\ud800", "x" * 300)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated_json(draw: st.DrawFn, original: Any) -> Any:
    """`original`, JSON as Python has it, with one to three values at any depth replaced, removed or added."""
    changed = _copy(original)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(changed))
        if not places:
            return draw(json_values)
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add")))
        if kind == "replace":
            holder[key] = draw(json_values)
        elif kind == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = draw(json_values)
    return changed


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _places(value: Any) -> Iterator[tuple]:
    """Every (holder, key) below `value`."""
    items: List[tuple] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        yield value, key
        yield from _places(inner)


# What may happen


@contextlib.contextmanager
def works_or_says_why(*more: type) -> Iterator[None]:
    """Within it nothing is raised but a UserError of one line, or `more`; and it ends in time."""
    with in_time(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except UserError as error:
            assert len(str(error).splitlines()) == 1, repr(str(error))
        except more:
            pass


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise AssertionError(f"not done in {MOST_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """The test takes no more than MOST_BYTES at any moment beyond what the process had before (where Linux tells)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        reset.write_text("5")  # the peak begins anew
    except OSError:
        yield
        return
    before = _kilobytes(status, "VmRSS")
    yield
    assert (_kilobytes(status, "VmHWM") - before) * 1024 < MOST_BYTES


def _kilobytes(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))


# Commands

# The smallest networks of each method; --img_size and the like may be given again behind these.
SMALL = {
    "ugatit": TINY,
    "cyclegan": ["--method", "cyclegan", "--img_size", "8", "--ch", "1", "--n_blocks", "1", "--n_layers_D", "1"],
    "pix2pix": ["--method", "pix2pix", "--img_size", "8", "--ch", "1", "--n_layers_D", "1"],
}


def check_command(arguments: Sequence[str], command: Callable[[Sequence[str]], int] = main.main, may_report: bool = False) -> int:
    """Run a command line in this process: it works, or ends with exit code 1 or 2 and one line that says why.

    Args:
        may_report: exit code 1 may also say that what was found is on stdout.

    Returns:
        The exit code.
    """
    said = io.StringIO()
    with in_time(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = command(list(arguments))
    lines = said.getvalue().splitlines()
    skipped = [line for line in lines if line.startswith("skipped: ")]
    remarks = [line for line in lines if line.startswith(("warning: ", "passed over "))]
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(skipped) + len(remarks) + len(errors) == len(lines), lines
    assert code in (0, 1, 2), (code, lines)
    if not (code == 1 and (may_report or skipped) and not errors):
        assert len(errors) == (code != 0), (code, lines)
    return code
