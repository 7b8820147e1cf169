"""--amp: bf16 convolutions, the loss scale of fp16, what stays in float32, resuming, and refusals."""

from __future__ import annotations

import contextlib
import inspect
import math

import numpy as np
import paddle
import pytest
from paddle.base import core
from paddle.base.framework import _dygraph_tracer

import layers
import main
import ops
from config import CycleGANConfig, Pix2PixConfig, UGATITConfig
from engine import cpu, precision
from engine.checkpoint import load
from engine.precision import Precision
from errors import ConfigError, TrainingError
from methods import METHODS, build_method
from tests.helpers import (
    CONFIGURE,
    TINY,
    draw_dataset,
    draw_pairs,
    flags,
    newest,
    read_metrics,
    run_folder,
    straight_and_killed,
)

CONFIGS = {
    "ugatit": UGATITConfig(dataset="x", img_size=24, n_dis=4, ch=2, n_res=1, light=True),
    "cyclegan": CycleGANConfig(dataset="x", img_size=32, ch=2, iteration=10, n_blocks=1, upsample="resize"),
    "cyclegan with gradient penalty": CycleGANConfig(dataset="x", img_size=32, ch=2, iteration=10, n_blocks=1, gan_mode="wgangp"),
    "pix2pix": Pix2PixConfig(dataset="x", img_size=32, ch=2, iteration=10),
}


def build(name, amp=None):
    """The method, without the question whether this processor has what `amp` needs."""
    config = CONFIGS[name]
    return METHODS[config.method](type(config)(**{**vars(config), "amp": amp}))


def batch(method):
    side, rng = method.config.img_size, np.random.default_rng(0)
    return {name: rng.uniform(-1, 1, (1, 3, side, side)).astype("float32") for name in ("real_A", "real_B")}


def weights(method):
    return {key: array.copy() for part in method.state().arrays.values() for key, array in part.items()}


def equal(first, second):
    return first.keys() == second.keys() and all((first[key] == second[key]).all() for key in first)


@pytest.fixture
def bf16(monkeypatch):
    monkeypatch.setattr(ops, "_convolution_type", "bfloat16")


# Convolutions in bfloat16

CONVOLUTIONS = [
    ("conv2d", [(2, 16, 9, 9), (24, 16, 3, 3)], {"stride": 2, "padding": 1}),
    ("conv2d", [(1, 16, 12, 12), (8, 16, 7, 7)], {}),
    ("conv2d", [(3, 16, 6, 6), (8, 16, 4, 4)], {"stride": 2}),
    ("conv2d_transpose", [(2, 16, 5, 6), (16, 8, 3, 3)], {"output_padding": 1}),
    ("conv2d_transpose", [(1, 16, 5, 6), (16, 8, 4, 4)], {}),
    ("upsample_conv2d", [(2, 16, 5, 6), (8, 16, 3, 3)], {}),
]


