"""Which networks the authors' arrays belong to, and of what sizes."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, Mapping

from tools.authors_names import Arrays

# The networks of each method, generators first.
NETWORKS = {
    "ugatit": ("genA2B", "genB2A", "disGA", "disGB", "disLA", "disLB"),
    "cyclegan": ("G_A", "G_B", "D_A", "D_B"),
    "pix2pix": ("G", "D"),
}


def is_unet(arrays: Arrays) -> bool:
    """Whether these are a U-Net's."""
    return "model.model.0.weight" in arrays


def has_dropout(arrays: Arrays) -> bool:
    """Whether these are those of residual blocks with dropout, which moves their second convolution from 5 to 6."""
    return any(".conv_block.6." in name and array.ndim == 4 for name, array in arrays.items())


def sizes_of(method: str, states: Mapping[str, Arrays]) -> Dict[str, Any]:
    """The settings of `method`'s configuration that the arrays of its networks show.

    Args:
        states: the arrays by network and by the authors' names, of one generator at least, without leftovers of normalizations
            that have no arrays.

    Raises:
        LookupError, ValueError: the generator is another method's.
    """
    generator = next(states[name] for name in NETWORKS[method] if name in states)
    return _of_ugatit(generator, states) if method == "ugatit" else _of_image_gan(method, generator, states)


def _of_ugatit(generator: Arrays, states: Mapping[str, Arrays]) -> Dict[str, Any]:
    ch, img_ch, *_ = generator["DownBlock.1.weight"].shape
    sizes: Dict[str, Any] = dict(ch=ch, img_ch=img_ch, n_res=_count(r"UpBlock1_\d+\.conv1\.weight", generator))
    width = 4 * ch
    # The full version has one weight for each place of the feature map, whose sides are a quarter of the image's.
    places = generator["FC.0.weight"].size // width**2
    sizes["light"] = places == 1
    if places > 1:
        sizes["img_size"] = 4 * math.isqrt(places)
    # A Sequential of N - 1 convolutions is that of N layers; --n_dis N gives N + 1 layers global, N - 1 local.
    for kind, more in (("G", 0), ("L", 2)):
        for name in (f"dis{kind}A", f"dis{kind}B"):
            if name in states:
                return {**sizes, "n_dis": _count(r"model\.\d+\.weight_orig", states[name]) + more}
    return sizes


def _of_image_gan(method: str, generator: Arrays, states: Mapping[str, Arrays]) -> Dict[str, Any]:
    first = "model.model.0" if is_unet(generator) else "model.1"
    ch, img_ch, *_ = generator[f"{first}.weight"].shape
    sizes: Dict[str, Any] = dict(ch=ch, img_ch=img_ch, norm=_norm(generator, first))
    if is_unet(generator):
        # One level of nesting for each halving.
        sizes["img_size"] = 2 ** (max(name.count("model.") for name in generator) - 1)
    else:
        sizes["n_blocks"] = _count(r"model\.\d+\.conv_block\.1\.weight", generator)
    if method == "pix2pix":
        sizes["netG"] = "unet" if is_unet(generator) else "resnet"
        if not is_unet(generator):
            sizes["dropout"] = has_dropout(generator)
    discriminator = next((states[name] for name in NETWORKS[method] if "D" in name and name in states), None)
    if discriminator is not None:
        convolutions = [array for array in discriminator.values() if array.ndim == 4]
        # A discriminator of single pixels has three convolutions of 1x1.
        sizes["n_layers_D"] = 0 if convolutions[0].shape[-1] == 1 else len(convolutions) - 2
        if method == "pix2pix":
            sizes["unconditional"] = convolutions[0].shape[1] == img_ch
    return sizes


def _norm(generator: Arrays, first: str) -> str:
    """Batch norm has arrays of its own; with instance norm convolutions have biases; without either they have none."""
    if any(name.endswith("running_mean") for name in generator):
        return "batch"
    return "instance" if f"{first}.bias" in generator else "none"


def _count(pattern: str, names: Mapping[str, Any]) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in names)
