"""Weights of the authors and of PaddleGAN become checkpoints, and checkpoints the authors' files, whole and equal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

import main
from config import CONFIGS, CycleGANConfig, Pix2PixConfig, UGATITConfig
from engine.checkpoint import load, read_meta, save_folder
from foreign.pytorch import read_states
from methods import METHODS, build_method
from tests.helpers import draw_dataset, draw_pairs, flags
from tools import export_weights, import_weights
from tools.authors_names import our_state, their_names, their_state
from tools.parity import Archive, build

GOLDEN = Path(__file__).parent / "golden"
FILES = {
    "ugatit_light": "ugatit_light_params_latest.pt",
    "ugatit_full": "ugatit_full_params_latest.pt",
    "cyclegan": "cyclegan_latest_net_G_A.pth",
    "pix2pix": "pix2pix_latest_net_G.pth",
}
# Float32 against the authors' outputs in float64, as tools.parity has it: relative to the largest entry.
TOLERANCE = 1e-4


def imported(folder, *arguments):
    """The checkpoint folder that a command line makes."""
    output = folder / "imported"
    assert import_weights.main([*map(str, arguments), "--output", str(output)]) == 0
    return output


def refused(capsys, tmp_path, *arguments, exit_code=1):
    """The one line that a command line is refused with; nothing is left behind."""
    assert import_weights.main([*map(str, arguments), "--output", str(tmp_path / "refused")]) == exit_code
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1 and not (tmp_path / "refused").exists()
    return text


def method_in(folder, **changes):
    """The method of a checkpoint folder with its networks."""
    meta = read_meta(folder)
    parts = [file.stem for file in folder.glob("*.safetensors")]
    method = METHODS[meta["method"]](CONFIGS[meta["method"]](**{**meta["config"], **changes}))
    method.start_from(load(folder, parts=parts))
    method.set_training(False)
    return method


# From the authors' files


@pytest.mark.parametrize("name", FILES)
def test_imported_networks_give_the_authors_outputs(name, tmp_path):
    folder = imported(tmp_path, GOLDEN / FILES[name], *(["--no_dropout"] if name == "pix2pix" else []))
    method, archive = method_in(folder), Archive(GOLDEN / f"{name}.npz")
    method.set_training(name == "pix2pix")  # its figures have the statistics of a batch of two
    given = {key.split(".")[0] for file in folder.glob("*.safetensors") for key in load_file(file)}
    compared = 0
    for key, expected in archive.below("forward/").items():
        network, _, part = key.partition("/")
        if network not in given:
            continue
        images = paddle.to_tensor(archive.arrays["B" if network == "D_A" else "A"][0].astype(np.float32))
        with paddle.no_grad():
            output = method.networks[network](images)
        output = (getattr(output, part) if part else output).numpy()
        assert np.abs(output - expected).max() <= TOLERANCE * np.abs(expected).max(), key
        compared += 1
    assert compared == {"ugatit_light": 9, "ugatit_full": 3, "cyclegan": 1, "pix2pix": 1}[name]


def test_every_way_of_saving_gives_the_same_checkpoint(tmp_path):
    expected = load_file(imported(tmp_path, GOLDEN / FILES["cyclegan"]) / "generators.safetensors")
    for kind in ("legacy", "dropout", "half"):
        found = load_file(imported(tmp_path / kind, GOLDEN / f"{kind}_net_G_A.pth") / "generators.safetensors")
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            assert found[key].dtype == np.float32
            np.testing.assert_allclose(found[key], array, rtol=2**-8 if kind == "half" else 0, atol=1e-6 if kind == "half" else 0)


def test_names_of_several_gpus(tmp_path):
    state = read_states(GOLDEN / FILES["cyclegan"])[""]
    save_file({f"module.{key}": array for key, array in state.items()}, tmp_path / "latest_net_G_B.safetensors")
    found = load_file(imported(tmp_path, tmp_path / "latest_net_G_B.safetensors") / "generators.safetensors")
    expected = load_file(imported(tmp_path / "x", GOLDEN / FILES["cyclegan"]) / "generators.safetensors")
    assert len(found) == len(expected) and all(np.array_equal(found[f"G_B{key[3:]}"], value) for key, value in expected.items())


def test_what_is_inferred_is_said(tmp_path, capsys):
    imported(tmp_path / "u", GOLDEN / FILES["ugatit_light"])
    imported(tmp_path / "f", GOLDEN / FILES["ugatit_full"])
    imported(tmp_path / "c", GOLDEN / FILES["cyclegan"], "--img_size", "64")
    imported(tmp_path / "p", GOLDEN / FILES["pix2pix"], "--direction", "BtoA", "--img_size", "192")
    lines = [line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "genA2B, genB2A, disGA, disGB, disLA, disLB of --method ugatit --ch 2 --light True",
        "genA2B, genB2A of --method ugatit --img_size 128 --ch 2 --n_dis 5",
        "G_A of --method cyclegan --img_size 64 --ch 2 --n_blocks 9",
        "there is no generator G_B",
        "G of --method pix2pix --img_size 192 --ch 2 --direction BtoA",
    ]
    meta = read_meta(tmp_path / "c" / "imported")
    assert (meta["iteration"], meta["imported_from"], meta["kind"]) == (0, [FILES["cyclegan"]], "imported")


# There and back


@pytest.mark.parametrize("name", FILES)
def test_names_and_layouts_there_and_back(name):
    """Every network of the archives, to the last bit."""
    archive = Archive(GOLDEN / f"{name}.npz")
    for network, layer in build(archive).networks.items():
        own = layer.state_dict()
        theirs = {key: a for key, a in archive.below(f"init/{network}/").items() if not key.endswith("num_batches_tracked")}
        assert set(their_names(own).values()) == set(theirs) and len(own) == len(theirs)
        back = their_state(our_state(own, theirs))
        assert back.keys() == theirs.keys() and all(np.array_equal(back[key], array) for key, array in theirs.items())


SIZES = dict(img_size=32, ch=2, dataset="x", seed=3, iteration=10)
VARIANTS = {
    "ugatit": UGATITConfig(**{**SIZES, "img_size": 24}, n_dis=4, n_res=1),
    "ugatit light": UGATITConfig(**SIZES, n_dis=4, n_res=2, light=True, img_ch=1),
    "cyclegan": CycleGANConfig(**SIZES, n_blocks=2, norm="batch", n_layers_D=1),
    "cyclegan, pixels": CycleGANConfig(**SIZES, n_blocks=1, n_layers_D=0),
    "pix2pix": Pix2PixConfig(**{**SIZES, "img_size": 64}, unconditional=True, n_layers_D=2),
    "pix2pix, instance norm": Pix2PixConfig(**SIZES, norm="instance"),
    "pix2pix, resnet": Pix2PixConfig(**SIZES, netG="resnet", n_blocks=2),
    "pix2pix, resnet without dropout": Pix2PixConfig(**SIZES, netG="resnet", n_blocks=2, dropout=False, norm="instance"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_exported_and_imported_again(variant, tmp_path):
    """Every size is found again, and every array, by the commands."""
    config = VARIANTS[variant]
    checkpoint = build_method(config).state()
    checkpoint.arrays.pop("optimizer")
    save_folder(checkpoint, tmp_path / "first")
    theirs = tmp_path / ("x.safetensors" if config.method == "ugatit" else "x")
    assert export_weights.main([str(tmp_path / "first"), "--output", str(theirs)]) == 0
    folder = imported(tmp_path, theirs, "--img_size", config.img_size, *(["--method", "pix2pix"] if "resnet" in variant else []))
    for part in ("generators", "discriminators"):
        file = f"{part}.safetensors"
        assert load_bytes(folder / file) == load_bytes(tmp_path / "first" / file)
    found, given = read_meta(folder)["config"], read_meta(tmp_path / "first")["config"]
    assert {key for key in given if found[key] != given[key]} <= {"dataset", "seed", "iteration"}


def load_bytes(file):
    return {key: (array.shape, array.tobytes()) for key, array in load_file(file).items()}


def test_the_exported_file_is_the_authors(tmp_path, capsys):
    folder = imported(tmp_path, GOLDEN / FILES["ugatit_light"])
    assert export_weights.main([str(folder), "--output", str(tmp_path / "out.safetensors")]) == 0
    found = load_file(tmp_path / "out.safetensors")
    states = read_states(GOLDEN / FILES["ugatit_light"])
    expected = {f"{network}.{key}": array for network, state in states.items() for key, array in state.items()}
    assert found.keys() == expected.keys() and all(np.array_equal(found[key], array) for key, array in expected.items())
    assert (tmp_path / "out.safetensors").stat().st_mode & 0o777 == (folder / "meta.json").stat().st_mode & 0o777
    capsys.readouterr()
    for name, words in {"out.txt": "ends in .safetensors", "out": "ends in .safetensors"}.items():
        assert export_weights.main([str(folder), "--output", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err


def test_networks_that_the_authors_have_not_are_not_exported(tmp_path, capsys):
    for config in (CycleGANConfig(**SIZES, n_blocks=1, upsample="resize"), CycleGANConfig(**SIZES, n_blocks=1, norm="none")):
        folder = tmp_path / config.norm
        checkpoint = build_method(config).state()
        checkpoint.arrays.pop("optimizer")
        save_folder(checkpoint, folder)
        assert export_weights.main([str(folder), "--output", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "the authors' code has no networks with --" in said and not (tmp_path / "out").exists()
    assert export_weights.main([str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2
    assert export_weights.main([str(tmp_path / "x"), "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.splitlines()[1].startswith(f"error: CHECKPOINT: {tmp_path / 'x'} is not a checkpoint folder")


# From PaddleGAN


def paddlegan(archive_name, path, names, instance_norms="", **more):
    """Write a file as PaddleGAN's trainer does, with the initial weights of an archive; returns the state dicts.

    Linear layers hold (in, out); batch norms have names of their own, and instance norms scales of 1 and shifts of 0.

    Args:
        names: of the networks in the file, by those in the archive.
        instance_norms: a pattern of the names of the convolutions before one.
    """
    archive, saved = Archive(GOLDEN / f"{archive_name}.npz"), {}
    for network, name in names.items():
        state = saved[name] = {}
        for key, array in archive.below(f"init/{network}/").items():
            key = key.replace("running_mean", "_mean").replace("running_var", "_variance")
            if not key.endswith("num_batches_tracked"):
                state[key] = np.ascontiguousarray(array.T) if array.ndim == 2 else array
            if instance_norms and re.fullmatch(rf"({instance_norms})\.weight", key):
                stem, number, _ = key.rsplit(".", 2)
                norm, width = f"{stem}.{int(number) + 1}", array.shape[1 if stem + number in ("model19", "model22") else 0]
                state.update({f"{norm}.scale": np.ones(width, "float32"), f"{norm}.bias": np.zeros(width, "float32")})
    paddle.save({**saved, **more}, str(path))
    return saved


@pytest.mark.parametrize("name, networks, norms, settings", [
    ("ugatit_light", ["genA2B", "genB2A", "disGA", "disGB", "disLA", "disLB"], r"DownBlock\..*", {}),
    ("cyclegan", ["G_A", "G_B", "D_A", "D_B"], r"model\.(1|2|4|5|7|8|19|22)|model\.\d+\.conv_block\.\d", {}),
    ("pix2pix", ["G", "D"], "", {"dropout": False}),
])  # fmt: skip
def test_files_of_paddlegan(name, networks, norms, settings, tmp_path):
    names = {network: network if name == "ugatit_light" else f"net{network}" for network in networks}
    optimizer = {"LR_Scheduler": {"last_epoch": 3, "last_lr": 0.1}, "w_moment1_0": np.zeros(3, "float32")}
    saved = paddlegan(name, tmp_path / "p.pdparams", names, norms, epoch=3, optimG=optimizer)
    scales = sum(key.endswith("scale") for state in saved.values() for key in state)
    assert scales == {"ugatit_light": 2 * 11, "cyclegan": 2 * (23 + 3), "pix2pix": 0}[name]
    folder = imported(tmp_path, tmp_path / "p.pdparams")
    method, archive = method_in(folder), Archive(GOLDEN / f"{name}.npz")
    for network in networks:
        own = method.networks[network].state_dict()
        expected = archive.state("init", network, own)
        assert own.keys() == expected.keys() and all(np.array_equal(own[key], array) for key, array in expected.items())
    assert {key: read_meta(folder)["config"][key] for key in settings} == settings


def test_paddlegan_s_first_layers_without_bias_and_its_instance_norms(tmp_path, capsys):
    saved = paddlegan("pix2pix", tmp_path / "p.pdparams", {"G": "netG", "D": "netD"})
    del saved["netD"]["model.0.bias"]
    paddle.save(saved, str(tmp_path / "without.pdparams"))
    folder = imported(tmp_path, tmp_path / "without.pdparams")
    discriminator = load_file(folder / "discriminators.safetensors")
    assert not discriminator["D.model.0.bias"].any() and discriminator["D.model.2.weight"].any()

    saved = paddlegan("cyclegan", tmp_path / "c.pdparams", {"G_A": "netG_A"}, r"model\.(1|4)")
    saved["netG_A"]["model.2.scale"][1] = 2
    paddle.save(saved, str(tmp_path / "c.pdparams"))
    assert "model.2.scale" in refused(capsys, tmp_path, tmp_path / "c.pdparams")


# What is refused


def test_unknown_missing_and_misshaped_names_are_listed(tmp_path, capsys):
    arrays = dict(read_states(GOLDEN / FILES["cyclegan"])[""])
    file = tmp_path / "latest_net_G_A.safetensors"

    def said(**changes):
        changed = {**arrays, **changes}
        save_file({key: np.ascontiguousarray(array) for key, array in changed.items() if array is not None}, file)
        return refused(capsys, tmp_path, file)

    text = said(**{"model.11.conv_block.5.bias": None, "model.9.filt": np.zeros(3, "f4"), "fc.weight": np.zeros((2, 2), "f4")})
    assert f"{file}: G_A is not the network that its sizes imply" in text
    assert "unknown fc.weight, model.9.filt; missing model.11.conv_block.5.bias" in text
    text = said(**{"model.12.conv_block.1.weight": np.zeros((8, 7, 3, 3), "f4")})
    assert "of another shape model.12.conv_block.1.weight [8, 7, 3, 3] for [8, 8, 3, 3]" in text
    infinite = arrays["model.1.weight"].copy()
    infinite[1, 2, 3, 4] = np.inf
    assert "G_A.model.1.weight has values" in said(**{"model.1.weight": infinite})
    assert "of another shape" in said(**{"model.1.weight": np.zeros((400_000, 3, 7, 7), np.float16)})
    for first in (
        {"model.1.weight": None},
        {"model.1.weight": np.zeros(3, "f4")},
        {"model.1.weight": np.zeros((0, 3, 7, 7), "f4")},
    ):
        said(**first)


def test_commands_that_cannot_be_followed(tmp_path, capsys):
    light, full, G_A, G = (GOLDEN / file for file in FILES.values())
    assert "--method: name it" in refused(capsys, tmp_path, copied(G_A, tmp_path / "zebra.pth"), exit_code=2)
    assert "no network genA2B" in refused(capsys, tmp_path, light, "--method", "pix2pix", exit_code=2)
    assert "G_A is in" in refused(capsys, tmp_path, G_A, GOLDEN / "legacy_net_G_A.pth", exit_code=2)
    assert "no generator" in refused(capsys, tmp_path, copied(G_A, tmp_path / "latest_net_D_A.pth"), exit_code=2)
    assert "no latest_net_*.pth" in refused(capsys, tmp_path, GOLDEN / "runs_0.1", exit_code=2)
    assert "for 128x128" in refused(capsys, tmp_path, full, "--img_size", "256", exit_code=2)
    assert "for 64x64" in refused(capsys, tmp_path, G, "--img_size", "128", exit_code=2)
    assert "multiple of 4" in refused(capsys, tmp_path, G_A, "--img_size", "65", exit_code=2)
    assert "No such file" in refused(capsys, tmp_path, tmp_path / "nothing.pt")
    assert "unknown model.model.0.weight" in refused(capsys, tmp_path, G, "--method", "cyclegan")
    save_file({"weight": np.zeros(3, "f4")}, tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-1])
    assert "cannot be read" in refused(capsys, tmp_path, tmp_path / "cut.safetensors")
    (tmp_path / "p.pdparams").write_bytes(b"cos\nsystem\n(S'touch MARKER'\ntR.")
    assert "nothing was run" in refused(capsys, tmp_path, tmp_path / "p.pdparams")
    paddle.save({"other": {"weight": np.zeros(3)}}, str(tmp_path / "o.pdparams"))
    assert "none of its entries is a network of these methods: other" in refused(capsys, tmp_path, tmp_path / "o.pdparams")
    assert import_weights.main([str(G_A), "--output", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


def copied(file, path):
    path.write_bytes(file.read_bytes())
    return path


# What works with an imported checkpoint


def test_one_direction_is_tested_and_scored(tmp_path, capsys):
    draw_dataset(tmp_path / "data", train=0, size=32)
    (tmp_path / "data" / "tiny" / "testB" / "2.png").unlink()
    (tmp_path / "data" / "tiny" / "dataset.json").write_text('{"test_pairs": true}')
    copied(GOLDEN / FILES["cyclegan"], tmp_path / "anything.pth")
    arguments = ["--method", "cyclegan", "--direction", "BtoA", "--img_size", "32"]
    folder = imported(tmp_path, tmp_path / "anything.pth", *arguments)
    where = flags(tmp_path, "--method", "cyclegan", "--checkpoint", str(folder))
    assert main.main([*where, "--phase", "test"]) == 0
    out = tmp_path / "results" / "tiny" / "cyclegan" / "test_imported"
    record = json.loads((out / "test.json").read_text())
    assert record["rows"] == {"B2A": ["real_B", "fake_A", "real_A"]} and record["images"] == {"B2A": ["0.png", "1.png"]}
    assert sorted(path.name for path in out.iterdir()) == ["B2A", "contact_B2A.png", "grid", "grid_B2A.png", "test.json"]
    assert main.main([*where, "--phase", "evaluate", "--metrics", "l1"]) == 0
    report = json.loads((out.parent / "evaluation_imported.json").read_text())
    assert list(report["scores"]) == ["B2A"] and report["not_computed"] == {}
    assert "A2B" not in capsys.readouterr().out.split("there is no generator G_A")[1]


def test_one_generator_of_ugatit_and_a_folder_of_pix2pix(tmp_path):
    draw_dataset(tmp_path / "data", train=0, size=32)
    draw_pairs(tmp_path / "pairs")
    state = {f"genA2B.{key}": array for key, array in read_states(GOLDEN / FILES["ugatit_light"])["genA2B"].items()}
    save_file(state, tmp_path / "one.safetensors")
    one = imported(tmp_path / "one", tmp_path / "one.safetensors", "--img_size", "32")
    assert main.main(flags(tmp_path, "--phase", "test", "--checkpoint", str(one))) == 0
    record = json.loads((tmp_path / "results" / "tiny" / "ugatit" / "test_imported" / "test.json").read_text())
    assert record["rows"] == {"A2B": ["real_A", "CAM A2B", "A2B"]}

    (tmp_path / "theirs").mkdir()
    copied(GOLDEN / FILES["pix2pix"], tmp_path / "theirs" / "latest_net_G.pth")
    pairs = imported(tmp_path, tmp_path / "theirs")
    where = [
        "--method",
        "pix2pix",
        "--phase",
        "test",
        "--dataset",
        "tiny",
        "--data_root",
        str(tmp_path / "pairs"),
        "--device",
        "cpu",
    ]
    assert main.main([*where, "--checkpoint", str(pairs), "--result_dir", str(tmp_path / "results")]) == 0
    assert len(list((tmp_path / "results" / "tiny" / "pix2pix" / "test_imported" / "A2B").iterdir())) == 2


def test_imported_weights_are_no_run_to_resume(tmp_path, capsys):
    draw_dataset(tmp_path / "data", size=32)
    run = tmp_path / "results" / "tiny" / "cyclegan"
    folder = imported(run / "checkpoints", GOLDEN / FILES["cyclegan"])
    assert main.main(flags(tmp_path, "--method", "cyclegan", "--resume")) == 1
    said = capsys.readouterr().err
    assert f"{folder} has no discriminators and no optimizer" in said and f"--init_from {folder}" in said


@pytest.mark.parametrize("name", FILES)
def test_from_the_authors_file_to_onnx(name, tmp_path, capsys):
    """Imported, exported, and run by ONNX Runtime alone: the authors' outputs."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = imported(tmp_path, GOLDEN / FILES[name], *(["--no_dropout"] if name == "pix2pix" else []))
    is_ugatit = name.startswith("ugatit")
    flags = ["--checkpoint", str(folder), "--output", str(tmp_path / "onnx"), *(["--with_heatmap"] * is_ugatit)]
    assert main.main(["--phase", "export", *flags]) == 0
    archive = Archive(GOLDEN / f"{name}.npz")
    images = archive.arrays["A"][0].astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "A2B.onnx", providers=["CPUExecutionProvider"])
    if name == "pix2pix":
        # The figures have the statistics of a batch of two, exported files those of each image: so one by one, as in training.
        method = method_in(folder)
        method.set_training(True)
        for image in images:
            expected = method.networks["G"](paddle.to_tensor(image[None])).numpy()
            assert np.abs(session.run(None, {"image": image[None]})[0] - expected).max() <= TOLERANCE * np.abs(expected).max()
        return
    expected = archive.below("forward/genA2B/" if is_ugatit else "forward/G_A")
    outputs = dict(zip((output.name for output in session.get_outputs()), session.run(None, {"image": images})))
    pairs = {"translation": expected["image" if is_ugatit else ""], **({"heatmap": expected["heatmap"]} if is_ugatit else {})}
    for output, figure in pairs.items():
        assert np.abs(outputs[output] - figure).max() <= TOLERANCE * np.abs(figure).max(), output
