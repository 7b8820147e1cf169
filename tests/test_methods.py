"""CycleGAN and Pix2Pix: steps, networks, schedules, and runs from the command line, on the same engine as U-GAT-IT."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

import losses
import main
import ops
from command_line import parse_arguments
from config import CycleGANConfig, Pix2PixConfig, UGATITConfig
from CycleGAN import CycleGAN, ImagePool
from dataset import PairedData, PairedFolder, Sample, open_test_part
from engine.checkpoint import load
from engine.pictures import translate_sample
from engine.schedule import by_epochs
from errors import ConfigError, DataError
from layers import BatchNorm2D, Conv2D, init_weights
from methods import build_method
from networks import CycleGANGenerator, PatchGAN, UnetGenerator, both_passes
from Pix2Pix import Pix2Pix
from tests.helpers import draw_dataset, draw_pairs, flags, newest, read_metrics, straight_and_killed
from utils import write_image

TINY = {"dataset": "x", "img_size": 32, "ch": 2, "iteration": 10}
TINY_FLAGS = ["--img_size", "32", "--ch", "2"]


def batch(size: int = 1, side: int = 32):
    rng = np.random.default_rng(0)
    return {name: rng.uniform(-1, 1, (size, 3, side, side)).astype("float32") for name in ("real_A", "real_B")}


# The step

METHODS = {
    "ugatit": UGATITConfig(dataset="x", img_size=24, n_dis=4, ch=2, n_res=1, light=True),
    "cyclegan": CycleGANConfig(**TINY, n_blocks=1),
    "cyclegan without identity": CycleGANConfig(**TINY, n_blocks=1, lambda_identity=0.0),
    "cyclegan, batch norm": CycleGANConfig(**TINY, n_blocks=1, norm="batch"),
    "cyclegan, resize": CycleGANConfig(**TINY, n_blocks=1, upsample="resize", norm="none", n_layers_D=1),
    "cyclegan, wgangp": CycleGANConfig(**TINY, n_blocks=1, gan_mode="wgangp", norm="none"),
    "cyclegan, wgangp with instance norm": CycleGANConfig(**TINY, n_blocks=1, gan_mode="wgangp"),
    "cyclegan, wgangp at 64": CycleGANConfig(**{**TINY, "img_size": 64, "batch_size": 2}, n_blocks=1, gan_mode="wgangp"),
    "pix2pix, wgangp with batch norm": Pix2PixConfig(**{**TINY, "img_size": 64}, gan_mode="wgangp"),
    "pix2pix, wgangp, two images": Pix2PixConfig(**TINY, batch_size=2, gan_mode="wgangp", norm="instance"),
    "pix2pix": Pix2PixConfig(**TINY),
    "pix2pix, BtoA, unconditional": Pix2PixConfig(**TINY, direction="BtoA", unconditional=True),
    "pix2pix, pixels": Pix2PixConfig(**TINY, n_layers_D=0, no_skip=True),
    "pix2pix, resnet": Pix2PixConfig(**TINY, netG="resnet", n_blocks=1, recon_loss="l2", gan_mode="lsgan"),
    "pix2pix, wgangp": Pix2PixConfig(**TINY, gan_mode="wgangp", norm="none"),
    "pix2pix, no reconstruction": Pix2PixConfig(**TINY, recon_loss="none", norm="instance"),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("form", ops.FORMS)
def test_every_parameter_gets_a_gradient_in_its_own_update_alone(name, form):
    config = METHODS[name]
    method = build_method(config)
    method.set_training(True)
    updates = []

    def check(optimizer):
        own = {id(parameter) for parameter in method.optimizers[optimizer]._parameter_list}
        for network, layer in method.networks.items():
            for key, parameter in layer.named_parameters():
                assert (parameter.grad is not None) == (id(parameter) in own), f"{network}.{key} in the update of {optimizer}"
                # Zero is right for a bias that a normalization takes away again.
                if parameter.grad is not None and not key.endswith("bias"):
                    assert bool((parameter.grad != 0).any()), f"{network}.{key} in the update of {optimizer}"
        updates.append(optimizer)
        steps[optimizer]()

    steps = {optimizer: value.step for optimizer, value in method.optimizers.items()}
    for optimizer, value in method.optimizers.items():
        value.step = partial(check, optimizer)
    with ops.using(form):
        result = method.step(batch(config.batch_size, config.img_size))
    assert all(math.isfinite(value) for value in result.values())
    # CycleGAN updates its generators first, the other two their discriminators.
    assert updates == (["G", "D"] if name.startswith("cyclegan") else ["D", "G"])


def test_without_an_adversarial_loss_only_the_generator_is_trained():
    method = Pix2Pix(Pix2PixConfig(**TINY, lambda_GAN=0.0))
    before = {key: value.numpy() for key, value in method.D.state_dict().items()}
    assert set(method.step(batch())) == {"G_L1", "G_total"}
    assert all((value.numpy() == before[key]).all() for key, value in method.D.state_dict().items())


def test_directions_exchange_input_and_output():
    for direction, source, target in (("AtoB", "real_A", "real_B"), ("BtoA", "real_B", "real_A")):
        seen = []
        method = Pix2Pix(Pix2PixConfig(**TINY, direction=direction))
        method.G.register_forward_post_hook(lambda layer, inputs, out, seen=seen: seen.extend([inputs[0].numpy(), out.numpy()]))
        result = method.step(batch())
        assert (seen[0] == batch()[source]).all()
        assert result["G_L1"] == pytest.approx(100 * np.abs(seen[1] - batch()[target]).mean(), rel=1e-5)


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_shared_passes_equal_separate_ones(norm):
    network = PatchGAN(3, 2, 3, norm)
    first, second = (paddle.to_tensor(array) for array in batch(2).values())
    for ours, alone in zip(both_passes(network, first, second, norm), (network(first), network(second))):
        np.testing.assert_allclose(ours.numpy(), alone.numpy(), atol=1e-5)


def test_the_penalty_is_that_of_the_gradient():
    """A linear discriminator has the same gradient everywhere, so the penalty is known."""
    weight = paddle.full([1, 3, 4, 4], 0.5)

    def judge(x):
        return (x * weight).sum([1, 2, 3])

    real, fake = paddle.randn([2, 3, 4, 4]), paddle.randn([2, 3, 4, 4])
    assert float(losses.gradient_penalty(judge, real, fake)) == pytest.approx((0.5 * math.sqrt(48) - 1) ** 2, rel=1e-4)


def test_the_penalty_s_own_gradient_is_right(monkeypatch):
    """Against finite differences in one weight, in double precision, at a size that takes the fast paths elsewhere."""
    monkeypatch.setattr(paddle, "rand", lambda shape, dtype: paddle.full(shape, 0.3, dtype))
    paddle.set_default_dtype("float64")
    try:
        network = PatchGAN(3, 2, 3, "none")
    finally:
        paddle.set_default_dtype("float32")
    rng = np.random.default_rng(0)
    real, fake = (paddle.to_tensor(rng.uniform(-1, 1, (2, 3, 64, 64))) for _ in range(2))
    losses.gradient_penalty(network, real, fake).backward()
    weight = network.model[2].weight
    values, moved = weight.numpy(), []
    for step in (1e-5, -1e-5):
        changed = values.copy()
        changed[1, 0, 2, 2] += step
        weight.set_value(changed)
        moved.append(float(losses.gradient_penalty(network, real, fake)))
    assert float(weight.grad[1, 0, 2, 2]) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("mode, real, fake", [
    ("lsgan", (2 - 1) ** 2, 2**2),
    ("vanilla", math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))),
    ("wgangp", -2, 2),
])  # fmt: skip
def test_adversarial_losses_of_a_logit_of_2(mode, real, fake):
    logit = paddle.full([1, 1, 2, 2], 2.0)
    assert float(losses.ADVERSARIAL[mode](logit, True)) == pytest.approx(real, rel=1e-5)
    assert float(losses.ADVERSARIAL[mode](logit, False)) == pytest.approx(fake, rel=1e-5)


def test_pool_gives_back_half_older_images_once_full():
    pool, rng = ImagePool(5), np.random.default_rng(0)
    images = [np.full((1, 1, 1, 1), value, "float32") for value in range(400)]
    given = [pool.query(image, rng).item() for image in images]
    assert given[:5] == [0, 1, 2, 3, 4]
    older = np.mean([value < index for index, value in enumerate(given) if index >= 5])
    assert 0.4 < older < 0.6 and len(pool.images) == 5 and len(set(given)) > 300
    assert [ImagePool(0).query(image, rng).item() for image in images[:3]] == [0, 1, 2]


# Networks


@pytest.mark.parametrize("n_layers, receptive_field", [(0, 1), (1, 16), (3, 70), (5, 286)])
def test_patch_sizes(n_layers, receptive_field):
    convolutions = [layer for layer in PatchGAN(3, 1, n_layers).model if isinstance(layer, Conv2D)]
    field = 1
    for layer in reversed(convolutions):
        field = (field - 1) * layer.stride + layer.weight.shape[2]
    assert field == receptive_field


def test_parameter_counts_are_the_authors():
    """As their PyTorch code counts them at width 64."""

    def count(network):
        return sum(p.size for p in network.parameters())

    assert count(CycleGANGenerator()) == 11_378_179
    assert count(UnetGenerator()) == 54_413_955
    assert count(PatchGAN()) == 2_764_737
    assert count(PatchGAN(6, norm="batch")) == 2_768_705


@pytest.mark.parametrize("size, downs", [(256, 8), (128, 7), (64, 6), (96, 5), (512, 8), (36, 2)])
def test_unet_depth_is_what_the_image_allows(size, downs):
    assert len(Pix2Pix(Pix2PixConfig(dataset="x", img_size=size, ch=1, n_layers_D=1)).G.down) == downs


def test_unet_dropout_is_in_the_wide_layers_after_the_innermost():
    network = UnetGenerator(ch=1)
    with_dropout = [index for index, layer in enumerate(network.up) if any("Dropout" in type(part).__name__ for part in layer)]
    assert with_dropout == [4, 5, 6]


@pytest.mark.parametrize("skip", [True, False])
def test_unet_shapes_and_skips(skip):
    network = UnetGenerator(3, 2, n_downs=3, skip=skip)
    assert network(paddle.randn([2, 3, 16, 24])).shape == [2, 3, 16, 24]
    # A decoder layer takes what comes from below, and with skips as many channels again.
    assert [layer[1].weight.shape[0] for layer in network.up] == ([4, 8, 8] if skip else [2, 4, 8])
    with pytest.raises(ValueError, match="multiples of 8"):
        network(paddle.randn([1, 3, 12, 16]))


def test_batch_norm_keeps_pytorch_s_running_statistics():
    layer = BatchNorm2D(2)
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype("float32") * 2 + 1
    out = layer(paddle.to_tensor(x)).numpy()
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    expected = (x - mean.reshape(1, 2, 1, 1)) / np.sqrt(variance.reshape(1, 2, 1, 1) + 1e-5)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * x.var((0, 2, 3), ddof=1), rtol=1e-5)
    layer.eval()
    kept = layer.running_var.numpy()
    layer.own_statistics_in_evaluation = True
    alone = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(paddle.to_tensor(x)).numpy(), alone, atol=1e-5)
    assert (layer.running_var.numpy() == kept).all()


@pytest.mark.parametrize("init_type, spread", [
    ("normal", 0.3),
    ("xavier", 0.3 * math.sqrt(2 / (32 * 9 + 64 * 9))),
    ("kaiming", math.sqrt(2 / (32 * 9))),
    ("orthogonal", 0.3 / math.sqrt(32 * 9)),
])  # fmt: skip
def test_initialisations(init_type, spread):
    layer = Conv2D(32, 64, 3, bias=True)
    init_weights(layer, init_type, 0.3)
    weight = layer.weight.numpy()
    assert weight.std() == pytest.approx(spread, rel=0.05) and abs(weight.mean()) < spread / 10
    assert (layer.bias.numpy() == 0).all()
    if init_type == "orthogonal":
        rows = weight.reshape(64, -1)
        np.testing.assert_allclose(rows @ rows.T, 0.09 * np.eye(64), atol=1e-5)


# Schedules


def test_linear_schedule_is_the_authors_by_epochs():
    for total, n_epochs, n_epochs_decay in ((2000, 100, 100), (60, 2, 4), (5, 5, 0)):
        length = total // (n_epochs + n_epochs_decay)
        for iteration in range(1, total + 1):
            epoch = (iteration - 1) // length
            expected = 1 - max(0, epoch + 1 - n_epochs) / (n_epochs_decay + 1)
            assert by_epochs("linear", iteration, total, n_epochs, n_epochs_decay) == pytest.approx(expected)


def test_step_and_cosine_schedules():
    assert [by_epochs("step", i, 200, 100, 100) for i in (1, 50, 51, 101)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [by_epochs("cosine", i, 200, 100, 100) for i in (1, 101)] == pytest.approx([1, 0.5])
    assert by_epochs("cosine", 200, 200, 100, 100) < 1e-4


def test_epochs_become_iterations_once_the_data_is_known(tmp_path):
    draw_dataset(tmp_path / "data", train=3)  # trainB has 4
    arguments = flags(
        tmp_path, "--method", "cyclegan", *TINY_FLAGS, "--n_epochs", "1", "--n_epochs_decay", "1", "--batch_size", "3"
    )
    assert main.main(arguments) == 0
    meta = load(newest(tmp_path / "results" / "tiny" / "cyclegan")).meta
    assert meta["iteration"] == 2 * math.ceil(4 / 3) == meta["config"]["iteration"]


# Runs

RUNS = {
    # A pool of two is full and exchanges images when the run is killed.
    "cyclegan": ["--method", "cyclegan", "--pool_size", "2", "--n_blocks", "1"],
    # Dropout draws in every step, and batch norm keeps running statistics; samples must not change either.
    "pix2pix": ["--method", "pix2pix", "--direction", "BtoA", "--img_size", "64"],
}


@pytest.mark.parametrize("method", RUNS)
def test_killed_and_resumed_equals_uninterrupted(method, tmp_path):
    # The two runs also print at different times: sample grids leave no trace in the state.
    options = [*TINY_FLAGS, *RUNS[method], "--sample_count", "1"]
    runs, _ = straight_and_killed(tmp_path, method, options, print_freqs=("3", "2"))
    assert [line["iteration"] for line in read_metrics(runs[1])] == [2, 4, 6, 8]
    if method == "cyclegan":
        pools = [key for key in load(newest(runs[1])).arrays["optimizer"] if key.startswith("extra/pool/")]
        assert sorted(pools) == ["extra/pool/fake_A", "extra/pool/fake_B"]


@pytest.fixture(scope="module")
def paired_run(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("paired")
    draw_pairs(tmp_path / "data", size=64)
    arguments = ["--method", "pix2pix", "--img_size", "64", "--ch", "2", "--iteration", "3", "--print_freq", "3"]
    assert main.main(flags(tmp_path, *arguments)) == 0
    return tmp_path


def read(path):
    image = cv2.imread(str(path))
    assert image is not None, path
    return image


def test_pix2pix_writes_its_own_direction_and_rows(paired_run):
    assert main.main(flags(paired_run, "--method", "pix2pix", "--phase", "test")) == 0
    run = paired_run / "results" / "tiny" / "pix2pix"
    assert sorted(path.name for path in (run / "test").iterdir()) == ["A2B", "contact_A2B.png", "grid", "grid_A2B.png", "test.json"]
    assert sorted(path.name for path in (run / "test" / "A2B").iterdir()) == ["0.png", "1.png"]
    strip = read(run / "test" / "grid" / "A2B" / "1.png")
    assert strip.shape == (3 * 64, 64, 3)
    pair = read(paired_run / "data" / "tiny" / "test" / "1.png")
    assert (strip[:64] == pair[:, :64]).all() and (strip[128:] == pair[:, 64:]).all()
    assert read(run / "samples" / "A2B_0000003.png").shape[0] == 3 * 64


def test_answers_differ_and_eval_mode_has_but_one(paired_run, tmp_path):
    def translate(*more):
        out = tmp_path / "-".join(["out", *more])
        checkpoint = str(newest(paired_run / "results" / "tiny" / "pix2pix"))
        arguments = flags(paired_run, "--method", "pix2pix", "--phase", "test", "--checkpoint", checkpoint, *more)
        assert main.main([*arguments, "--result_dir", str(out)]) == 0
        return out / "tiny" / "pix2pix" / f"test_{Path(checkpoint).name}"

    answers = translate("--n_answers", "3")
    assert len(list((answers / "answers" / "A2B").iterdir())) == 6
    pictures = [read(answers / "answers" / "A2B" / f"0_{number}.png") for number in (1, 2, 3)]
    assert (pictures[0] != pictures[1]).any() and (pictures[1] != pictures[2]).any()
    assert (read(answers / "A2B" / "0.png") == pictures[0]).all()
    seeds = [read(translate("--seed", seed) / "A2B" / "0.png") for seed in ("0", "99")]
    assert (seeds[0] == pictures[0]).all() and (seeds[1] != pictures[0]).any()
    quiet, again = translate("--eval_mode"), translate("--eval_mode", "true")
    assert (read(quiet / "A2B" / "0.png") == read(again / "A2B" / "0.png")).all()
    assert (read(quiet / "A2B" / "0.png") != pictures[0]).any()


def test_cyclegan_rows_and_both_directions(tmp_path):
    draw_dataset(tmp_path / "data", size=32)
    arguments = flags(tmp_path, "--method", "cyclegan", *TINY_FLAGS, "--iteration", "1", "--print_freq", "1", "--img_ch", "1")
    assert main.main(arguments) == 0
    assert main.main(flags(tmp_path, "--method", "cyclegan", "--phase", "test")) == 0
    run = tmp_path / "results" / "tiny" / "cyclegan"
    assert read(run / "test" / "grid" / "B2A" / "0.png").shape == (4 * 32, 32, 3)
    lines = read_metrics(run)
    expected = {"G_A", "G_B", "cycle_A", "cycle_B", "idt_A", "idt_B", "D_A", "D_B", "G_total", "D_total"}
    assert set(lines[0]) == expected | {"iteration", "lr", "images_per_second"}


def test_cyclegan_translates_with_the_right_generator():
    method = CycleGAN(CycleGANConfig(**TINY, n_blocks=1))
    image = batch()["real_A"][0]
    method.set_training(False)
    for direction, generator in (("A2B", method.G_A), ("B2A", method.G_B)):
        expected = generator(paddle.to_tensor(image[None])).numpy()
        translation = translate_sample(method, direction, Sample(image))
        assert (translation.image == expected).all()
        assert [row.label for row in translation.rows] == {
            "A2B": ["real_A", "fake_B", "rec_A", "idt_B"],
            "B2A": ["real_B", "fake_A", "rec_B", "idt_A"],
        }[direction]


def paired_folders(tmp_path):
    """trainA and trainB in which image k of A has the grey value of image k of B, under other extensions."""
    for index in range(3):
        picture = np.full((40, 40, 3), 60 * index, np.uint8)
        for domain, extension in (("A", ".png"), ("B", ".bmp")):
            file = tmp_path / "data" / "tiny" / f"train{domain}" / "deep" / f"n{index}{extension}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(cv2.imencode(extension, picture)[1].tobytes())
    return Pix2PixConfig(dataset="tiny", data_root=str(tmp_path / "data"), img_size=32)


def test_pairs_in_two_folders_are_matched_by_name(tmp_path):
    folder = PairedFolder(paired_folders(tmp_path), "train")
    assert folder.names == ["deep/n0.png", "deep/n1.png", "deep/n2.png"]
    for index in range(3):
        image_A, image_B = folder.read(index)
        assert (image_A == 60 * index).all() and (image_B == 60 * index).all()


def test_two_images_of_one_name_are_refused(tmp_path):
    config = paired_folders(tmp_path)
    (tmp_path / "data" / "tiny" / "trainA" / "deep" / "n1.jpg").write_bytes(b"another")
    with pytest.raises(DataError, match="n1.jpg and deep/n1.png would be the same pair"):
        PairedFolder(config, "train")


def test_both_halves_are_augmented_alike(tmp_path):
    rng = np.random.default_rng(0)
    half = rng.integers(0, 256, (50, 50, 3), np.uint8)
    write_image(tmp_path / "tiny" / "train" / "a.png", np.concatenate([half, half], 1))
    config = Pix2PixConfig(dataset="tiny", data_root=str(tmp_path), img_size=32, load_size=50)
    seen = []
    for made in PairedData(config).batches(1, 20):
        assert (made["real_A"] == made["real_B"]).all()
        seen.append(made["real_A"].tobytes())
    assert len(set(seen)) > 15, "and not always in the same place"
    plain = dataclasses.replace(config, load_size=32)
    small = [made["real_A"].tobytes() for made in PairedData(plain).batches(1, 20)]
    assert len(set(small)) == 2, "without a margin there is the flip alone"


def test_val_stands_in_for_a_missing_test(tmp_path, capsys):
    (draw_pairs(tmp_path / "data") / "test").rename(tmp_path / "data" / "tiny" / "val")
    config = Pix2PixConfig(dataset="tiny", data_root=str(tmp_path / "data"), img_size=32)
    assert open_test_part(config, "A2B").names == ["0.png", "1.png"]
    assert "using val" in capsys.readouterr().out
    assert len(PairedData(dataclasses.replace(config, sample_count=2)).samples()["A2B"]) == 4


# What bad input gets


def narrow(tmp_path, width, height=32):
    folder = tmp_path / "data" / "tiny" / "train"
    for file in folder.iterdir():
        file.write_bytes(cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1].tobytes())


def unmatched(tmp_path):
    draw_dataset(tmp_path / "data", train=15, size=32)
    for part in ("train", "test"):
        (tmp_path / "data" / "tiny" / part).rename(tmp_path / part)
    for file in (tmp_path / "data" / "tiny" / "trainB").iterdir():
        file.rename(file.with_name(f"b{file.name}"))


def only_A(tmp_path):
    unmatched(tmp_path)
    for file in (tmp_path / "data" / "tiny" / "trainB").iterdir():
        file.unlink()
    (tmp_path / "data" / "tiny" / "trainB").rmdir()


def unmatched_tests(tmp_path):
    draw_dataset(tmp_path / "data", size=32)
    for part in ("train", "test"):
        (tmp_path / "data" / "tiny" / part).rename(tmp_path / part)
    (tmp_path / "data" / "tiny" / "trainB" / "3.png").unlink()


def trained_pairs(tmp_path):
    assert main.main(flags(tmp_path, *PIX2PIX, "--iteration", "1")) == 0


TEST = ["--phase", "test"]
PIX2PIX, CYCLEGAN = ["--method", "pix2pix", *TINY_FLAGS], ["--method", "cyclegan", *TINY_FLAGS]
BAD = {
    "odd width": (lambda t: narrow(t, 63), PIX2PIX, 1, [r"train.\d\.png", "63 is odd"]),
    "not two images": (lambda t: narrow(t, 32), PIX2PIX, 1, [r"train.\d\.png", "32x32 is not two images side by side"]),
    "unmatched": (unmatched, PIX2PIX, 1, ["without a counterpart", "trainA/0", "and 21 more"]),
    "one domain": (only_A, PIX2PIX, 1, ["trainB", "train,val,test"]),
    "one domain of cyclegan": (only_A, CYCLEGAN, 1, ["trainB", "trainA,trainB"]),
    "tiny size": (None, [*CYCLEGAN, "--img_size", "4", "--n_layers_D", "0"], 2, ["--img_size 4", "such as 8"]),
    "absurd depth": (None, [*PIX2PIX, "--n_layers_D", "20000"], 2, ["--n_layers_D 20000"]),
    "answers in training": (None, [*PIX2PIX, "--n_answers", "2"], 2, ["--n_answers is for --phase test"]),
    "unmatched test pairs": (unmatched_tests, PIX2PIX, 1, ["without a counterpart", "testB/2"]),
    "size": (None, [*PIX2PIX, "--img_size", "50"], 2, ["--img_size 50", "such as 48"]),
    "size for patches": (None, [*PIX2PIX, "--n_layers_D", "5"], 2, ["--n_layers_D 5", "at least 96"]),
    "gan mode": (None, [*PIX2PIX, "--gan_mode", "hinge"], 2, ["--gan_mode", "hinge", "lsgan"]),
    "direction": (None, [*PIX2PIX, "--direction", "AtoC"], 2, ["--direction", "AtoB"]),
    "direction of cyclegan": (None, [*CYCLEGAN, "--direction", "AtoB"], 2, ["--direction", "--method pix2pix"]),
    "pool of pix2pix": (None, [*PIX2PIX, "--pool_size", "5"], 2, ["--pool_size", "--method cyclegan"]),
    "cam of cyclegan": (None, [*CYCLEGAN, "--cam_weight", "5"], 2, ["--cam_weight", "--method ugatit"]),
    "epochs of ugatit": (None, ["--n_epochs", "5"], 2, ["--n_epochs", "--method cyclegan or pix2pix"]),
    "no loss": (None, [*PIX2PIX, "--lambda_GAN", "0", "--recon_loss", "none"], 2, ["--lambda_GAN 0", "--recon_loss l1"]),
    "no epochs": (None, [*CYCLEGAN, "--n_epochs", "0", "--n_epochs_decay", "0"], 2, ["--n_epochs"]),
    "small load size": (None, [*CYCLEGAN, "--load_size", "20"], 2, ["--load_size 20", "32"]),
    "answers of a shallow U-Net": (trained_pairs, [*PIX2PIX, *TEST, "--n_answers", "2"], 2, ["--n_answers 2", "64"]),
    "answers without noise": (trained_pairs, [*PIX2PIX, *TEST, "--n_answers", "2", "--eval_mode"], 2, ["--n_answers 2", "dropout"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(case, tmp_path, capsys):
    prepare, arguments, exit_code, patterns = BAD[case]
    draw_pairs(tmp_path / "data")
    if prepare:
        prepare(tmp_path)
    capsys.readouterr()
    iterations = [] if "--phase" in arguments else ["--iteration", "2"]
    assert main.main(flags(tmp_path, *arguments, *iterations)) == exit_code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    for pattern in patterns:
        assert re.search(pattern, err), err


def test_each_method_has_its_own_defaults():
    cyclegan, pix2pix = parse_arguments(["--method", "cyclegan"])[0], parse_arguments(["--method", "pix2pix"])[0]
    shared = ("lr", "norm", "gan_mode")
    assert [getattr(cyclegan, name) for name in (*shared, "lambda_A", "pool_size")] == [2e-4, "instance", "lsgan", 10, 50]
    assert [getattr(pix2pix, name) for name in (*shared, "lambda_L1", "dropout")] == [2e-4, "batch", "vanilla", 100, True]
    assert cyclegan.iteration is None and cyclegan.n_epochs == cyclegan.n_epochs_decay == 100
    with pytest.raises(ConfigError):
        parse_arguments(["--method", "cyclegan", "--n_dis", "5"])
