"""The command line: flags made from the configurations, presets, help, and what resume and test may change."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from functools import partial
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple, get_type_hints

from config import CONFIGS, EVALUATION, NETWORKS, TEST_PHASE, Config, to_saved
from errors import ConfigError, UserError


class OneLineParser(argparse.ArgumentParser):
    """Raises ConfigError instead of printing the usage block."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} ({self.prog} --help lists the flags)")


def parse_arguments(arguments: Sequence[str]) -> Tuple[Config, List[str]]:
    """Parse a command line.

    Returns:
        The configuration, and the names of the fields that were typed, or set by --preset, rather than left at their defaults.

    Raises:
        ConfigError: a flag or a value is not valid.
    """
    first = OneLineParser(prog="python main.py", add_help=False, allow_abbrev=False)
    first.add_argument("--method", choices=sorted(CONFIGS), default=Config.method)
    method = first.parse_known_args([a for a in arguments if a not in ("-h", "--help")])[0].method
    config_class = CONFIGS[method]

    parser = OneLineParser(
        prog="python main.py",
        usage="python main.py --dataset NAME [--method METHOD] [--phase PHASE] [flags]",
        description=(config_class.__doc__ or "").splitlines()[0],
        epilog=examples(method),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    groups: Dict[str, Any] = {}
    types = get_type_hints(config_class)
    for item in dataclasses.fields(config_class):
        title = item.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(f"--{item.name}", **_argument(item, types[item.name]))
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_explain_unknown(unknown[0], method))
    typed = vars(namespace)
    typed = {**config_class.presets.get(typed.get("preset"), {}), **typed}
    return config_class(**{**typed, "method": method}), sorted(typed)


def _argument(item: dataclasses.Field, type_hint: Any) -> Dict[str, Any]:
    described: Dict[str, Any] = dict(help=f"{item.metadata['help']} (default: {_shown(item.default)})".replace("%", "%%"))
    if item.metadata["choices"]:
        described.update(choices=sorted(CONFIGS) if item.name == "method" else item.metadata["choices"])
    elif type_hint is bool:
        described.update(type=_boolean, nargs="?", const=True, metavar="true|false")
    else:
        plain = {Optional[int]: int, Optional[str]: str}.get(type_hint, type_hint)
        described.update(
            type=plain if plain is type_hint else partial(_optional, plain), metavar={int: "N", float: "X", str: "TEXT"}[plain]
        )
    return described


def _optional(plain: Callable[[str], Any], text: str) -> Any:
    return None if text.lower() == "none" else plain(text)


