"""Reading .pdparams: what Paddle saves comes back whole; a pickle that asks for anything else is refused, and nothing runs."""

from __future__ import annotations

import collections
import os
import pickle
import tracemalloc

import numpy as np
import paddle
import pytest

from errors import WeightsError
from foreign.pdparams import PADDLE_NAMES, read_state


def refused(path, content):
    """The one line that the file is refused with."""
    path.write_bytes(content)
    with pytest.raises(WeightsError) as raised:
        read_state(path)
    text = str(raised.value)
    assert str(path) in text and "\n" not in text and "download the published file again" in text
    return text


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saves_comes_back(tmp_path, protocol):
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(2, 300, 3), paddle.nn.BatchNorm2D(300))
    expected = layer.state_dict()
    paddle.save(expected, str(tmp_path / "a.pdparams"), protocol=protocol)
    state = read_state(tmp_path / "a.pdparams")
    assert list(state) == list(expected)
    for name, value in expected.items():
        assert np.array_equal(state[name], value.numpy()) and state[name].dtype == np.float32


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


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_every_layout_and_paddle_s_other_entries(tmp_path, protocol):
    saved = collections.OrderedDict(ARRAYS)
    # Paddle's list of names, and a tensor as some versions save it.
    more = {PADDLE_NAMES: {"fortran": "conv2d_0.w_0"}, "named": ("conv2d_0.w_0", ARRAYS["half"])}
    (tmp_path / "d.pdparams").write_bytes(pickle.dumps(collections.OrderedDict({**saved, **more}), protocol))
    found = read_state(tmp_path / "d.pdparams")
    assert list(found) == [*saved, "named"]
    for name, value in {**saved, "named": ARRAYS["half"]}.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value), name


class SharesState:
    """Pickled as an array of the given state."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return (*np.zeros(1).__reduce__()[:2], self.state)


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


HOSTILE = {
    f"{os.system.__module__}.system": Calls(os.system, "touch MARKER"),
    "eval": Calls(eval, "open('MARKER', 'w')"),
    "getattr": Calls(getattr, "text", "upper"),
    "numpy.frombuffer": Calls(np.frombuffer, b"abcd"),
    "collections.Counter": collections.Counter("ab"),
    "'weight' is not an array of numbers": {"another": np.zeros(3)},
    "'weight' is not an array of": np.array(["text"]),
}


@pytest.mark.parametrize("named", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_hostile_pickles_are_refused_by_name_and_not_run(tmp_path, monkeypatch, named, protocol):
    monkeypatch.chdir(tmp_path)
    assert named in refused(tmp_path / "e.pdparams", pickle.dumps({"weight": HOSTILE[named]}, protocol))
    assert [path.name for path in tmp_path.iterdir()] == ["e.pdparams"]


TUPLES = b")" + 200_000 * b"\x85"  # a tuple in a tuple in a tuple ...
RAW = {
    "empty": b"",
    "text": b"<html>not found</html>",
    "no stop": b"\x80\x02}",
    "empty stack": b"\x80\x02.",
    "unknown memo": b"\x80\x02h\x07.",
    "a call of a value": b"\x80\x02K\x01)R.",
    "a state of a value": b"\x80\x02K\x01}b.",
    "a function by two strings": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "a class instance": b"(ios\nsystem\n.",
    "a new object": b"\x80\x02cos\nsystem\n)\x81.",
    "a persistent id": b"Psomething\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a set": b"\x80\x04\x8f.",
    "an array of objects": pickle.dumps({"w": np.array([object], dtype=object)}, 4),
    "a key whose hash would crash": b"\x80\x02}" + TUPLES + b"Ns.",
    "a key in the dict instruction": b"\x80\x02(" + TUPLES + b"Nd.",
    "a call whose name would crash": b"\x80\x02}\x8c\x01w" + TUPLES + b")Rs.",
    "a type that would crash": pickle.dumps({"w": np.zeros(2)}, 4).replace(b"\x8c\x02f8", TUPLES, 1),
    "a distant place in the memo": b"\x80\x02}r\xff\xff\xff\xff}s.",
    "bytes of 4 GiB": b"\x80\x02}B\xff\xff\xff\xff.",
    "a bytearray of 8 EiB": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("kind", RAW)
def test_other_instructions_and_damage_end_in_one_line(tmp_path, kind):
    refused(tmp_path / "f.pdparams", RAW[kind])


def test_arrays_cannot_be_larger_than_the_file(tmp_path):
    whole = pickle.dumps({"w": np.zeros(7, np.float32)}, 2)
    for shape in (b"K\x08\x85", b"K\x06\x85", b"J\xf9\xff\xff\xff\x85", b"J\xff\xff\xff\x7f\x85", b"K\x07J\xff\xff\xff\x7f\x86"):
        assert shape not in whole
        assert "damaged" in refused(tmp_path / "g.pdparams", whole.replace(b"K\x07\x85", shape))
    # A thousand arrays that share a megabyte, of which protocol 2 would make one each.
    state = np.ones(1 << 20, np.uint8).__reduce__()[2]
    whole = pickle.dumps({f"w{index}": SharesState(state) for index in range(1000)}, 2)
    tracemalloc.start()
    text = refused(tmp_path / "h.pdparams", whole)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "larger than the file" in text and peak < 30 << 20


def test_every_truncation_and_every_changed_byte_ends_in_a_weights_error_or_arrays(tmp_path):
    whole = pickle.dumps({"a": np.arange(4, dtype=np.float32), "b": np.ones((2, 2))}, 2)
    for length in range(len(whole)):
        refused(tmp_path / "i.pdparams", whole[:length])
    file = tmp_path / "j.pdparams"
    for place in range(len(whole)):
        for value in (0, 40, 46, 82, 98, 255, whole[place] ^ 1):
            file.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                state = read_state(file)
            except WeightsError:
                continue
            assert all(isinstance(array, np.ndarray) for array in state.values())
