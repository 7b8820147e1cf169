"""The authors' figures, replayed through the project's own training step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

from methods import METHODS
from tools import parity

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("form", ["fast", "plain"])
@pytest.mark.parametrize("name", ["ugatit_light", "ugatit_full", "cyclegan", "pix2pix"])
def test_figures_of_the_authors(name, form, capsys):
    assert parity.main([str(GOLDEN / f"{name}.npz"), "--form", form]) == 0
    out = capsys.readouterr().out
    assert "OVER" not in out
    for measure in ("forward", "losses of step 1", "gradients of ", "final weights of "):
        assert f"ok    {measure}" in out
    assert paddle.get_default_dtype() == "float32"


@pytest.mark.parametrize("key, words", [
    ("step1/G_total", "losses of step 1"),
    ("grad/disGA/model.1.bias", "gradients of disGA"),
    ("forward/genA2B/heatmap", "forward"),
    ("final/genB2A/gamma.weight", "final weights of genB2A"),
])  # fmt: skip
def test_a_changed_figure_is_noticed(key, words, tmp_path, capsys):
    with np.load(GOLDEN / "ugatit_light.npz") as archive:
        arrays = dict(archive)
    arrays[key] = arrays[key] * 1.01
    np.savez(tmp_path / "changed.npz", **arrays)
    assert parity.main([str(tmp_path / "changed.npz")]) == 1
    over = [line for line in capsys.readouterr().out.splitlines() if line.startswith("OVER")]
    assert over and all(words in line for line in over)


def test_figures_in_the_form_of_reprod_log(tmp_path):
    """By the package itself: the guide asks for a mean difference of at most 1e-6, and the same names on both sides."""
    package = pytest.importorskip("reprod_log")
    assert parity.main([str(GOLDEN / "pix2pix.npz"), "--reprod_log", str(tmp_path)]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        f"{step}_{whose}.npy" for step in ("forward", "loss", "bp_align") for whose in ("paddle", "torch")
    )
    for step, key in (
        ("forward", "forward/G"),
        ("loss", "losses of step 0/G_L1"),
        ("bp_align", "final weights of G/up.0.1.weight"),
    ):
        helper = package.ReprodDiffHelper()
        ours, theirs = (helper.load_info(str(tmp_path / f"{step}_{whose}.npy")) for whose in ("paddle", "torch"))
        helper.compare_info(ours, theirs)
        assert key in ours and max(difference["mean"] for difference in helper.diff_dict.values()) < 1e-6
        theirs[key] = np.asarray(theirs[key] + 1e-3)
        helper.compare_info(ours, theirs)
        assert helper.diff_dict[key]["mean"] == pytest.approx(1e-3, rel=1e-3)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert parity.main([str(GOLDEN / "cyclegan.npz"), "--reprod_log", str(tmp_path / "file" / "inside")]) == 1
    assert "--reprod_log" in capsys.readouterr().err


def test_any_channel_count_and_batch():
    """An archive with other sizes builds networks of those sizes."""
    with np.load(GOLDEN / "ugatit_light.npz") as archive:
        arrays = {name: array for name, array in archive.items() if name.startswith("init/") or name in "AB"}
    four = {name: np.repeat(arrays[name], 2, axis=1)[:, :, [0, 1, 2, 0]] for name in "AB"}
    config = parity.config_of(archive_of({**arrays, **four}))
    method = METHODS[config.method](config)
    assert method.config.img_ch == 4 and method.config.batch_size == 2


def archive_of(arrays):
    archive = parity.Archive.__new__(parity.Archive)
    archive.arrays = arrays
    return archive


def test_a_file_of_another_kind_is_refused(tmp_path, capsys):
    (tmp_path / "a.npz").write_bytes(b"nothing")
    assert parity.main([str(tmp_path / "a.npz")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
