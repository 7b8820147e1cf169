"""Image-to-image translation with Paddle: python main.py --help."""

from __future__ import annotations

import dataclasses
import sys
import traceback
from pathlib import Path
from typing import List, Optional, Sequence

from config import Config, merge_for_resume, merge_for_test, parse_arguments, refuse_test_flags, to_json
from engine.cpu import configure_cpu
from errors import CheckpointError, ConfigError, UserError


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    debug = False
    try:
        config, typed = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        debug = config.debug
        configure_cpu()
        PHASES[config.phase](config, typed)
    except UserError as error:
        return fail(str(error), error.exit_code, debug)
    except OSError as error:
        return fail(f"{error.filename or 'a file'}: {error.strerror or error}; see --result_dir and --data_root", 1, debug)
    except KeyboardInterrupt:
        return fail("stopped", 130, debug)
    return 0


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

    data = open_training_data(config)
    if config.iteration is None:
        epochs = config.n_epochs + config.n_epochs_decay
        config = dataclasses.replace(config, iteration=epochs * data.iterations_per_epoch)
    if checkpoint is not None and checkpoint.meta["iteration"] >= config.iteration:
        print(f"nothing to do: the run is at iteration {checkpoint.meta['iteration']}; --iteration N goes on to N")
        return None
    samples = data.samples()
    method = build_method(config)
    if checkpoint is not None:
        method.restore(checkpoint)
        print(f"resumed at iteration {method.iteration}")
    run.create(to_json(config))
    print(f"training {config.method} on {config.dataset} into {run.path}")
    method.fit(data.batches, samples, run)
    print(f"trained {method.iteration} iterations; translate the test images with --phase test")
    return None


def test(config: Config, typed: List[str]) -> None:
    """--phase test: translate the test images with the run's latest checkpoint, or with --checkpoint."""
    from dataset import open_part
    from engine.checkpoint import load
    from engine.run import RunFolder
    from engine.tester import translate_folder

    if config.resume:
        raise ConfigError("--resume is for --phase train; --phase test reads the run's latest checkpoint by itself")
    run = RunFolder(config.result_dir, config.dataset, config.method)
    if not config.checkpoint and not run.checkpoints.exists():
        raise CheckpointError(
            f"there is no run in {run.path}: train one first, or see --result_dir, --dataset, --method and --checkpoint"
        )
    checkpoint = load(Path(config.checkpoint) if config.checkpoint else run.latest, config.method)
    config = merge_for_test(config, typed, checkpoint.meta["config"])
    config.check_networks()
    if config.dry_run:
        return show(config)

    # --checkpoint may come without --dataset: then the images are those of the checkpoint's data set.
    run = RunFolder(config.result_dir, config.dataset, config.method)
    method = build_method(config)
    parts = {direction: open_part(config, "test", direction) for direction in method.directions}
    method.restore_networks(checkpoint)
    print(f"translating with iteration {checkpoint.meta['iteration']} into {run.test}")
    for direction, part in parts.items():
        translate_folder(method, direction, part.names, part.read, run.test, getattr(config, "n_answers", 1))
    print(f"contact sheets: {' and '.join(str(run.test / f'contact_{direction}.png') for direction in parts)}")
    return None


PHASES = {"train": train, "test": test}

if __name__ == "__main__":
    sys.exit(main())
