"""Write a checkpoint's networks under the names of the authors' PyTorch code and in its layout, as safetensors.

python -m tools.export_weights results/selfie2anime/ugatit --output anime.safetensors
python -m tools.export_weights results/horse2zebra/cyclegan --output zebra

U-GAT-IT's are one file with names such as genA2B.DownBlock.1.weight, the others' a folder of files such as
latest_net_G_A.safetensors. The generators are the averaged ones where there are any. docs/weights.md loads them in PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

from safetensors import SafetensorError
from safetensors.numpy import save_file

from command_line import OneLineParser, exit_code_of
from engine.run import open_networks
from errors import ConfigError, WeightsError
from tools.authors_names import Arrays, their_state
from utils import replacing

# What their networks can be, by our settings.
THEIRS: Mapping[str, Sequence[Any]] = {
    "upsample": ("transpose",),
    "norm": ("batch", "instance"),
    "decoder_norm": ("adalin",),
    "no_generator_cam": (False,),
    "no_discriminator_cam": (False,),
    "no_skip": (False,),
}


def their_networks(path: Path) -> Dict[str, Arrays]:
    """The networks of a checkpoint by name, each as `their_state` has it.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
        ConfigError: their code has no such networks.
    """
    checkpoint = open_networks(path, "CHECKPOINT")
    for name, values in THEIRS.items():
        value = checkpoint.meta["config"].get(name, values[0])
        if value not in values:
            raise ConfigError(f"{path}: the authors' code has no networks with --{name} {value}")
    networks: Dict[str, Arrays] = {}
    for part in list(checkpoint.arrays):
        for key, array in checkpoint.arrays.pop(part).items():
            name, _, rest = key.partition(".")
            networks.setdefault(name, {})[rest] = array
    for name in networks:  # one after the other: the full model's take 3 GB
        networks[name] = their_state(networks[name])
    return networks


def write_safetensors(path: Path, arrays: Arrays) -> None:
    """Write one file. Raises WeightsError."""
    try:
        with replacing(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(arrays, temporary, {"format": "pt"})
            temporary.chmod(mode)  # safetensors makes files that only their owner can read
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"--output: {path} cannot be written ({getattr(error, 'strerror', None) or error})") from error
    print(f"{path}: {len(arrays)} arrays")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="CHECKPOINT and --output")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError."""
    parser = OneLineParser(
        prog="python -m tools.export_weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint folder, or the folder of a run")
    parser.add_argument("--output", required=True, type=Path, help="the .safetensors file (U-GAT-IT) or the folder to write")
    options = parser.parse_args(arguments)
    networks, output = their_networks(options.checkpoint), options.output
    if output.exists():
        raise ConfigError(f"--output {output}: this is there already; name a new file or folder")
    is_ugatit = any(name.startswith("gen") for name in networks)
    if is_ugatit != (output.suffix == ".safetensors"):
        wanted = "a file whose name ends in .safetensors" if is_ugatit else "a folder, for one file a network"
        raise ConfigError(f"--output {output}: name {wanted}")
    if is_ugatit:
        write_safetensors(output, {f"{name}.{key}": array for name, arrays in networks.items() for key, array in arrays.items()})
        return
    for name, arrays in networks.items():
        write_safetensors(output / f"latest_net_{name}.safetensors", arrays)


if __name__ == "__main__":
    sys.exit(main())
