"""Passes that are computed again (--recompute): the same training in less memory."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import main
from config import CONFIGS
from methods import build_method
from tests.helpers import TINY, draw_dataset, flags, latest_bytes

SETTINGS = {
    "ugatit": dict(light=True, img_size=32, ch=4, n_res=1, n_dis=4),
    "ugatit without a CAM": dict(light=True, img_size=32, ch=4, n_res=1, n_dis=4, no_generator_cam=True),
    "cyclegan": dict(img_size=32, ch=4, n_blocks=1, n_layers_D=1, iteration=9),
    "cyclegan with batch norm": dict(img_size=32, ch=4, n_blocks=1, n_layers_D=1, iteration=9, norm="batch"),
    "pix2pix": dict(img_size=32, ch=4, n_layers_D=1, iteration=9),  # batch norm and dropout
}


def trained(name, recompute):
    """The losses of the second step, and all of the networks after it."""
    method = build_method(CONFIGS[name.split()[0]](method=name.split()[0], recompute=recompute, **SETTINGS[name]))
    rng = np.random.default_rng(0)
    for _ in range(2):
        losses = method.step({domain: rng.uniform(-1, 1, (2, 3, 32, 32)).astype("float32") for domain in ("real_A", "real_B")})
    return losses, {key: value.numpy() for network in method.networks.values() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_training_is_the_same(name):
    (losses, state), (expected_losses, expected) = trained(name, True), trained(name, False)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    for key, value in expected.items():
        # Adam's first steps are as long for a gradient that is rounding alone, as of a bias before an instance norm.
        np.testing.assert_allclose(state[key], value, atol=5e-4, err_msg=key)
    moved = [np.abs(state[key] - value).max() for key, value in expected.items()]
    assert np.median(moved) < 1e-6


def test_it_takes_less_memory():
    peaks = {}
    for recompute in (False, True):
        settings = {**SETTINGS["cyclegan"], "img_size": 64, "ch": 8, "n_blocks": 2}
        method = build_method(CONFIGS["cyclegan"](method="cyclegan", recompute=recompute, **settings))
        batch = {domain: np.zeros((1, 3, 64, 64), "float32") for domain in ("real_A", "real_B")}
        method.step(batch)
        before = paddle.base.core.host_memory_stat_current_value("Allocated", 0)
        paddle.base.core.host_memory_stat_reset_peak_value("Allocated", 0)
        method.step(batch)
        peaks[recompute] = paddle.base.core.host_memory_stat_peak_value("Allocated", 0) - before
    assert peaks[True] < 0.6 * peaks[False]


def test_inference_is_not_recomputed():
    method = build_method(CONFIGS["cyclegan"](method="cyclegan", recompute=True, **SETTINGS["cyclegan"]))
    image = np.zeros((3, 32, 32), "float32")
    plain = build_method(CONFIGS["cyclegan"](method="cyclegan", **SETTINGS["cyclegan"]))
    assert (method.translate_image("A2B", image) == plain.translate_image("A2B", image)).all()


def test_a_run_may_change_to_it_and_resumes_exactly(tmp_path):
    draw_dataset(tmp_path / "data")
    runs = [tmp_path / "straight", tmp_path / "resumed"]
    for run, lengths in zip(runs, (["4"], ["2", "4"])):
        for number, length in enumerate(lengths):
            where = [*flags(tmp_path), "--result_dir", str(run), "--recompute", "--iteration", length, "--decay_flag", "false"]
            assert main.main([*where, *(["--resume"] if number else TINY)]) == 0
    first, second = (latest_bytes(run / "tiny" / "ugatit") for run in runs)
    assert first == second
    assert main.main([*flags(tmp_path), "--result_dir", str(runs[0]), "--resume", "--recompute", "false", "--iteration", "5"]) == 0
