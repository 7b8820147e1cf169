"""Parameters in the authors' PyTorch code under our names and in Paddle's layout."""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, List, Tuple, Union

import numpy as np

Rule = Tuple[str, Union[str, Callable[[re.Match], str]]]


def _without(*dropped: int) -> Callable[[re.Match], str]:
    """Renumber a Sequential: ours has no layers for padding and upsampling, which are those numbered `dropped` in theirs."""
    return lambda match: str(int(match[0]) - sum(number < int(match[0]) for number in dropped))


def _unet_layer(match: re.Match) -> str:
    """Their U-Net is nested, with one number for each level; ours is two lists of layers.

    Their blocks hold downconv and downnorm as 1 and 2 (the outermost downconv alone, as 0), then the next block, then upconv and
    upnorm as 5 and 6 (3 and 4 in the outermost and the innermost).
    """
    number, depth = int(match[1]), match[0].count("model.") - 2
    return f"down.{depth}.{number}." if number < 3 else f"up.{depth}.{2 - number % 2}."


# Each rule is a pattern and its replacement; a network's rules are applied one after the other.
CAM: Rule = (r"^(?=gap_fc|gmp_fc|conv1x1)", "cam.")
CONV_BLOCK: Rule = (r"(?<=conv_block\.)\d+", _without(0, 4))
UGATIT_GENERATOR: List[Rule] = [
    (r"(?<=^DownBlock\.)\d+", _without(0, 4, 8)),
    (r"^UpBlock1_(\d+)", lambda match: f"UpBlock1.{int(match[1]) - 1}"),
    (r"(?<=^UpBlock2\.)\d+", _without(0, 1, 5, 6, 10)),
    CONV_BLOCK,
    CAM,
]
UGATIT_DISCRIMINATOR: List[Rule] = [(r"(?<=^model\.)\d+", _without(*range(0, 100, 3))), CAM]
UNET_GENERATOR: List[Rule] = [(r"^model\.(?:model\.\d\.)*model\.(\d)\.", _unet_layer)]
# Their discriminator of single pixels calls its Sequential net.
PATCH_GAN: List[Rule] = [(r"^net\.", "model.")]


def _rules(network: str, names: Iterable[str]) -> List[Rule]:
    if network in ("G_A", "G_B"):
        # The last convolution comes after a second padding layer.
        last = max(int(name.split(".")[1]) for name in names)
        return [(r"(?<=^model\.)\d+", _without(0, last - 1)), CONV_BLOCK]
    return {"gen": UGATIT_GENERATOR, "dis": UGATIT_DISCRIMINATOR, "G": UNET_GENERATOR}.get(network[:3], PATCH_GAN)


def our_state(network: str, arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The authors' state of a network (genA2B, disGA, G_A, D_A, G, D, ...) under our names and in our layout."""
    rules, state = _rules(network, arrays), {}
    for name, array in arrays.items():
        if not name.endswith("num_batches_tracked"):
            for pattern, replacement in rules:
                name = re.sub(pattern, replacement, name)
            # PyTorch's linear layers hold (out, in), Paddle's (in, out).
            state[name] = np.ascontiguousarray(array.T) if array.ndim == 2 else array
    return state
