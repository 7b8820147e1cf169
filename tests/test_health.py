"""The warnings of a training that goes wrong: each is provoked, and none is said of runs that went well.

tests/golden/health.json holds what they look at in the demo of three seeds (`--preset demo --seed N`, 900 iterations) and in
CycleGAN's and Pix2Pix's of 3000 iterations. Made by

python -m tests.golden.make_health seed1=RESULTS_OF_SEED_1/portraits/ugatit ... pix2pix=RESULTS/portraits/pix2pix
"""

from __future__ import annotations

import copy
import json
import re
import sys
from functools import partial

import numpy as np
import paddle
import pytest

import main
from config import CycleGANConfig, Pix2PixConfig, UGATITConfig
from CycleGAN import CycleGAN
from engine import health
from engine.health import FEW, LINES, PATIENCE, Health, Look, Watched, look_of
from engine.logger import Progress
from losses import ADVERSARIAL, UNDECIDED
from methods import build_method
from networks import DiscriminatorOutput
from tests.golden.make_health import GOLDEN
from tests.helpers import ROOT, flags
from tests.test_methods import METHODS, batch
from utils import write_image

RUNS = json.loads(GOLDEN.read_text())
SMALL = dict(dataset="x", img_size=32, ch=2, iteration=10)
CONFIGS = {
    "ugatit": UGATITConfig(**{**SMALL, "img_size": 24}, n_dis=4, n_res=1, light=True),
    "cyclegan": CycleGANConfig(**SMALL, n_blocks=1),
    "pix2pix": Pix2PixConfig(**SMALL),
}


def replay(run: dict) -> list:
    """What is said of a recorded run."""
    said = []
    watching = Health(build_method(CONFIGS[run["method"]]).watched(), said.append)
    for line in run["lines"]:
        watching.check_line(line["iteration"], line["losses"], line["statistics"])
        for direction, look in line["looks"].items():
            watching.check_look(line["iteration"], direction, Look(*look))
    return said


# The demo's own runs


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_said_of_a_run_that_went_well(name):
    run = RUNS[name]
    assert len(run["lines"]) >= 9 and run["lines"][-1]["iteration"] - run["lines"][0]["iteration"] > PATIENCE
    assert replay(run) == []


def scale(group: str, names: tuple, factor: float):
    def change(line: dict) -> None:
        for name in names:
            assert name in line[group]
            line[group][name] *= factor

    return change


def drift(line: dict) -> None:
    """From the second line on the losses of A are at a fifth, while those of B stay as they were at the first."""
    line["losses"]["G_cycle_A"] *= 1.0 if line["iteration"] == 100 else 0.2
    line["losses"]["G_cycle_B"] = RUNS["seed1"]["lines"][0]["losses"]["G_cycle_B"]


def put(group: str, name: str, value):
    def change(line: dict) -> None:
        assert name in line[group]
        line[group][name] = value

    return change


