"""Replay figures of the authors' code through this project's training step, in double precision.

python -m tools.parity tests/golden/ugatit_light.npz
python -m tools.parity tests/golden/ugatit_light.npz --form plain     with the operations as a GPU runs them
python -m tools.parity tests/golden/ugatit_light.npz --reprod_log DIR     and write the figures for the package reprod_log

An archive holds images, initial weights, and what the authors' networks and steps made of them: outputs (forward/), gradients of
step 0 (grad/), losses of each step, and the weights after the last (final/). Prints each measure beside its tolerance and exits 1
where one is over it.
"""

from __future__ import annotations

import io
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from engine.cpu import configure_cpu
from errors import DataError

configure_cpu()

import paddle  # noqa: E402

import ops  # noqa: E402
from command_line import OneLineParser, exit_code_of  # noqa: E402
from config import CONFIGS, Config, Pix2PixConfig  # noqa: E402
from engine.method import Method  # noqa: E402
from methods import METHODS  # noqa: E402
from tools.authors_names import our_state  # noqa: E402
from tools.authors_sizes import NETWORKS, sizes_of  # noqa: E402
from utils import write_bytes  # noqa: E402

FORWARD, FORWARD_FLOAT32, FIRST_LOSSES, LATER_LOSSES, GRADIENTS, FINAL = 1e-6, 1e-4, 1e-6, 1e-5, 1e-5, 1e-3
NO_GRADIENT = 1e-12
Arrays = Dict[str, np.ndarray]
# Ours and theirs.
Pairs = Dict[str, Tuple[np.ndarray, np.ndarray]]
# The files of the reproduction guide that hold pairs in double precision.
STEPS = ("forward", "loss", "bp_align")


class Measure(NamedTuple):
    """One figure of the comparison and the most it may be; the pairs that it was made of, and the one of STEPS that they show."""

    name: str
    value: float
    at_most: float
    pairs: Pairs
    step: Optional[str] = None


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

    @property
    def networks(self) -> List[str]:
        return sorted({name.split("/")[1] for name in self.arrays if name.startswith("init/")})

    def below(self, prefix: str) -> Arrays:
        """Entries whose names start with `prefix`, under the rest of their names."""
        return {name[len(prefix) :]: array for name, array in self.arrays.items() if name.startswith(prefix)}

    def state(self, kind: str, name: str, network: Mapping[str, paddle.Tensor]) -> Arrays:
        """What the archive holds of a network (kind is init, grad or final), under the names of `network` and in our layout."""
        return our_state(network, self.below(f"{kind}/{name}/"))


def config_of(archive: Archive) -> Config:
    """The method and its sizes, as the arrays imply them, at a constant learning rate. Raises DataError for unknown networks."""
    steps, batch_size, img_ch, img_size = archive.arrays["A"].shape[:4]
    method = next((method for method, names in NETWORKS.items() if names[0] in archive.networks), None)
    if method is None:
        raise DataError(f"none of the archive's networks is known: {', '.join(archive.networks)}")
    sizes = sizes_of(method, {name: archive.below(f"init/{name}/") for name in archive.networks})
    sizes.update(iteration=steps, batch_size=batch_size, img_ch=img_ch, img_size=img_size)
    epochs = dict(n_epochs=steps, n_epochs_decay=0)
    steady = {"ugatit": dict(decay_flag=False), "cyclegan": dict(**epochs, pool_size=0), "pix2pix": dict(**epochs, dropout=False)}
    return CONFIGS[method](**{**sizes, **steady[method]})


def build(archive: Archive) -> Method:
    """The method in the default precision, holding the initial weights. Raises DataError where they are not its networks'."""
    config = config_of(archive)
    method = METHODS[config.method](config)
    for name in archive.networks:
        own = method.networks[name].state_dict()
        initial = archive.state("init", name, own)
        for key in sorted({*own, *initial}):
            ours, theirs = (list(state[key].shape) if key in state else "missing" for state in (own, initial))
            if ours != theirs:
                raise DataError(f"{name}.{key}: {theirs} in the archive, {ours} in the network")
            own[key].set_value(initial[key].astype(own[key].numpy().dtype))
    return method


def compare(archive: Archive) -> List[Measure]:
    """All measures of an archive, its networks in double precision."""
    measures = [_measure("forward in float32", _forward_pairs(archive), _relative_difference, FORWARD_FLOAT32)]
    previous = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    try:
        measures.append(_measure("forward", _forward_pairs(archive), _relative_difference, FORWARD, "forward"))
        method = build(archive)
        gradients = _record_first_gradients(method)
        for step, (real_A, real_B) in enumerate(zip(archive.arrays["A"], archive.arrays["B"])):
            losses = method.step({"real_A": real_A.astype("float64"), "real_B": real_B.astype("float64")})
            pairs = {name: (np.array(losses[name]), figure) for name, figure in archive.below(f"step{step}/").items()}
            at_most, file = (LATER_LOSSES, "bp_align") if step else (FIRST_LOSSES, "loss")
            measures.append(_measure(f"losses of step {step}", pairs, _loss_difference, at_most, file))
    finally:
        paddle.set_default_dtype(previous)
    for name in archive.networks:
        expected = archive.state("grad", name, method.networks[name].state_dict())
        pairs = {key: (gradients[name][key], value) for key, value in expected.items()}
        measures.append(_measure(f"gradients of {name}", pairs, _gradient_difference, GRADIENTS, "bp_align"))
    for name in archive.networks:
        ours = method.networks[name].state_dict()
        initial, final = archive.state("init", name, ours), archive.state("final", name, ours)
        pairs = {key: (ours[key].numpy(), value) for key, value in final.items()}
        difference = sum(np.abs(our - their).sum() for our, their in pairs.values())
        update = sum(np.abs(value.astype("float64") - initial[key]).sum() for key, value in final.items())
        measures.append(Measure(f"final weights of {name}", float(difference / update), FINAL, pairs, "bp_align"))
    return measures


