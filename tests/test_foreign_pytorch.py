"""Reading .pt and .pth: what PyTorch saves comes back whole; a file that asks for anything else is refused, and nothing runs."""

from __future__ import annotations

import collections
import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from errors import WeightsError
from foreign.pytorch import MOST_PICKLED, read_states
from tests import torch_files
from tests.torch_files import STORAGE, archive, call, legacy, name, pickled, storage, tensor, value

GOLDEN = Path(__file__).parent / "golden"
FORMATS = {"zip": archive, "legacy": legacy}


def refused(path, content):
    """The one line that the file is refused with."""
    path.write_bytes(content)
    with pytest.raises(WeightsError) as raised:
        read_states(path)
    text = str(raised.value)
    assert str(path) in text and "\n" not in text and "torch.save" in text
    return text


def initial(archive_name, network):
    with np.load(GOLDEN / f"{archive_name}.npz") as figures:
        prefix = f"init/{network}/"
        return {key[len(prefix) :]: figures[key] for key in figures.files if key.startswith(prefix)}


# Files of PyTorch itself


def test_networks_of_the_authors_code():
    states = read_states(GOLDEN / "ugatit_light_params_latest.pt")
    assert list(states) == ["genA2B", "genB2A", "disGA", "disGB", "disLA", "disLB"]
    for network, state in states.items():
        expected = initial("ugatit_light", network)
        assert state.keys() == expected.keys()
        for key, array in expected.items():
            assert np.array_equal(state[key], array) and state[key].dtype == np.float32


@pytest.mark.parametrize("file", ["cyclegan_latest_net_G_A.pth", "legacy_net_G_A.pth", "dropout_net_G_A.pth", "half_net_G_A.pth"])
def test_one_network_in_every_way_of_saving(file):
    (state,) = read_states(GOLDEN / file).values()
    statistics = [state.pop(key) for key in list(state) if "running_" in key or key.endswith("num_batches_tracked")]
    assert len(statistics) == (3 * 23 if file.startswith("legacy") else 0)
    expected = initial("cyclegan", "G_A")
    assert len(state) == len(expected)
    for (key, array), (wanted_key, wanted) in zip(state.items(), expected.items()):
        assert key == wanted_key.replace("conv_block.5", "conv_block.6" if file.startswith("dropout") else "conv_block.5")
        if not file.startswith("half"):
            assert np.array_equal(array, wanted) and array.dtype == np.float32
        elif key.endswith("weight"):
            assert np.array_equal(array, wanted.astype(np.float16)) and not array.flags.c_contiguous
        else:  # bfloat16 keeps 8 bits
            np.testing.assert_allclose(array, wanted, rtol=2**-8)
            assert array.dtype == np.float32 and not (array.view(np.uint32) & 0xFFFF).any()


# What the format can hold


@pytest.mark.parametrize("form", FORMATS)
def test_views_types_and_what_is_no_tensor(tmp_path, form):
    entries = {
        "transposed": tensor(shape=(3, 2), strides=(1, 3)),
        "part": tensor(offset=2, shape=(2, 2), strides=(2, 1)),
        "scalar": tensor(offset=5, shape=(), strides=()),
        "old": tensor(maker="torch._utils._rebuild_tensor"),
        "parameter": call("torch._utils._rebuild_parameter", tensor(), value(True), call("collections.OrderedDict")),
        "empty": tensor(shape=(0, 3), strides=(3, 1)),
        "number": value(3),
        "rate": value(0.1),
        "list": b"](" + value("a") + value(2**40) + b"e",
    }
    content = pickled({**entries, "net": b"}" + value("weight") + tensor() + b"s"})
    (tmp_path / "a.pt").write_bytes(FORMATS[form](content))
    states = read_states(tmp_path / "a.pt")
    matrix = STORAGE.reshape(2, 3)
    assert list(states) == ["", "net"] and np.array_equal(states["net"]["weight"], matrix)
    expected = {"transposed": matrix.T, "part": STORAGE[2:].reshape(2, 2), "scalar": np.float32(5), "old": matrix}
    expected.update(parameter=matrix, empty=np.zeros((0, 3), np.float32))
    assert states[""].keys() == expected.keys()
    for key, array in expected.items():
        assert np.array_equal(states[""][key], array) and states[""][key].shape == array.shape


@pytest.mark.parametrize("form", FORMATS)
def test_a_dict_of_python_2(tmp_path, form):
    pair = b"]" + torch_files.value("weight") + b"a" + tensor() + b"a"
    pair = pair.replace(torch_files.value("weight"), b"U\x06weight")
    content = b"\x80\x02" + name("collections.OrderedDict") + b"(](" + pair + b"etR."
    (tmp_path / "b.pt").write_bytes(FORMATS[form](content))
    assert np.array_equal(read_states(tmp_path / "b.pt")[""]["weight"], STORAGE.reshape(2, 3))


