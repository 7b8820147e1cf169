"""The training step: what receives gradients, what is computed once, and the schedule."""

from __future__ import annotations

from functools import partial

import numpy as np
import paddle
import pytest

import ops
from config import UGATITConfig
from engine.schedule import linear_decay
from UGATIT import UGATIT


def tiny(**changes) -> UGATIT:
    return UGATIT(UGATITConfig(**{**dict(dataset="x", img_size=24, n_dis=4, ch=2, n_res=1, light=True), **changes}))


def batch(size: int = 1, side: int = 24):
    rng = np.random.default_rng(0)
    return {name: rng.uniform(-1, 1, (size, 3, side, side)).astype("float32") for name in ("real_A", "real_B")}


@pytest.mark.parametrize("form", ops.FORMS)
@pytest.mark.parametrize("light", [True, False])
def test_each_update_gives_gradients_to_its_own_networks_alone_and_to_all_of_them(light, form):
    method = tiny(light=light)
    updated = {"D": {"disGA", "disGB", "disLA", "disLB"}, "G": {"genA2B", "genB2A"}}
    seen = []

    def check(name):
        seen.append(name)
        for network, layer in method.networks.items():
            for key, parameter in layer.named_parameters():
                has_gradient = parameter.grad is not None and bool((parameter.grad != 0).any())
                # A bias before a normalization would get none, but these networks have no such bias.
                assert has_gradient == (network in updated[name]), f"{network}.{key} in the update of {name}"
        steps[name]()

    steps = {name: optimizer.step for name, optimizer in method.optimizers.items()}
    for name, optimizer in method.optimizers.items():
        optimizer.step = partial(check, name)
    with ops.using(form):
        method.step(batch())
    assert seen == ["D", "G"], "the discriminators come first"
    assert all(not parameter.stop_gradient for layer in method.networks.values() for parameter in layer.parameters())


def test_each_generator_sees_its_real_images_once_and_evaluation_builds_no_graph():
    method = tiny()
    method.set_training(True)
    images = []
    for generator in method.generators.values():
        generator.register_forward_pre_hook(lambda layer, inputs: images.append(inputs[0].shape[0]))
    method.step(batch())
    assert sorted(images) == [1, 1, 2, 2], "source and target together, then the fake"
    outputs = []
    method.genA2B.register_forward_post_hook(lambda layer, inputs, result: outputs.append(result.image.stop_gradient))
    method.translate_image("A2B", batch()["real_A"][0])
    assert outputs == [True]


def test_a_batch_of_two_is_the_mean_of_its_images():
    """Every normalization is per image, so the losses of a batch are the means of those of its images."""
    data = batch(2)
    results = []
    for images in (slice(0, 2), slice(0, 1), slice(1, 2)):
        method = tiny(batch_size=1)
        method.set_training(False)  # keeps the spectral-norm vectors as they are
        results.append(method.train_step({name: paddle.to_tensor(array[images]) for name, array in data.items()}))
    for name in ("D_adv_GA", "D_cam_LB", "G_cycle_A", "G_identity_B", "D_total"):
        both, first, second = (float(result[name]) for result in results)
        assert both == pytest.approx((first + second) / 2, rel=1e-4), name


def test_totals_are_the_weighted_sums():
    method = tiny(adv_weight=2.0, cycle_weight=3.0, identity_weight=5.0, cam_weight=7.0)
    losses = method.step(batch())
    adversarial = sum(v for k, v in losses.items() if k.startswith(("G_adv", "G_cam_adv")))
    parts = {kind: losses[f"G_{kind}_A"] + losses[f"G_{kind}_B"] for kind in ("cycle", "identity", "cam")}
    expected = 2 * adversarial + 3 * parts["cycle"] + 5 * parts["identity"] + 7 * parts["cam"]
    assert losses["G_total"] == pytest.approx(expected, rel=1e-5)
    judged = sum(v for k, v in losses.items() if k.startswith(("D_adv", "D_cam")))
    assert losses["D_total"] == pytest.approx(2 * judged, rel=1e-5)


def test_training_lowers_the_cycle_loss():
    method = tiny(ch=4, lr=0.002, decay_flag=False)
    method.set_training(True)
    y, x = np.mgrid[-1:1:24j, -1:1:24j].astype("float32")
    data = {"real_A": np.stack([x, y, x * y])[None], "real_B": np.stack([-x, x * y, y])[None]}
    losses = [method.step(data)["G_cycle_A"] for _ in range(80)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize("total", [1, 2, 9, 10, 1000])
def test_the_rate_is_the_authors_repeated_subtraction(total):
    rate = 1.0
    for iteration in range(1, total + 1):
        if iteration > total // 2 and total // 2 and total % 2 == 0:
            rate -= 1 / (total // 2)
            assert linear_decay(iteration, total) == pytest.approx(rate, abs=1e-9)
        assert 0 <= linear_decay(iteration, total) <= 1
    assert linear_decay(total, total) == 0


def test_rates_reach_the_optimizers():
    method = tiny(iteration=4, lr=0.5)
    rates = []
    for _ in range(4):
        method.step(batch())
        rates.append([optimizer.get_lr() for optimizer in method.optimizers.values()])
    assert rates == [[0.5, 0.5], [0.5, 0.5], [0.25, 0.25], [0.0, 0.0]]


def test_adam_has_the_authors_settings():
    for optimizer in tiny().optimizers.values():
        assert (optimizer._beta1, optimizer._beta2) == (0.5, 0.999)
        assert optimizer.regularization._coeff == pytest.approx(1e-4)
