"""Write tests/golden/alignment.npz: pictures read by the authors' transforms, PyTorch's Adam, rates, the authors' initial weights.

pip install torch torchvision      in an environment of its own; Paddle and this project's packages are not needed
python -m tests.golden.make_alignment UGATIT_PYTORCH CUT

The arguments are checkouts of znxlwm/UGATIT-pytorch and taesungp/contrastive-unpaired-translation, whose networks.py are loaded.
What the authors do inside a training function is written out here.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

GOLDEN = Path(__file__).with_name("alignment.npz")
LITE_DATA = Path(__file__).parents[2] / "test_tipc" / "lite_data"
PICTURES = ("testA/00000.png", "testB/00000.png")
# Side, and the side before the crop: the authors' 256 and 286 in the same proportion.
SIZE, LOAD_SIZE, SMALL = 64, 72, 40
# Where the crop begins: top, left.
CROP = (3, 6)
ADAM_STEPS, ADAM_SIZE = 100, 1000
ADAM = dict(lr=0.0001, betas=(0.5, 0.999))
WEIGHT_DECAY = 0.0001
ITERATIONS, EPOCHS = 1000, 100
# Tensors of at least so many entries are compared as distributions.
LARGE = 4096


def adam_inputs() -> Tuple[np.ndarray, np.ndarray]:
    """A parameter, and a gradient for each step, small enough that weight decay shows beside it."""
    rng = np.random.default_rng(0)
    parameter = rng.standard_normal(ADAM_SIZE).astype("float32")
    return parameter, (rng.standard_normal((ADAM_STEPS, ADAM_SIZE)) * 1e-4).astype("float32")


def statistics(state: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Mean, standard deviation, smallest and largest entry of each array that a spectral norm does not estimate."""
    kept = {name: array for name, array in state.items() if not name.endswith(("_u", "_v", "num_batches_tracked"))}
    return {name: np.array([array.mean(), array.std(), array.min(), array.max()]) for name, array in kept.items()}


def pictures() -> Dict[str, np.ndarray]:
    """The test pictures behind the authors' transforms, (N, 3, H, W) as bytes: they are bytes until ToTensor and Normalize."""
    from PIL import Image
    from torchvision import transforms

    def read(load_size: int, size: int, filter: Any, flip: float, crop: Tuple[int, int]) -> np.ndarray:
        transform = transforms.Compose([
            transforms.RandomHorizontalFlip(flip),
            transforms.Resize((load_size, load_size), filter),
            transforms.Lambda(lambda image: transforms.functional.crop(image, *crop, size, size)),
            transforms.ToTensor(),
            transforms.Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        ])  # fmt: skip
        images = [transform(Image.open(LITE_DATA / name).convert("RGB")).numpy() for name in PICTURES]
        return np.round((np.stack(images) + 1) * 127.5).astype(np.uint8)

    bilinear, bicubic = transforms.InterpolationMode.BILINEAR, transforms.InterpolationMode.BICUBIC
    return {
        "train_bilinear": read(LOAD_SIZE, SIZE, bilinear, 1.0, CROP),
        "train_bicubic": read(LOAD_SIZE, SIZE, bicubic, 1.0, CROP),
        "test_same": read(SIZE, SIZE, bilinear, 0.0, (0, 0)),
        "test_smaller": read(SMALL, SMALL, bilinear, 0.0, (0, 0)),
    }


def adam(weight_decay: float, decoupled: bool = False) -> np.ndarray:
    """The parameter after all steps."""
    import torch

    start, gradients = adam_inputs()
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = (torch.optim.AdamW if decoupled else torch.optim.Adam)([parameter], **ADAM, weight_decay=weight_decay)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    return parameter.detach().numpy()


def ugatit_rates() -> List[float]:
    """The rate of each step, as `train()` of UGATIT-pytorch subtracts from it."""
    lr = rate = 1.0
    rates = []
    for step in range(1, ITERATIONS + 1):
        if step > ITERATIONS // 2:
            rate -= lr / (ITERATIONS // 2)
        rates.append(rate)
    return rates


def epoch_rates(networks: Any) -> List[float]:
    """The rate of each epoch, from `get_scheduler` of the authors of CycleGAN and Pix2Pix."""
    import torch

    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = SimpleNamespace(lr_policy="linear", epoch_count=1, n_epochs=EPOCHS, n_epochs_decay=EPOCHS)
    scheduler = networks.get_scheduler(optimizer, options)
    rates = []
    for _ in range(2 * EPOCHS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def initial(ugatit: Any, cut: Any) -> Dict[str, Dict[str, np.ndarray]]:
    """The statistics of each network, with 16 channels in its first layer, as the authors' code begins."""
    import torch

    torch.manual_seed(0)
    plain = dict(no_antialias=True, no_antialias_up=True)
    networks = {
        "genA2B": ugatit.ResnetGenerator(3, 3, 16, 4, img_size=128, light=True),
        "disGA": ugatit.Discriminator(3, 16, 7),
        "G_A": cut.define_G(3, 3, 16, "resnet_9blocks", "instance", init_type="normal", init_gain=0.02, **plain),
        "D_A": cut.define_D(3, 16, "basic", norm="instance", init_type="normal", init_gain=0.02, no_antialias=True),
        "G": cut.define_G(3, 3, 16, "unet_256", "batch", init_type="normal", init_gain=0.02, **plain),
    }
    states = {name: network.state_dict() for name, network in networks.items()}
    return {name: statistics({key: value.numpy() for key, value in state.items()}) for name, state in states.items()}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make_alignment", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ugatit", help="a checkout of UGATIT-pytorch")
    parser.add_argument("cut", help="a checkout of contrastive-unpaired-translation")
    parser.add_argument("--out", type=Path, default=GOLDEN, help="the file to write")
    options = parser.parse_args(arguments)
    try:
        from tools.peer_step import load_networks

        ugatit = load_networks(options.ugatit)
        for name in [name for name in sys.modules if name.split(".")[0] == "peer"]:
            del sys.modules[name]
        cut = load_networks(options.cut)
        golden = {f"read/{name}": array for name, array in pictures().items()}
    except ImportError as error:
        print(f"error: {error}; pip install torch torchvision", file=sys.stderr)
        return 1
    golden["adam/l2"], golden["adam/none"] = adam(WEIGHT_DECAY), adam(0.0)
    golden["adam/decoupled"] = adam(WEIGHT_DECAY, decoupled=True)
    golden["rates/ugatit"], golden["rates/epochs"] = np.array(ugatit_rates()), np.array(epoch_rates(cut))
    for name, figures in initial(ugatit, cut).items():
        golden.update({f"initial/{name}/{key}": array for key, array in figures.items()})
    content = io.BytesIO()
    np.savez_compressed(content, **golden)
    options.out.write_bytes(content.getvalue())
    print(f"{options.out}: {len(content.getvalue()):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
