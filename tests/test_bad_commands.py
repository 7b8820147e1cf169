"""Whatever is typed, it runs or is refused in one line: command lines made by machine (hypothesis) of the flags that there are.

The strategies are made of the configurations, so a new flag is covered by itself. A flag whose value makes networks, batches or
an evaluation larger needs an entry in SMALL_NUMBERS.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, get_args, get_type_hints

import pytest

pytest.importorskip("hypothesis")
from hypothesis import event, given
from hypothesis import strategies as st

import main
from command_line import parse_arguments, phase_of, refuse_flags_of_other_phases
from config import CONFIGS, DEPLOY_PHASES, PHASES
from deploy.settings import SETTINGS, parse_settings
from errors import WeightsError
from metrics import evaluation
from metrics.facts import FLAG_NAMES, METRICS
from tests.fuzzing import SMALL, cases, check_command, works_or_says_why
from tests.helpers import draw_dataset, draw_pairs, newest

# The largest numbers that are valid and quick.
SMALL_NUMBERS = {
    "img_size": 64, "load_size": 100, "ch": 4, "batch_size": 2, "n_res": 2, "n_blocks": 2, "n_dis": 5, "n_layers_D": 3,
    "num_workers": 2, "sample_count": 2, "n_answers": 2, "kid_subsets": 2, "iteration": 2,
}  # fmt: skip
# Where commands write nothing but below the folder of the case. `debug` is for tracebacks.
LEFT_OUT = {"debug"}
# What a shell can pass on: bytes that are no text are halves of characters, and there is no null character. Names stay in the
# folder of the case.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=8) | st.sampled_from(
    (
        "",
        " ",
        "\udcff",
        "a\nb",
        "é 图",
        "x" * 300,
        "-1",
        "--",
        "none",
        "nan",
        "inf",
        "1e999",
        "9" * 400,
        "0x10",
        "1_0",
        "%s",
        "*",
        "@a",
    )
)
words = WORDS.filter(lambda word: word not in ("-h", "--help", ".."))


class Flag(NamedTuple):
    name: str
    item: dataclasses.Field
    types: tuple

    def valid(self, paths: Dict[str, List[str]]) -> st.SearchStrategy:
        limits = self.item.metadata
        if limits["choices"]:
            return st.sampled_from(limits["choices"])
        if bool in self.types:
            return st.sampled_from(("true", "false", "yes", "0", "True"))
        if int in self.types:
            least = 0 if limits["at_least"] is None else int(limits["at_least"])
            most = SMALL_NUMBERS.get(self.name, int(limits["at_most"]))
            return st.integers(least, most).map(lambda number: number // 4 * 4 if self.name == "img_size" else number).map(str)
        if float in self.types:
            return st.sampled_from((0, 0.1, 0.5, 0.999, 1, 10, 1e-8, 1e6)).map(str)
        return st.sampled_from(paths.get(self.name) or ["x"])

    def invalid(self) -> st.SearchStrategy:
        return words | st.sampled_from(("-1", "0", "1.5", "1000000001", "1e10", "true", "A2B", "[]"))


def flags_of(settings: type) -> List[Flag]:
    hints = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(settings).items()}
    return [Flag(item.name, item, hints[item.name]) for item in dataclasses.fields(settings) if item.name not in LEFT_OUT]


FLAGS = {name: flags_of(settings) for name, settings in {**CONFIGS, **SETTINGS}.items()}
EVERY_NAME = sorted({flag.name for flags in FLAGS.values() for flag in flags})


@st.composite
def typed(draw: st.DrawFn, kind: str, phase: str, paths: Dict[str, List[str]], most: int = 6) -> List[str]:
    """Flags of a method or of a phase that has its own, now and then those of another, with values good and bad."""
    known = [flag for flag in FLAGS[kind] if phase in flag.item.metadata["phases"] or kind in DEPLOY_PHASES]
    if kind in CONFIGS and phase in ("test", "evaluate") and draw(st.integers(0, 3)):
        known = [flag for flag in known if "free" in flag.item.metadata["test"] or flag.item.metadata["resume"] == "command"]
    arguments: List[str] = []
    for flag in draw(st.lists(st.sampled_from(known), max_size=most)):
        value = draw(flag.invalid() if draw(st.integers(0, 19)) == 0 else flag.valid(paths))
        style = draw(st.integers(0, 9))
        if style == 0 and (bool in flag.types or flag.item.metadata["bare"]):
            arguments.append(f"--{flag.name}")
        else:
            arguments += [f"--{flag.name}={value}"] if style < 4 else [f"--{flag.name}", value]
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(arguments)))
        stranger = draw(st.sampled_from(EVERY_NAME).filter(lambda name: name not in LEFT_OUT))
        arguments[place:place] = draw(
            st.sampled_from(([f"--{stranger}"], [f"--{stranger}=1"], [draw(words)], ["--phase", draw(words)]))
        )
    return arguments


# Parsing alone


@given(st.data())
@cases(5)
def test_any_words_are_parsed_or_refused(data):
    """Much that is not valid, and no work done."""
    kind, phase = data.draw(st.sampled_from(sorted(FLAGS))), data.draw(st.sampled_from(PHASES))
    arguments = data.draw(typed(kind, phase, {}, most=4) | st.lists(words, max_size=4))
    for name in data.draw(st.lists(st.sampled_from(EVERY_NAME), max_size=3)):
        arguments += data.draw(st.sampled_from(([f"--{name}"], [f"--{name}", data.draw(words)], [f"--{name}={data.draw(words)}"])))
    with works_or_says_why():
        if phase_of(arguments) in DEPLOY_PHASES:
            parse_settings(phase_of(arguments), arguments)
        else:
            config, names = parse_arguments(arguments)
            refuse_flags_of_other_phases(config, names)
            config.check_networks()


# Running


class Place(NamedTuple):
    """Where commands run: `work` is the current folder, `paths` are values for flags that name something."""

    root: Path
    work: Path
    paths: Dict[str, List[str]]


def outside(place: Place) -> Dict[Path, float]:
    """What is not in the folder of the case, and when it was changed."""
    paths = [path for path in place.root.rglob("*") if place.work not in (path, *path.parents)]
    return {path: path.stat().st_mtime_ns if path.is_file() else 0 for path in paths}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """Data sets, and a run of one iteration of each method, of which one has averages."""
    root = tmp_path_factory.mktemp("commands")
    draw_dataset(root / "data")
    draw_pairs(root / "data")
    shutil.copytree(root / "data" / "tiny" / "train", root / "data" / "pairs_alone" / "train")
    (root / "garbage").write_bytes(b"garbage" * 9)
    for method, sizes in SMALL.items():
        where = ["--data_root", str(root / "data"), "--result_dir", str(root / "runs"), "--device", "cpu", "--num_workers", "0"]
        averaged = ["--ema", "0.9"] if method == "pix2pix" else []
        assert main.main(["--dataset", "tiny", "--iteration", "1", *where, *sizes, *averaged]) == 0
    work = root / "case" / "work"
    checkpoints = [str(work / "runs" / "tiny" / method) for method in CONFIGS]
    checkpoints += [str(work / newest(root / "runs" / "tiny" / "pix2pix").relative_to(root)), str(root / "garbage"), "missing"]
    paths = {
        "dataset": ["tiny", "tiny", "pairs_alone", "missing", "é 图", "..", "a/b"],
        "data_root": [str(root / "data"), str(root / "data"), str(root / "garbage"), "missing", ""],
        "result_dir": ["runs", "results", "", str(root / "garbage"), "é 图", "\udcff"],
        "checkpoint": checkpoints,
        "init_from": checkpoints,
        "inception_weights": [str(root / "garbage"), "missing"],
        "metrics": [*FLAG_NAMES, ",".join(FLAG_NAMES), f"{FLAG_NAMES[0]},{FLAG_NAMES[-1]}"],
        "keep_best": [*METRICS, *(f"{name}:A2B" for name in METRICS), f"{list(METRICS)[0]}:B2A"],
        "input": [
            str(root / "data" / "tiny" / "testA"),
            str(root / "data" / "tiny" / "testA" / "*.png"),
            str(root / "garbage"),
            "missing",
        ],
        "output": ["out", "a/b", str(root / "garbage")],
        "size": ["model", "keep", "20"],
    }
    return Place(root, work, paths)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_downloaded():
    """No connection, and no Inception network for evaluations that would download its weights."""
    load = evaluation.load_inception

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in these tests")

    def load_named(weights: Any) -> Any:
        if weights is None:
            raise WeightsError("no network in these tests")
        return load(weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(evaluation, "load_inception", load_named)
        yield


def run(place: Place, arguments: Sequence[str], phase: str) -> int:
    """Run a command line in a fresh folder, outside of which nothing changes; its exit code."""
    shutil.rmtree(place.work.parent, ignore_errors=True)
    shutil.copytree(place.root / "runs", place.work / "runs")
    others, before = outside(place), os.getcwd()
    os.chdir(place.work)
    try:
        return check_command(arguments, may_report=phase == "check")
    finally:
        os.chdir(before)
        assert outside(place) == others


def first_flags(kind: str, phase: str, place: Place) -> List[str]:
    """A command that works, with the smallest networks."""
    if phase in DEPLOY_PHASES:
        needed = ["--checkpoint", place.paths["checkpoint"][2], "--output", "out"]
        return ["--phase", phase, *needed, *(["--input", place.paths["input"][0]] if phase == "translate" else [])]
    where = ["--phase", phase, "--dataset", "tiny", "--data_root", str(place.root / "data"), "--device", "cpu"]
    if phase in ("test", "evaluate"):
        return [*where, "--method", kind, "--result_dir", "runs"]
    return [*where, "--method", kind, *SMALL[kind], *(["--iteration", "1"] if phase == "train" else [])]


@given(st.data())
@cases(1)
def test_any_command_runs_or_is_refused(place, data):
    phase = data.draw(st.sampled_from((*PHASES, *DEPLOY_PHASES, "train", "train", "train")))
    kind = phase if phase in DEPLOY_PHASES else data.draw(st.sampled_from(sorted(CONFIGS)))
    more = data.draw(typed(kind, phase, place.paths))
    event(f"{phase}: exit code {run(place, [*first_flags(kind, phase, place), *more], phase)}")
