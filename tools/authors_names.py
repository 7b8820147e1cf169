"""Names of parameters in the authors' PyTorch code, and ours."""

from __future__ import annotations

import re
from typing import Callable, Dict, List, Tuple

import numpy as np

Rule = Tuple[str, Callable[[re.Match], str]]

# Ours have no layers for padding and upsampling, so the numbers inside a Sequential are closer together.
UGATIT_GENERATOR: List[Rule] = [
    (r"DownBlock\.(\d+)\.conv_block\.(\d)\.", lambda m: f"DownBlock.{int(m[1]) - 3}.conv_block.{int(m[2]) * 3 // 5}."),
    (r"DownBlock\.(1|5|9)\.weight", lambda m: f"DownBlock.{int(m[1]) // 4 * 3}.weight"),
    (r"UpBlock1_(\d+)\.", lambda m: f"UpBlock1.{int(m[1]) - 1}."),
    (r"UpBlock2\.(2|3|7|8)\.", lambda m: f"UpBlock2.{ {2: 0, 3: 1, 7: 3, 8: 4}[int(m[1])] }."),
    (r"UpBlock2\.11\.", lambda m: "UpBlock2.6."),
    (r"(gap_fc|gmp_fc|conv1x1)\.", lambda m: f"cam.{m[1]}."),
]
UGATIT_DISCRIMINATOR: List[Rule] = [
    (r"model\.(\d+)\.", lambda m: f"model.{int(m[1]) // 3 * 2}."),
    (r"(gap_fc|gmp_fc|conv1x1)\.", lambda m: f"cam.{m[1]}."),
]
UGATIT_RULES = {"gen": UGATIT_GENERATOR, "dis": UGATIT_DISCRIMINATOR}

# Ours has no padding layers: one before the first convolution, one before each in a block, one before the last.
RESNET_GENERATOR: List[Rule] = [
    (
        r"model\.(\d+)\.conv_block\.(\d)\.",
        lambda m: f"model.{int(m[1]) - 1}.conv_block.{int(m[2]) - (2 if int(m[2]) > 4 else 1)}.",
    ),
    (r"model\.(\d+)\.", lambda m: f"model.{int(m[1]) - 1}."),
]
PATCH_GAN: List[Rule] = []
# Theirs is nested: the number of numbers is the depth. A block holds downconv, downnorm, the next block, upconv, upnorm.
_OUTERMOST = {"0": "down.0.0", "3": "up.0.1"}
_INNER = {"1": "down.{0}.1", "2": "down.{0}.2", "5": "up.{0}.1", "6": "up.{0}.2", "3": "up.{0}.1", "4": "up.{0}.2"}


def _unet_layer(match: re.Match) -> str:
    depth = match[0].count("model.") - 2
    return (_INNER[match[1]].format(depth) if depth else _OUTERMOST[match[1]]) + "."


UNET_GENERATOR: List[Rule] = [(r"model\.(?:model\.\d\.)*model\.(\d)\.", _unet_layer)]


def our_name(name: str, rules: List[Rule]) -> str:
    """The authors' name of a parameter in ours."""
    for pattern, replace in rules:
        match = re.match(pattern, name)
        if match:
            return replace(match) + name[match.end() :]
    return name


def our_layout(array: np.ndarray) -> np.ndarray:
    """PyTorch's linear layers hold (out, in), Paddle's (in, out)."""
    return np.ascontiguousarray(array.T) if array.ndim == 2 else array


def our_state(arrays: Dict[str, np.ndarray], rules: List[Rule]) -> Dict[str, np.ndarray]:
    """The authors' state of one network under our names and in our layout."""
    kept = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    named = {our_name(name, rules): our_layout(array) for name, array in kept.items()}
    if rules is RESNET_GENERATOR:
        # The last convolution comes after a second padding layer.
        last = max((int(name.split(".")[1]) for name in named), default=0)
        named = {re.sub(rf"^model\.{last}\.", f"model.{last - 1}.", name): array for name, array in named.items()}
    return named
