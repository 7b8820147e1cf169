"""Replay figures of the authors' code through this project's training step, in double precision.

python -m tools.parity tests/golden/ugatit_light.npz
python -m tools.parity tests/golden/ugatit_light.npz --form plain     with the operations as a GPU runs them

An archive holds images, initial weights, and what the authors' networks and steps made of them: outputs (forward/), gradients of
step 0 (grad/), losses of each step, and the weights after the last (final/). Prints each measure beside its tolerance and exits 1
where one is over it.
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np

from engine.cpu import configure_cpu
from errors import DataError

configure_cpu()

import paddle  # noqa: E402

import ops  # noqa: E402
from command_line import OneLineParser, exit_code_of  # noqa: E402
from config import CycleGANConfig, Pix2PixConfig, UGATITConfig  # noqa: E402
from CycleGAN import CycleGAN  # noqa: E402
from engine.method import Method  # noqa: E402
from Pix2Pix import Pix2Pix  # noqa: E402
from tools.authors_names import PATCH_GAN, RESNET_GENERATOR, UGATIT_RULES, UNET_GENERATOR, our_state  # noqa: E402
from UGATIT import UGATIT  # noqa: E402

FORWARD, FORWARD_FLOAT32, FIRST_LOSSES, LATER_LOSSES, GRADIENTS, FINAL = 1e-6, 1e-4, 1e-6, 1e-5, 1e-5, 1e-3
NO_GRADIENT = 1e-12
Arrays = Dict[str, np.ndarray]


class Measure(NamedTuple):
    """One figure of the comparison and the most it may be."""

    name: str
    value: float
    at_most: float

    @property
    def passed(self) -> bool:
        return self.value <= self.at_most


class Archive:
    """A file of figures, read by prefix. Raises DataError where it is missing or not such a file."""

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as archive:
                self.arrays: Arrays = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a readable .npz archive ({error})") from error
        if not {"A", "B"} <= set(self.arrays):
            raise DataError(f"{path}: not an archive of parity figures (it has no images A and B)")

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def below(self, prefix: str) -> Arrays:
        """Entries whose names start with `prefix`, under the rest of their names."""
        return {name[len(prefix) :]: array for name, array in self.arrays.items() if name.startswith(prefix)}

    def networks(self) -> List[str]:
        return sorted({name.split("/")[1] for name in self.arrays if name.startswith("init/")})


# U-GAT-IT


def build_ugatit(archive: Archive) -> UGATIT:
    """U-GAT-IT with the sizes that the arrays imply, at a constant learning rate."""
    generator, judge = archive.below("init/genA2B/"), archive.below("init/disGA/")
    steps, batch, img_ch, img_size = archive["A"].shape[:4]
    width = generator["gamma.weight"].shape[0]
    config = UGATITConfig(
        batch_size=batch,
        img_size=img_size,
        img_ch=img_ch,
        ch=generator["DownBlock.1.weight"].shape[0],
        n_res=sum(bool(re.fullmatch(r"UpBlock1_\d+\.conv1\.weight", name)) for name in generator),
        # A discriminator's Sequential holds n_layers - 1 convolutions; --n_dis N gives N + 1 layers.
        n_dis=sum(bool(re.fullmatch(r"model\.\d+\.weight_orig", name)) for name in judge),
        light=generator["FC.0.weight"].shape[1] == width,
        iteration=steps,
        decay_flag=False,
    )
    return UGATIT(config)


def ugatit_forward(method: UGATIT, images_A: paddle.Tensor, images_B: paddle.Tensor) -> Dict[str, paddle.Tensor]:
    """The outputs that `forward/` records, by the same names; networks in evaluation mode."""
    method.set_training(False)
    outputs = {}
    for name, first in (("genA2B", "image"), ("disGA", "logit"), ("disLA", "logit")):
        output = method.networks[name](images_A)
        outputs.update({f"{name}/{part}": getattr(output, part) for part in (first, "cam_logit", "heatmap")})
    return outputs


# CycleGAN and Pix2Pix


def image_gan_sizes(archive: Archive, discriminator: Arrays) -> Dict[str, Any]:
    """Settings that both methods share, as the arrays imply them, at a constant learning rate."""
    steps, batch, img_ch, img_size = archive["A"].shape[:4]
    convolutions = sum(array.ndim == 4 for array in discriminator.values())
    return {
        "batch_size": batch,
        "img_size": img_size,
        "img_ch": img_ch,
        "iteration": steps,
        "n_epochs": steps,
        "n_epochs_decay": 0,
        "ch": discriminator["model.0.weight"].shape[0],
        # A discriminator of single pixels has three convolutions of 1x1.
        "n_layers_D": 0 if discriminator["model.0.weight"].shape[2] == 1 else convolutions - 2,
    }


def build_cyclegan(archive: Archive) -> CycleGAN:
    generator = archive.below("init/G_A/")
    n_blocks = sum(bool(re.fullmatch(r"model\.\d+\.conv_block\.1\.weight", name)) for name in generator)
    return CycleGAN(CycleGANConfig(n_blocks=n_blocks, pool_size=0, **image_gan_sizes(archive, archive.below("init/D_A/"))))


def cyclegan_forward(method: CycleGAN, images_A: paddle.Tensor, images_B: paddle.Tensor) -> Dict[str, paddle.Tensor]:
    method.set_training(False)
    return {"G_A": method.G_A(images_A), "D_A": method.D_A(images_B)}


def build_pix2pix(archive: Archive) -> Pix2Pix:
    return Pix2Pix(Pix2PixConfig(dropout=False, **image_gan_sizes(archive, archive.below("init/D/"))))


def pix2pix_forward(method: Pix2Pix, images_A: paddle.Tensor, images_B: paddle.Tensor) -> Dict[str, paddle.Tensor]:
    method.set_training(True)
    return {"G": method.G(images_A)}


# Any method


class Replay(NamedTuple):
    """How to build a method from an archive, what `forward/` holds, and the authors' names of each network's parameters."""

    build: Callable[[Archive], Method]
    forward: Callable[[Any, paddle.Tensor, paddle.Tensor], Dict[str, paddle.Tensor]]
    rules: Callable[[str], list]


REPLAYS = {
    "genA2B": Replay(build_ugatit, ugatit_forward, lambda network: UGATIT_RULES[network[:3]]),
    "G_A": Replay(build_cyclegan, cyclegan_forward, lambda network: RESNET_GENERATOR if network[0] == "G" else PATCH_GAN),
    "G": Replay(build_pix2pix, pix2pix_forward, lambda network: UNET_GENERATOR if network == "G" else PATCH_GAN),
}


def replay_of(archive: Archive) -> Replay:
    """The replay whose generator the archive holds."""
    networks = archive.networks()
    for generator, replay in REPLAYS.items():
        if generator in networks:
            return replay
    raise DataError(f"none of the archive's networks is known: {', '.join(networks)}")


def build(archive: Archive, replay: Replay) -> Method:
    """The method in the default precision, holding the initial weights."""
    method = replay.build(archive)
    for name in archive.networks():
        network_rules = replay.rules(name)
        state = our_state(archive.below(f"init/{name}/"), network_rules)
        own = method.networks[name].state_dict()
        if set(own) != set(state):
            raise DataError(f"{name}: the archive's parameters are not this network's ({sorted(set(own) ^ set(state))[0]})")
        for key, value in own.items():
            if list(value.shape) != list(state[key].shape):
                raise DataError(f"{name}.{key}: {list(state[key].shape)} in the archive, {list(value.shape)} in the network")
            value.set_value(state[key].astype(str(value.numpy().dtype)))
    return method


def compare(archive: Archive) -> List[Measure]:
    """All measures of an archive, its networks in double precision."""
    replay = replay_of(archive)
    rules = {name: replay.rules(name) for name in archive.networks()}
    measures = [_forward_measure(archive, replay, "forward in float32", FORWARD_FLOAT32)]
    previous = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    try:
        measures.append(_forward_measure(archive, replay, "forward", FORWARD))
        method = build(archive, replay)
        gradients = _record_first_gradients(method)
        steps = archive["A"].shape[0]
        for step in range(steps):
            batch = {"real_A": archive["A"][step].astype("float64"), "real_B": archive["B"][step].astype("float64")}
            losses = method.step(batch)
            expected = archive.below(f"step{step}/")
            value = max(_relative(losses[name], float(figure)) for name, figure in expected.items())
            measures.append(Measure(f"losses of step {step}", value, LATER_LOSSES if step else FIRST_LOSSES))
            if step == 0:
                measures += _gradient_measures(gradients, archive, rules)
        measures += _final_measures(method, archive, rules)
    finally:
        paddle.set_default_dtype(previous)
    return measures


def _forward_measure(archive: Archive, replay: Replay, name: str, at_most: float) -> Measure:
    images_A, images_B = (paddle.to_tensor(archive[domain][0], dtype=paddle.get_default_dtype()) for domain in "AB")
    with paddle.no_grad():
        outputs = replay.forward(build(archive, replay), images_A, images_B)
    expected = archive.below("forward/")
    worst = max(np.abs(outputs[key].numpy() - value).max() / np.abs(value).max() for key, value in expected.items())
    return Measure(name, float(worst), at_most)


def _record_first_gradients(method: Method) -> Dict[str, Arrays]:
    """Copy each network's gradients when an optimizer makes a step with them for the first time."""
    recorded: Dict[str, Arrays] = {}

    def recording(step: Callable[[], None]) -> Callable[[], None]:
        def record_and_step() -> None:
            for name, network in method.networks.items():
                present = {key: p.grad.numpy().copy() for key, p in network.named_parameters() if p.grad is not None}
                if present:
                    recorded.setdefault(name, present)
            step()

        return record_and_step

    for optimizer in method.optimizers.values():
        optimizer.step = recording(optimizer.step)
    return recorded


