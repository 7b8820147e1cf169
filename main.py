"""Image-to-image translation with Paddle: python main.py --help."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import List, Optional, Sequence

from config import Config, merge_for_resume, merge_for_test, parse_arguments, to_json
from errors import UserError


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        config, typed = parse_arguments(arguments)
        prepare_machine(config)
        if config.dry_run:
            show(config)
        elif config.phase == "train":
            train(config, typed)
        else:
            test(config, typed)
    except UserError as error:
        if "--debug" in arguments:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: stopped", file=sys.stderr)
        return 130
    return 0


def prepare_machine(config: Config) -> None:
    """CPU settings, then Paddle, then the device: in this order."""
    from engine.cpu import configure_cpu

    configure_cpu()
    from engine.device import choose_device

    choose_device(config.device, config.benchmark_flag)


def build_method(config: Config):
    """The method's networks and optimizers. Imported here, because Paddle must be configured first."""
    from UGATIT import UGATIT

    METHODS = {"ugatit": UGATIT}
    return METHODS[config.method](config)


def show(config: Config) -> None:
    """--dry_run: the resolved configuration and the networks."""
    print(to_json(config), end="")
    print(build_method(config).summary())


def train(config: Config, typed: List[str]) -> None:
    """--phase train: start a run, or go on with one."""
    from dataset import TrainingData
    from engine.checkpoint import CheckpointFolder
    from engine.run import RunFolder

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
    else:
        run.refuse_if_used()

    data = TrainingData(config)
    method = build_method(config)
    if checkpoint is not None:
        method.restore(checkpoint)
        print(f"resumed at iteration {method.iteration}")
    if method.iteration >= config.iteration:
        print(f"nothing to do: the run has its {config.iteration} iterations; --iteration N goes on to N")
        return
    run.create(to_json(config))
    print(f"training {config.method} on {config.dataset} into {run.path}")
    method.fit(data.batches, data.samples(), run)
    print(f"trained {method.iteration} iterations; translate the test images with --phase test")


def test(config: Config, typed: List[str]) -> None:
    """--phase test: translate testA and testB with the run's latest checkpoint, or with --checkpoint."""
    from dataset import TEST_FOLDERS, open_folders
    from engine.checkpoint import LATEST, load
    from engine.run import RunFolder
    from engine.tester import translate_folder

    run = RunFolder(config.result_dir, config.dataset, config.method)
    checkpoint = load(Path(config.checkpoint) if config.checkpoint else run.checkpoints / LATEST, config.method)
    config = merge_for_test(config, typed, checkpoint.meta["config"])
    folders = open_folders(config, TEST_FOLDERS.values())
    method = build_method(config)
    method.restore_networks(checkpoint)
    print(f"translating with iteration {checkpoint.meta['iteration']} into {run.test}")
    for direction in method.directions:
        folder = folders[TEST_FOLDERS[direction]]
        translate_folder(method, direction, folder.names, partial(folder.read_for_test, size=config.img_size), run.test)
    print(f"contact sheets: {run.test / 'contact_A2B.png'} and {run.test / 'contact_B2A.png'}")


if __name__ == "__main__":
    sys.exit(main())
