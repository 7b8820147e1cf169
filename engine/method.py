"""What a method is: networks by role, optimizers, one training step, and the translation of images."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from typing import ClassVar, ContextManager, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np
import paddle
from paddle import Tensor, nn

from config import AVERAGED, NETWORKS, RAW, SEEN_IN_NO_ARRAY, Config, to_saved
from engine import distributed
from engine.averaging import Averages
from engine.checkpoint import Arrays, Checkpoint
from engine.health import Watched
from engine.precision import Precision
from errors import CheckpointError, ConfigError, TrainingError

# Those of batch norm, by the ends of their names.
RUNNING_STATISTICS = ("running_mean", "running_var")
Losses = Dict[str, Tensor]
Networks = Dict[str, nn.Layer]


class Row(NamedTuple):
    """One row of a sample grid: `values` (N, C, H, W), images in [-1, 1] or heat maps of any range."""

    label: str
    values: np.ndarray
    is_heat_map: bool = False


class Translation(NamedTuple):
    """Translated images (N, C, H, W) in [-1, 1], and the rows of a sample grid that show how they came about."""

    image: np.ndarray
    rows: List[Row]


class Method:
    """What every method shares. A subclass's constructor fills

    - `generators`, and for training `discriminators`: networks by name, made by `named`;
    - `optimizers` by name;

    and the subclass defines

    - `generator_names`: the generator of each direction;
    - `train_step(batch)`: one iteration of the paper's algorithm; returns every loss term as a scalar tensor;
    - `learning_rate(iteration)`: the rate of iteration 1..N;
    - `translate(direction, images)`: (N, C, H, W) images translated;
    - `translate_with_rows(direction, images, truth)`: the same with the rows of a sample grid; truth holds the images' true
      counterparts or is None;
    - optionally `statistics()`, further scalars for the log by tag, `watched()`, where a training that goes wrong shows, and
      `extra_state()` with `restore_extra(arrays)`, state beside networks and optimizers.

    Every random draw of a step comes from Paddle's generator, which is seeded anew for each iteration. A run's random state is
    therefore (seed, iteration).
    """

    generator_names: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: Config) -> None:
        self.config = config
        self.directions = config.directions
        self.precision = Precision(config.amp)
        self.iteration = 0
        self.generators: Networks = {}
        self.discriminators: Networks = {}
        self.optimizers: Dict[str, paddle.optimizer.Optimizer] = {}
        # With --ema in training, the averaged generators; and which weights translate.
        self.averages: Optional[Averages] = None
        self.weights = RAW
        paddle.seed(config.seed)

    # What a method defines

    def train_step(self, batch: Mapping[str, Tensor]) -> Losses:
        raise TypeError(f"{type(self).__name__} defines no train_step")

    def learning_rate(self, iteration: int) -> float:
        raise TypeError(f"{type(self).__name__} defines no learning_rate")

    def translate(self, direction: str, images: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} defines no translate")

    def translate_with_rows(self, direction: str, images: Tensor, truth: Optional[Tensor] = None) -> Translation:
        raise TypeError(f"{type(self).__name__} defines no translate_with_rows")

    def statistics(self) -> Dict[str, float]:
        return {}

    def watched(self) -> Watched:
        return Watched()

    def extra_state(self) -> Arrays:
        return {}

    def restore_extra(self, arrays: Arrays) -> None:
        pass

    # What a method calls

    @staticmethod
    def named(**networks: nn.Layer) -> Networks:
        """Networks under the names that checkpoints, optimizers and summaries use."""
        for name, network in networks.items():
            for key, parameter in network.named_parameters():
                # Optimizers store their state under this name: it must be the same in every process.
                parameter.name = f"{name}.{key}"
        return networks

    def update(self, name: str, loss: Tensor) -> None:
        """One step of the optimizer `name` down the gradient of `loss`: the seam where every update passes.

        Of several processes, each has the gradient of its share of the batch, and all take the mean. In fp16 the step is skipped
        where a gradient is not finite.

        Raises:
            TrainingError: the loss is not finite. Paddle's backward pass may write outside its memory where a map is not.
        """
        self._check_loss(f"{name}_total", float(loss))
        self.precision.backward(loss)
        parameters = self.optimizers[name]._parameter_list
        distributed.average([parameter.grad for parameter in parameters if parameter.grad is not None])
        if self.precision.unscale(self.optimizers[name]):
            # The moments are named at the first step, with a number that counts how often a name was asked for in this process.
            # A checkpoint needs the same names in every process.
            with paddle.utils.unique_name.guard():
                self.optimizers[name].step()
        self.optimizers[name].clear_grad(set_to_zero=False)

    # What the loop and the phases call

    @property
    def networks(self) -> Networks:
        return {**self.generators, **self.discriminators}

    def generator(self, direction: str) -> Optional[nn.Layer]:
        """The network that translates in this direction; None where the checkpoint has only the other direction's."""
        return self.generators.get(self.generator_names[direction])

    def step(self, batch: Mapping[str, np.ndarray]) -> Dict[str, float]:
        """One iteration on a batch of arrays: mode, seeds, learning rate, `train_step`, guard.

        Returns the losses, of several processes the means of theirs.

        Raises:
            TrainingError: a loss is not finite.
        """
        self.iteration += 1
        self.set_training(True)
        self._seed(self.iteration)
        for optimizer in self.optimizers.values():
            optimizer.set_lr(self.learning_rate(self.iteration))
        with self.precision.forward():
            losses = self.train_step({name: paddle.to_tensor(array) for name, array in batch.items()})
        self.precision.end_iteration()
        if distributed.processes() > 1:
            state = _state_of(self.networks)
            distributed.average([value for name, value in state.items() if name.endswith(RUNNING_STATISTICS)])
        # One copy from the device for all of them.
        values = distributed.mean_of(paddle.stack([value.detach() for value in losses.values()]).numpy())
        for name, value in zip(losses, values):
            self._check_loss(name, value)
        if self.averages is not None:
            self.averages.update(self.iteration)
        return dict(zip(losses, values))

    def _check_loss(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"iteration {self.iteration}: the loss {name} is {value}; the last checkpoint is untouched; "
                "start a new run with a lower --lr and another --result_dir"
            )

    @contextlib.contextmanager
    def inference(self, draw: int = 0) -> Iterator[None]:
        """Within it networks are in evaluation mode, generators have their averaged weights, if any, and no graph is built.

        `draw` numbers the noise, where there is any.
        """
        self.set_training(False)
        self._seed(-1 - draw)
        with paddle.no_grad(), self._averaged(), self.precision.forward():
            yield

    def translate_image(self, direction: str, image: np.ndarray) -> np.ndarray:
        """`translate` of one image (C, H, W) in [-1, 1], in inference."""
        with self.inference():
            return self.translate(direction, paddle.to_tensor(image[None]))[0].numpy()

    def average_generators(self) -> None:
        """From now on keep averages of the generators' weights, with decay config.ema; they translate."""
        self.averages, self.weights = Averages(self.generators, self.config.ema), AVERAGED

    def _averaged(self) -> ContextManager[None]:
        return contextlib.nullcontext() if self.averages is None else self.averages.in_place()

    @property
    def position(self) -> str:
        """The iteration and, in a run with --ema, the weights that translate, for people."""
        return f"iteration {self.iteration}" + f" ({self.weights} weights)" * bool(self.config.ema)

    def set_training(self, training: bool) -> None:
        """Put every network in training or evaluation mode."""
        for network in self.networks.values():
            if network.training != training:
                network.train() if training else network.eval()

    def _seed(self, number: int) -> None:
        """Seed Paddle's generator for iteration `number`, or, below 0, for a translation."""
        paddle.seed((self.config.seed * 1_000_003 + number) % 2**31)

    # State

    def start_alike(self) -> None:
        """Of several processes, start with the networks of the first: others may compute initial weights differently."""
        distributed.copy_from_first(list(_state_of(self.networks).values()))

    def state(self) -> Checkpoint:
        """All of the method that is needed to go on. On a CPU its arrays are the tensors' memory, which the next step changes."""
        optimizer = {
            f"{name}/{key}": _array(value)
            for name, optimizer in self.optimizers.items()
            for key, value in optimizer.state_dict().items()
            if isinstance(value, Tensor)
        }
        optimizer.update({f"extra/{name}": array for name, array in self.extra_state().items()})
        arrays = {
            "generators": {key: _array(value) for key, value in _state_of(self.generators).items()},
            "discriminators": {key: _array(value) for key, value in _state_of(self.discriminators).items()},
            "optimizer": optimizer,
        }
        if self.averages is not None:
            with self._averaged():
                arrays[AVERAGED] = {key: _array(value) for key, value in _state_of(self.generators).items()}
        meta = {
            "method": self.config.method,
            "iteration": self.iteration,
            "lr": self.learning_rate(max(1, self.iteration)),
            "random": {"seed": self.config.seed, "iteration": self.iteration},
            "config": to_saved(self.config),
            "paddle": paddle.__version__,
        }
        if precision := self.precision.state():
            meta["precision"] = precision
        return Checkpoint(arrays, meta)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint whole: networks, averages, optimizers, position. The checkpoint gives its arrays away.

        Raises:
            CheckpointError: its arrays are not those of these networks.
        """
        self.restore_generators(checkpoint)
        if self.averages is not None:
            with self._averaged():
                _restore(self.generators, checkpoint.arrays.pop(AVERAGED, {}))
        _restore(self.discriminators, checkpoint.arrays.pop("discriminators"))
        state = checkpoint.arrays.pop("optimizer")
        for name, optimizer in self.optimizers.items():
            arrays = _below(state, f"{name}/")
            if arrays:
                _check_moments(optimizer._parameter_list, arrays)
                optimizer.set_state_dict({key: paddle.to_tensor(array) for key, array in arrays.items()})
        self.restore_extra(_below(state, "extra/"))
        self.precision.restore(checkpoint.meta.get("precision", {}))

    def restore_generators(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint's iteration and generators; the averaged ones, where it was loaded with these alone.

        The checkpoint gives its arrays away: the full model's take 2 GB. Imported weights may be of one direction alone, which is
        then the only one of `directions`, unless the method was built for training.

        Raises:
            CheckpointError: its arrays are not those of these networks.
        """
        part = "generators" if "generators" in checkpoint.arrays else AVERAGED
        arrays = checkpoint.arrays.pop(part)
        present = _present(self.generators, arrays)
        if present and len(present) < len(self.generators) and not self.optimizers:
            self.generators = present
            self.directions = tuple(name for name in self.directions if self.generator_names[name] in present)
        _restore(self.generators, arrays)
        self.weights = RAW if part == "generators" and self.averages is None else AVERAGED
        self.iteration = checkpoint.meta["iteration"]

    def start_from(self, checkpoint: Checkpoint) -> str:
        """Take over the networks that a checkpoint has as those of a new run; returns their names, and those that start anew.

        The generators may be its averaged ones. With --ema the averages start from them too.

        Raises:
            ConfigError: its networks are others.
        """
        arrays = {name: array for part in checkpoint.arrays.values() for name, array in part.items()}
        taken = _present(self.networks, arrays)
        settings = [item for item in dataclasses.fields(self.config) if item.metadata["group"] == NETWORKS]
        here, there = vars(self.config), {item.name: checkpoint.meta["config"].get(item.name, item.default) for item in settings}
        try:
            if any(here[name] != there[name] for name in SEEN_IN_NO_ARRAY if name in there):
                raise CheckpointError("another normalization")
            _restore(taken, arrays)
        except CheckpointError as error:
            differing = [f"--{name} {here[name]} (there {value})" for name, value in there.items() if here[name] != value]
            raise ConfigError(f"--init_from {self.config.init_from}: other networks: {', '.join(differing) or error}") from error
        if self.averages is not None:
            with self._averaged():
                _restore(_present(self.generators, arrays), arrays)
        fresh = [name for name in self.networks if name not in taken]
        return ", ".join(taken) + (f"; anew: {', '.join(fresh)}" if fresh else "")

    def summary(self) -> str:
        """Networks and their numbers of parameters."""
        counts = {name: sum(p.size for p in network.parameters()) for name, network in self.networks.items()}
        lines = [f"{name:8s} {count:>13,} parameters" for name, count in counts.items()]
        return "\n".join([*lines, f"{'total':8s} {sum(counts.values()):>13,}"])


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor's values, on a CPU without a copy."""
    return np.from_dlpack(tensor.detach()) if tensor.place.is_cpu_place() else tensor.numpy()


