"""--ema: the averages, where they are used, and what a run with them leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest

import main
from config import AVERAGED, CycleGANConfig, Pix2PixConfig, UGATITConfig
from dataset import Sample
from engine.checkpoint import PARTS, find_checkpoint, load
from engine.pictures import strip, translate_sample
from methods import build_method
from tests.helpers import TINY, draw_pairs, flags, latest_bytes, newest, read_metrics, straight_and_killed
from tests.test_methods import RUNS, TINY_FLAGS
from utils import read_image

DECAY = 0.3  # below the warm-up from iteration 4 on
SIZE = 32
SHARED = dict(dataset="x", img_size=SIZE, ch=2, iteration=10, lr=0.01, device="cpu")
CONFIGS = {
    "ugatit": UGATITConfig(**SHARED, ema=DECAY, n_dis=4, n_res=1, light=True),
    "cyclegan": CycleGANConfig(**SHARED, ema=DECAY, n_blocks=1),
    "pix2pix": Pix2PixConfig(**SHARED, ema=DECAY),  # batch norm, so there are running statistics
}


def batch(seed: int = 0):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-1, 1, (1, 3, SIZE, SIZE)).astype("float32") for name in ("real_A", "real_B")}


def parameters(method):
    return {f"{name}.{key}": p for name, network in method.generators.items() for key, p in network.named_parameters()}


def values(method):
    return {key: parameter.numpy() for key, parameter in parameters(method).items()}


@pytest.fixture(params=CONFIGS)
def trained(request):
    """A method after three iterations."""
    method = build_method(CONFIGS[request.param])
    for seed in range(3):
        method.step(batch(seed))
    return method


@pytest.mark.parametrize("name", CONFIGS)
def test_the_average_is_that_of_its_definition(name):
    method = build_method(CONFIGS[name])
    expected = {key: value.astype("float64") for key, value in values(method).items()}
    for iteration in range(1, 6):
        method.step(batch(iteration))
        decay = min(DECAY, (1 + iteration) / (10 + iteration))
        for key, value in values(method).items():
            expected[key] = decay * expected[key] + (1 - decay) * value
    assert decay == DECAY
    state = method.state().arrays
    for key, value in expected.items():
        np.testing.assert_allclose(state[AVERAGED][key], value, rtol=1e-5, atol=1e-7, err_msg=key)
        assert state[AVERAGED][key].dtype == np.float32
    assert any((state[AVERAGED][key] != state["generators"][key]).any() for key in expected)
    assert set(state[AVERAGED]) == set(state["generators"])
    statistics = set(state["generators"]) - set(expected)
    assert bool(statistics) == (name == "pix2pix")
    assert all((state[AVERAGED][key] == state["generators"][key]).all() for key in statistics)


def test_averaging_and_samples_leave_the_training_as_it_is(trained):
    plain = build_method(type(trained.config)(**{**vars(trained.config), "ema": 0.0}))
    for seed in range(3):
        plain.step(batch(seed))
    for direction in trained.directions:
        translate_sample(trained, direction, Sample(batch()["real_A"][0]))
    for method in (plain, trained):
        method.step(batch(3))
    ours, theirs = trained.state().arrays, plain.state().arrays
    assert set(theirs) == set(PARTS) and set(ours) == {*PARTS, AVERAGED}
    for part in PARTS:
        assert set(ours[part]) == set(theirs[part])
        assert all((ours[part][key] == theirs[part][key]).all() for key in theirs[part]), part


def test_inference_has_the_averages_and_gives_the_trained_parameters_back(trained):
    before, arrays = parameters(trained), values(trained)
    averaged = trained.state().arrays[AVERAGED]
    with pytest.raises(KeyError), trained.inference():
        assert all((value == averaged[key]).all() for key, value in values(trained).items())
        assert not any(parameter is before[key] for key, parameter in parameters(trained).items())
        raise KeyError
    after = parameters(trained)
    assert list(after) == list(before) and all(after[key] is before[key] for key in before), "those that the optimizer updates"
    assert all((value == arrays[key]).all() for key, value in values(trained).items())


def test_samples_and_translations_are_those_of_the_averaged_generators(trained):
    state, image = trained.state(), batch(9)["real_A"][0]
    alone = {}
    for part in (AVERAGED, "generators"):
        alone[part] = build_method(trained.config, training=False)
        alone[part].restore_generators(type(state)({part: dict(state.arrays[part])}, state.meta))
    for direction in trained.directions:
        translated = trained.translate_image(direction, image)
        assert (translated == alone[AVERAGED].translate_image(direction, image)).all()
        assert (translated != alone["generators"].translate_image(direction, image)).any()
        grids = [strip(translate_sample(method, direction, Sample(image)).rows) for method in (trained, *alone.values())]
        assert (grids[0] == grids[1]).all() and (grids[0] != grids[2]).any()
    assert [method.weights for method in (trained, *alone.values())] == ["averaged", "averaged", "raw"]


# Runs

EMA = ["--ema", "0.9"]


@pytest.mark.parametrize("method", ["ugatit", *RUNS])
def test_killed_and_resumed_equals_uninterrupted(method, tmp_path):
    networks = TINY if method == "ugatit" else [*TINY_FLAGS, *RUNS[method]]
    # They also print at different times.
    runs, _ = straight_and_killed(tmp_path, method, [*networks, *EMA, "--sample_count", "1"], print_freqs=("4", "2"))
    straight = latest_bytes(runs[0])
    assert len(straight) == 4 and straight["averaged.safetensors"] != straight["generators.safetensors"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of Pix2Pix, whose test images have true counterparts."""
    tmp_path = tmp_path_factory.mktemp("averaged")
    draw_pairs(tmp_path / "data")
    often = ["--print_freq", "4", "--eval_freq", "4", "--keep_best", "l1", "--metrics", "l1", "--lr", "0.01"]
    arguments = ["--method", "pix2pix", *TINY_FLAGS, *EMA, *often, "--iteration", "4"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    return tmp_path


def of_run(tmp_path, *more):
    return flags(tmp_path, "--method", "pix2pix", *more)


def test_every_checkpoint_has_the_averages(finished):
    run = finished / "results" / "tiny" / "pix2pix"
    for path in (newest(run), find_checkpoint(run / "checkpoints" / "best")):
        assert sorted(file.name for file in path.iterdir()) == sorted(
            ["meta.json", *(f"{part}.safetensors" for part in (*PARTS, AVERAGED))]
        )
        assert set(load(path).meta["checksums"]) == {f"{part}.safetensors" for part in (*PARTS, AVERAGED)}


def test_each_phase_says_which_weights_it_used_and_keeps_them_apart(finished, capsys):
    run = finished / "results" / "tiny" / "pix2pix"
    in_training = json.loads((run / "evaluation.json").read_text())
    lines = read_metrics(run)
    assert in_training["weights"] == "averaged"
    best = str(run / "checkpoints" / "best")
    for more, name in (([], ""), (["--checkpoint", best], "_best")):
        for weights, suffix in (("averaged", ""), ("raw", "_raw")):
            chosen = [*more, *(["--weights", "raw"] if suffix else [])]
            capsys.readouterr()
            assert main.main(of_run(finished, "--phase", "test", *chosen)) == 0
            folder = run / f"test{name}{suffix}"
            assert f"translating with iteration 4 ({weights} weights) into {folder}" in capsys.readouterr().out
            assert json.loads((folder / "test.json").read_text())["weights"] == weights
            assert main.main(of_run(finished, "--phase", "evaluate", "--metrics", "l1", *chosen)) == 0
            assert f"iteration 4 ({weights} weights) of pix2pix" in capsys.readouterr().out
            found = json.loads((run / f"evaluation{name}{suffix}.json").read_text())
            assert found["weights"] == weights
            assert (found["scores"] == in_training["scores"]) == (weights == "averaged")
    assert (read_image(run / "test" / "A2B" / "0.png") != read_image(run / "test_raw" / "A2B" / "0.png")).any()
    assert read_metrics(run) == lines, "the scores of raw weights are not those that the run's log follows"


@pytest.mark.parametrize(
    "weights, part", [([], AVERAGED), (["--weights", "averaged"], AVERAGED), (["--weights", "raw"], "generators")]
)
def test_only_the_weights_in_use_are_read(finished, tmp_path, weights, part):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("meta.json", f"{part}.safetensors"):
        (copy / name).write_bytes((newest(finished / "results" / "tiny" / "pix2pix") / name).read_bytes())
    arguments = ["--phase", "test", "--checkpoint", str(copy), "--result_dir", str(tmp_path), *weights]
    assert main.main(of_run(finished, *arguments)) == 0


def test_a_run_without_ema(tmp_path, capsys):
    draw_pairs(tmp_path / "data")
    assert main.main(of_run(tmp_path, *TINY_FLAGS, "--iteration", "1")) == 0
    run = tmp_path / "results" / "tiny" / "pix2pix"
    assert sorted(latest_bytes(run)) == sorted(f"{part}.safetensors" for part in PARTS)
    capsys.readouterr()
    assert main.main(of_run(tmp_path, "--phase", "test", "--weights", "raw")) == 0
    assert f"translating with iteration 1 into {run / 'test'}\n" in capsys.readouterr().out
    assert json.loads((run / "test" / "test.json").read_text())["weights"] == "raw"
    for phase in ("test", "evaluate"):
        assert main.main(of_run(tmp_path, "--phase", phase, "--weights", "averaged")) == 2
        assert "--weights averaged" in capsys.readouterr().err


def test_a_damaged_file_of_averages_is_noticed(finished, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in newest(finished / "results" / "tiny" / "pix2pix").iterdir():
        (copy / file.name).write_bytes(file.read_bytes()[:-1] + b"!" if AVERAGED in file.name else file.read_bytes())
    for weights, exit_code in (([], 1), (["--weights", "raw"], 0)):
        arguments = ["--phase", "test", "--checkpoint", str(copy), "--result_dir", str(tmp_path), *weights]
        assert main.main(of_run(finished, *arguments)) == exit_code
    assert "averaged.safetensors: its bytes have changed" in capsys.readouterr().err
