"""Reading .pdparams: what Paddle saves comes back whole; a pickle that would run anything is refused by name, unrun."""

from __future__ import annotations

import collections
import os
import pickle
import sys

import numpy as np
import paddle
import pytest

from errors import WeightsError
from metrics.pdparams import read_saved, read_state


@pytest.fixture(scope="module")
def layer():
    return paddle.nn.Sequential(paddle.nn.Conv2D(2, 300, 3), paddle.nn.BatchNorm2D(300))


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saves_comes_back(layer, tmp_path, protocol):
    paddle.save(layer.state_dict(), str(tmp_path / "a.pdparams"), protocol=protocol)
    state = read_state(tmp_path / "a.pdparams")
    expected = layer.state_dict()
    assert list(state) == list(expected)
    for name, value in expected.items():
        assert np.array_equal(state[name], value.numpy()) and state[name].dtype == np.float32


def test_nested_states_and_tensors_with_their_names(layer, tmp_path):
    saved = {"net": layer.state_dict(), "step": paddle.to_tensor([7, 8]), "epoch": 3, "lr": 0.5, "note": "ok", "none": None}
    paddle.save(saved, str(tmp_path / "b.pdparams"))
    found = read_saved(tmp_path / "b.pdparams")
    assert found["epoch"] == 3 and found["lr"] == 0.5 and found["note"] == "ok" and found["none"] is None
    name, array = found["step"]
    assert isinstance(name, str) and array.tolist() == [7, 8] and array.dtype == np.int64
    paddle.save({"w": paddle.ones([2, 3])}, str(tmp_path / "c.pdparams"))
    assert read_state(tmp_path / "c.pdparams")["w"].tolist() == [[1.0] * 3] * 2
    with pytest.raises(WeightsError, match="its entry 'epoch' is not an array|its entry 'net' is not an array"):
        read_state(tmp_path / "b.pdparams")


ARRAYS = {
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(5, dtype=">i4"),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "half": np.arange(3, dtype=np.float16),
    "bytes": np.arange(256, dtype=np.uint8),
    "truth": np.array([True, False]),
    "strided": np.arange(10)[::2],
}


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_of_every_layout_and_protocol(tmp_path, protocol):
    saved = collections.OrderedDict([*ARRAYS.items(), ("again", ARRAYS["fortran"])])
    found = read_state(write(tmp_path / "d.pdparams", pickle.dumps(saved, protocol)))
    assert list(found) == list(saved)
    for name, value in saved.items():
        assert found[name].dtype == value.dtype.newbyteorder("=") and np.array_equal(found[name], value), name


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


HOSTILE = {
    "posix.system": Calls(os.system, "touch MARKER"),
    "builtins.eval": Calls(eval, "open('MARKER', 'w')"),
    "builtins.exec": Calls(exec, "open('MARKER', 'w')"),
    "builtins.getattr": Calls(getattr, "text", "upper"),
    "numpy.frombuffer": Calls(np.frombuffer, b"abcd"),
    "collections.Counter": collections.Counter("ab"),
    "type 'O8'": np.array([object], dtype=object),
    "type 'M8'": np.array(["2020-01-01"], "datetime64[D]"),
    "instruction EMPTY_SET": {1, 2},
}


@pytest.mark.parametrize("named", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_hostile_pickles_are_refused_by_name_and_not_run(tmp_path, monkeypatch, named, protocol):
    monkeypatch.chdir(tmp_path)
    if sys.platform == "win32" and named == "posix.system":
        named = "nt.system"
    file = write(tmp_path / "e.pdparams", pickle.dumps({"weight": HOSTILE.get(named, HOSTILE["posix.system"])}, protocol))
    with pytest.raises(WeightsError) as raised:
        read_saved(file)
    text = str(raised.value)
    expected = named.replace("builtins", "__builtin__") if protocol == 2 else named
    if not (protocol == 2 and "EMPTY_SET" in named):  # protocol 2 has no such instruction and names the class
        assert expected.split()[-1] in text
    assert str(file) in text and "nothing of it was run" in text and "\n" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["e.pdparams"]


RAW = {
    "names a function by two strings": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "a class instance": b"(ios\nsystem\n.",
    "a new object": b"\x80\x02cos\nsystem\n)\x81.",
    "a persistent id": b"Psomething\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "bytes of another encoding": b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
}


@pytest.mark.parametrize("kind", RAW)
def test_other_ways_to_call_are_refused(tmp_path, kind):
    with pytest.raises(WeightsError, match="nothing of it was run"):
        read_saved(write(tmp_path / "f.pdparams", RAW[kind]))


DAMAGED = {
    "empty": b"",
    "text": b"hello",
    "no stop": b"\x80\x02}",
    "empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02}u.",
    "a mark as the value": b"\x80\x02(.",
    "call of a value": b"\x80\x02K\x01)R.",
    "state of a value": b"\x80\x02}}b.",
    "unknown memo": b"\x80\x02h\x07.",
    "a list as key": b"\x80\x02}]K\x01s.",
    "array with another state": b"\x80\x02cnumpy\nndarray\n)R}b.",
    "array with a wild type": b"\x80\x02cnumpy\nndarray\n)R(K\x01K\x02\x85K\x03\x89C\x01atb.",
    "name without module": b"\x80\x04K\x01\x8c\x01a\x93.",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_end_in_one_line(tmp_path, kind):
    with pytest.raises(WeightsError) as raised:
        read_state(write(tmp_path / "g.pdparams", DAMAGED[kind]))
    assert "\n" not in str(raised.value) and "fetch the published file again" in str(raised.value)


def test_an_array_whose_bytes_do_not_fill_its_shape_is_damaged(tmp_path):
    whole = pickle.dumps({"w": np.zeros(7, np.float32)}, 2)
    for shape in (b"K\x08\x85", b"K\x06\x85", b"J\xf9\xff\xff\xff\x85"):
        changed = whole.replace(b"K\x07\x85", shape)
        assert changed != whole
        with pytest.raises(WeightsError, match="damaged"):
            read_state(write(tmp_path / "h.pdparams", changed))


def test_every_truncation_and_many_flipped_bytes_end_in_a_weights_error_or_arrays(layer, tmp_path):
    small = {"a": np.arange(4, dtype=np.float32), "b": np.ones((2, 2))}
    whole = pickle.dumps(small, 2)
    file = tmp_path / "i.pdparams"
    for length in range(len(whole)):
        with pytest.raises(WeightsError):
            read_state(write(file, whole[:length]))
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] = rng.integers(256)
        try:
            state = read_state(write(file, bytes(changed)))
        except WeightsError:
            continue
        assert all(isinstance(value, np.ndarray) for value in state.values())
