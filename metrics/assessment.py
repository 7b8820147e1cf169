"""An evaluation of a method as a phase or a training asks for it: printed, written to a file, and logged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence

from tqdm import tqdm

from config import Config
from dataset import open_test_set
from engine import distributed
from engine.logger import open_log
from engine.method import Method
from engine.run import RunFolder
from errors import CheckpointError
from metrics.evaluation import Evaluation


class Assessment(NamedTuple):
    """What to log, the merit, lower is better, where the best checkpoint is to be kept, and what evaluation.json holds."""

    scores: Dict[str, float]
    merit: Optional[float]
    content: bytes


def build_evaluation(config: Config, cache: Path, directions: Optional[Sequence[str]] = None) -> Evaluation:
    """What scores a method on the test set, in all its directions or in those given.

    Raises DataError, ConfigError or WeightsError as `Evaluation` does.
    """
    directions = config.directions if directions is None else directions
    return Evaluation(config, {direction: open_test_set(config, direction) for direction in directions}, cache, directions)


def assess(evaluation: Evaluation, method: Method) -> Assessment:
    """Evaluate a method as it stands, and print the scores."""
    report = evaluation(method.translate_image)
    if distributed.is_first():
        tqdm.write(f"{method.position} of {evaluation.config.method} on the test images of {evaluation.config.dataset}")
        tqdm.write(report.table())
    content = report.to_json(iteration=method.iteration, weights=method.weights, **evaluation.settings).encode()
    return Assessment(report.flat(), evaluation.merit(report), content)


def log_scores(run: RunFolder, iteration: int, scores: Dict[str, float]) -> None:
    """Add scores to the run's logs, unless a training is writing them just now."""

    def warn(problem: object) -> None:
        print(f"not logged: {problem}", file=sys.stderr)

    try:
        with run.only_one():
            open_log(run, warn).write_scores(iteration, scores)
    except CheckpointError as error:
        warn(error)
