"""Find, download and check the weights of the Inception network.

The published file (PaddleGAN's conversion of the FID network) is downloaded once, and kept in the user's cache as safetensors,
which says where its arrays came from. Its checksum was not published with it: the first download is trusted, and every later
reading is checked against it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from errors import UserError, WeightsError
from foreign.pdparams import read_state
from metrics.cache import inception_cache
from metrics.inception import Inception
from utils import write_bytes

ADDRESS = "https://paddlegan.bj.bcebos.com/InceptionV3.pdparams"
HOW_TO_GET = f"download {ADDRESS} and name the file with --inception_weights FILE"
# Parts of the published networks that lie behind the features, and PyTorch's counters.
UNUSED = re.compile(r"(fc|AuxLogits)\..*|.*\.num_batches_tracked")
# PyTorch's names, and those of PaddleGAN's parameters, to those of Paddle's layers.
RENAMED = {"running_mean": "_mean", "running_var": "_variance", "running_variance": "_variance"}
Arrays = Dict[str, np.ndarray]


def load_inception(weights: Optional[Path]) -> Tuple[Inception, str]:
    """The network with its weights.

    Args:
        weights: a .safetensors or .pdparams file (--inception_weights), or None for the user's cache, which is filled from
            `ADDRESS` where it is empty.

    Returns:
        The network, and the SHA-256 of its arrays, which is the same for every file format.

    Raises:
        WeightsError: there are no weights, they are damaged or another network's, or a download fails or cannot be stored.
    """
    path, network = weights or inception_cache(), Inception()
    if weights is None and not os.path.exists(path):  # unlike Path.exists, False in a folder that may not be entered
        _download(path, network)
    arrays = _read(path, network)
    network.load(arrays)
    return network, arrays_sha256(arrays)


def arrays_sha256(arrays: Arrays) -> str:
    """SHA-256 of names, types, shapes and values, whatever the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array)
    return digest.hexdigest()


def _download(target: Path, network: Inception) -> None:
    """Download the published file and keep its arrays, with the checksums of both. Raises WeightsError."""
    from datatools.download import download

    published = target.with_name(ADDRESS.rsplit("/", 1)[1])
    try:
        source_sha256 = download(ADDRESS, published, label="Inception weights")
        arrays = _read(published, network)
        metadata = {"source": ADDRESS, "source_sha256": source_sha256, "arrays_sha256": arrays_sha256(arrays)}
        write_bytes(target, save(arrays, metadata))
    except WeightsError as error:
        raise WeightsError(f"{ADDRESS} gave something else ({error}); name another copy with --inception_weights FILE") from error
    except UserError as error:
        raise WeightsError(f"the Inception weights: {error}; or name a copy of that file with --inception_weights FILE") from error
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(f"{target}: the Inception weights cannot be stored there ({reason}); {HOW_TO_GET}") from error
    finally:
        with contextlib.suppress(OSError):
            published.unlink()


def _read(path: Path, network: Inception) -> Arrays:
    """The arrays of `network`, by their published names. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); {HOW_TO_GET}") from error
    if start[:2] == b"PK":
        raise WeightsError(
            f"--inception_weights {path}: a PyTorch archive; save its arrays as safetensors first, "
            "with safetensors.torch.save_file in PyTorch"
        )
    # A safetensors file is 8 bytes of length, then JSON.
    arrays = _read_safetensors(path) if start[8:] == b"{" else read_state(path)
    return _by_published_names(path, arrays, network)


def _read_safetensors(path: Path) -> Arrays:
    try:
        arrays = load_file(path)
        with safe_open(path, "np") as file:
            expected = (file.metadata() or {}).get("arrays_sha256")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: truncated, damaged, or not safetensors; remove it, then {HOW_TO_GET}") from error
    if expected not in (None, arrays_sha256(arrays)):
        raise WeightsError(f"{path}: its bytes have changed since it was saved; remove it, then {HOW_TO_GET}")
    return arrays


def _by_published_names(path: Path, arrays: Arrays, network: Inception) -> Arrays:
    """Raises WeightsError where names, shapes or values are not those of the network."""
    shapes = network.published_shapes()
    found = {_published_name(name): value for name, value in arrays.items() if not UNUSED.fullmatch(name)}
    problem = (
        _listed("lacks", [name for name in shapes if name not in found])
        or _listed("has also", [name for name in found if name not in shapes])
        or _listed("has another shape of", [name for name in shapes if list(found[name].shape) != shapes[name]])
        or _listed("has no numbers in", [name for name in shapes if not np.isfinite(found[name]).all()])
    )
    if problem:
        raise WeightsError(f"{path}: not the weights of the FID Inception network: it {problem}; {HOW_TO_GET}")
    return {name: np.ascontiguousarray(found[name], np.float32) for name in shapes}


def _published_name(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.{RENAMED.get(last, last)}"


def _listed(verb: str, names: List[str]) -> str:
    """The first of the names and how many more there are; nothing where there is none."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{verb} {names[0][:80]}{more}" if names else ""
