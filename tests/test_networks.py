"""The networks against the papers' definitions written out plainly, and their sizes."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from config import smallest_image
from layers import ILN, AdaLIN, SpectralNormConv2D, SpectralNormLinear, clip_rho
from networks import CAM, Discriminator, ResnetGenerator


def test_parameter_counts_are_the_authors():
    """Counted on their networks with PyTorch, ch 64, 256x256; the full generator's MLP alone has 268 million."""
    counts = {
        "light": sum(p.size for p in ResnetGenerator(light=True).parameters()),
        "global": sum(p.size for p in Discriminator(n_layers=7).parameters()),
        "local": sum(p.size for p in Discriminator(n_layers=5).parameters()),
        "full": sum(p.size for p in ResnetGenerator(ch=8, img_size=64).parameters()),
    }
    assert counts == {"light": 10589888, "global": 53130176, "local": 3290560, "full": 429016}


@pytest.mark.parametrize("light", [True, False])
@pytest.mark.parametrize("img_ch, size", [(3, 32), (1, 24), (4, 8)])
def test_generator_shapes(light, img_ch, size):
    network = ResnetGenerator(img_ch, ch=2, n_res=1, img_size=size, light=light)
    image, cam_logit, heatmap = network(paddle.randn([2, img_ch, size, size]))
    assert image.shape == [2, img_ch, size, size] and float(image.abs().max()) <= 1
    assert cam_logit.shape == [2, 2] and heatmap.shape == [2, 1, size // 4, size // 4]


@pytest.mark.parametrize("n_layers", [3, 5, 7])
def test_discriminator_takes_its_smallest_image_and_none_smaller(n_layers):
    network, side = Discriminator(3, 2, n_layers), smallest_image(n_layers)
    logit, cam_logit, heatmap = network(paddle.randn([2, 3, side, side]))
    assert logit.shape == [2, 1, 1, 1] and cam_logit.shape == [2, 2] and heatmap.shape == [2, 1, 2, 2]
    with pytest.raises(ValueError, match="reflect pad of 1"):
        network(paddle.randn([2, 3, side * 2 // 3, side * 2 // 3]))


def test_wrong_images_are_refused_with_what_arrived():
    with pytest.raises(ValueError, match=r"\(N, 3, 32, 32\), not \[1, 3, 36, 36\]"):
        ResnetGenerator(ch=2, n_res=1, img_size=32)(paddle.zeros([1, 3, 36, 36]))
    with pytest.raises(ValueError, match="multiples of 4"):
        ResnetGenerator(ch=2, n_res=1, light=True)(paddle.zeros([1, 3, 30, 30]))
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        Discriminator(3, 2, 5)(paddle.zeros([1, 1, 32, 32]))
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        AdaLIN(4)(paddle.zeros([1, 4, 3, 3]), paddle.zeros([1, 3]), paddle.zeros([1, 4]))


def test_adalin_is_instance_norm_at_rho_1_and_layer_norm_at_rho_0():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype("float32") * 3 + 1
    layer, ones, zeros = AdaLIN(3), paddle.ones([2, 3]), paddle.zeros([2, 3])
    assert (layer.rho.numpy() == np.float32(0.9)).all()
    for rho, axes in ((1.0, (2, 3)), (0.0, (1, 2, 3))):
        layer.rho.set_value(np.full((1, 3, 1, 1), rho, "float32"))
        expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True, ddof=1) + 1e-5)
        np.testing.assert_allclose(layer(paddle.to_tensor(x), ones, zeros).numpy(), expected, atol=1e-5)


def test_iln_starts_as_layer_norm_and_each_image_is_normalized_alone():
    x = paddle.randn([3, 4, 5, 5])
    layer = ILN(4)
    alone = paddle.concat([layer(image) for image in x.split(3)])
    np.testing.assert_allclose(layer(x).numpy(), alone.numpy(), atol=1e-6)
    assert float(alone[0].mean().abs()) < 1e-5


def test_clip_rho_keeps_it_in_0_to_1():
    network = ResnetGenerator(ch=2, n_res=1, img_size=16, light=True)
    network.UpBlock1[0].norm1.rho.set_value(np.full((1, 8, 1, 1), 1.5, "float32"))
    network.UpBlock2[1].rho.set_value(np.full((1, 4, 1, 1), -0.5, "float32"))
    clip_rho(network)
    assert (network.UpBlock1[0].norm1.rho.numpy() == 1).all() and (network.UpBlock2[1].rho.numpy() == 0).all()


@pytest.mark.parametrize("layer, matrix", [
    (lambda: SpectralNormConv2D(3, 5, 4), lambda w: w.reshape(5, -1)),
    (lambda: SpectralNormLinear(6, 4), lambda w: w.T),
])  # fmt: skip
def test_spectral_norm_divides_by_the_largest_singular_value(layer, matrix):
    layer = layer()
    shape = [1, 3, 8, 8] if isinstance(layer, SpectralNormConv2D) else [1, 6]
    for _ in range(100):
        layer(paddle.randn(shape))
    weight = layer.weight_orig.numpy()
    largest = np.linalg.svd(matrix(weight), compute_uv=False)[0]
    product = paddle.to_tensor(matrix(weight) @ layer.weight_v.numpy())
    assert float(layer._sigma(product)) == pytest.approx(largest, rel=1e-4)
    layer.eval()
    before = layer.weight_u.numpy()
    first = layer(paddle.ones(shape)).numpy()
    assert (layer.weight_u.numpy() == before).all(), "evaluation leaves the vectors alone"
    bias = 0 if getattr(layer, "bias", None) is None else layer.bias.numpy().reshape(1, -1, 1, 1)
    layer.weight_orig.set_value(weight * 7)
    np.testing.assert_allclose(layer(paddle.ones(shape)).numpy() - bias, first - bias, rtol=1e-4, atol=1e-6)


def test_spectral_norm_gradient_is_that_of_the_divided_weight():
    layer = SpectralNormConv2D(2, 3, 3, bias=False)
    x = paddle.randn([2, 2, 5, 5])
    layer(x).square().sum().backward()
    ours = layer.weight_orig.grad.numpy()
    weight = layer.weight_orig.detach()
    weight.stop_gradient = False
    sigma = paddle.dot(layer.weight_u, paddle.matmul(weight.flatten(1), layer.weight_v.unsqueeze(1)).flatten())
    paddle.nn.functional.conv2d(x, weight / sigma).square().sum().backward()
    np.testing.assert_allclose(ours, weight.grad.numpy(), rtol=1e-3, atol=1e-5)


def test_cam_of_a_discriminator_multiplies_features_by_raw_weights():
    cam = CAM(3, paddle.nn.Identity(), spectral=True)
    x = paddle.randn([2, 3, 4, 4])
    features, _, heatmap = cam(x)
    raw = [fc.weight_orig.flatten().numpy().reshape(1, 3, 1, 1) for fc in (cam.gap_fc, cam.gmp_fc)]
    joined = np.concatenate([x.numpy() * weight for weight in raw], 1)
    kernel = cam.conv1x1.weight.numpy()[:, :, 0, 0]
    expected = np.einsum("oc,nchw->nohw", kernel, joined) + cam.conv1x1.bias.numpy().reshape(1, 3, 1, 1)
    np.testing.assert_allclose(features.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(heatmap.numpy(), expected.sum(1, keepdims=True), atol=1e-5)


def test_initial_weights_are_pytorch_defaults():
    weight = Discriminator(3, 16, 5).model[2].weight_orig.numpy()
    bound = 1 / math.sqrt(16 * 16)
    assert np.abs(weight).max() <= bound and weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
