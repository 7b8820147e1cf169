"""The training loop, and what happens around an iteration: log, sample grids, evaluation, checkpoints. It knows no method."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Dict, Generator, Mapping, Optional, Sequence, Tuple

import numpy as np

from config import Config
from dataset import Sample
from engine import distributed
from engine.checkpoint import Checkpoint, CheckpointFolder
from engine.device import machine
from engine.health import Health, Look, look_of
from engine.logger import Progress, open_log
from engine.method import Method
from engine.pictures import sample_grid, translate_sample
from engine.run import RunFolder
from engine.signals import StopRequest
from errors import CheckpointError, Interrupted, UserError

Batch = Mapping[str, np.ndarray]


class LossWindow:
    """Sums of the losses since the last line of the log."""

    def __init__(self, sums: Optional[Mapping[str, float]] = None, count: int = 0) -> None:
        self.sums, self.count = dict(sums or {}), count

    def add(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def means(self) -> Dict[str, float]:
        return {name: value / self.count for name, value in self.sums.items()}


class Speedometer:
    """Images a second since it was read last, by the seconds of training alone."""

    def __init__(self, seconds: float) -> None:
        self.images, self.since = 0, seconds

    def read(self, seconds: float) -> float:
        speed = self.images / max(seconds - self.since, 1e-9)
        self.images, self.since = 0, seconds
        return speed


class Training:
    """A method in training.

    Args:
        method: built for training.
        run: where everything is written.
        samples: for each direction the columns of its sample grid.
        evaluate: called every config.eval_freq iterations; None where that is 0. Gives the scores to log, their merit, lower
            is better, where the best checkpoint is to be kept, and the evaluation's file.
        image_counts: images in each training folder.
    """

    def __init__(
        self,
        method: Method,
        run: RunFolder,
        samples: Mapping[str, Sequence[Sample]],
        evaluate: Optional[Callable[[Method], Tuple[Dict[str, float], Optional[float], bytes]]] = None,
        image_counts: Optional[Mapping[str, int]] = None,
    ) -> None:
        self.method, self.run, self.samples, self.evaluate = method, run, samples, evaluate
        self.image_counts = image_counts or {}
        self.config: Config = method.config
        self.checkpoints = CheckpointFolder(run.checkpoints, self.config.keep)
        # Seconds of training so far, in all processes that worked on the run, without logging, evaluating and saving.
        self.seconds = 0.0
        self.window = LossWindow()
        # The best merit so far, of which --keep_best, and at which iteration.
        self.best: Dict[str, Any] = {}
        self.saved_iteration = 0
        # No step is half done: what there is can be saved.
        self.is_whole = True

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint whole.

        Raises:
            CheckpointError: its arrays are not those of the method's networks.
        """
        self.method.restore(checkpoint)
        self.window = LossWindow(**checkpoint.meta["window"])
        self.seconds = checkpoint.meta.get("seconds", 0.0)
        self.best = dict(checkpoint.meta.get("best", {})) if self.checkpoints.has_best() else {}
        self.saved_iteration = checkpoint.meta["iteration"]

    def refuse_other_iterations(self) -> None:
        """Raise CheckpointError where another process is at another iteration."""
        iteration = self.method.iteration
        first, last = -distributed.largest(-iteration), distributed.largest(iteration)
        if first != last:
            raise CheckpointError(
                f"--result_dir: the processes have found checkpoints of iterations {first} and {last}: all machines must share "
                "this folder"
            )

    def state(self) -> Checkpoint:
        """All that is needed to go on."""
        checkpoint = self.method.state()
        around = {"seconds": self.seconds, "machine": machine(), "best": self.best, "window": vars(self.window)}
        around["processes"] = distributed.processes()
        return Checkpoint(checkpoint.arrays, {**checkpoint.meta, **around})

    def fit(self, batches: Generator[Batch, None, None]) -> None:
        """Train on `batches`, those of the iterations from the method's next one up to config.iteration.

        Raises:
            TrainingError: a loss or a weight is not finite.
            DataError: an image cannot be read; the state is saved.
            CheckpointError: a checkpoint cannot be written, or the logs cannot be cut back. Later they may fail: that is said once.
            Interrupted: Ctrl-C, SIGTERM or SIGHUP; the state is saved.

        After any other error between two iterations, such as one in a thread that reads images, the state is saved as well. Of
        several processes the first one writes, and the others wait for it.
        """
        method, last_iteration = self.method, self.config.iteration
        self.refuse_other_iterations()
        method.start_alike()
        self.log = open_log(self.run, self.warn_of_gaps, method.iteration) if distributed.is_first() else None
        self.progress = Progress(method.iteration, last_iteration)
        self.speedometer = Speedometer(self.seconds)
        self.health = Health(method.watched(), self.progress.warn)
        if distributed.is_first():
            self.health.check_domains(self.image_counts)
        try:
            with StopRequest() as stop, contextlib.closing(batches):
                started = time.monotonic()
                for batch in batches:
                    self.is_whole = False
                    losses = method.step(batch)
                    self.is_whole = True
                    self.seconds += time.monotonic() - started
                    # What happens after an iteration, in this order.
                    self.log_losses(losses, distributed.processes() * sum(len(array) for array in batch.values()))
                    self.draw_samples()
                    self.evaluate_and_keep_best()
                    # A signal may reach one process before this question and another after it: all have to stop at one iteration.
                    exit_code = distributed.largest(stop.exit_code or 0)
                    self.save_checkpoint(asked=exit_code > 0)
                    if exit_code and method.iteration < last_iteration:
                        raise Interrupted(
                            f"stopped at iteration {method.iteration}, which is saved: go on with --resume", exit_code
                        )
                    started = time.monotonic()
        except Exception as error:
            if self.is_whole and not isinstance(error, CheckpointError):
                with contextlib.suppress(UserError):
                    self.save()
            raise
        finally:
            self.progress.close()

    def warn_of_gaps(self, problem: str) -> None:
        """Say that something beside the checkpoints cannot be written."""
        self.progress.warn(
            f"warning: {problem}: the training goes on, with gaps in its logs and sample grids; make room, or the folder writable, "
            "before the next checkpoint"
        )

    def log_losses(self, losses: Mapping[str, float], images: int) -> None:
        """Show the losses, and every print_freq iterations log their means."""
        iteration = self.method.iteration
        self.window.add(losses)
        self.speedometer.images += images
        report = iteration % self.config.print_freq == 0
        scaling = self.method.precision.statistics()
        totals = {name: value for name, value in losses.items() if name.endswith("_total")}
        self.progress.update(iteration, {**totals, **scaling}, report)
        if report and self.log is not None:
            speed = {"lr": self.method.learning_rate(iteration), "images_per_second": self.speedometer.read(self.seconds)}
            means, statistics = self.window.means(), self.method.statistics()
            self.log.write(iteration, means, {**speed, **scaling}, statistics)
            self.health.check_line(iteration, means, statistics)
        if report:
            self.window = LossWindow()

    def draw_samples(self) -> None:
        """Every print_freq iterations write a sample grid of each direction."""
        iteration = self.method.iteration
        if iteration % self.config.print_freq:
            return
        for direction, samples in self.samples.items() if self.log is not None else ():
            translations = [translate_sample(self.method, direction, sample) for sample in samples]
            self.health.check_look(iteration, direction, self.look(direction, [found.image[0] for found in translations]))
            grid = sample_grid(translations)
            self.log.write_samples(direction, grid, iteration)
        distributed.wait_for_all()

    def look(self, direction: str, translations: Sequence[np.ndarray]) -> Look:
        """What the samples' translations look like beside real images: the true counterparts, or the other direction's inputs."""
        samples = self.samples[direction]
        inputs = [sample.image for sample in samples]
        truths = [sample.truth for sample in samples if sample.truth is not None]
        targets = [sample.image for other, given in self.samples.items() if other != direction for sample in given]
        models = [sample.image if sample.truth is None else sample.truth for sample in samples]
        return look_of(translations, inputs, truths or targets or inputs, models)

    def evaluate_and_keep_best(self) -> None:
        """Every eval_freq iterations evaluate, log the scores, and keep this state where it is the best so far."""
        iteration, kind = self.method.iteration, self.config.keep_best
        if self.evaluate is None or iteration % self.config.eval_freq:
            return
        scores, merit, content = self.evaluate(self.method)
        if self.log is not None:
            with self.log.tolerant():
                self.run.write_evaluation(content)
            self.log.write_scores(iteration, scores)
        earlier = self.best.get("merit") if self.best.get("kind") == kind else None
        if merit is not None and np.isfinite(merit) and (earlier is None or merit < earlier):
            self.best = {"kind": kind, "merit": merit, "iteration": iteration}
            if distributed.is_first():
                self.checkpoints.save_best(self.state())
        distributed.wait_for_all()

    def save_checkpoint(self, asked: bool = False) -> None:
        """Save every checkpoint_freq and save_freq iterations, at the end, and when asked to."""
        iteration, config = self.method.iteration, self.config
        periodic = iteration % config.save_freq == 0
        due = periodic or asked or iteration % config.checkpoint_freq == 0 or iteration == config.iteration
        if due and iteration != self.saved_iteration:
            self.save(periodic)
            distributed.wait_for_all()

    def save(self, periodic: bool = False) -> None:
        """Save a checkpoint, unless this iteration is saved already."""
        if distributed.is_first() and self.method.iteration != self.saved_iteration:
            self.checkpoints.save(self.state(), periodic)
        self.saved_iteration = self.method.iteration
