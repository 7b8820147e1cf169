"""Image-to-image translation with Paddle: python main.py --help."""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    # Until Paddle is imported, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import contextlib
from functools import partial
from pathlib import Path
from typing import List, Optional, Sequence

from command_line import exit_code_of, merge_for_resume, merge_for_test, parse_arguments, phase_of, refuse_flags_of_other_phases
from config import DEPLOY_PHASES, Config, to_json
from engine.cpu import configure_cpu
from engine.signals import signals_stop


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    if arguments is None:
        arguments = sys.argv[1:]
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # the installed command imports this module
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    debug = any(argument in ("--debug", "--debug=true") for argument in arguments)
    deploys = any(argument.split("=")[-1] in DEPLOY_PHASES for argument in arguments)
    see = "--input and --output" if deploys else "--result_dir and --data_root"
    return exit_code_of(lambda: run(arguments), see=see, debug=debug)


def run(arguments: Sequence[str]) -> Optional[int]:
    """Parse, configure the CPU, run the phase. Raises UserError or OSError."""
    phase = phase_of(arguments)
    if phase in DEPLOY_PHASES:
        with signals_stop("stopped" if phase == "serve" else "stopped; the same command goes on"):
            return deploy(phase, arguments)
    config, typed = parse_arguments(arguments)
    refuse_flags_of_other_phases(config, typed)
    if config.checkpoint and "method" not in typed:
        from engine.run import method_of

        config, typed = parse_arguments([*arguments, "--method", method_of(Path(config.checkpoint))])
    configure_cpu()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    from engine import distributed

    distributed.start()
    return PHASES[config.phase](config, typed)


# Whatever imports Paddle is imported inside the functions below, after `configure_cpu` has run.


def train(config: Config, typed: List[str]) -> None:
    """--phase train: start a run, or go on with one."""
    from dataset import open_training_data
    from datatools.provide import provide_data
    from engine import distributed
    from engine.run import RunFolder, open_networks
    from engine.training import Training
    from methods import build_method
    from metrics.assessment import assess, build_evaluation

    run = RunFolder(config.result_dir, config.dataset, config.method)
    checkpoint, iteration = None, run.newest_iteration()
    resumes = config.resume == "true" or (config.resume == "auto" and iteration > 0)
    if resumes:
        checkpoint = run.newest_checkpoint(config.method)
        config, warnings = merge_for_resume(config, typed, checkpoint.meta["config"])
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
    config.check_networks()
    if config.dry_run:
        return show(config)
    if not resumes:
        run.refuse_if_used()

    provide_data(config)
    data = open_training_data(config, distributed.rank(), distributed.processes())
    config = config.with_length(data.iterations_per_epoch)
    if checkpoint is not None and checkpoint.meta["iteration"] >= config.iteration:
        run.remove_older_checkpoints(checkpoint.meta["iteration"], config.keep)
        print(f"nothing to do: the run is at iteration {checkpoint.meta['iteration']}; --iteration N goes on to N")
        return None
    evaluate = partial(assess, build_evaluation(config, run.features)) if config.eval_freq else None
    training = Training(build_method(config), run, data.samples(), evaluate, data.image_counts())
    if config.init_from and checkpoint is None:
        taken = training.method.start_from(open_networks(Path(config.init_from), "--init_from", config.method))
        print(f"starting from {config.init_from}: {taken}")
    with run.only_one() if distributed.is_first() else contextlib.nullcontext():
        run.refuse_if_trained_beyond(iteration)
        if checkpoint is not None:
            run.check_data(data.file_sizes(), accept=config.accept_changed_data)
            training.restore(checkpoint)
            print(f"resumed at iteration {training.method.iteration}")
        if distributed.is_first():
            if checkpoint is None:
                run.record_data(data.file_sizes())
            run.create(to_json(config))
        print(f"training {config.method} on {config.dataset} into {run.path}")
        training.fit(data.batches(training.method.iteration + 1, config.iteration))
    print(f"trained {config.iteration} iterations; translate the test images with --phase test")
    return None


def test(config: Config, typed: List[str]) -> None:
    """--phase test: translate the test images with the run's newest checkpoint, or with --checkpoint."""
    from dataset import open_test_parts
    from datatools.provide import provide_data
    from engine.run import open_checkpoint
    from engine.tester import translate_test_images
    from methods import build_method

    run, checkpoint, name = open_checkpoint(config, typed)
    config = merge_for_test(config, typed, checkpoint.meta["config"])
    config.check_networks()
    if config.dry_run:
        return show(config)
    provide_data(config)
    method = build_method(config, training=False)
    method.restore_generators(checkpoint)
    parts = open_test_parts(config, method.directions)
    folder = run.test(name)
    print(f"translating with {method.position} into {folder}")
    errors = translate_test_images(method, parts, folder)
    for direction, error in errors.items():
        print(f"{direction}: {error}")
    print(f"contact sheets: {' and '.join(str(folder / f'contact_{direction}.png') for direction in parts)}")
    print(f"rows of each image: {' and '.join(str(folder / f'grid_{direction}.png') for direction in parts)}")
    return None


def evaluate(config: Config, typed: List[str]) -> None:
    """--phase evaluate: score the translations of the test images, beside those of the untouched inputs."""
    from datatools.provide import provide_data
    from engine import distributed
    from engine.run import open_checkpoint
    from methods import build_method
    from metrics.assessment import assess, build_evaluation, log_scores

    run, checkpoint, name = open_checkpoint(config, typed)
    config = merge_for_test(config, typed, checkpoint.meta["config"])
    config.check_networks()
    if config.dry_run:
        return show(config)
    provide_data(config)
    method = build_method(config, training=False)
    method.restore_generators(checkpoint)
    evaluation = build_evaluation(config, run.features, method.directions)
    file = run.evaluation(name)
    assessment = assess(evaluation, method)
    if distributed.is_first():
        run.write_evaluation(assessment.content, name)
        if not name:
            log_scores(run, method.iteration, assessment.scores)
    print(f"written to {file}")
    return None


def check(config: Config, typed: List[str]) -> int:
    """--phase check: what is in the data set, and what a training would do with it; 1 where it cannot be trained on."""
    from datatools import doctor
    from datatools.provide import provide_data

    any_method = "method" not in typed
    if not any_method:
        config.check_networks()
    with contextlib.redirect_stdout(sys.stderr if config.json else sys.stdout):
        provide_data(config)
    return doctor.check(config, as_json=config.json, any_method=any_method)


def deploy(phase: str, arguments: Sequence[str]) -> int:
    """--phase translate, export and serve: use a trained model. Paddle is imported where the model needs it."""
    from deploy.settings import parse_settings

    settings = parse_settings(phase, arguments)
    if phase == "export":
        from deploy.export import export

        return export(settings)
    if phase == "serve":
        from deploy.serve import serve

        return serve(settings)
    from deploy.translate import translate

    return translate(settings)


def show(config: Config) -> None:
    """--dry_run: the resolved configuration, the networks, and what a training with them needs."""
    from engine.memory import GIB, estimate_peak
    from methods import build_method

    print(to_json(config), end="")
    print(build_method(config).summary(), flush=True)
    if config.phase == "train":
        peak = estimate_peak(config.with_length(1), build_method)
        print(f"memory   about {peak / GIB:.1f} GiB at the peak of a training, estimated from steps on small images")


PHASES = {"train": train, "test": test, "evaluate": evaluate, "check": check}

if __name__ == "__main__":
    sys.exit(main())
