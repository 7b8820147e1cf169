"""Winograd's convolutions: the minimal filters themselves, the shapes they are taken for, and float32 over the methods' shapes."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import onednn
import ops
import winograd

# (N, C, H, W), (out, C, k, k), padding, reflect: stride-1 convolutions of U-GAT-IT, CycleGAN and Pix2Pix at ch 16 to 64.
SHAPES = [
    ((2, 64, 16, 16), (64, 64, 3, 3), 1, True),
    ((1, 256, 32, 32), (256, 256, 3, 3), 1, True),
    ((2, 128, 16, 16), (256, 128, 4, 4), 1, True),
    ((1, 256, 32, 32), (512, 256, 4, 4), 1, False),
    ((4, 64, 16, 12), (64, 64, 3, 3), 1, False),
]


@pytest.mark.parametrize("taps", winograd.KERNELS)
def test_a_minimal_filter_filters(taps):
    outputs = winograd.POINTS_OF_TILE - taps + 1
    A, G, B = winograd.minimal_filter(outputs, taps)
    rng = np.random.default_rng(0)
    signal, kernel = rng.standard_normal(winograd.POINTS_OF_TILE), rng.standard_normal(taps)
    np.testing.assert_allclose(A.T @ ((G @ kernel) * (B @ signal)), np.correlate(signal, kernel, "valid"), rtol=1e-12)


def test_the_known_matrices_of_f43():
    _, G, B = winograd.minimal_filter(4, 3)
    np.testing.assert_array_equal(B[0], [4, 0, -5, 0, 1, 0])
    np.testing.assert_array_equal(B[-1], [0, 4, 0, -5, 0, 1])
    np.testing.assert_allclose(G[1], [-1 / 6] * 3, rtol=1e-15)


def values_and_gradients(function, arrays, gradient):
    x, weight = (paddle.to_tensor(array, stop_gradient=False) for array in arrays)
    out = function(x, weight)
    out.backward(paddle.to_tensor(gradient))
    return out.numpy(), x.grad.numpy(), weight.grad.numpy()


@pytest.mark.parametrize("x, weight, padding, reflect", SHAPES)
def test_float32_equals_the_plain_form_up_to_rounding(x, weight, padding, reflect):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (x, weight)]
    out = [side + 2 * padding - weight[2] + 1 for side in x[2:]]
    gradient = rng.standard_normal((x[0], weight[0], *out)).astype(np.float32)
    ours = values_and_gradients(lambda x, w: winograd.conv2d(x, w, padding, reflect), arrays, gradient)
    plain = values_and_gradients(lambda x, w: ops.plain_conv2d(x, w, None, 1, padding, reflect), arrays, gradient)
    for value, expected in zip(ours, plain):
        assert np.abs(value - expected).max() < 5e-5 * np.abs(expected).max()


@pytest.mark.skipif(not onednn.available(), reason="without oneDNN Winograd's form is never taken")
def test_which_convolutions_take_it():
    def suits(batch, channels, side, out_channels, kernel):
        return winograd.suits(
            paddle.zeros([batch, channels, side, side]), paddle.zeros([out_channels, channels, kernel, kernel]), 1
        )

    assert suits(2, 256, 32, 256, 3) and suits(1, 64, 16, 64, 3) and suits(2, 256, 16, 512, 4)
    assert not suits(2, 1024, 4, 2048, 4), "few tiles: the weights outweigh the maps"
    assert not suits(2, 3, 64, 3, 3), "few channels: the passes over the maps outweigh the products"
    assert not suits(2, 64, 64, 64, 7) and not suits(2, 64, 64, 64, 1)


def test_only_the_gradients_that_are_needed():
    x, weight = paddle.randn([1, 8, 16, 16]), paddle.randn([8, 8, 3, 3])
    weight.stop_gradient = False
    winograd.conv2d(x, weight, 1, True).sum().backward()
    assert x.grad is None and weight.grad is not None
    x.stop_gradient, weight.stop_gradient = False, True
    winograd.conv2d(x, weight, 1, True).sum().backward()
    assert x.grad is not None