def _state_of(networks: Networks) -> Dict[str, Tensor]:
    return {f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()}


def _present(networks: Networks, arrays: Arrays) -> Networks:
    """Those of the networks that `arrays` has something of."""
    names = {key.split(".")[0] for key in arrays}
    return {name: network for name, network in networks.items() if name in names}


def _restore(networks: Networks, arrays: Arrays) -> None:
    own = _state_of(networks)
    # A file of version 0.1 holds generators and discriminators.
    given = {key: array for key, array in arrays.items() if key.split(".")[0] in networks}
    wrong = sorted(set(own) ^ set(given)) or sorted(key for key, value in own.items() if _kind(value) != _kind(given[key]))
    if wrong:
        raise CheckpointError(f"--checkpoint: its networks are not those of its configuration ({wrong[0]})")
    for key, value in own.items():
        value.set_value(given[key])


def _check_moments(parameters: List[Tensor], arrays: Arrays) -> None:
    """Raise CheckpointError where `arrays` are not what Adam keeps of these parameters. Paddle would begin anew what is missing."""
    kinds = {re.sub(r".*_(?=(moment|beta)[^.]*$)", "", key) for key in arrays}
    expected = {
        f"{parameter.name}_{kind}": (_kind(parameter)[0], tuple(parameter.shape) if "moment" in kind else (1,))
        for parameter in parameters
        for kind in kinds
    }
    wrong = sorted(key for key in {*expected, *arrays} if key not in arrays or _kind(arrays[key]) != expected.get(key))
    if wrong:
        raise CheckpointError(f"--resume: the optimizer's state is not that of these networks ({wrong[0]})")


