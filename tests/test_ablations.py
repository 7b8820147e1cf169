"""The ablations of U-GAT-IT's table 1: each norm against its definition, parameter counts, and training without CAMs."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import main
from config import UGATITConfig
from layers import ILN, AdaLIN, GroupNorm
from networks import Discriminator, ResnetGenerator
from tests.helpers import TINY, draw_dataset, flags, read_metrics, run_folder
from UGATIT import UGATIT
from utils import read_image

CH, N_RES = 4, 2
WIDTH = 4 * CH


def generator(**options):
    paddle.seed(0)
    return ResnetGenerator(3, CH, N_RES, 24, light=True, **options)


def count(network):
    return sum(int(parameter.size) for parameter in network.parameters())


def values(*shape):
    return np.random.default_rng(0).normal(1, 2, shape).astype(np.float32)


def normalized(x, axes, ddof=0):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True, ddof=ddof) + 1e-5)


@pytest.mark.parametrize("groups, definition", [
    (6, lambda x: normalized(x, (2, 3))),
    (1, lambda x: normalized(x, (1, 2, 3))),
    (2, lambda x: np.concatenate([normalized(x[:, :3], (1, 2, 3)), normalized(x[:, 3:], (1, 2, 3))], 1)),
], ids=["in", "ln", "gn"])  # fmt: skip
def test_instance_layer_and_group_norm_by_their_definitions(groups, definition):
    x, weight, bias = values(2, 6, 5, 4), values(6), values(6) + 1
    layer = GroupNorm(6, groups)
    layer.weight.set_value(weight)
    layer.bias.set_value(bias)
    expected = definition(x) * weight.reshape(1, 6, 1, 1) + bias.reshape(1, 6, 1, 1)
    np.testing.assert_allclose(layer(paddle.to_tensor(x)).numpy(), expected, atol=2e-5)


def test_adain_is_instance_norm_styled_by_gamma_and_beta():
    x, gamma, beta = values(2, 6, 5, 4), values(2, 6), values(2, 6) + 1
    layer = AdaLIN(6, learn_rho=False)
    out = layer(*(paddle.to_tensor(array) for array in (x, gamma, beta))).numpy()
    expected = normalized(x, (2, 3), ddof=1) * gamma[:, :, None, None] + beta[:, :, None, None]
    np.testing.assert_allclose(out, expected, atol=2e-5)
    assert not layer.parameters() and not layer.state_dict()
    upsampling = ILN(6, learn_rho=False)
    np.testing.assert_allclose(upsampling(paddle.to_tensor(x)).numpy(), normalized(x, (2, 3), ddof=1), atol=2e-5)


def test_parameter_counts():
    """Against AdaLIN: a rho in each of the 2 N_RES + 2 norms, and the MLP of four WIDTH x WIDTH matrices."""
    full = count(generator())
    rhos = 2 * N_RES * WIDTH + 2 * CH + CH
    assert full - count(generator(decoder_norm="adain")) == rhos
    mlp, own_affine = 4 * WIDTH**2, 2 * N_RES * 2 * WIDTH
    for norm in ("in", "ln", "gn"):
        assert full - count(generator(decoder_norm=norm)) == rhos + mlp - own_affine
    # A CAM is two classifiers of WIDTH weights and a 1x1 convolution from 2 WIDTH to WIDTH.
    assert full - count(generator(cam=False)) == 2 * WIDTH + 2 * WIDTH * WIDTH + WIDTH
    last = 8 * CH
    cam = 2 * last + 2 * last * last + last
    assert count(Discriminator(3, CH, 5)) - count(Discriminator(3, CH, 5, cam=False)) == cam


@pytest.mark.parametrize("norm, groups", [("in", WIDTH), ("ln", 1), ("gn", 8)])
def test_the_upsampling_norms_follow(norm, groups):
    network = generator(decoder_norm=norm)
    norms = [layer for layer in network.sublayers() if isinstance(layer, GroupNorm)]
    assert len(norms) == 2 * N_RES + 2 and not any(isinstance(layer, (AdaLIN, ILN)) for layer in network.sublayers())
    assert norms[0].groups == groups
    assert all(layer.weight.shape[0] % layer.groups == 0 for layer in norms)


def test_group_norm_has_the_paper_s_32_groups_at_full_width():
    paddle.seed(0)
    network = ResnetGenerator(3, 64, 1, 64, light=True, decoder_norm="gn")
    assert [layer.groups for layer in network.sublayers() if isinstance(layer, GroupNorm)] == [32] * 4


def test_without_its_cam_a_generator_passes_features_on():
    network = generator(cam=False)
    x = paddle.randn([1, 3, 24, 24])
    image, cam_logit, heatmap = network(x)
    assert cam_logit is None and heatmap is None
    features = network.DownBlock(x)
    gamma, beta = network._style(features)
    for block in network.UpBlock1:
        features = block(features, gamma, beta)
    np.testing.assert_array_equal(image.numpy(), network.UpBlock2(features).numpy())


@pytest.mark.parametrize("options, absent", [
    ({"decoder_norm": "adain"}, ()),
    ({"decoder_norm": "in"}, ()),
    ({"decoder_norm": "ln"}, ()),
    ({"decoder_norm": "gn"}, ()),
    ({"no_generator_cam": True}, ("G_cam_A", "G_cam_B")),
    ({"no_discriminator_cam": True}, ("G_cam_adv_", "D_cam_")),
    ({"no_generator_cam": True, "no_discriminator_cam": True}, ("cam",)),
])  # fmt: skip
def test_every_parameter_is_trained_and_only_the_right_losses_remain(options, absent):
    config = UGATITConfig(img_size=24, n_dis=4, ch=2, n_res=1, light=True, **options)
    method = UGATIT(config)
    before = {name: parameter.numpy() for name, parameter in named_parameters(method)}
    rng = np.random.default_rng(0)
    losses = method.step({f"real_{d}": rng.standard_normal((1, 3, 24, 24)).astype(np.float32) for d in "AB"})
    still = [name for name, parameter in named_parameters(method) if (parameter.numpy() == before[name]).all()]
    # An upsampling rho starts at 0 and may be clipped there.
    assert not [name for name in still if not name.endswith("rho")]
    assert not [name for name in losses if any(word in name for word in absent)]
    full = UGATIT(UGATITConfig(img_size=24, n_dis=4, ch=2, n_res=1, light=True))
    everything = full.step({f"real_{d}": rng.standard_normal((1, 3, 24, 24)).astype(np.float32) for d in "AB"})
    assert set(losses) == {name for name in everything if not any(word in name for word in absent)}


def named_parameters(method):
    return [(f"{name}.{key}", value) for name, network in method.networks.items() for key, value in network.named_parameters()]


@pytest.mark.parametrize("ablation, rows", [
    (["--decoder_norm", "in"], 7),
    (["--decoder_norm", "adain"], 7),
    (["--no_generator_cam", "--no_discriminator_cam"], 4),
])  # fmt: skip
def test_an_ablation_trains_resumes_and_translates(ablation, rows, tmp_path, capsys):
    draw_dataset(tmp_path / "data")
    often = ["--print_freq", "1", "--checkpoint_freq", "1"]
    assert main.main(flags(tmp_path, *TINY, *ablation, *often, "--iteration", "1")) == 0
    assert main.main(flags(tmp_path, "--resume", "--iteration", "2")) == 0
    assert main.main(flags(tmp_path, "--phase", "test")) == 0
    run = run_folder(tmp_path)
    assert [line["iteration"] for line in read_metrics(run)] == [1, 2]

    assert read_image(run / "test" / "grid" / "A2B" / "0.png").shape == (rows * 24, 24, 3)
    capsys.readouterr()
    assert main.main(flags(tmp_path, "--phase", "test", "--decoder_norm", "ln")) == 2
    assert "--decoder_norm ln" in capsys.readouterr().err