def _boolean(text: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return known[text.lower()]


def _explain_unknown(flag: str, method: str) -> str:
    name = flag.lstrip("-").split("=")[0]
    owners = [other for other, config in CONFIGS.items() if name in {f.name for f in dataclasses.fields(config)}]
    if flag.startswith("--") and owners:
        return f"--{name} is not a flag of --method {method}: it belongs to --method {' or '.join(owners)}"
    return f"unknown argument {flag}"


EXAMPLES = {
    "ugatit": ("--dataset selfie2anime", "--light"),
    "cyclegan": ("--method cyclegan --dataset horse2zebra", "--upsample resize"),
    "pix2pix": ("--method pix2pix --dataset facades", "--direction BtoA"),
}


def examples(method: str) -> str:
    """Working commands for the end of --help."""
    run, option = EXAMPLES[method]
    lines = [f"python main.py {run} {rest}" for rest in (f"--phase train {option}", "--phase train --resume", "--phase test")]
    presets = [
        f"--preset {name}: " + " ".join(f"--{flag} {_shown(value)}" for flag, value in values.items())
        for name, values in CONFIGS[method].presets.items()
    ]
    others = [f"--method {other} --help" for other in CONFIGS if other != method]
    return "\n".join(["\n  ".join(["examples:", *lines]), *presets, f"the other methods: {', '.join(others)}"])


def _shown(value: Any) -> str:
    """A default as the command line writes it."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# What resume and test may change


def refuse_test_flags(config: Config, typed: Sequence[str]) -> None:
    """Raise ConfigError where a flag of the test phase was typed for another."""
    for item in dataclasses.fields(config):
        if item.name in typed and item.metadata["group"] == TEST_PHASE:
            raise ConfigError(f"--{item.name} is for --phase test and --phase evaluate")


def merge_for_resume(config: Config, typed: Sequence[str], saved: Dict[str, Any]) -> Tuple[Config, List[str]]:
    """The run's own configuration with what this command may change; flags that were not typed keep the run's values.

    Returns:
        The configuration, and warnings to print.

    Raises:
        ConfigError: a typed flag differs from the run and may not; every such field is named.
    """
    saved = _with_defaults(config, saved)
    changed = {name: getattr(config, name) for name in typed if name in saved and saved[name] != getattr(config, name)}
    kinds = {item.name: item.metadata["resume"] for item in dataclasses.fields(config)}
    refused = [name for name in changed if kinds[name] == "same"]
    if refused:
        listed = ", ".join(f"--{name} {changed[name]} (the run has {saved[name]})" for name in refused)
        raise ConfigError(f"--resume cannot change {listed}: leave these flags out, or start a new run with another --result_dir")
    warnings = [
        f"--{name} changes from {saved[name]} to {changed[name]}: the learning-rate schedule changes with it"
        for name in changed
        if kinds[name] == "warn"
    ]
    return _with_saved(config, saved, changed), warnings


def merge_for_test(config: Config, typed: Sequence[str], saved: Dict[str, Any]) -> Config:
    """The checkpoint's configuration; only where to read, where to write, how to evaluate and the device come from this command.

    Raises:
        ConfigError: a typed flag describes another architecture than the checkpoint has, or belongs to training.
    """
    saved = _with_defaults(config, saved)
    groups = {item.name: item.metadata["group"] for item in dataclasses.fields(config)}
    in_training = [name for name in ("eval_freq", "keep_best") if name in typed]
    if in_training:
        raise ConfigError(f"--{in_training[0]} is for --phase train")
    wrong = [n for n in typed if groups[n] == NETWORKS and n in saved and saved[n] != getattr(config, n)]
    if wrong:
        listed = ", ".join(f"--{name} {getattr(config, name)} (it has {saved[name]})" for name in wrong)
        raise ConfigError(f"the checkpoint was trained with other networks than {listed}: leave these flags out")
    here = {"dataset", "data_root", "device", "num_workers", *(name for name in groups if groups[name] == EVALUATION)}
    changes = {name: getattr(config, name) for name in typed if name in here}
    return _with_saved(config, saved, {**changes, "eval_freq": 0, "keep_best": None})


def _with_defaults(config: Config, saved: Dict[str, Any]) -> Dict[str, Any]:
    """A saved configuration with the defaults of settings that are younger than it."""
    return {**to_saved(type(config)()), **saved}


def _with_saved(config: Config, saved: Dict[str, Any], changes: Dict[str, Any]) -> Config:
    known = {item.name for item in dataclasses.fields(config)}
    return dataclasses.replace(config, **{**{n: v for n, v in saved.items() if n in known}, **changes})


# How a command ends


def exit_code_of(work: Callable[[], Optional[int]], see: str, stopped: str = "stopped") -> int:
    """Do `work`; its exit code (None is 0), or, after one line on stderr, that of what went wrong.

    Args:
        see: the flags that say where files are, for an error of the system.
        stopped: what to say after Ctrl-C.
    """
    try:
        return work() or 0
    except UserError as error:
        message, exit_code = str(error), error.exit_code
    except OSError as error:
        message, exit_code = f"{error.filename or 'a file'}: {error.strerror or error}; see {see}", 1
    except KeyboardInterrupt:
        message, exit_code = stopped, 130
    print(f"error: {message}", file=sys.stderr)
    return exit_code