def rounded(array):
    """To the nearest number of 8 significant bits, ties to even, by the bits themselves."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def run(name, arrays, options):
    """The result, and the gradients of the inputs under a fixed gradient of the result."""
    inputs = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
    out = getattr(ops, name)(*inputs, **options)
    (out * paddle.to_tensor(np.random.default_rng(1).standard_normal(out.shape).astype(arrays[0].dtype))).sum().backward()
    return [out.numpy(), *(tensor.grad.numpy() for tensor in inputs)]


@pytest.mark.parametrize("name, shapes, options", CONVOLUTIONS)
def test_bf16_is_float32_up_to_its_8_bits(name, shapes, options, monkeypatch):
    arrays = [np.random.default_rng(0).standard_normal(shape).astype("float32") for shape in shapes]
    exact = run(name, arrays, options)
    monkeypatch.setattr(ops, "_convolution_type", "bfloat16")
    ours = run(name, arrays, options)
    for kind, value, other in zip(("result", "gradient of the input", "gradient of the weight"), ours, exact):
        # A rounding errs by at most 2^-8 of its number, by about 0.4 of that on average. Both factors of a product are rounded,
        # then the sum: three roundings, which taken together err by about 0.7 of 2^-8.
        error = np.linalg.norm(value - other) / np.linalg.norm(other)
        assert 2**-12 < error < 2**-8, kind
    assert value.dtype == np.float32
    # The border of a map that is doubled stands for several pixels, whose gradients are added.
    inside = ours[1][:, :, 1:-1, 1:-1]
    assert (rounded(ours[0]) == ours[0]).all() and (rounded(inside) == inside).all()
    assert (rounded(ours[2]) != ours[2]).any(), "the gradient of the weight is not rounded"


def test_bf16_rounds_inputs_and_result_to_nearest_even():
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.3, 1e-3, 0.0], "float32")
    expected = np.array([1, 1 + 2**-6, 1 + 2**-7, -3.296875], "float32")
    assert (rounded(x)[:4] == expected).all()
    weight = np.float32(1.01)
    ours = ops._bf16_convolution(paddle.to_tensor(x.reshape(1, 1, 2, 3)), paddle.full([1, 1, 1, 1], weight), 1, 0)
    assert (ours.numpy().flatten() == rounded(rounded(x) * rounded(weight.reshape(1)))).all()


@pytest.mark.parametrize("constant", [0, 1])
def test_no_gradient_where_none_is_needed(constant, bf16):
    inputs = [paddle.randn(shape) for shape in ([1, 2, 5, 5], [3, 2, 3, 3])]
    for index, tensor in enumerate(inputs):
        tensor.stop_gradient = index == constant
    ops.conv2d(*inputs).sum().backward()
    assert [tensor.grad is None for tensor in inputs] == [index == constant for index in range(2)]
    with paddle.no_grad():
        assert ops.conv2d(*inputs).stop_gradient


@pytest.mark.parametrize("name, shapes, options", CONVOLUTIONS)
def test_double_precision_is_not_touched(name, shapes, options, monkeypatch):
    arrays = [np.random.default_rng(0).standard_normal(shape) for shape in shapes]
    exact = run(name, arrays, options)
    monkeypatch.setattr(ops, "_convolution_type", "bfloat16")
    for value, other in zip(run(name, arrays, options), exact):
        assert value.dtype == np.float64 and (value == other).all()


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="float32 or bfloat16, not 'half'"):
        ops.convolve_in("half")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_in_bf16_is_near_one_in_float32(name, monkeypatch):
    exact = build(name).step(batch(build(name)))
    monkeypatch.setattr(ops, "_convolution_type", "bfloat16")
    method = build(name)
    ours = method.step(batch(method))
    assert ours != exact
    for loss, value in exact.items():
        # Logits and images pass some ten convolutions, each 2^-8 off at most; the penalty is a difference of near values.
        assert ours[loss] == pytest.approx(value, rel=0.1, abs=0.05), loss
    assert all(array.dtype == np.float32 for key, array in weights(method).items() if not key.startswith("extra/"))


def test_only_convolutions_are_rounded(bf16):
    """Normalization, spectral norm and losses give what they give in float32."""
    x = paddle.randn([1, 8, 9, 9])
    layer = layers.SpectralNormConv2D(8, 8, 3)
    layer.eval()
    results = {}
    for kind in ops.CONVOLUTION_TYPES:
        ops.convolve_in(kind)
        sigma = layer._sigma(ops.matrix_vector_product(layer.weight_orig.flatten(1), layer.weight_v))
        results[kind] = [ops.instance_norm(x), *ops.moments(x), layers.ILN(8)(x), layers.GroupNorm(8, 2)(x), sigma, layer(x)]
    same = [bool((first == second).all()) for first, second in zip(*results.values())]
    assert same == [True] * 6 + [False]


# On a GPU, as far as a CPU can show it


@pytest.mark.parametrize("amp, dtype", [("bf16", "bfloat16"), ("fp16", "float16")])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_gpu_would_compute_in_half_precision(name, amp, dtype, monkeypatch):
    """Forward passes run at level OD; spectral norm, the gradient penalty and backward passes outside of it."""
    tracer, levels, real = _dygraph_tracer(), core.AmpLevel, paddle.amp.auto_cast
    seen = {}

    @contextlib.contextmanager
    def auto_cast(enable=True, **options):
        """On a CPU Paddle's own does nothing but warn. There the level changes no types."""
        assert not enable or options == {"level": "OD", "dtype": dtype, "custom_white_list": {"conv2d_transpose"}}
        with real(False):
            if enable:
                tracer._amp_level, tracer._amp_dtype = levels.OD, dtype
            yield

    def note(kind, function):
        def noted(*arguments, **options):
            seen.setdefault(kind, set()).add(tracer._amp_level)
            return function(*arguments, **options)

        return noted

    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle, "dot", note("spectral norm", paddle.dot))
    monkeypatch.setattr(paddle, "grad", note("penalty", paddle.grad))
    monkeypatch.setattr(paddle.Tensor, "backward", note("backward", paddle.Tensor.backward))
    method = build(name, amp)
    for network in method.networks.values():
        network.forward = note("discriminator" if network in method.discriminators.values() else "generator", network.forward)
    with ops.using("plain"):
        method.step(batch(method))
        half, full = {levels.OD}, {levels.O0}
        penalty = name == "cyclegan with gradient penalty"
        assert seen.pop("spectral norm", None) == (full if name == "ugatit" else None)
        assert seen.pop("penalty", None) == (full if penalty else None)
        assert seen == {"generator": half, "discriminator": half | full if penalty else half, "backward": full}
        method.translate_image(method.directions[0], batch(method)["real_A"][0])
        assert seen["generator"] == half and tracer._amp_level == levels.O0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_these_networks_use_of_paddle_s_list_are_convolutions_and_products(dtype, capsys):
    """At level OD all that is not on the list stays in float32. Here every operation of a step is looked up on it."""
    from paddle.amp.amp_lists import white_list

    with ops.using("plain"), paddle.amp.debugging.collect_operator_stats():
        for name in CONFIGS:
            method = build(name)
            method.step(batch(method))
    # A table: each operation's name is indented.
    used = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert {"conv2d", "conv2d_transpose", "instance_norm", "reduce_mean"} <= used
    assert used & white_list()[dtype]["OD"] == {"conv2d", "matmul_v2"}