def _kind(values: Union[Tensor, np.ndarray]) -> Tuple[str, Tuple[int, ...]]:
    """Type and shape."""
    return str(values.dtype).replace("paddle.", ""), tuple(values.shape)


def _below(arrays: Arrays, prefix: str) -> Arrays:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def parameters_of(networks: Networks) -> List[Tensor]:
    """What an optimizer of these networks updates."""
    return [parameter for network in networks.values() for parameter in network.parameters()]


def adam(networks: Networks, config: Config, weight_decay: float = 0.0) -> paddle.optimizer.Adam:
    """Paddle's Adam for these networks. `weight_decay` is added to the gradient (L2), as PyTorch's Adam does it."""
    parameters = parameters_of(networks)
    # All parameters at once, each of which then needs a gradient in every step. On a CPU without AVX-512 it takes a quarter of the
    # time. Paddle cannot do so in double precision.
    at_once = all(parameter.dtype == paddle.float32 for parameter in parameters)
    return paddle.optimizer.Adam(
        learning_rate=config.lr,
        beta1=config.beta1,
        beta2=config.beta2,
        parameters=parameters,
        weight_decay=weight_decay or None,
        use_multi_tensor=at_once,
    )


@contextlib.contextmanager
def frozen(networks: Networks) -> Iterator[None]:
    """Within it, no parameter of `networks` takes part in a graph, while gradients flow through to their inputs."""
    parameters = [parameter for parameter in parameters_of(networks) if not parameter.stop_gradient]
    for parameter in parameters:
        parameter.stop_gradient = True
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.stop_gradient = False