def test_big_endian_archive(tmp_path):
    members = [("0", STORAGE.astype(">f4").tobytes()), ("any/byteorder", b"big")]
    (tmp_path / "c.pt").write_bytes(archive(pickled({"weight": tensor()}), members))
    assert np.array_equal(read_states(tmp_path / "c.pt")[""]["weight"], STORAGE.reshape(2, 3))


# Hostile files

TUPLES = b")" + 200_000 * b"\x85"  # a tuple in a tuple in a tuple ...
HUGE = 2**62
HOSTILE = {
    "'os.system'": call("os.system", value("touch MARKER")),
    "'posix.system'": value("posix") + value("system") + b"\x93" + value(("touch MARKER",)) + b"R",
    "'builtins.eval'": call("builtins.eval", value("open('MARKER', 'w')")),
    "'networks.Generator'": name("networks.Generator") + b")\x81",
    "'torch.load'": call("torch.load", value("x")),
    "'collections.Counter'": call("collections.Counter"),
}
DAMAGED = {
    "a name that is set up": name("collections.OrderedDict") + value(("x",)) + b"b",
    "a class instance": b"(i__main__\nFile\n",
    "an extension": b"\x82\x01",
    "a text persistent id": b"P0\n",
    "a persistent id of text": value("0") + b"Q",
    "another tag": b"(" + value(("storage", "0")) + b"tQ",
    "a storage of unknown type": tensor(storage(kind=value("torch.FancyStorage"))),
    "a key whose hash would crash": b"}" + TUPLES + b"Ns",
    "a storage whose key would crash": tensor(storage(key=TUPLES)),
    "a storage whose type would crash": tensor(storage(kind=TUPLES)),
    "a tensor whose storage would crash": tensor(TUPLES),
    "a call whose name would crash": TUPLES + b")R",
    "a number of elements that is none": tensor(storage(count="6")),
    "a view of a storage": tensor(storage(value("0"), name("torch.FloatStorage"), 6, ("0", 1, 2))),
    "two lengths of a storage": b"(" + tensor() + tensor(storage(count=5), shape=(5,), strides=(1,)) + b"t",
    "a storage that is not there": tensor(storage(key=value("1"))),
    "a storage outside the folder": tensor(storage(key=value("../data.pkl"))),
    "a longer storage": tensor(storage(count=7)),
    "another element size": tensor(storage(kind=name("torch.DoubleStorage"))),
    "rows outside": tensor(shape=(3, 3)),
    "an offset outside": tensor(offset=1),
    "a negative offset": tensor(offset=-1),
    "a huge offset": tensor(offset=HUGE),
    "a huge shape": tensor(shape=(HUGE, 4), strides=(0, 0)),
    "a negative shape": tensor(shape=(-2, 3)),
    "a huge stride": tensor(strides=(HUGE, 1)),
    "a negative stride": tensor(strides=(-3, 1)),
    "an element many times": tensor(shape=(1000, 1000), strides=(0, 0)),
    "a shape of text": tensor(shape=("2", "3")),
    "a shape of tuples": tensor().replace(value((2, 3)), TUPLES),
    "fewer strides": tensor(strides=(1,)),
    "fewer arguments": call("torch._utils._rebuild_tensor_v2", storage()),
    "an unknown place in the memo": b"h\x07",
    "bytes of 4 GiB": b"B\xff\xff\xff\xff",
}


@pytest.mark.parametrize("named", HOSTILE)
@pytest.mark.parametrize("form", FORMATS)
def test_hostile_pickles_are_refused_by_name_and_not_run(tmp_path, monkeypatch, form, named):
    monkeypatch.chdir(tmp_path)
    text = refused(tmp_path / "d.pt", FORMATS[form](pickled({"net": HOSTILE[named]})))
    assert named in text and "nothing was run" in text
    assert [path.name for path in tmp_path.iterdir()] == ["d.pt"]


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("form", FORMATS)
def test_damage_ends_in_one_line_and_takes_no_memory(tmp_path, form, kind):
    content = FORMATS[form](pickled({"weight": DAMAGED[kind]}))
    tracemalloc.start()
    refused(tmp_path / "e.pt", content)
    assert peak_memory() < 40 << 20