# The loss scale of fp16


def test_the_scale_starts_and_grows_as_paddle_s():
    defaults = {name: value.default for name, value in inspect.signature(paddle.amp.GradScaler.__init__).parameters.items()}
    assert defaults["init_loss_scaling"] == precision.FIRST_SCALE
    assert defaults["incr_every_n_steps"] == precision.ITERATIONS_TO_GROW
    assert (defaults["incr_ratio"], defaults["decr_ratio"], defaults["decr_every_n_nan_or_inf"]) == (2.0, 0.5, 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_scale_changes_nothing_where_nothing_overflows(name):
    """It is a power of two, so in float32 the weights are the same to the last bit."""
    scaled, straight = build(name, "fp16"), build(name)
    for _ in range(2):
        assert scaled.step(batch(scaled)) == straight.step(batch(straight))
    assert equal(weights(scaled), weights(straight))
    assert scaled.precision.statistics() == {"loss_scale": 2.0**16, "skipped_steps": 0}


def test_an_overflow_skips_its_own_step_and_halves_the_scale_once():
    method = build("ugatit", "fp16")
    scale = method.precision.scale = 2.0**120
    before = weights(method)
    overflowing = []
    for name in method.optimizers:
        for parameter in method.optimizers[name]._parameter_list[:1]:
            overflowing.append(parameter.register_hook(lambda gradient: gradient * 2.0**30))
    method.step(batch(method))
    assert method.precision.statistics() == {"loss_scale": scale / 2, "skipped_steps": 2}
    after = weights(method)
    trained = [key for key in before if not key.endswith(("weight_u", "weight_v"))]
    assert all((after[key] == before[key]).all() for key in trained), "nothing was trained"
    assert all(parameter.grad is None for layer in method.networks.values() for parameter in layer.parameters())
    method.precision.scale = 2.0**10
    for hook in overflowing:
        hook.remove()
    method.step(batch(method))
    assert method.precision.statistics() == {"loss_scale": 2.0**10, "skipped_steps": 2}
    assert any((weights(method)[key] != before[key]).any() for key in trained)


def test_one_optimizer_s_overflow_leaves_the_other_s_step():
    method = build("cyclegan", "fp16")
    before = weights(method)
    method.D_A.parameters()[0].register_hook(lambda gradient: gradient * float("inf"))
    method.step(batch(method))
    changed = {key.split(".")[0] for key, value in weights(method).items() if key in before and (value != before[key]).any()}
    assert changed == {"G_A", "G_B"} and method.precision.skipped_steps == 1 and method.precision.scale == 2.0**15


def test_the_scale_grows_after_enough_finite_iterations_and_never_falls_below_1(monkeypatch):
    monkeypatch.setattr(precision, "ITERATIONS_TO_GROW", 3)
    scaling, scales = Precision("fp16"), []
    for overflow in (False, False, True, False, False, False, False):
        scaling.overflow = overflow
        scaling.end_iteration()
        scales.append(scaling.scale / 2**16)
    assert scales == [1, 1, 0.5, 0.5, 0.5, 1, 1]
    for _ in range(100):
        scaling.overflow = True
        scaling.end_iteration()
    assert scaling.scale == 1


def test_the_scale_s_state_survives_and_only_fp16_has_one():
    scaling, again = Precision("fp16"), Precision("fp16")
    scaling.scale, scaling.skipped_steps, scaling.iterations = 2.0**9, 5, 17
    again.restore(scaling.state())
    assert vars(again) == vars(scaling)
    for amp in (None, "bf16"):
        assert Precision(amp).state() == {} and "precision" not in build("ugatit", amp).state().meta


def test_a_loss_that_is_not_finite_still_ends_the_run():
    method = build("pix2pix", "fp16")
    data = batch(method)
    data["real_B"][:] = math.nan
    with pytest.raises(TrainingError, match="is nan"):
        method.step(data)
    assert method.precision.skipped_steps == 0


# Runs from the command line

ANY_PROCESSOR = f"{CONFIGURE}import methods\nmethods.refuse_amp = lambda *_: None\n"
# So large that the first steps overflow, and growing again soon enough to be seen.
LARGE_SCALE = "from engine import precision\nprecision.FIRST_SCALE, precision.ITERATIONS_TO_GROW = 2.0**125, 2\n"
RUNS = {
    "ugatit, bf16": TINY,
    "cyclegan, bf16": ["--method", "cyclegan", "--img_size", "32", "--ch", "2", "--n_blocks", "1", "--pool_size", "2"],
    "pix2pix, bf16": ["--method", "pix2pix", "--img_size", "64", "--ch", "2"],
    "ugatit, fp16": TINY,
}


@pytest.mark.parametrize("case", RUNS)
def test_killed_and_resumed_equals_uninterrupted(case, tmp_path):
    method, amp = case.split(", ")
    before = ANY_PROCESSOR + LARGE_SCALE * (amp == "fp16")
    runs, printed = straight_and_killed(tmp_path, method, [*RUNS[case], "--amp", amp], before, resume_with=RUNS[case])
    logs = [read_metrics(path) for path in runs]
    for line in (line for log in logs for line in log):
        del line["images_per_second"]
    assert logs[0] == logs[1]
    metas = [load(newest(path)).meta for path in runs]
    assert metas[0]["config"]["amp"] == metas[1]["config"]["amp"] == amp
    assert metas[0].get("precision") == metas[1].get("precision")
    if amp == "fp16":
        state = metas[0]["precision"]
        assert state["skipped_steps"] > 0 and state["skipped_steps"] == logs[0][-1]["skipped_steps"]
        assert [line["loss_scale"] for line in logs[0]][0] < 2.0**125
        assert f"skipped_steps {state['skipped_steps']}" in printed


def test_bf16_trains_other_weights_and_the_test_phase_takes_its_own_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda: True)
    monkeypatch.setattr(ops, "_convolution_type", "float32")
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1", "--amp", "bf16")) == 0
    assert ops._convolution_type == "bfloat16"
    pictures = {}
    for name, more in (("float32", []), ("bf16", ["--amp", "bf16"])):
        assert main.main(flags(tmp_path, "--phase", "test", *more)) == 0
        assert ops._convolution_type == ("bfloat16" if more else "float32")
        pictures[name] = (run_folder(tmp_path) / "test" / "A2B" / "0.png").read_bytes()
    assert pictures["float32"] != pictures["bf16"]
    assert main.main(flags(tmp_path, "--resume", "--iteration", "2")) == 0
    assert ops._convolution_type == "bfloat16", "a resumed run keeps its own"


