"""--init_from: a new run that starts from the networks of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import main
from config import AVERAGED, CycleGANConfig, Pix2PixConfig, UGATITConfig
from engine.checkpoint import load, read_meta
from engine.run import open_networks
from errors import CheckpointError, ConfigError
from methods import build_method
from tests.helpers import TINY, draw_dataset, flags, newest, read_metrics, run_folder
from tools import import_weights

GOLDEN = Path(__file__).parent / "golden"
SIZES = dict(dataset="x", img_size=32, ch=2, iteration=10, lr=0.01, device="cpu")
CONFIGS = {
    "ugatit": UGATITConfig(**SIZES, n_dis=4, n_res=1, light=True),
    "cyclegan": CycleGANConfig(**SIZES, n_blocks=1),
    "pix2pix": Pix2PixConfig(**SIZES),
}


def replaced(config, **changes):
    return type(config)(**{**vars(config), **changes})


def state_of(networks):
    return {f"{name}.{key}": value.numpy() for name, network in networks.items() for key, value in network.state_dict().items()}


@pytest.fixture(params=CONFIGS)
def trained(request):
    """A method with averages after two iterations."""
    method = build_method(replaced(CONFIGS[request.param], ema=0.5))
    for _ in range(2):
        method.step(
            {name: np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 32)).astype("float32") for name in ("real_A", "real_B")}
        )
    return method


def test_a_new_run_takes_over_the_networks_and_nothing_else(trained):
    checkpoint, config = trained.state(), replaced(trained.config, ema=0.9, seed=1)
    checkpoint.arrays = {AVERAGED: checkpoint.arrays[AVERAGED], "discriminators": checkpoint.arrays["discriminators"]}
    method = build_method(config)
    assert method.start_from(checkpoint) == ", ".join(method.networks)
    averaged = state_of(method.generators)
    with trained._averaged():
        expected = state_of(trained.generators)
    assert all(np.array_equal(averaged[key], value) for key, value in expected.items())
    discriminators = state_of(method.discriminators)
    assert all(np.array_equal(discriminators[key], value) for key, value in state_of(trained.discriminators).items())
    with method._averaged():
        assert all(np.array_equal(value, expected[key]) for key, value in state_of(method.generators).items()), "the averages too"
    fresh = build_method(config).state()
    assert method.iteration == 0 and method.state().arrays["optimizer"].keys() == fresh.arrays["optimizer"].keys()


@pytest.mark.parametrize("name, changes, words", [
    ("ugatit", dict(ch=4, img_size=64), "--img_size 64 (there 32), --ch 4 (there 2)"),
    ("ugatit", dict(light=False), "--light False (there True)"),
    ("ugatit", dict(decoder_norm="gn"), "--decoder_norm gn (there adalin)"),
    ("cyclegan", dict(norm="none"), "--norm none (there instance)"),
    ("cyclegan", dict(n_blocks=2), "--n_blocks 2 (there 1)"),
    ("cyclegan", dict(n_layers_D=2), "--n_layers_D 2 (there 3)"),
    ("pix2pix", dict(img_size=64), "--img_size 64 (there 32)"),
    ("pix2pix", dict(netG="resnet"), "--netG resnet (there unet)"),
])  # fmt: skip
def test_other_networks_are_named(name, changes, words):
    checkpoint = build_method(CONFIGS[name]).state()
    checkpoint.arrays.pop("optimizer")
    config = replaced(CONFIGS[name], init_from="there", **changes)
    with pytest.raises(ConfigError) as raised:
        build_method(config).start_from(checkpoint)
    assert str(raised.value) == f"--init_from there: other networks: {words}"


@pytest.mark.parametrize("name, changes", [
    ("ugatit", dict(img_size=64)), ("cyclegan", dict(img_size=64)), ("pix2pix", dict(dropout=False, direction="BtoA")),
])  # fmt: skip
def test_what_the_networks_do_not_depend_on_may_differ(name, changes):
    checkpoint = build_method(CONFIGS[name]).state()
    checkpoint.arrays.pop("optimizer")
    assert build_method(replaced(CONFIGS[name], **changes)).start_from(checkpoint).startswith("G" if name != "ugatit" else "gen")


# By the command


def test_from_a_run_to_a_new_run(tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    first = flags(tmp_path, *TINY, "--iteration", "2", "--ema", "0.5")
    assert main.main(first) == 0
    there = newest(run_folder(tmp_path))
    second = [
        *first[:4],
        "--result_dir",
        str(tmp_path / "second"),
        "--device",
        "cpu",
        *TINY,
        "--init_from",
        str(run_folder(tmp_path)),
    ]
    assert main.main([*second, "--iteration", "1", "--lr", "1e-30"]) == 0
    said = capsys.readouterr().out
    assert f"starting from {run_folder(tmp_path)}: genA2B, genB2A, disGA, disGB, disLA, disLB\n" in said
    run = tmp_path / "second" / "tiny" / "ugatit"
    assert json.loads((run / "config.json").read_text())["init_from"] == str(run_folder(tmp_path))
    started, averaged = load_file(newest(run) / "generators.safetensors"), load_file(there / "averaged.safetensors")
    assert all(np.array_equal(started[key], value) for key, value in averaged.items()), "with a rate of nothing they stay"
    assert read_meta(newest(run))["iteration"] == 1

    assert main.main([*second[:-2], "--resume", "--iteration", "3", "--print_freq", "1"]) == 0, "the record does no harm"
    assert [line["iteration"] for line in read_metrics(run) if "lr" in line] == [2, 3]
    moved = load_file(newest(run) / "generators.safetensors")
    assert not any("starting" in line for line in capsys.readouterr().out.splitlines()) and moved.keys() == started.keys()


def test_from_imported_weights_of_one_direction(tmp_path, capsys):
    draw_dataset(tmp_path / "data", size=32)
    weights = tmp_path / "weights"
    assert import_weights.main([str(GOLDEN / "cyclegan_latest_net_G_A.pth"), "--output", str(weights)]) == 0
    arguments = flags(tmp_path, "--method", "cyclegan", "--ch", "2", "--img_size", "32", "--n_layers_D", "1", "--iteration", "1")
    assert main.main([*arguments, "--init_from", str(weights)]) == 2
    assert "--n_blocks None (there 9)" in capsys.readouterr().err and not (tmp_path / "results").exists()
    assert main.main([*arguments, "--n_blocks", "9", "--init_from", str(weights), "--lr", "1e-30"]) == 0
    assert f"starting from {weights}: G_A; anew: G_B, D_A, D_B\n" in capsys.readouterr().out
    trained = load_file(newest(tmp_path / "results" / "tiny" / "cyclegan") / "generators.safetensors")
    given = load_file(weights / "generators.safetensors")
    assert all(np.allclose(trained[key], value, rtol=0, atol=1e-20) for key, value in given.items())
    assert len(trained) == 2 * len(given)


def test_commands_that_cannot_be_followed(tmp_path, capsys):
    draw_dataset(tmp_path / "data", size=32)
    where = flags(tmp_path, *TINY, "--iteration", "1")
    for more, exit_code, words in [
        (["--init_from", str(tmp_path)], 1, f"--init_from: {tmp_path} is not a checkpoint folder"),
        (["--init_from", str(tmp_path), "--resume"], 2, "leave one of them out"),
        (["--init_from", str(tmp_path), "--phase", "test"], 2, "--init_from is for --phase train"),
    ]:
        if "--resume" in more:
            assert main.main(where) == 0
        assert main.main([*where, *more]) == exit_code
        said = capsys.readouterr().err.splitlines()[-1]
        assert words in said
    with pytest.raises(ConfigError, match="was made by --method ugatit"):
        open_networks(run_folder(tmp_path), "--init_from", "cyclegan")


def test_a_run_without_one_of_its_parts_is_not_loaded_whole(tmp_path):
    assert import_weights.main([str(GOLDEN / "ugatit_light_params_latest.pt"), "--output", str(tmp_path / "weights")]) == 0
    with pytest.raises(CheckpointError, match="weights has no optimizer: a new run can start from it, with --init_from"):
        load(tmp_path / "weights")
    assert list(load(tmp_path / "weights", parts=["generators"]).arrays) == ["generators"]
