"""Image-to-image translation with Paddle: python main.py --help."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from command_line import merge_for_resume, merge_for_test, parse_arguments, refuse_test_flags
from config import Config, to_json
from engine.cpu import configure_cpu
from errors import CheckpointError, ConfigError, DataError, UserError


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    debug = False
    try:
        config, typed = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        debug = config.debug
        configure_cpu()
        return PHASES[config.phase](config, typed) or 0
    except UserError as error:
        return fail(str(error), error.exit_code, debug)
    except OSError as error:
        return fail(f"{error.filename or 'a file'}: {error.strerror or error}; see --result_dir and --data_root", 1, debug)
    except KeyboardInterrupt:
        return fail("stopped", 130, debug)


def fail(message: str, exit_code: int, debug: bool) -> int:
    """One line on stderr, with --debug after the traceback."""
    if debug:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return exit_code


# Whatever imports Paddle is imported inside the functions below, after `configure_cpu` has run.


def build_method(config: Config):
    """The method's networks and optimizers on its device."""
    from CycleGAN import CycleGAN
    from engine.device import choose_device
    from Pix2Pix import Pix2Pix
    from UGATIT import UGATIT

    choose_device(config.device, config.benchmark_flag)
    METHODS = {"ugatit": UGATIT, "cyclegan": CycleGAN, "pix2pix": Pix2Pix}
    return METHODS[config.method](config)


def show(config: Config) -> None:
    """--dry_run: the resolved configuration and the networks."""
    print(to_json(config), end="")
    print(build_method(config).summary())


def train(config: Config, typed: List[str]) -> None:
    """--phase train: start a run, or go on with one."""
    from dataset import open_training_data
    from engine.checkpoint import CheckpointFolder
    from engine.run import RunFolder

    refuse_test_flags(config, typed)
    run = RunFolder(config.result_dir, config.dataset, config.method)
    checkpoint = None
    if config.resume:
        checkpoint, problems = CheckpointFolder(run.checkpoints).newest_valid(config.method)
        for problem in problems:
            print(f"passed over {problem}", file=sys.stderr)
        if checkpoint is None:
            print(f"--resume: no checkpoint in {run.checkpoints}, starting from the beginning")
        else:
            config, warnings = merge_for_resume(config, typed, checkpoint.meta["config"])
            for warning in warnings:
                print(f"warning: {warning}", file=sys.stderr)
    elif not config.dry_run:
        run.refuse_if_used()
    config.check_networks()
    if config.dry_run:
        return show(config)

    provide_data(config)
    data = open_training_data(config)
    if config.iteration is None:
        epochs = config.n_epochs + config.n_epochs_decay
        config = dataclasses.replace(config, iteration=epochs * data.iterations_per_epoch)
    if checkpoint is not None and checkpoint.meta["iteration"] >= config.iteration:
        print(f"nothing to do: the run is at iteration {checkpoint.meta['iteration']}; --iteration N goes on to N")
        return None
    samples = data.samples()
    method = build_method(config)
    evaluate = partial(assess, build_evaluation(config, run), run.evaluation) if config.eval_freq else None
    with run.only_one():
        if checkpoint is not None:
            method.restore(checkpoint)
            print(f"resumed at iteration {method.iteration}")
        run.create(to_json(config))
        print(f"training {config.method} on {config.dataset} into {run.path}")
        method.fit(data.batches, samples, run, evaluate)
    print(f"trained {method.iteration} iterations; translate the test images with --phase test")
    return None


def test(config: Config, typed: List[str]) -> None:
    """--phase test: translate the test images with the run's latest checkpoint, or with --checkpoint."""
    from dataset import open_part
    from engine.run import RunFolder
    from engine.tester import translate_folder
    from utils import write_bytes

    config, checkpoint = open_checkpoint(config, typed)
    if config.dry_run:
        return show(config)
    # --checkpoint may come without --dataset: then the images are those of the checkpoint's data set.
    run = RunFolder(config.result_dir, config.dataset, config.method)
    method = build_method(config)
    parts = {direction: open_part(config, "test", direction) for direction in method.directions}
    method.restore_networks(checkpoint)
    print(f"translating with iteration {checkpoint.meta['iteration']} into {run.test}")
    errors = {}
    for direction, part in parts.items():
        n_answers = getattr(config, "n_answers", 1)
        errors[direction] = translate_folder(method, direction, part.names, part.read, run.test, n_answers)
    for direction, error in errors.items():
        if error is not None:
            print(
                f"{direction}: mean absolute error to the true counterparts {error.translated:.1f} of 255, of the untouched inputs "
                f"{error.untouched:.1f}: ratio {error.translated / max(error.untouched, 1e-9):.3f}"
            )
    write_bytes(run.translated, (json.dumps({"iteration": checkpoint.meta["iteration"]}) + "\n").encode())
    print(f"contact sheets: {' and '.join(str(run.test / f'contact_{direction}.png') for direction in parts)}")
    print(f"what the networks do: {' and '.join(str(run.test / f'grid_{direction}.png') for direction in parts)}")
    return None


