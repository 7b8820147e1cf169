"""The names that parameters have in the authors' PyTorch code, and their layout there."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Tuple, Union

import numpy as np

Arrays = Dict[str, np.ndarray]
Rule = Tuple[str, Union[str, Callable[[re.Match], str]]]


def their_names(network: Mapping[str, Any]) -> Dict[str, str]:
    """Their name of each of our names, all different.

    Args:
        network: the whole state of one network, arrays or tensors by our names.
    """
    rules = _rules(network)
    return {name: _applied(rules, name) for name in network}


def our_state(network: Mapping[str, Any], arrays: Arrays, transpose: bool = True) -> Arrays:
    """Their arrays of a network under our names and in our layout, without counters; a name that it does not have stays as it is.

    Args:
        network: the whole state of our network, of which names and shapes are looked at.
        transpose: linear layers hold (out, in), as in PyTorch; ours, as in Paddle, (in, out).
    """
    ours = {theirs: name for name, theirs in their_names(network).items()}
    kept = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    return {ours.get(name, name): _other_layout(array) if transpose else array for name, array in kept.items()}


def their_state(arrays: Arrays) -> Arrays:
    """The whole state of one of our networks under their names and in their layout."""
    return {theirs: _other_layout(arrays[name]) for name, theirs in their_names(arrays).items()}


def _other_layout(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.T) if array.ndim == 2 else array


def _rules(network: Mapping[str, Any]) -> List[Rule]:
    """Patterns and replacements, applied one after the other, that make their names of ours.

    Each number in a Sequential is counted up by one for each of their layers before it that ours does not have: padding and
    upsampling.
    """
    if "DownBlock.0.weight" in network:
        blocks = (r"^UpBlock1\.(\d+)", lambda match: f"UpBlock1_{int(match[1]) + 1}")
        return [_counted("DownBlock", 0, 4, 8), CONV_BLOCK, CAM, blocks, _counted("UpBlock2", 0, 1, 5, 6, 10)]
    if "model.0.weight_orig" in network:
        return [_counted("model", *range(0, 100, 3)), CAM]
    if "down.0.0.weight" in network:
        innermost = max(int(name.split(".")[1]) for name in network)
        return [(r"^(down|up)\.(\d+)\.(\d+)", lambda match: _unet_layer(match[1], int(match[2]), int(match[3]), innermost))]
    if any(".conv_block." in name for name in network):
        # Their last convolution, like the first, comes after a padding layer.
        last = max(int(name.split(".")[1]) for name in network)
        has_dropout = any(".conv_block.4.weight" in name and len(network[name].shape) == 4 for name in network)
        return [_counted("model", 0, last + 1), CONV_BLOCK_WITH_DROPOUT if has_dropout else CONV_BLOCK]
    # Their discriminator of single pixels calls its Sequential net.
    return [(r"^model\.", "net.")] if network["model.0.weight"].shape[-1] == 1 else []


def _counted(sequential: str, *theirs_alone: int) -> Rule:
    """Renumber the layers of a Sequential, where theirs has layers, at these numbers, that ours has not."""

    def number(match: re.Match) -> str:
        count = int(match[0])
        for place in theirs_alone:
            count += place <= count
        return str(count)

    return rf"(?<=\b{sequential}\.)\d+", number


def _unet_layer(side: str, depth: int, number: int, innermost: int) -> str:
    """Their U-Net is nested, with one number for each level; ours is two lists of layers.

    Their blocks hold downconv and downnorm as 1 and 2 (the outermost downconv alone, as 0), then the next block, then upconv and
    upnorm as 5 and 6 (3 and 4 in the outermost and the innermost).
    """
    blocks = ["model", *["1" if level == 0 else "3" for level in range(depth)]]
    if side == "up":
        number += 2 if depth in (0, innermost) else 4
    return f"{'.model.'.join(blocks)}.model.{number}"


def _applied(rules: List[Rule], name: str) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


CAM: Rule = (r"^cam\.", "")
CONV_BLOCK = _counted("conv_block", 0, 4)
CONV_BLOCK_WITH_DROPOUT = _counted("conv_block", 0, 5)
