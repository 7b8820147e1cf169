"""Make a checkpoint of weights that the authors' PyTorch code or PaddleGAN saved. Nothing in their files is run.

python -m tools.import_weights selfie2anime_params_latest.pt --output weights/anime
python -m tools.import_weights latest_net_G_A.pth latest_net_G_B.pth --output weights/zebra
python -m tools.import_weights checkpoints/facades_label2photo_pretrained --direction BtoA --output weights/facades
python main.py --phase test --checkpoint weights/anime --dataset selfie2anime

Of a folder the files latest_net_* are taken. Method and sizes follow from the names and shapes of the arrays.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from engine.cpu import configure_cpu

configure_cpu()

import paddle  # noqa: E402

from command_line import OneLineParser, exit_code_of  # noqa: E402
from config import CONFIGS, Config, proportionate_depth, to_saved  # noqa: E402
from engine.checkpoint import Checkpoint, save_folder  # noqa: E402
from errors import ConfigError, WeightsError  # noqa: E402
from foreign import pdparams, pytorch  # noqa: E402
from methods import METHODS  # noqa: E402
from tools.authors_names import Arrays, our_state, their_names  # noqa: E402
from tools.authors_sizes import NETWORKS, has_dropout, is_unet, sizes_of  # noqa: E402

# A network's name in that of its file, such as latest_net_G_A.pth; without one it is the generator, G.
NAME_IN_FILE = re.compile(r"net_([GD](_[AB])?)\.\w+$")
BATCH_NORM_OF_PADDLE = {"_mean": "running_mean", "_variance": "running_var"}
MOST_LISTED = 5


class Foreign(NamedTuple):
    """A network in another project's file: its arrays by the authors' names, and whether linear layers hold (out, in)."""

    file: Path
    arrays: Arrays
    transposed: bool


def read_networks(path: Path) -> Dict[str, Foreign]:
    """The networks in a file, by the authors' names of them; "G" is a generator without a name.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds none.
    """
    states, transposed = _read_states(path)
    known = {name for names in NETWORKS.values() for name in names}
    # PaddleGAN's netG_A is G_A.
    found = {name[3:] if name[:3] == "net" else name: arrays for name, arrays in states.items()}
    found = {name: arrays for name, arrays in found.items() if name in known}
    if not found and "" in states:
        named = NAME_IN_FILE.search(path.name)
        found = {named[1] if named else "G": states[""]}
    if not found:
        raise WeightsError(
            f"{path}: none of its entries is a network of these methods: {_some(list(states)) or 'no arrays at all'}"
        )
    return {name: Foreign(path, _without_leftovers(path, arrays), transposed) for name, arrays in found.items()}


def _read_states(path: Path) -> Tuple[Dict[str, Arrays], bool]:
    """The arrays by network and name, those at the top under the network "", and whether linear layers hold (out, in)."""
    try:
        with path.open("rb") as file:
            start = file.read(len(pytorch.LEGACY_START))
        if start[8:9] == b"{":  # behind the length of its header
            return _by_network(load_file(path)), True
    except (
        OSError,
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:  # the last two of types NumPy lacks
        raise WeightsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if start[:2] == b"PK" or start == pytorch.LEGACY_START:
        return pytorch.read_states(path), True
    return pdparams.read_states(path), False


def _by_network(arrays: Arrays) -> Dict[str, Arrays]:
    """Names such as genA2B.DownBlock.1.weight taken apart; others under the network ""."""
    states: Dict[str, Arrays] = {}
    for name, array in arrays.items():
        network, _, rest = name.partition(".")
        network, rest = (network, rest) if network in NETWORKS["ugatit"] else ("", name)
        states.setdefault(network, {})[rest] = array
    return states


def _without_leftovers(path: Path, arrays: Arrays) -> Arrays:
    """The arrays with Paddle's batch norms under PyTorch's names, and without those of instance norms and counters.

    The instance norms of all three methods have none: old versions of PyTorch saved statistics that are not used, and PaddleGAN
    saves scales and shifts of 1 and 0. Where PyTorch trained on several GPUs, names may begin with "module.".
    """
    found = {}
    for name, array in arrays.items():
        name = re.sub(r"^module\.", "", name)
        found[re.sub(r"[^.]+$", lambda last: BATCH_NORM_OF_PADDLE.get(last[0], last[0]), name)] = array
    for name in list(found):
        stem, _, last = name.rpartition(".")
        if last == "scale":
            scale, shift = found.pop(name), found.pop(f"{stem}.bias", np.zeros(1))
            if (scale != 1).any() or (shift != 0).any():
                raise WeightsError(f"{path}: {name[:80]}: instance norms with scales of their own are not of these methods")
        elif last == "num_batches_tracked" or (last in ("running_mean", "running_var") and f"{stem}.weight" not in found):
            del found[name]
    return found


def _without_dropout(arrays: Arrays) -> Arrays:
    """The numbers that layers have without dropout, of which CycleGAN here has none."""
    if not has_dropout(arrays):
        return arrays
    return {re.sub(r"(?<=conv_block\.)[67]", lambda match: str(int(match[0]) - 1), name): array for name, array in arrays.items()}


def method_of(networks: Mapping[str, Foreign]) -> str:
    """The method whose networks these are. Raises ConfigError where they could be those of several."""
    generator = networks["G"].arrays if "G" in networks else {}
    if is_unet(generator):
        return "pix2pix"
    if any(name.startswith("DownBlock.") for name in generator):
        return "ugatit"
    fitting = [method for method, names in NETWORKS.items() if not generator and set(networks) <= set(names)]
    if len(fitting) != 1:
        raise ConfigError(f"--method: name it, one of {', '.join(NETWORKS)}; the networks {', '.join(networks)} do not show it")
    return fitting[0]


def config_of(method: str, networks: Mapping[str, Foreign], options: argparse.Namespace) -> Config:
    """The configuration that the arrays and, where they say nothing, the flags imply. Raises WeightsError or ConfigError."""
    try:
        sizes = sizes_of(method, {name: network.arrays for name, network in networks.items()})
        CONFIGS[method](**sizes)
    except (LookupError, ValueError, ZeroDivisionError, ConfigError) as error:
        file = next(iter(networks.values())).file
        raise WeightsError(f"{file}: not the networks of --method {method} ({error})") from error
    sizes["img_size"] = _image_size(sizes, options.img_size)
    if method == "ugatit":
        sizes.setdefault("n_dis", min(6, proportionate_depth(sizes["img_size"])))
    if method == "pix2pix":
        sizes.setdefault("dropout", not options.no_dropout and networks["G"].transposed)
        sizes["direction"] = options.direction
    config = CONFIGS[method](**sizes)
    config.check_networks()
    return config


def _image_size(sizes: Mapping[str, Any], asked: Optional[int]) -> int:
    """The image size that was asked for, or that of the networks, or the default. Raises ConfigError where they take another."""
    own = sizes.get("img_size")
    # A U-Net takes any side that can be halved as often as its own and, up to 256, not more often.
    if asked and own and own != (math.gcd(asked, 256) if sizes.get("netG") == "unet" else asked):
        raise ConfigError(f"--img_size {asked}: these networks are for {own}x{own} pixels; leave the flag out")
    return asked or own or Config.img_size


def our_networks(config: Config, networks: Mapping[str, Foreign]) -> Dict[str, Arrays]:
    """The arrays under our names, in our layout and in float32, by network.

    Raises:
        WeightsError: a network's names or shapes are not those that its sizes imply; or a value is not finite.
    """
    names = NETWORKS[config.method]
    training = any(name in networks for name in names if name not in METHODS[config.method].generator_names.values())
    with paddle.LazyGuard():  # names and shapes are enough: the full U-GAT-IT has 2.7 GB of values
        built = METHODS[config.method](config, training).networks
    return {name: _ours(name, networks[name], built[name].state_dict(), config) for name in names if name in networks}


def _ours(name: str, network: Foreign, own: Mapping[str, paddle.Tensor], config: Config) -> Arrays:
    theirs, given = their_names(own), dict(network.arrays)
    if getattr(config, "norm", "instance") != "instance":
        # Convolutions with a bias here and none there: all without norms, the first of PaddleGAN's discriminators with batch norm.
        biases = [key for key in own if key.endswith(".bias") and len(own[f"{key[:-4]}weight"].shape) == 4]
        given = {**{theirs[key]: np.zeros(own[key].shape, np.float32) for key in biases}, **given}
    problems = _listed("unknown", set(given) - set(theirs.values())) + _listed("missing", set(theirs.values()) - set(given))
    if not problems:
        ours = our_state(own, given, network.transposed)
        wrong = [key for key, value in own.items() if list(ours[key].shape) != list(value.shape)]
        problems = _listed(
            "of another shape", [f"{theirs[key]} {list(ours[key].shape)} for {list(own[key].shape)}" for key in wrong]
        )
    if problems:
        raise WeightsError(f"{network.file}: {name} is not the network that its sizes imply: {'; '.join(problems)}")
    for key, array in ours.items():
        ours[key] = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(ours[key]).all():
            raise WeightsError(f"{network.file}: {name}.{theirs[key]} has values that are no finite numbers")
    return ours


def _listed(kind: str, names: Sequence[str]) -> List[str]:
    return [f"{kind} {_some(sorted(names))}"] if names else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(name[:80] for name in names[:MOST_LISTED]) + more


def checkpoint_of(config: Config, networks: Mapping[str, Arrays], files: Sequence[Path]) -> Checkpoint:
    """A checkpoint of these networks and nothing else."""
    generators = set(METHODS[config.method].generator_names.values())
    arrays: Dict[str, Arrays] = {}
    for name, state in networks.items():
        part = arrays.setdefault("generators" if name in generators else "discriminators", {})
        part.update({f"{name}.{key}": array for key, array in state.items()})
    meta = {"method": config.method, "iteration": 0, "config": to_saved(config), "imported_from": [file.name for file in files]}
    return Checkpoint(arrays, meta)


def find_files(paths: Sequence[Path]) -> List[Path]:
    """These files, and those named latest_net_* of folders. Raises ConfigError where a folder has none."""
    files: List[Path] = []
    for path in paths:
        found = sorted(path.glob("latest_net_*")) if path.is_dir() else [path]
        if not found:
            raise ConfigError(f"{path}: there is no latest_net_*.pth in this folder; name the files")
        files += found
    return files


def read_files(files: Sequence[Path], method: Optional[str], direction: str) -> Tuple[str, Dict[str, Foreign]]:
    """The method and its networks by name. Raises ConfigError or WeightsError."""
    networks: Dict[str, Foreign] = {}
    for file in files:
        for name, network in read_networks(file).items():
            if name in networks:
                raise ConfigError(f"{file}: {name} is in {networks[name].file} too; give one of them")
            networks[name] = network
    method = method or method_of(networks)
    generators = METHODS[method].generator_names
    if "G" in networks and method != "pix2pix":
        networks[generators["A2B" if direction == "AtoB" else "B2A"]] = networks.pop("G")
    if method == "cyclegan":
        networks = {name: network._replace(arrays=_without_dropout(network.arrays)) for name, network in networks.items()}
    strange = [name for name in networks if name not in NETWORKS[method]]
    if strange:
        raise ConfigError(f"--method {method} has no network {strange[0]}, as {networks[strange[0]].file} has")
    if not set(networks) & set(generators.values()):
        raise ConfigError(f"no generator among the networks {', '.join(networks)}: give its file too")
    return method, networks


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="FILE and --output")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError."""
    parser = OneLineParser(
        prog="python -m tools.import_weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a .pt, .pth, .pdparams or .safetensors, or a folder of such"
    )
    parser.add_argument("--output", required=True, type=Path, help="the checkpoint folder to make")
    parser.add_argument("--method", choices=list(NETWORKS), help="whose networks these are, where their names do not show it")
    parser.add_argument("--img_size", type=int, help="side of the images (default: the networks' own, or 256 where they take any)")
    parser.add_argument(
        "--direction",
        choices=("AtoB", "BtoA"),
        default="AtoB",
        help="which domain the generator takes: of Pix2Pix, or of one generator whose file does not name it (default: AtoB)",
    )
    parser.add_argument(
        "--no_dropout", action="store_true", help="Pix2Pix: the U-Net was trained without dropout (PaddleGAN's are)"
    )
    options = parser.parse_args(arguments)
    if options.output.exists():
        raise ConfigError(f"--output {options.output}: this is there already; name a new folder")
    files = find_files(options.files)
    method, networks = read_files(files, options.method, options.direction)
    config = config_of(method, networks, options)
    ours = our_networks(config, networks)
    save_folder(checkpoint_of(config, ours, files), options.output)
    print(f"{options.output}: {', '.join(ours)} of --method {method}{_unusual(config)}")
    for direction in config.directions:
        if METHODS[method].generator_names[direction] not in networks:
            print(f"{direction}: there is no generator {METHODS[method].generator_names[direction]}")


def _unusual(config: Config) -> str:
    """The settings that are not the defaults, as flags."""
    usual = type(config)()
    return "".join(f" --{name} {value}" for name, value in to_saved(config).items() if value != getattr(usual, name))


if __name__ == "__main__":
    sys.exit(main())
