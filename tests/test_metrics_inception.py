"""The Inception network against figures of torch-fidelity, and its weights: where they come from and what is refused."""

from __future__ import annotations

import hashlib
import sys
import types
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from errors import DataError, WeightsError
from metrics.cache import cache_folder
from metrics.features import extract_features
from metrics.inception import Inception, interpolation, published_name, resize
from metrics.weights import ADDRESS, arrays_sha256, load_inception
from tests.golden import make_metrics
from tests.golden.make_metrics import RESIZE_SAMPLE, drawn_images, random_weights

GOLDEN = Path(__file__).parent / "golden" / "metrics.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def state():
    """Random weights by PaddleGAN's names."""
    return random_weights(Inception().published_shapes())


@pytest.fixture(scope="module")
def files(state, tmp_path_factory):
    """The same weights as safetensors, as Paddle saves them, and by pytorch-fid's names with what it has besides."""
    folder = tmp_path_factory.mktemp("weights")
    save_file(state, folder / "ours.safetensors")
    paddle.save({name: paddle.to_tensor(value) for name, value in state.items()}, str(folder / "published.pdparams"))
    renamed = {name.replace("._mean", ".running_mean").replace("._variance", ".running_var"): v for name, v in state.items()}
    extra = {"fc.weight": np.zeros((1008, 2048), np.float32), "Mixed_5b.branch1x1.bn.num_batches_tracked": np.zeros(1, np.int64)}
    save_file({**renamed, **extra}, folder / "pytorch_fid.safetensors")
    return folder


def tensor(image: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(image.transpose(2, 0, 1)[None])


def test_features_are_those_of_torch_fidelity(golden, files):
    network, _ = load_inception(files / "ours.safetensors")
    # Three sizes in one batch: each is resized by itself.
    features = extract_features(network, drawn_images(), batch_size=3)
    assert features.shape == (3, 2048) and features.dtype == np.float32
    expected = golden["features"]
    assert np.abs(features - expected).max() < 1e-5 * np.abs(expected).max()
    # The images differ by far more than the tolerance.
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected).max()


def test_resize_is_that_of_torch_fidelity(golden):
    for image, expected in zip(drawn_images(), golden["resized"]):
        ours = resize(tensor(image).astype("float32")).numpy()[0][:, RESIZE_SAMPLE, RESIZE_SAMPLE]
        assert np.abs(ours - expected).max() < 1e-3


@pytest.mark.parametrize("side", [1, 2, 128, 256, 299, 400, 1000])
def test_resize_reads_at_multiples_of_the_scale_and_keeps_constants(side):
    matrix = interpolation(side)
    assert np.allclose(matrix.sum(1), 1) and matrix.min() >= 0
    positions = np.arange(299) * side / 299
    inside = positions <= side - 1
    assert np.allclose((matrix @ np.arange(side))[inside], positions[inside], atol=1e-3)
    if side == 299:
        assert np.array_equal(matrix, np.eye(299))


def test_every_format_gives_the_same_network_and_the_same_id(files, state):
    found = [load_inception(file) for file in sorted(files.iterdir())]
    assert len(found) == 3 and {weights_id for _, weights_id in found} == {arrays_sha256(state)}
    for network, _ in found:
        assert all(np.array_equal(value.numpy(), state[published_name(name)]) for name, value in network.state_dict().items())


def test_batches_grey_images_and_none(files):
    network, _ = load_inception(files / "ours.safetensors")
    colour = drawn_images()[0]
    grey = colour[:, :, :1]
    features = extract_features(network, iter([grey, np.repeat(grey, 3, axis=2)]), batch_size=1)
    assert np.array_equal(features[0], features[1])
    assert extract_features(network, []).shape == (0, 2048)
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        network(paddle.zeros([1, 1, 32, 32]))


# What bad weights get


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


