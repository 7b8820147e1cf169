"""Write the files of weights in tests/golden that PyTorch has more than one way of saving, from what lies beside them.

pip install torch numpy      in an environment of its own; Paddle and this project's packages are not needed
python -m tests.golden.make_weights

ugatit_light_params_latest.pt, cyclegan_latest_net_G_A.pth and pix2pix_latest_net_G.pth come from the authors' own code and are not
written here. They hold the initial weights of the archives ugatit_light.npz, cyclegan.npz and pix2pix.npz. Here are made
- ugatit_full_params_latest.pt: the generators of ugatit_full.npz;
- legacy_net_G_A.pth: G_A of cyclegan.npz in the format before PyTorch 1.6, from a GPU, with statistics of its instance norms;
- dropout_net_G_A.pth: G_A as parameters, under the numbers that layers have where the blocks have dropout;
- half_net_G_A.pth: G_A with float16 weights that are not contiguous, and bfloat16 biases that share one storage.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np

GOLDEN = Path(__file__).parent


def files() -> Dict[str, bytes]:
    """The content of each file by its name."""
    import torch

    with np.load(GOLDEN / "ugatit_full.npz") as archive:
        full = OrderedDict((name, _state(torch, archive, f"init/{name}/")) for name in ("genA2B", "genB2A"))
    with np.load(GOLDEN / "cyclegan.npz") as archive:
        G_A = _state(torch, archive, "init/G_A/")
    # No GPU is needed to say that a tensor was on one.
    torch.serialization.register_package(0, lambda storage: "cuda:0", lambda storage, location: storage)
    legacy = _saved(torch, _with_statistics(torch, G_A), _use_new_zipfile_serialization=False)
    return {
        "ugatit_full_params_latest.pt": _saved(torch, full),
        "legacy_net_G_A.pth": legacy,
        "dropout_net_G_A.pth": _saved(torch, _with_dropout(torch, G_A)),
        "half_net_G_A.pth": _saved(torch, _in_half_precision(torch, G_A)),
    }


def _state(torch: Any, archive: Any, prefix: str) -> OrderedDict:
    arrays = {name[len(prefix) :]: archive[name] for name in archive.files if name.startswith(prefix)}
    return OrderedDict((name, torch.from_numpy(array)) for name, array in arrays.items())


def _with_statistics(torch: Any, state: OrderedDict) -> OrderedDict:
    """The state with what the instance norms behind all convolutions but the last had before PyTorch 0.4."""
    found = OrderedDict()
    for name, value in state.items():
        found[name] = value
        if name.endswith("bias") and not name.startswith("model.26."):
            stem, number, _ = name.rsplit(".", 2)
            found[f"{stem}.{int(number) + 1}.running_mean"] = torch.zeros_like(value)
            found[f"{stem}.{int(number) + 1}.running_var"] = torch.ones_like(value)
            found[f"{stem}.{int(number) + 1}.num_batches_tracked"] = torch.tensor(7)
    return found


def _with_dropout(torch: Any, state: OrderedDict) -> OrderedDict:
    """A layer of dropout moves the second convolution of a block from 5 to 6."""
    renamed = {re.sub(r"conv_block\.5", "conv_block.6", name): value for name, value in state.items()}
    return OrderedDict((name, torch.nn.Parameter(value)) for name, value in renamed.items())


def _in_half_precision(torch: Any, state: OrderedDict) -> OrderedDict:
    biases = {name: value.bfloat16() for name, value in state.items() if name.endswith("bias")}
    shared = iter(torch.cat(list(biases.values())).split([len(value) for value in biases.values()]))
    return OrderedDict(
        (name, next(shared) if name in biases else value.half().permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1))
        for name, value in state.items()
    )


def _saved(torch: Any, value: Any, **options: bool) -> bytes:
    content = io.BytesIO()
    torch.save(value, content, **options)
    return content.getvalue()


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make_weights", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDEN, help="the folder to write to (default: tests/golden)")
    options = parser.parse_args(arguments)
    try:
        contents = files()
    except ImportError as error:
        print(f"error: {error}; pip install torch", file=sys.stderr)
        return 1
    for name, content in contents.items():
        (options.out / name).write_bytes(content)
        print(f"{options.out / name}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
