"""Each fast operation against its plain form: values and gradients, in double precision, on every path it can take."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import ops

# Shapes are chosen so that every branch is taken: tiny maps, few output channels, Winograd's form and its leftover tiles.
CASES = [
    ("reflect_pad", [(2, 3, 6, 5)], {"pad": 1}),
    ("reflect_pad", [(1, 2, 5, 6)], {"pad": 3}),
    ("reflect_pad", [(1, 2, 4, 2)], {"pad": 1}),
    ("conv2d", [(2, 3, 12, 12), (4, 3, 3, 3), (4,)], {"stride": 2}),
    ("conv2d", [(2, 3, 6, 6), (4, 3, 3, 3), (4,)], {}),
    ("conv2d", [(3, 3, 6, 6), (4, 3, 4, 4)], {"stride": 2}),
    ("conv2d", [(2, 16, 12, 12), (2, 16, 7, 7), (2,)], {}),
    ("conv2d", [(1, 16, 5, 5), (1, 16, 4, 4)], {}),
    ("conv2d", [(2, 3, 8, 8), (4, 3, 4, 4), (4,)], {"stride": 2, "padding": 1}),
    ("conv2d", [(2, 8, 9, 9), (1, 8, 4, 4), (1,)], {"padding": 1}),
    ("conv2d", [(1, 3, 9, 9), (5, 3, 3, 3)], {"stride": 2, "padding": 1}),
    ("conv2d", [(1, 3, 8, 9), (5, 3, 3, 3)], {"stride": 2, "padding": 1, "reflect": True}),
    ("conv2d", [(1, 8, 9, 9), (1, 8, 7, 7)], {"padding": 3, "reflect": True}),
    ("conv2d", [(2, 40, 16, 14), (48, 40, 3, 3), (48,)], {"padding": 1, "reflect": True}),
    ("conv2d", [(1, 40, 18, 17), (48, 40, 3, 3)], {"padding": 1}),
    ("conv2d", [(1, 48, 16, 16), (40, 48, 4, 4)], {"padding": 1, "reflect": True}),
    ("conv2d_and_product", [(2, 3, 4, 4), (5, 3, 4, 4), (48,)], {"padding": 1}),
    ("conv2d_and_product", [(2, 3, 5, 6), (5, 3, 1, 1), (3,)], {}),
    ("conv2d_and_product", [(1, 3, 12, 12), (5, 3, 4, 4), (48,)], {"stride": 2, "padding": 1}),
    ("conv2d_transpose", [(2, 4, 5, 6), (4, 3, 3, 3), (3,)], {"output_padding": 1}),
    ("conv2d_transpose", [(1, 4, 5, 6), (4, 3, 4, 4)], {}),
    ("upsample_conv2d", [(2, 4, 5, 6), (3, 4, 3, 3)], {}),
    ("upsample_conv2d", [(1, 2, 3, 3), (5, 2, 3, 3), (5,)], {}),
    ("instance_norm", [(2, 3, 5, 6)], {}),
    ("moments", [(2, 3, 5, 6)], {}),
    ("scale_shift", [(2, 3, 5, 6), (2, 3), (2, 3)], {}),
    ("adalin", [(2, 3, 5, 6), (1, 3, 1, 1), (2, 3), (2, 3)], {}),
    ("group_norm", [(2, 6, 5, 4), (6,), (6,)], {"groups": 1}),
    ("group_norm", [(2, 6, 5, 4), (6,), (6,)], {"groups": 3}),
    ("group_norm", [(1, 6, 5, 4), (6,), (6,)], {"groups": 6}),
    ("weighted_conv1x1", [(2, 3, 5, 6), (3,), (3,), (4, 6, 1, 1), (4,)], {}),
    ("weighted_conv1x1", [(2, 3, 2, 2), (3,), (3,), (9, 6, 1, 1), (9,)], {}),
    ("global_max_pool", [(2, 3, 5, 6)], {}),
]


def run(function, arrays, options):
    """Outputs and input gradients of a function, under fixed output gradients."""
    inputs = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
    outputs = function(*inputs, **options)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    rng = np.random.default_rng(1)
    sum((out * paddle.to_tensor(rng.standard_normal(out.shape)).astype(out.dtype)).sum() for out in outputs).backward()
    return [out.numpy() for out in outputs], [tensor.grad.numpy() for tensor in inputs]


@pytest.mark.parametrize("name, shapes, options", CASES)
def test_fast_equals_plain(name, shapes, options):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    fast = getattr(ops, name)
    values, gradients = run(fast, arrays, options)
    plain_values, plain_gradients = run(ops.PLAIN[fast], arrays, options)
    for ours, plain in zip(values + gradients, plain_values + plain_gradients):
        np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-10)


# Where float32 takes another way than double: oneDNN's convolutions.
FLOAT32 = [
    ("conv2d", [(2, 16, 20, 20), (24, 16, 3, 3), (24,)], {"stride": 2, "padding": 1, "reflect": True}),
    ("conv2d", [(1, 8, 30, 30), (8, 8, 4, 4)], {"stride": 2, "padding": 1}),
    ("conv2d_and_product", [(2, 8, 20, 20), (16, 8, 4, 4), (128,)], {"stride": 2, "padding": 1}),
    ("conv2d_transpose", [(2, 16, 12, 13), (16, 8, 3, 3), (8,)], {"output_padding": 1}),
    ("upsample_conv2d", [(2, 16, 16, 15), (8, 16, 3, 3), (8,)], {}),
]


@pytest.mark.parametrize("name, shapes, options", FLOAT32)
def test_fast_equals_plain_in_float32(name, shapes, options):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    fast = getattr(ops, name)
    values, gradients = run(fast, arrays, options)
    plain_values, plain_gradients = run(ops.PLAIN[fast], arrays, options)
    for ours, plain in zip(values + gradients, plain_values + plain_gradients):
        assert ours.dtype == np.float32 and np.abs(ours - plain).max() < 5e-5 * np.abs(plain).max()


def test_every_pair_is_tested():
    assert {getattr(ops, name) for name, _, _ in CASES} == set(ops.PLAIN)


@pytest.mark.parametrize("form", ops.FORMS)
def test_pad_larger_than_the_map_is_refused(form):
    x, weight = paddle.zeros([400, 40, 3, 3]), paddle.zeros([40, 40, 4, 4])
    with ops.using(form):
        for refused in (lambda: ops.reflect_pad(x, 3), lambda: ops.conv2d(x, weight, padding=3, reflect=True)):
            with pytest.raises(ValueError, match="larger map than 3x3"):
                refused()


@pytest.mark.parametrize("constant", [0, 1, 2])
def test_scale_shift_with_a_constant_among_its_inputs(constant):
    inputs = [paddle.randn(shape) for shape in ([2, 3, 4, 4], [2, 3], [2, 3])]
    for index, tensor in enumerate(inputs):
        tensor.stop_gradient = index == constant
    ops.scale_shift(*inputs).sum().backward()
    assert [tensor.grad is None for tensor in inputs] == [index == constant for index in range(3)]