# What becomes of each line of seed 1, and what is said then.
FAULTS = {
    "a discriminator wins": (
        scale("losses", ("D_adv_LB", "D_cam_LB"), 0.01), "a-discriminator-wins",
        r"disLB \(D_adv_LB \+ D_cam_LB\) stays near 0 \(0.00"),
    "losses drift apart": (drift, "one-direction-falls-behind", r"G_cycle_B does not fall \(100%.*G_cycle_A does \(1\d%\)"),
    "AdaLIN at 1": (put("statistics", "rho_genA2B/AdaLIN_mean", 0.995), "rho-at-a-bound", r"rho_genA2B/AdaLIN_mean stays at 1 "),
    "AdaLIN at 0": (put("statistics", "rho_genB2A/AdaLIN_mean", 0.004), "rho-at-a-bound", r"rho_genB2A/AdaLIN_mean stays at 0 "),
    "ILN at 1": (put("statistics", "rho_genB2A/ILN_mean", 1.0), "rho-at-a-bound", r"rho_genB2A/ILN_mean stays at 1 "),
    "flat": (put("looks", "A2B", [0.05, 0.9, 0.5]), "translations-without-variety", r"A2B .* the contrast within an image is 5%"),
    "all alike": (put("looks", "B2A", [0.9, 0.1, 0.5]), "translations-without-variety", r"B2A .* difference between images is 10%"),
    "negatives": (put("looks", "A2B", [1.0, 1.0, -0.7]), "inverted-colours", r"A2B look like negatives \(correlation -0.70\)"),
}  # fmt: skip
HEALTHY = {
    "a discriminator is strong": scale("losses", ("D_adv_LB", "D_cam_LB"), 0.05),
    "one part of it is near 0": scale("losses", ("D_cam_LB",), 0.001),
    "both directions fall": scale("losses", ("G_cycle_A", "G_cycle_B", "G_identity_A", "G_identity_B"), 0.1),
    "some channels of AdaLIN at a bound": put("statistics", "rho_genA2B/AdaLIN_mean", 0.97),
    "ILN stays where it starts": put("statistics", "rho_genA2B/ILN_mean", 0.0),
    "pale": put("looks", "A2B", [0.3, 0.3, 0.5]),
    "domains that have nothing in common": put("looks", "A2B", [1.0, 1.0, -0.2]),
}


def changed(change) -> dict:
    run = copy.deepcopy(RUNS["seed1"])
    for line in run["lines"]:
        change(line)
    return run


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_said_once(fault):
    change, place, words = FAULTS[fault]
    said = replay(changed(change))
    assert len(said) == 1 and "\n" not in said[0], said
    assert re.fullmatch(rf"warning: iteration \d00: since iteration \d00 .*{words}.*; see docs/tips\.md#{place}", said[0]), said[0]


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of_what_is_only_near_a_fault(case):
    assert replay(changed(HEALTHY[case])) == []


def test_every_warning_has_its_section():
    tips = (ROOT / "docs" / "tips.md").read_text(encoding="utf-8")
    places = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)", tips, re.MULTILINE)}
    assert {place for _, place, _ in FAULTS.values()} | {"a-small-domain"} <= places


# When something is said

JUDGED = Watched({"D": (["D"], 1.0)}, [("A", "B")])


def said_of(losses_by_iteration: dict) -> list:
    said = []
    watching = Health(JUDGED, said.append)
    for iteration, losses in losses_by_iteration.items():
        watching.check_line(iteration, losses, {})
    return said


def test_only_a_sign_that_stays_is_said():
    every = range(0, 3 * PATIENCE, 10)
    assert len(said_of({iteration: {"D": 0.001} for iteration in every})) == 1
    assert said_of({iteration: {"D": 0.001} for iteration in every if iteration < PATIENCE}) == []
    assert said_of({iteration: {"D": 0.5 if iteration % PATIENCE == 0 else 0.001} for iteration in every}) == []
    seldom = [1000 * (1 + number) for number in range(LINES)]
    assert said_of({iteration: {"D": 0.001} for iteration in seldom[:-1]}) == []
    assert "since iteration 1000 " in said_of({iteration: {"D": 0.001} for iteration in seldom})[0]


@pytest.mark.parametrize("losses", [{}, {"A": 0.0, "B": 1.0}, {"A": 0.0, "B": 0.0}, {"A": 1.0}])
def test_losses_that_are_not_there_or_have_no_weight(losses):
    assert said_of(dict.fromkeys(range(0, 3000, 100), losses)) == []


def test_a_loss_that_rises_is_behind_one_that_stays():
    lines = {iteration: {"A": 10.0, "B": 1 + iteration / 1000} for iteration in range(0, 4000, 100)}
    assert "B does not fall" in said_of(lines)[0], "and the weights of the losses do not matter"


