"""The training loop. It knows no method: a subclass owns `train_step` and `translate`."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from config import Config, to_saved
from engine.checkpoint import Arrays, Checkpoint, CheckpointFolder
from engine.device import machine
from engine.logger import Progress, RunLog
from engine.run import RunFolder, cannot_write
from engine.signals import StopRequest
from errors import CheckpointError, Interrupted, TrainingError, UserError
from utils import Row, Sample, labelled_grid, strips, write_image

Batch = Mapping[str, np.ndarray]
Losses = Dict[str, Tensor]


class Translation(NamedTuple):
    """What `translate` gives: the translated images (N, C, H, W) in [-1, 1], and the rows of a sample grid."""

    output: np.ndarray
    rows: List[Row]


class Assessment(NamedTuple):
    """An evaluation of a trainer: what to log, and its merit, lower is better, where the best checkpoint is to be kept."""

    scores: Dict[str, float]
    merit: Optional[float] = None


class Trainer:
    """What every method shares: state, loop, resume, logs, guards.

    A subclass fills `networks` (by name) and `optimizers` (by name) in its constructor, and defines

    - `train_step(batch)`: one iteration of the paper's algorithm; returns every loss term as a scalar tensor;
    - `generate(direction, images)`: (N, C, H, W) images translated; direction is one of `directions`;
    - `translate(direction, images, truth)`: the same with the rows of a sample grid; truth holds the images' true counterparts or
      is None;
    - `learning_rate(iteration)`: the rate of iteration 1..N;
    - optionally `statistics()`, further scalars for the log by tag, and `extra_state()` with `restore_extra(arrays)`, state beside
      networks and optimizers.

    Every random draw of a step comes from Paddle's generator, which is seeded anew for each iteration. A run's random state is
    therefore (seed, iteration).
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.directions = config.directions
        self.iteration = 0
        self.networks: Dict[str, nn.Layer] = {}
        self.optimizers: Dict[str, paddle.optimizer.Optimizer] = {}
        # Sums of the losses, and their number, since the last line of metrics.jsonl.
        self._loss_sums: Dict[str, float] = {}
        self._loss_count = 0
        # Seconds of training so far, in all processes that worked on the run.
        self.seconds = 0.0
        # The best merit so far, of which --keep_best, and at which iteration.
        self.best: Dict[str, Any] = {}
        paddle.seed(config.seed)

    # What a method defines

    def train_step(self, batch: Mapping[str, Tensor]) -> Losses:
        raise TypeError(f"{type(self).__name__} defines no train_step")

    def generate(self, direction: str, images: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} defines no generate")

    def translate(self, direction: str, images: Tensor, truth: Optional[Tensor]) -> Translation:
        raise TypeError(f"{type(self).__name__} defines no translate")

    def learning_rate(self, iteration: int) -> float:
        raise TypeError(f"{type(self).__name__} defines no learning_rate")

    def statistics(self) -> Dict[str, float]:
        return {}

    def extra_state(self) -> Arrays:
        return {}

    def restore_extra(self, arrays: Arrays) -> None:
        pass

    # What a method's constructor calls

    def add_networks(self, **networks: nn.Layer) -> None:
        """Register networks under the names that checkpoints and summaries use."""
        for name, network in networks.items():
            self.networks[name] = network
            for key, parameter in network.named_parameters():
                # Optimizers store their state under this name: it must be the same in every process.
                parameter.name = f"{name}.{key}"

    def add_adam(self, name: str, networks: Sequence[nn.Layer], beta1: float, beta2: float, weight_decay: float = 0.0) -> None:
        """Register Adam over the parameters of `networks`; `weight_decay` is added to the gradient (L2), as in PyTorch's Adam."""
        self.optimizers[name] = paddle.optimizer.Adam(
            learning_rate=self.config.lr,
            beta1=beta1,
            beta2=beta2,
            parameters=[parameter for network in networks for parameter in network.parameters()],
            weight_decay=weight_decay or None,
        )

    # The loop

    def apply_gradients(self, name: str) -> None:
        """Step the optimizer `name` and release its gradients."""
        # The moments are named at the first step, with a number that counts how often a name was asked for in this process.
        # A checkpoint needs the same names in every process.
        with paddle.utils.unique_name.guard():
            self.optimizers[name].step()
        self.optimizers[name].clear_grad(set_to_zero=False)

    def step(self, batch: Batch) -> Dict[str, float]:
        """One iteration on a batch of arrays: seeds, learning rate, `train_step`, guard. Returns the losses.

        Raises:
            TrainingError: a loss is not finite.
        """
        self.iteration += 1
        self._seed(self.iteration)
        for optimizer in self.optimizers.values():
            optimizer.set_lr(self.learning_rate(self.iteration))
        losses = self.train_step({name: paddle.to_tensor(array) for name, array in batch.items()})
        # One copy from the device for all of them.
        values = paddle.stack([value.detach() for value in losses.values()]).numpy().tolist()
        for name, value in zip(losses, values):
            if not np.isfinite(value):
                raise TrainingError(
                    f"iteration {self.iteration}: the loss {name} is {value}; the last checkpoint is untouched; "
                    "start a new run with a lower --lr and another --result_dir"
                )
        return dict(zip(losses, values))

    def fit(
        self,
        batches: Callable[[int, int], Iterator[Batch]],
        samples: Mapping[str, Sequence[Sample]],
        run: RunFolder,
        evaluate: Optional[Callable[[Trainer], Assessment]] = None,
    ) -> None:
        """Train up to config.iteration, from where this trainer stands.

        Args:
            batches: gives the batches of iterations first..last.
            samples: for each direction the columns of its sample grid.
            run: where everything is written.
            evaluate: called every config.eval_freq iterations; None where that is 0.

        Raises:
            TrainingError: a loss or a weight is not finite.
            CheckpointError: something cannot be written.
            Interrupted: Ctrl-C or SIGTERM; the state is saved.
        """
        config, checkpoints = self.config, CheckpointFolder(run.checkpoints, self.config.keep)
        if not checkpoints.best.is_dir():
            self.best = {}
        log = open_log(run, self.iteration)
        progress = Progress(self.iteration, config.iteration)
        window_started = last_step = time.monotonic()
        window_first = self.iteration
        source = batches(self.iteration + 1, config.iteration)
        try:
            with StopRequest() as stop, contextlib.closing(source):
                for batch in source:
                    self.set_training(True)
                    losses = self.step(batch)
                    self._add_to_window(losses)
                    self.seconds += time.monotonic() - last_step
                    report = self.iteration % config.print_freq == 0
                    progress.update(self.iteration, losses, report)
                    if report:
                        speed = self._images(batch) * (self.iteration - window_first) / (time.monotonic() - window_started)
                        self._write_log(log, speed)
                        self._write_samples(log, samples, run)
                        window_started, window_first = time.monotonic(), self.iteration
                    if evaluate is not None and self.iteration % config.eval_freq == 0:
                        started = time.monotonic()
                        self._assess(evaluate, log, checkpoints)
                        window_started += time.monotonic() - started
                    periodic = self.iteration % config.save_freq == 0
                    last = self.iteration == config.iteration
                    stopping = stop.exit_code
                    if periodic or last or stopping or self.iteration % config.checkpoint_freq == 0:
                        checkpoints.save(self.state(), periodic)
                    if stopping and not last:
                        raise Interrupted(f"stopped at iteration {self.iteration}, which is saved: go on with --resume", stopping)
                    last_step = time.monotonic()
        except OSError as error:
            raise cannot_write(run, error) from error
        finally:
            progress.close()
            with contextlib.suppress(OSError):
                log.close()

    def set_training(self, training: bool) -> None:
        """Put every network in training or evaluation mode."""
        for network in self.networks.values():
            if network.training != training:
                network.train() if training else network.eval()

    @staticmethod
    def _images(batch: Batch) -> int:
        return sum(len(array) for array in batch.values())

    def _add_to_window(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            self._loss_sums[name] = self._loss_sums.get(name, 0.0) + value
        self._loss_count += 1

    def _write_log(self, log: RunLog, images_per_second: float) -> None:
        means = {name: value / self._loss_count for name, value in self._loss_sums.items()}
        speed = {"lr": self.learning_rate(self.iteration), "images_per_second": images_per_second}
        log.write(self.iteration, means, speed, self.statistics())
        self._loss_sums, self._loss_count = {}, 0

    def _assess(self, evaluate: Callable[[Trainer], Assessment], log: RunLog, checkpoints: CheckpointFolder) -> None:
        """Evaluate, log the scores, and keep this state where it is the best so far."""
        try:
            scores, merit = evaluate(self)
        except UserError:
            checkpoints.save(self.state())  # the training so far shall not be lost with it
            raise
        log.write_scores(self.iteration, scores)
        kind = self.config.keep_best
        earlier = self.best.get("merit") if self.best.get("kind") == kind else None
        if merit is not None and np.isfinite(merit) and (earlier is None or merit < earlier):
            self.best = {"kind": kind, "merit": merit, "iteration": self.iteration}
            checkpoints.save_best(self.state())

    def _write_samples(self, log: RunLog, samples: Mapping[str, Sequence[Sample]], run: RunFolder) -> None:
        for direction in self.directions:
            grid = self.sample_grid(direction, samples[direction])
            write_image(run.samples / f"{direction}_{self.iteration:07d}.png", grid)
            log.add_image(f"samples/{direction}", grid, self.iteration)

    def sample_grid(self, direction: str, samples: Sequence[Sample]) -> np.ndarray:
        """Labelled rows of `translate`, one column a sample."""
        columns, labels = [], []
        for sample in samples:
            rows = self.render(direction, sample).rows
            columns += strips(rows, sample.image.shape[-1])
            labels = [row.label for row in rows]
        return labelled_grid(columns, labels)

    def render(self, direction: str, sample: Sample, draw: int = 0) -> Translation:
        """`translate` of one sample, in evaluation mode and without a graph; `draw` numbers the noise, where there is any."""
        self.set_training(False)
        self._seed(-1 - draw)
        truth = None if sample.truth is None else paddle.to_tensor(sample.truth[None])
        with paddle.no_grad():
            return self.translate(direction, paddle.to_tensor(sample.image[None]), truth)

    def output(self, direction: str, image: np.ndarray) -> np.ndarray:
        """`generate` of one image (C, H, W) in [-1, 1], as `render` has it."""
        self.set_training(False)
        self._seed(-1)
        with paddle.no_grad():
            return self.generate(direction, paddle.to_tensor(image[None]))[0].numpy()

    def _seed(self, number: int) -> None:
        """Seed Paddle's generator for iteration `number`, or, below 0, for a translation."""
        paddle.seed((self.config.seed * 1_000_003 + number) % 2**31)

    # State

    def state(self) -> Checkpoint:
        """All that is needed to go on."""
        model = {
            f"{name}.{key}": value.numpy() for name, network in self.networks.items() for key, value in network.state_dict().items()
        }
        optimizer = {
            f"{name}/{key}": value.numpy()
            for name, optimizer in self.optimizers.items()
            for key, value in optimizer.state_dict().items()
            if isinstance(value, Tensor)
        }
        optimizer.update({f"extra/{name}": array for name, array in self.extra_state().items()})
        meta = {
            "method": self.config.method,
            "iteration": self.iteration,
            "lr": self.learning_rate(max(1, self.iteration)),
            "random": {"seed": self.config.seed, "iteration": self.iteration},
            "seconds": self.seconds,
            "machine": machine(),
            "best": self.best,
            "window": {"sums": self._loss_sums, "count": self._loss_count},
            "config": to_saved(self.config),
            "paddle": paddle.__version__,
        }
        return Checkpoint(model, optimizer, meta)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint whole: networks, optimizers, position.

        Raises:
            CheckpointError: its arrays are not those of these networks.
        """
        self.restore_networks(checkpoint)
        for name, optimizer in self.optimizers.items():
            arrays = _below(checkpoint.optimizer, f"{name}/")
            if arrays:
                optimizer.set_state_dict({key: paddle.to_tensor(array) for key, array in arrays.items()})
        self.restore_extra(_below(checkpoint.optimizer, "extra/"))
        self.iteration = checkpoint.meta["iteration"]
        self._loss_sums = dict(checkpoint.meta["window"]["sums"])
        self._loss_count = checkpoint.meta["window"]["count"]
        self.seconds = checkpoint.meta.get("seconds", 0.0)
        self.best = dict(checkpoint.meta.get("best", {}))

    def restore_networks(self, checkpoint: Checkpoint) -> None:
        """Take over the networks of a checkpoint.

        Raises:
            CheckpointError: its arrays are not those of these networks.
        """
        own = {f"{name}.{key}": value for name, net in self.networks.items() for key, value in net.state_dict().items()}
        wrong = sorted(set(own) ^ set(checkpoint.model)) or sorted(
            key for key, value in own.items() if list(value.shape) != list(checkpoint.model[key].shape)
        )
        if wrong:
            raise CheckpointError(f"--checkpoint: its networks are not those of its configuration ({wrong[0]})")
        for key, value in own.items():
            value.set_value(checkpoint.model[key])

    def summary(self) -> str:
        """Networks and their numbers of parameters."""
        counts = {name: sum(p.size for p in network.parameters()) for name, network in self.networks.items()}
        lines = [f"{name:8s} {count:>13,} parameters" for name, count in counts.items()]
        return "\n".join([*lines, f"{'total':8s} {sum(counts.values()):>13,}"])


def _below(arrays: Arrays, prefix: str) -> Arrays:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def open_log(run: RunFolder, iteration: Optional[int] = None) -> RunLog:
    """The run's log, cut back to `iteration`, if it is given. Raises CheckpointError where it cannot be written."""
    try:
        return RunLog(run.metrics, run.log, iteration)
    except OSError as error:
        raise cannot_write(run, error) from error


@contextlib.contextmanager
def frozen(*networks: nn.Layer) -> Iterator[None]:
    """Within it, no parameter of `networks` takes part in a graph, while gradients flow through to their inputs."""
    parameters = [p for network in networks for p in network.parameters() if not p.stop_gradient]
    for parameter in parameters:
        parameter.stop_gradient = True
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.stop_gradient = False