def evaluate(config: Config, typed: List[str]) -> None:
    """--phase evaluate: score the translations of the test images, beside those of the untouched inputs."""
    from engine.run import RunFolder

    config, checkpoint = open_checkpoint(config, typed)
    if config.dry_run:
        return show(config)
    run = RunFolder(config.result_dir, config.dataset, config.method)
    method = build_method(config)
    evaluation = build_evaluation(config, run)
    method.restore_networks(checkpoint)
    method.iteration = checkpoint.meta["iteration"]
    name = Path(config.checkpoint).resolve().name if config.checkpoint else ""
    file = run.path / f"evaluation_{name}.json" if name else run.evaluation
    scores = assess(evaluation, file, method).scores
    if not name:
        log_scores(run, method.iteration, scores)
    print(f"written to {file}")
    return None


def log_scores(run, iteration: int, scores: Dict[str, float]) -> None:
    """Add scores to the run's logs, unless a training is writing them just now."""
    from engine.trainer import open_log

    try:
        with run.only_one():
            log = open_log(run)
            log.write_scores(iteration, scores)
            log.close()
    except CheckpointError as error:
        print(f"not logged: {error}", file=sys.stderr)


def assess(evaluation, file: Path, method):
    """Evaluate a method as it stands: print the scores, keep them in `file`, and say what is to be logged."""
    from tqdm import tqdm

    from engine.trainer import Assessment
    from utils import write_bytes

    report = evaluation(method.output)
    write_bytes(file, report.to_json(iteration=method.iteration, **evaluation.settings).encode())
    tqdm.write(f"iteration {method.iteration} of {evaluation.config.method} on the test images of {evaluation.config.dataset}")
    tqdm.write(report.table())
    return Assessment(report.flat(), evaluation.merit(report))


def check(config: Config, typed: List[str]) -> int:
    """--phase check: what is in the data set, and what a training would do with it; 1 where it cannot be trained on."""
    from datatools import doctor

    refuse_test_flags(config, typed)
    if "method" in typed:
        config.check_networks()
    with contextlib.redirect_stdout(sys.stderr if config.json else sys.stdout):
        provide_data(config)
    return doctor.check(config, as_json=config.json, any_method="method" not in typed)


def open_checkpoint(config: Config, typed: List[str]):
    """The checkpoint that --phase test and --phase evaluate read, and its configuration; the data set is provided.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: flags that do not go with it.
    """
    from engine.checkpoint import load
    from engine.run import RunFolder

    if config.resume:
        raise ConfigError(f"--resume is for --phase train; --phase {config.phase} reads the run's latest checkpoint by itself")
    run = RunFolder(config.result_dir, config.dataset, config.method)
    if not config.checkpoint and not run.checkpoints.exists():
        raise CheckpointError(
            f"there is no run in {run.path}: train one first, or see --result_dir, --dataset, --method and --checkpoint"
        )
    checkpoint = load(Path(config.checkpoint) if config.checkpoint else run.latest, config.method)
    config = merge_for_test(config, typed, checkpoint.meta["config"])
    config.check_networks()
    if not config.dry_run:
        provide_data(config)
    return config, checkpoint


def build_evaluation(config: Config, run):
    """What scores the method on the test set, in every direction."""
    from dataset import open_test_set
    from metrics.evaluation import Evaluation

    return Evaluation(config, {direction: open_test_set(config, direction) for direction in config.directions}, run.features)


def provide_data(config: Config) -> None:
    """Draw the demo set, or fetch a public one with --download, where it is missing.

    Raises:
        DataError: there is no such data set.
    """
    from dataset import layout
    from datatools.demo import NAME, draw_missing
    from datatools.fetch import KNOWN, fetch

    folder = Path(config.data_root) / config.dataset
    if config.dataset == NAME:
        draw_missing(folder, config.paired)
    elif config.download and not folder.is_dir():
        fetch(config.dataset, config.data_root)
    elif not folder.is_dir():
        downloads = sorted(name for name, known in KNOWN.items() if known.url)
        raise DataError(
            f"--data_root, --dataset: there is no folder {folder}; expected {layout(config)}; or take a known set: {NAME} (draws "
            f"itself), selfie2anime (python -m datatools.fetch says how), or with --download {', '.join(downloads)}"
        )


PHASES = {"train": train, "test": test, "evaluate": evaluate, "check": check}

if __name__ == "__main__":
    sys.exit(main())
