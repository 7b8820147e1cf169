"""oneDNN through ctypes: right values, and safe with threads, fork, the switch and the end of the process."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

import onednn
import ops
from tests.helpers import ROOT, environment

needs_it = pytest.mark.skipif(not onednn.available(), reason="this Paddle has no oneDNN")
SHAPE, ORDER = [2, 3, 4, 5, 6, 7], [2, 4, 1, 0, 3, 5]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_permute(dtype):
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    result = onednn.permute(paddle.to_tensor(array), SHAPE, ORDER, [24, 3, 70])
    np.testing.assert_array_equal(result.numpy(), array.transpose(ORDER).reshape(24, 3, 70))
    assert result.dtype == paddle.to_tensor(array).dtype


@needs_it
def test_a_view_is_read_as_it_is_seen():
    x = paddle.arange(24, dtype="float32").reshape([4, 6])
    np.testing.assert_array_equal(onednn.permute(x.t(), [6, 4], [1, 0], [4, 6]).numpy(), x.numpy())


@needs_it
def test_threads():
    arrays = [np.random.default_rng(seed).standard_normal((40, 50 + seed)).astype(np.float32) for seed in range(8)]

    def transposed(array: np.ndarray) -> np.ndarray:
        for _ in range(50):
            result = onednn.permute(paddle.to_tensor(array), array.shape, [1, 0], array.T.shape).numpy()
            np.testing.assert_array_equal(result, array.T)
        return result

    with ThreadPoolExecutor(8) as pool:
        for array, result in zip(arrays, pool.map(transposed, arrays)):
            np.testing.assert_array_equal(result, array.T)


@needs_it
def test_what_is_not_used_again_is_given_back():
    onednn._permutation.cache_clear()
    destroyed = []
    original, onednn._destroy = onednn._destroy, lambda library, made: destroyed.append(len(made))
    try:
        onednn.permute(paddle.zeros([3, 5]), [3, 5], [1, 0], [5, 3])
        onednn._permutation.cache_clear()
    finally:
        onednn._destroy = original
    assert destroyed == [6]


# x, weight, stride, padding of convolutions of the three methods, and sizes that no stride divides.
CONVOLUTIONS = [
    ((2, 3, 134, 134), (16, 3, 7, 7), 1, 0),
    ((2, 64, 66, 66), (128, 64, 3, 3), 2, 0),
    ((1, 64, 65, 64), (96, 64, 3, 3), 2, 1),
    ((2, 32, 34, 34), (64, 32, 4, 4), 2, 0),
    ((1, 16, 64, 64), (32, 16, 4, 4), 2, 1),
    ((3, 5, 9, 7), (6, 5, 3, 3), 1, 1),
]


def values_and_gradients(function, x: np.ndarray, weight: np.ndarray) -> list:
    x, weight = (paddle.to_tensor(array, stop_gradient=False) for array in (x, weight))
    out = function(x, weight)
    out.backward(paddle.to_tensor(np.random.default_rng(1).standard_normal(out.shape).astype(np.float32)))
    return [out.numpy(), x.grad.numpy(), weight.grad.numpy()]


def random(*shapes) -> list:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@needs_it
@pytest.mark.parametrize("x, weight, stride, padding", CONVOLUTIONS)
def test_conv2d(x, weight, stride, padding):
    arrays = random(x, weight)
    ours = values_and_gradients(lambda x, w: onednn.conv2d(x, w, stride, padding), *arrays)
    plain = values_and_gradients(lambda x, w: F.conv2d(x, w, stride=stride, padding=padding), *arrays)
    for value, expected in zip(ours, plain):
        assert np.abs(value - expected).max() < 2e-5 * np.abs(expected).max()


@needs_it
@pytest.mark.parametrize("side, kernel, padding, output_padding", [(16, 3, 1, 1), (9, 4, 1, 0), (18, 4, 3, 0)])
def test_conv2d_transpose(side, kernel, padding, output_padding):
    arrays = random((2, 16, side, side + 1), (16, 12, kernel, kernel))
    options = dict(stride=2, padding=padding, output_padding=output_padding)
    ours = values_and_gradients(lambda x, w: onednn.conv2d_transpose(x, w, **options), *arrays)
    plain = values_and_gradients(lambda x, w: F.conv2d_transpose(x, w, **options), *arrays)
    for value, expected in zip(ours, plain):
        assert np.abs(value - expected).max() < 2e-5 * np.abs(expected).max()


@needs_it
@pytest.mark.parametrize("function", [onednn.conv2d, lambda x, w: onednn.conv2d_transpose(x, w, 2, 1, 0)])
def test_only_the_gradients_that_are_needed(function):
    x, weight = paddle.randn([1, 8, 16, 16]), paddle.randn([8, 8, 4, 4])
    weight.stop_gradient = False
    function(x, weight).sum().backward()
    assert x.grad is None and weight.grad is not None
    x.stop_gradient, weight.stop_gradient = False, True
    weight.clear_gradient()
    function(x, weight).sum().backward()
    assert x.grad is not None


@pytest.mark.skipif(not onednn.has_bfloat16(), reason="this processor has no bfloat16")
@pytest.mark.parametrize("x, weight, stride, padding", CONVOLUTIONS)
def test_bfloat16_is_what_its_emulation_gives(x, weight, stride, padding, monkeypatch):
    arrays = random(x, weight)
    ours = values_and_gradients(lambda x, w: onednn.conv2d(x, w, stride, padding, bfloat16=True), *arrays)
    monkeypatch.setattr(onednn, "has_bfloat16", lambda: False)
    emulated = values_and_gradients(lambda x, w: ops._bf16_convolution(x, w, stride, padding), *arrays)
    for value, expected in zip(ours, emulated):
        # Sums in another order may be rounded to the neighbouring number of 8 bits.
        assert np.abs(value - expected).max() < 2**-7 * np.abs(expected).max()


@needs_it
def test_the_same_twice():
    arrays = random((2, 64, 34, 34), (32, 64, 3, 3))
    first, second = (values_and_gradients(onednn.conv2d, *arrays) for _ in range(2))
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)


def python(code: str, **more: str) -> subprocess.CompletedProcess:
    head = (
        "from engine.cpu import configure_cpu; configure_cpu(); import os, paddle, onednn\nx = paddle.arange(6, dtype='float32')\n"
    )
    return subprocess.run([sys.executable, "-c", head + code], cwd=ROOT, env=environment(**more), capture_output=True, text=True)


PERMUTE = "onednn.permute(x, [2, 3], [1, 0], [3, 2]).numpy().tolist()"
EXPECTED = "[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]"


def test_switched_off_nothing_is_loaded():
    result = python(f"print({PERMUTE}, onednn.available(), onednn._library.cache_info().currsize)", USE_ONEDNN="0")
    assert result.stdout.strip() == f"{EXPECTED} False 0" and result.stderr == ""


@needs_it
def test_a_forked_process_and_the_end_of_both():
    code = f"""
assert onednn.available() and {PERMUTE} == {EXPECTED}
onednn._library().lock.acquire()
child = os.fork()
if not child:
    raise SystemExit(0 if {PERMUTE} == {EXPECTED} else 3)
print(os.waitpid(child, 0)[1])
"""
    result = python(code)
    assert (result.stdout.strip(), result.returncode, result.stderr) == ("0", 0, "")
