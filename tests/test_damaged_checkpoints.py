"""Bytes of a checkpoint that have changed, and files of another run among its own, are noticed or change nothing."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import main
from engine.checkpoint import META, Checkpoint, load
from engine.run import load_generators
from errors import CheckpointError
from tests.helpers import TINY, draw_dataset, draw_pairs, flags, newest

FLIPS = 200
SIZES = ["--img_size", "8", "--ch", "1", "--n_layers_D", "1"]
METHODS = {"ugatit": TINY, "cyclegan": [*SIZES, "--n_blocks", "1"], "pix2pix": SIZES}


def train(where: Path, method: str, seed: int) -> Path:
    """The checkpoint of a tiny run of one iteration."""
    draw_pairs(where / "data") if method == "pix2pix" else draw_dataset(where / "data")
    arguments = ["--method", method, *METHODS[method], "--iteration", "1", "--ema", "0.9", "--seed", str(seed)]
    assert main.main(flags(where, *arguments)) == 0
    return newest(where / "results" / "tiny" / method)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return one.meta == other.meta and all(
        set(arrays) == set(other.arrays[part])
        and all(array.dtype == other.arrays[part][name].dtype for name, array in arrays.items())
        and all(np.array_equal(array, other.arrays[part][name]) for name, array in arrays.items())
        for part, arrays in one.arrays.items()
    )


@pytest.mark.parametrize("method", METHODS)
def test_flipped_bits(tmp_path, method):
    """Each of 200 makes an error of one line, or the same is loaded."""
    folder = train(tmp_path, method, 0)
    whole, rng, noticed = load(folder), random.Random(0), 0
    files = sorted(folder.iterdir())
    assert {file.name for file in files} == {META, *(f"{part}.safetensors" for part in whole.arrays)}
    for number in range(FLIPS):
        file = files[number % len(files)]
        content = file.read_bytes()
        # Headers, which say what follows, are as likely as all values together.
        place = rng.randrange(min(1024, len(content)) if rng.random() < 0.5 else len(content))
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        try:
            assert same(load(folder, method), whole), (file.name, place)
        except CheckpointError as error:
            assert len(str(error).splitlines()) == 1 and str(file) in str(error)
            noticed += 1
        file.write_bytes(content)
    assert noticed > 0.9 * FLIPS and same(load(folder), whole)


def test_files_of_another_run(tmp_path):
    """Of the same networks, data and iteration, with another seed: any file alone, and all but meta.json."""
    mine, other = (train(tmp_path / str(seed), "pix2pix", seed) for seed in range(2))
    names = [file.name for file in sorted(mine.iterdir())]
    for swapped in [*([name] for name in names), [name for name in names if name != META]]:
        mixed = tmp_path / "mixed"
        shutil.copytree(mine, mixed)
        for name in swapped:
            shutil.copy(other / name, mixed / name)
        with pytest.raises(CheckpointError, match="bytes have changed"):
            load(mixed, "pix2pix")
        for weights, file in (("averaged", "averaged.safetensors"), ("raw", "generators.safetensors")):
            if {file, META}.intersection(swapped):
                with pytest.raises(CheckpointError, match="bytes have changed"):
                    load_generators(mixed, "pix2pix", weights)
        shutil.rmtree(mixed)
