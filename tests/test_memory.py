"""The estimate of a training's memory (--dry_run) against steps at the true size, and the figures of its parts."""

from __future__ import annotations

import re

import pytest

import main
from config import CONFIGS
from engine.memory import OVERHEAD, PROCESS, estimate_peak, peak_of_a_step
from methods import build_method

SETTINGS = {
    "ugatit, light, two images": dict(light=True, img_size=112, ch=2, n_res=1, n_dis=4, batch_size=2),
    "ugatit, full": dict(img_size=112, ch=2, n_res=1, n_dis=4),
    "cyclegan, recomputed, averaged": dict(img_size=128, ch=4, n_blocks=1, n_layers_D=2, iteration=9, recompute=True, ema=0.9),
    "pix2pix, twelve images": dict(img_size=64, ch=8, iteration=9, batch_size=12),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_on_small_images_tell_the_peak_of_a_large_one(name):
    method = name.split(",")[0]
    config = CONFIGS[method](method=method, **SETTINGS[name])
    measured = peak_of_a_step(config, build_method)
    assert estimate_peak(config, build_method) == pytest.approx(PROCESS + OVERHEAD * measured, rel=0.02)


@pytest.mark.parametrize("extra, bytes_more", [({}, 0), ({"ema": 0.9}, 4)])
def test_each_parameter_has_its_bytes(extra, bytes_more):
    """Weight, gradient and two moments; an averaged one more for each of the generators. The maps of 24x24 images hardly count."""
    config = CONFIGS["ugatit"](light=True, img_size=24, ch=32, n_res=1, n_dis=4, **extra)
    networks = build_method(config)
    generators, discriminators = (
        sum(parameter.size for network in group.values() for parameter in network.parameters())
        for group in (networks.generators, networks.discriminators)
    )
    least = 12 * (generators + discriminators) + 4 * discriminators + bytes_more * generators
    assert least < peak_of_a_step(config, build_method) < 2 * least


def test_a_dry_run_prints_it(capsys):
    where = ["--dataset", "none", "--device", "cpu", "--method", "cyclegan", "--ch", "2", "--dry_run", "--lr", "1e30"]
    found = {}
    for side in ("64", "400"):
        assert main.main([*where, "--img_size", side]) == 0
        found[side] = float(re.search(r"^memory +about ([0-9.]+) GiB", capsys.readouterr().out, re.MULTILINE)[1])
    assert PROCESS / 2**30 < found["64"] < found["400"]