@pytest.mark.parametrize("counts, words", [
    ({"trainA": FEW, "trainB": FEW + 1}, None),
    ({"trainA": 3, "trainB": FEW}, "few images (3 in trainA): "),
    ({"trainA": 3, "trainB": 4}, "few images (3 in trainA and 4 in trainB): "),
])  # fmt: skip
def test_a_small_domain(counts, words):
    said = []
    Health(Watched(), said.append).check_domains(counts)
    assert len(said) == (words is not None) and all(words in line and line.endswith("#a-small-domain") for line in said)


# The look of translations


def pictures(count: int = 4, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, channels, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_look_of_known_pictures(channels):
    inputs, targets = pictures(channels=channels), pictures(seed=1, channels=channels)
    flat = np.broadcast_to(np.linspace(-1, 1, 4, dtype=np.float32)[:, None, None, None], inputs.shape)
    one = np.broadcast_to(targets[:1], inputs.shape)
    assert look_of(0.5 * inputs, inputs, inputs, inputs) == pytest.approx((0.5, 0.5, 1))
    assert look_of(-inputs, inputs, inputs, inputs) == pytest.approx((1, 1, -1))
    assert look_of(flat, inputs, targets, inputs)[::2] == pytest.approx((0, 0), abs=1e-6)
    assert look_of(one, inputs, targets, inputs).variety == pytest.approx(0, abs=1e-6)
    assert look_of(one, inputs, targets, one).likeness == pytest.approx(1), "it is compared with the truth, where that is known"


def test_real_images_that_are_alike_or_pale_accuse_nobody():
    inputs = pictures()
    assert look_of(inputs[:1], inputs[:1], inputs, inputs[:1]).variety == 1, "one sample"
    assert look_of([inputs[0]] * 4, [inputs[0]] * 4, inputs, inputs).variety == 1, "the same input four times"
    assert look_of(0.1 * inputs, inputs, 0.1 * inputs, inputs)[:2] == pytest.approx((1, 1)), "a pale target domain"
    assert look_of(np.zeros_like(inputs), np.zeros_like(inputs), inputs, inputs) == (1, 1, 0)


# What the methods declare


@pytest.mark.parametrize("name", [*CONFIGS, "cyclegan, wgangp", "pix2pix, wgangp", "cyclegan without identity"])
def test_a_method_watches_what_it_logs(name):
    method = build_method(CONFIGS.get(name) or METHODS[name])
    watched, losses = method.watched(), method.step(batch(side=method.config.img_size))
    assert all(term in losses for terms, _ in watched.discriminators.values() for term in terms)
    assert ("wgangp" not in name) == bool(watched.discriminators)
    assert not watched.discriminators or set(watched.discriminators) == set(method.discriminators)
    pairs = [pair for pair in watched.directions if set(pair) & set(losses)]
    assert len(pairs) == {"p": 0, "c": 2, "u": 2}[name[0]] - ("without" in name) and all(set(pair) <= set(losses) for pair in pairs)
    assert set(watched.mixtures) <= set(method.statistics()) and bool(watched.mixtures) == (name == "ugatit")


def undecided_output(cam_logit, images) -> DiscriminatorOutput:
    return DiscriminatorOutput(paddle.full([len(images), 1, 3, 3], 0.5), cam_logit, None)


@pytest.mark.parametrize("mode", UNDECIDED)
def test_losses_of_a_discriminator_that_answers_one_half(mode):
    half = paddle.full([2, 1, 3, 3], 0.5 if mode == "lsgan" else 0.0)
    answer = lambda images: half[:1].expand([len(images), 1, 3, 3])  # noqa: E731
    assert [float(ADVERSARIAL[mode](half, is_real)) for is_real in (True, False)] == pytest.approx([UNDECIDED[mode]] * 2)
    image = paddle.zeros([1, 3, 32, 32])

    cyclegan = build_method(CycleGANConfig(**SMALL, n_blocks=1, gan_mode=mode))
    watched = cyclegan.watched().discriminators
    cyclegan.discriminators = dict.fromkeys(watched, answer)
    pix2pix = build_method(Pix2PixConfig(**SMALL, gan_mode=mode))
    pix2pix.D = answer
    cases = [(watched[name], cyclegan.discriminator_losses(name, image, image)) for name in watched]
    cases.append((pix2pix.watched().discriminators["D"], pix2pix.discriminator_losses(image, image, image)))
    if mode == "lsgan":
        for cam in (True, False):
            ugatit = build_method(UGATITConfig(**{**vars(CONFIGS["ugatit"]), "no_discriminator_cam": not cam}))
            cam_logit = paddle.full([2, 2], 0.5) if cam else None  # of a real and a fake image together
            ugatit.disGA = ugatit.disGB = ugatit.disLA = ugatit.disLB = partial(undecided_output, cam_logit)
            cases += [(one, ugatit.discriminator_losses(*[image] * 4)) for one in ugatit.watched().discriminators.values()]
    for (terms, undecided), losses in cases:
        assert sum(float(losses[term]) for term in terms) == pytest.approx(undecided)


# Trainings

TRAIN = ["--method", "cyclegan", "--img_size", "32", "--ch", "2", "--n_blocks", "1", "--n_layers_D", "1", "--sample_count", "1"]


def warnings_of(tmp_path, capsys, *more: str) -> dict:
    """Train on bright pictures; returns the warnings by the place that they name."""
    rng = np.random.default_rng(0)
    for folder, index in (("trainA", 0), ("trainA", 1), ("trainB", 0), ("trainB", 1)):
        write_image(tmp_path / "data" / "tiny" / folder / f"{index}.png", rng.integers(150, 256, (32, 32, 3), np.uint8))
    assert main.main(flags(tmp_path, *TRAIN, *more)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in lines), lines
    found = {line.split("#")[1]: line for line in lines}
    assert len(found) == len(lines) and "few images (2 in trainA and 2 in trainB)" in found.pop("a-small-domain")
    return found


def test_a_training_that_goes_wrong(tmp_path, monkeypatch, capsys):
    """Generators whose last layer is 0 and stays so: grey pictures, which the discriminators soon know."""
    prepare, update = CycleGAN._prepare_training, CycleGAN.update

    def with_zeros(self):
        prepare(self)
        for generator in self.generators.values():
            last = generator.model[-2]
            last.weight.set_value(paddle.zeros_like(last.weight))
            last.bias.set_value(paddle.zeros_like(last.bias))

    monkeypatch.setattr(CycleGAN, "_prepare_training", with_zeros)
    monkeypatch.setattr(CycleGAN, "update", lambda self, name, loss: update(self, name, loss) if name == "D" else None)
    monkeypatch.setattr(health, "PATIENCE", 10)
    found = warnings_of(tmp_path, capsys, "--lr", "0.02", "--print_freq", "5", "--iteration", "35")
    assert set(found) == {"a-discriminator-wins", "translations-without-variety"}
    assert "A2B are nearly one: the contrast within an image is 0%" in found["translations-without-variety"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_warning_goes_to_stderr(terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    progress = Progress(0, 10)
    assert (progress.bar is not None) == terminal
    progress.warn("warning: of one line")
    progress.close()
    said = capsys.readouterr()
    assert said.out == "" and "warning: of one line\n" in said.err.replace("\r", "\n")


def test_a_training_whose_colours_are_inverted(tmp_path, monkeypatch, capsys):
    rows = CycleGAN.translate_with_rows
    monkeypatch.setattr(CycleGAN, "translate_with_rows", lambda self, *given: rows(self, *given)._replace(image=-given[1].numpy()))
    monkeypatch.setattr(health, "PATIENCE", 3)
    found = warnings_of(tmp_path, capsys, "--print_freq", "2", "--iteration", "6")
    assert set(found) == {"inverted-colours"}
    said = "warning: iteration 6: since iteration 2 the translations A2B look like negatives (correlation -1.00); see docs/tips.md#"
    assert found["inverted-colours"].startswith(said)