def write_reprod_log(measures: Sequence[Measure], folder: Path) -> None:
    """Write forward_paddle.npy and forward_torch.npy, and so on for STEPS: the files that reprod_log's ReprodDiffHelper compares.

    The form is a pickled dict of arrays; nothing here reads one. Raises OSError where a file cannot be written.
    """
    for step in STEPS:
        pairs = {
            f"{measure.name}/{key}": pair for measure in measures if measure.step == step for key, pair in measure.pairs.items()
        }
        for side, whose in enumerate(("paddle", "torch")):
            content = io.BytesIO()
            np.save(content, {name: np.asarray(pair[side], "float64") for name, pair in pairs.items()})
            write_bytes(folder / f"{step}_{whose}.npy", content.getvalue())


def _measure(
    name: str, pairs: Pairs, difference: Callable[[np.ndarray, np.ndarray], float], at_most: float, step: Optional[str] = None
) -> Measure:
    """The worst of some pairs."""
    return Measure(name, max(difference(*pair) for pair in pairs.values()), at_most, pairs, step)


def _forward_pairs(archive: Archive) -> Pairs:
    """The outputs under forward/, named NETWORK or NETWORK/PART."""
    method = build(archive)
    # Pix2Pix's generator takes its statistics from the batch, in every phase.
    method.set_training(isinstance(method.config, Pix2PixConfig))
    images = {domain: paddle.to_tensor(archive.arrays[domain][0], dtype=paddle.get_default_dtype()) for domain in "AB"}
    expected = archive.below("forward/")
    outputs: Dict[str, paddle.Tensor] = {}
    with paddle.no_grad():
        for network in {key.split("/")[0] for key in expected}:
            # D_A judges images of B.
            output = method.networks[network](images["B" if network == "D_A" else "A"])
            parts = output._asdict() if isinstance(output, tuple) else {}
            outputs.update({network: output}, **{f"{network}/{part}": value for part, value in parts.items()})
    return {key: (outputs[key].numpy(), value) for key, value in expected.items()}


def _record_first_gradients(method: Method) -> Dict[str, Arrays]:
    """Copy each network's gradients when an optimizer makes a step with them for the first time."""
    recorded: Dict[str, Arrays] = {}

    def record_and_step(step: Callable[[], None]) -> None:
        for name, network in method.networks.items():
            present = {key: p.grad.numpy().copy() for key, p in network.named_parameters() if p.grad is not None}
            if present:
                recorded.setdefault(name, present)
        step()

    for optimizer in method.optimizers.values():
        optimizer.step = partial(record_and_step, optimizer.step)
    return recorded


def _relative_difference(ours: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest entry."""
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def _gradient_difference(ours: np.ndarray, expected: np.ndarray) -> float:
    """The same, but a gradient that is nothing but rounding must be so in both."""
    if np.abs(expected).max() < NO_GRADIENT:
        return 0.0 if np.abs(ours).max() < NO_GRADIENT else np.inf
    return _relative_difference(ours, expected)


def _loss_difference(ours: np.ndarray, expected: np.ndarray) -> float:
    """Relative difference; nothing where both agree to 1e-9."""
    difference = float(abs(ours - expected))
    return 0.0 if difference <= 1e-9 else difference / max(abs(float(expected)), 1e-300)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code, 1 where a measure is over its tolerance."""
    return exit_code_of(lambda: run(arguments), see="the archive's path and --reprod_log")


def run(arguments: Sequence[str] | None) -> int:
    """Run one command line. Raises UserError or OSError."""
    parser = OneLineParser(prog="python -m tools.parity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="an archive of the authors' figures (.npz)")
    parser.add_argument("--form", choices=ops.FORMS, default="fast", help="of the operations (default: fast)")
    parser.add_argument("--reprod_log", type=Path, metavar="DIR", help="folder for the figures, in the form that reprod_log reads")
    options = parser.parse_args(arguments)
    with ops.using(options.form):
        measures = compare(Archive(options.file))
    if options.reprod_log:
        write_reprod_log(measures, options.reprod_log)
    for name, value, at_most, _, _ in measures:
        print(f"{'ok  ' if value <= at_most else 'OVER'}  {name:28s} {value:9.2e}  at most {at_most:.0e}")
    return 0 if all(measure.value <= measure.at_most for measure in measures) else 1


if __name__ == "__main__":
    sys.exit(main())
