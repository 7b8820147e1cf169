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
from utils import write_bytes


class Assessment(NamedTuple):
    """What to log, and the merit, lower is better, where the best checkpoint is to be kept."""

    scores: Dict[str, float]
    merit: Optional[float] = None


def build_evaluation(config: Config, cache: Path, directions: Optional[Sequence[str]] = None) -> Evaluation:
    """What scores a method on the test set, in all its directions or in those given.

    Raises DataError, ConfigError or WeightsError as `Evaluation` does.
    """
    directions = config.directions if directions is None else directions
    return Evaluation(config, {direction: open_test_set(config, direction) for direction in directions}, cache, directions)


def assess(evaluation: Evaluation, file: Path, method: Method) -> Assessment:
    """Evaluate a method as it stands: keep the scores in `file` and print them.

    Raises:
        OSError: the file cannot be written.
    """
    report = evaluation(method.translate_image)
    assessment = Assessment(report.flat(), evaluation.merit(report))
    if not distributed.is_first():
        return assessment
    write_bytes(file, report.to_json(iteration=method.iteration, weights=method.weights, **evaluation.settings).encode())
    tqdm.write(f"{method.position} of {evaluation.config.method} on the test images of {evaluation.config.dataset}")
    tqdm.write(report.table())
    return assessment


def log_scores(run: RunFolder, iteration: int, scores: Dict[str, float]) -> None:
    """Add scores to the run's logs, unless a training is writing them just now."""
    try:
        with run.only_one():
            log = open_log(run)
            log.write_scores(iteration, scores)
            log.close()
    except (CheckpointError, OSError) as error:
        print(f"not logged: {error}", file=sys.stderr)