# Refusals

REFUSED = {
    "fp16": ["--amp fp16 needs a GPU", "leave out --amp"],
    "bf16": ["--amp bf16: this processor has neither AVX512-BF16 nor AMX-BF16", "leave out --amp"],
}


@pytest.fixture(scope="module")
def paired_run(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("paired")
    draw_pairs(tmp_path / "data")
    assert main.main(flags(tmp_path, *PIX2PIX, "--iteration", "1")) == 0
    return tmp_path


PIX2PIX = ["--method", "pix2pix", "--img_size", "32", "--ch", "2"]


@pytest.mark.parametrize("amp", REFUSED)
@pytest.mark.parametrize("phase, more", [
    ("train", ["--iteration", "1"]),
    ("train", ["--iteration", "1", "--dry_run"]),
    ("test", []),
    ("evaluate", ["--metrics", "l1"]),
])  # fmt: skip
def test_a_cpu_without_it_is_refused_in_one_line(amp, phase, more, paired_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(precision, "has_bf16", lambda: False)
    elsewhere = ["--result_dir", str(tmp_path / "new")] if phase == "train" else []
    assert main.main(flags(paired_run, *PIX2PIX, "--phase", phase, "--amp", amp, *more, *elsewhere)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and all(words in err for words in REFUSED[amp])
    assert not (tmp_path / "new").exists()


def test_another_type_is_refused(capsys):
    assert main.main(["--amp", "fp8"]) == 2
    assert "--amp" in capsys.readouterr().err


def test_resume_cannot_change_the_precision(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(precision, "has_bf16", lambda: True)
    draw_dataset(tmp_path / "data")
    assert main.main(flags(tmp_path, *TINY, "--iteration", "1")) == 0
    assert main.main(flags(tmp_path, "--resume", "--iteration", "2", "--amp", "bf16")) == 2
    assert "--resume cannot change --amp bf16 (the run has None)" in capsys.readouterr().err


@pytest.mark.parametrize("amp, capability, refused", [
    ("bf16", (8, 0), False),
    ("bf16", (7, 5), True),
    ("fp16", (7, 0), False),
    ("fp16", (6, 1), True),
    (None, (6, 1), False),
])  # fmt: skip
def test_gpus_that_are_too_old_are_refused(amp, capability, refused, monkeypatch):
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: capability)
    with pytest.raises(ConfigError, match="this one has") if refused else contextlib.nullcontext():
        precision.refuse_amp(amp, "gpu")


@pytest.mark.parametrize("flag, known", [("avx512_bf16", True), ("amx_bf16", True), ("avx512f avx512_bf16x", False), ("", False)])
def test_the_processor_s_flags_say_whether_it_has_bf16(flag, known, monkeypatch):
    monkeypatch.setattr(cpu, "processor_description", lambda: f"model name\t: Some processor\nflags\t\t: fpu avx2 {flag}\n")
    assert cpu.has_bf16() == known


def test_float32_is_built_after_bf16(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda: True)
    monkeypatch.setattr(ops, "_convolution_type", "float32")
    config = {**vars(CONFIGS["pix2pix"]), "device": "cpu"}
    for amp, kind in (("bf16", "bfloat16"), (None, "float32")):
        build_method(Pix2PixConfig(**{**config, "amp": amp}))
        assert ops._convolution_type == kind