KERNEL = "Conv2d_1a_3x3.conv.weight"
BAD_STATES = {
    "missing": (lambda state: without(state, KERNEL), f"lacks {KERNEL};"),
    "other network": (lambda state: {"features.0.weight": state[KERNEL]}, "lacks Conv2d_1a_3x3.conv.weight and 469 more;"),
    "more": (lambda state: {**state, "Mixed_8a.conv.weight": state[KERNEL]}, "has also Mixed_8a.conv.weight"),
    "shape": (lambda state: {**state, KERNEL: state[KERNEL][:16]}, f"has another shape of {KERNEL}"),
    "nan": (lambda state: {**state, KERNEL: state[KERNEL] * np.nan}, f"has no numbers in {KERNEL}"),
}


@pytest.mark.parametrize("kind", BAD_STATES)
def test_another_networks_weights_are_refused_by_name(kind, state, tmp_path):
    change, words = BAD_STATES[kind]
    file = tmp_path / "权重 weights.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in change(state).items()}, file)
    with pytest.raises(WeightsError) as raised:
        load_inception(file)
    text = str(raised.value)
    assert words in text and str(file) in text and "--inception_weights FILE" in text and "\n" not in text


def test_missing_truncated_and_foreign_files_are_refused(files, tmp_path):
    cases = {"missing.safetensors": None, "empty.pdparams": b"", "archive.pth": b"PK\x03\x04 and more", "text.txt": b"hello world"}
    cases["short.safetensors"] = (files / "ours.safetensors").read_bytes()[:-1000]
    cases["short.pdparams"] = (files / "published.pdparams").read_bytes()[:-1000]
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError) as raised:
            load_inception(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_inception(tmp_path)


# The cache and the download


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ugatit-paddle"


def serve(monkeypatch, content):
    """An datatools.download that gives `content` (or raises it); returns the list of addresses it was asked for."""
    asked = []

    def download(url, target, sha256=None, label=""):
        asked.append(url)
        if isinstance(content, Exception):
            raise content
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    monkeypatch.setitem(sys.modules, "datatools.download", types.SimpleNamespace(download=download))
    return asked


def test_the_published_file_is_fetched_once_and_kept_as_safetensors(cache, files, state, monkeypatch):
    content = (files / "published.pdparams").read_bytes()
    asked = serve(monkeypatch, content)
    ids = {load_inception(None)[1] for _ in range(2)}
    assert asked == [ADDRESS] and ids == {arrays_sha256(state)}
    assert [file.name for file in cache.iterdir()] == ["inception.safetensors"]
    from safetensors import safe_open

    with safe_open(cache / "inception.safetensors", "np") as file:
        metadata = file.metadata()
    assert metadata["source"] == ADDRESS and metadata["source_sha256"] == hashlib.sha256(content).hexdigest()


def test_a_file_that_is_given_beats_the_cache(cache, files, monkeypatch):
    asked = serve(monkeypatch, b"")
    load_inception(files / "ours.safetensors")
    assert asked == [] and not cache.exists()


def test_changed_bytes_in_the_cache_are_noticed(cache, files, monkeypatch):
    serve(monkeypatch, (files / "published.pdparams").read_bytes())
    load_inception(None)
    kept = cache / "inception.safetensors"
    content = bytearray(kept.read_bytes())
    content[-100] ^= 1
    kept.write_bytes(content)
    with pytest.raises(WeightsError, match="its bytes have changed .* remove it"):
        load_inception(None)


@pytest.mark.parametrize(
    "served", [DataError("no route to host"), OSError(28, "No space left on device"), b"<html>not found</html>"]
)
def test_a_failed_download_leaves_nothing_and_says_how_to_get_the_file(cache, monkeypatch, served):
    serve(monkeypatch, served)
    with pytest.raises(WeightsError) as raised:
        load_inception(None)
    assert "--inception_weights" in str(raised.value) and "\n" not in str(raised.value)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, expected in (("/x/y", "/x/y"), ("relative", f"{tmp_path}/.cache"), ("", f"{tmp_path}/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache_folder().as_posix() == f"{expected}/ugatit-paddle"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    assert cache_folder() == tmp_path / "AppData" / "ugatit-paddle"


def test_the_golden_file_s_maker_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert make_metrics.main(["--out", str(tmp_path / "golden.npz")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "pip install torch" in said
    assert list(tmp_path.iterdir()) == []