def _gradient_measures(recorded: Dict[str, Arrays], archive: Archive, rules: Dict[str, list]) -> List[Measure]:
    measures = []
    for name in archive.networks():
        worst = 0.0
        for key, expected in our_state(archive.below(f"grad/{name}/"), rules[name]).items():
            ours = recorded[name][key]
            largest = np.abs(expected).max()
            if largest < NO_GRADIENT:
                worst = max(worst, 0.0 if np.abs(ours).max() < NO_GRADIENT else np.inf)
            else:
                worst = max(worst, float(np.abs(ours - expected).max() / largest))
        measures.append(Measure(f"gradients of {name}", worst, GRADIENTS))
    return measures


def _final_measures(method: Any, archive: Archive, rules: Dict[str, list]) -> List[Measure]:
    measures = []
    for name in archive.networks():
        initial = our_state(archive.below(f"init/{name}/"), rules[name])
        final = our_state(archive.below(f"final/{name}/"), rules[name])
        ours = {key: value.numpy() for key, value in method.networks[name].state_dict().items()}
        difference = sum(np.abs(ours[key] - value).sum() for key, value in final.items())
        update = sum(np.abs(value.astype("float64") - initial[key]).sum() for key, value in final.items())
        measures.append(Measure(f"final weights of {name}", float(difference / update), FINAL))
    return measures


def _relative(ours: float, expected: float) -> float:
    """Relative difference; nothing where both agree to 1e-9."""
    difference = abs(ours - expected)
    return 0.0 if difference <= 1e-9 else difference / max(abs(expected), 1e-300)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = OneLineParser(prog="python -m tools.parity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="an archive of the authors' figures (.npz)")
    parser.add_argument("--form", choices=ops.FORMS, default="fast", help="of the operations (default: fast)")

    def work() -> int:
        options = parser.parse_args(arguments)
        with ops.using(options.form):
            measures = compare(Archive(options.file))
        for measure in measures:
            print(f"{'ok  ' if measure.passed else 'OVER'}  {measure.name:28s} {measure.value:9.2e}  at most {measure.at_most:.0e}")
        return 0 if all(measure.passed for measure in measures) else 1

    return exit_code_of(work, see="the archive's path")


if __name__ == "__main__":
    sys.exit(main())