def peak_memory() -> int:
    """Bytes at most since tracemalloc was started, which is stopped."""
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_strange_and_harmless(tmp_path, form):
    strange = {
        "a distant place in the memo": b"}r\xff\xff\xff\xff",
        "itself": b"}q\x07" + value("weight") + b"h\x07s",
        "deep": 200_000 * b"]" + 199_999 * b"a",
        "a number as a key": b"}" + value(1) + value(2) + b"s",
    }
    (tmp_path / "f.pt").write_bytes(FORMATS[form](pickled({**strange, "weight": tensor()})))
    tracemalloc.start()
    states = read_states(tmp_path / "f.pt")
    assert peak_memory() < 100 << 20 and list(states) == [""] and list(states[""]) == ["weight"]


@pytest.mark.parametrize("form", FORMATS)
def test_arrays_cannot_be_larger_than_the_file(tmp_path, form):
    count = 1 << 20
    large = [("0", bytes(4 * count))]
    place = storage(count=count)
    names = {f"w{index}": tensor(place, index, (count - 1000,), (1,)) for index in range(1000)}
    content = FORMATS[form](pickled(names), large)
    tracemalloc.start()
    assert "larger than the file" in refused(tmp_path / "g.pt", content)
    assert peak_memory() < 30 << 20
    # A tensor of several names is one.
    same = {f"w{index}": tensor(place, 0, (count,), (1,)) for index in range(1000)}
    (tmp_path / "h.pt").write_bytes(FORMATS[form](pickled(same), large))
    arrays = read_states(tmp_path / "h.pt")[""]
    assert len(arrays) == 1000 and len({id(array) for array in arrays.values()}) == 1


def test_archives_that_torch_save_does_not_make(tmp_path):
    content = pickled({"weight": tensor()})
    cases = {
        "compressed": archive(content, compression=zipfile.ZIP_DEFLATED),
        "more than": archive(content + bytes(MOST_PICKLED)),
        "no member": archive(content).replace(b"data.pkl", b"dada.pkl"),
        "two": archive(content, [("0", STORAGE.tobytes()), ("other/data.pkl", content)]),
        "TorchScript": archive(name("__torch__.Network") + b")\x81."),
        "empty": b"PK\x05\x06" + bytes(18),
    }
    tracemalloc.start()
    texts = {kind: refused(tmp_path / "i.pt", case) for kind, case in cases.items()}
    assert peak_memory() < 40 << 20
    assert "compressed" in texts["compressed"] and "more than" in texts["more than"] and "__torch__.Network" in texts["TorchScript"]


def test_a_zip_bomb_is_not_inflated(tmp_path):
    file = archive(pickled({"weight": tensor(storage(count=1 << 24), 0, (1 << 24,), (1,))}))
    with zipfile.ZipFile(tmp_path / "j.pt", "w") as members:
        with zipfile.ZipFile(io.BytesIO(file)) as given:
            members.writestr("any/data.pkl", given.read("any/data.pkl"))
        members.writestr("any/data/0", bytes(4 << 24), zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    assert "compressed" in refused(tmp_path / "j.pt", (tmp_path / "j.pt").read_bytes()) and peak_memory() < 10 << 20


@pytest.mark.parametrize("form", FORMATS)
def test_every_truncation_and_every_changed_byte_ends_in_a_weights_error_or_arrays(tmp_path, form):
    whole = FORMATS[form](pickled({"weight": tensor(), "net": b"}" + value("bias") + tensor(shape=(3,), strides=(1,)) + b"s"}))
    for length in range(len(whole)):
        refused(tmp_path / "k.pt", whole[:length])
    file = tmp_path / "l.pt"
    for place in range(len(whole)):
        for changed in (0, 46, 82, 255, whole[place] ^ 1):
            file.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
            try:
                states = read_states(file)
            except WeightsError:
                continue
            assert all(isinstance(array, np.ndarray) for arrays in states.values() for array in arrays.values())
    if form == "zip":  # which has checksums
        place = whole.index(STORAGE.tobytes())
        for index in range(place, place + STORAGE.nbytes):
            assert "have changed" in refused(file, whole[:index] + bytes([whole[index] ^ 4]) + whole[index + 1 :])


@pytest.mark.parametrize("file", ["legacy_net_G_A.pth", "dropout_net_G_A.pth"])
def test_a_file_of_pytorch_cut_short(tmp_path, file):
    whole = (GOLDEN / file).read_bytes()
    for length in range(0, len(whole), 997):
        refused(tmp_path / "m.pth", whole[:length])


def test_other_files(tmp_path):
    assert "No such file" in missing(tmp_path / "nothing.pt")
    assert "Is a directory" in missing(tmp_path)
    for content in (b"", b"<html>not found</html>", pickle.dumps({"weight": 1}, 2), pickle.dumps(collections.Counter("ab"), 4)):
        refused(tmp_path / "n.pt", content)


def missing(path):
    with pytest.raises(WeightsError) as raised:
        read_states(path)
    return str(raised.value)
