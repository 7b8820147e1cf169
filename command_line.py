"""The command line: flags made from the configurations, presets, help, and what resume and test may change."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import traceback
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, TextIO, Tuple, Type, get_type_hints

from config import CONFIGS, METHODS, Config, to_saved
from errors import ConfigError, UserError, one_line
from version import __version__


class OneLineParser(argparse.ArgumentParser):
    """Raises ConfigError instead of printing the usage block."""

    def parse_known_args(self, args: Optional[Sequence[str]] = None, namespace: Optional[argparse.Namespace] = None) -> Any:
        for argument in sys.argv[1:] if args is None else args:
            if argument.startswith("--") and argument.endswith("=--"):
                self.error(f"{argument}: expected a value")  # argparse would make it an empty list
        return super().parse_known_args(args, namespace)

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
    first.add_argument("--method", choices=METHODS, default=Config.method)
    method = first.parse_known_args([a for a in arguments if a not in ("-h", "--help")])[0].method
    config_class = CONFIGS[method]
    usage = "python main.py --dataset NAME [--method METHOD] [--phase PHASE] [flags]"
    typed = parse_fields(config_class, arguments, usage, examples(method), lambda flag: _explain_unknown(flag, method))
    typed = {**config_class.presets.get(typed.get("preset"), {}), **typed}
    return config_class(**{**typed, "method": method}), sorted(typed)


def phase_of(arguments: Sequence[str]) -> str:
    """The phase that a command line names, in whatever way; the default where it names none, or none that there is."""
    first = OneLineParser(prog="python main.py", add_help=False, allow_abbrev=False)
    first.add_argument("--phase", default=Config.phase)
    return first.parse_known_args([a for a in arguments if a not in ("-h", "--help")])[0].phase


def parse_fields(
    settings: Type[Any],
    arguments: Sequence[str],
    usage: str,
    epilog: str,
    explain: Callable[[str], str],
    prog: str = "python main.py",
) -> Dict[str, Any]:
    """Parse a command line into the fields of a dataclass that are typed; their flags are made from `config.setting`.

    Args:
        usage: the first line of --help.
        epilog: its end.
        explain: what to say of an unknown flag.
        prog: the command whose --help lists these flags.

    Raises:
        ConfigError: a flag or a value is not valid.
    """
    parser = OneLineParser(
        prog=prog,
        usage=usage,
        description=(settings.__doc__ or "").splitlines()[0],
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"ugatit-paddle {__version__}")
    groups: Dict[str, Any] = {}
    types = get_type_hints(settings)
    for item in dataclasses.fields(settings):
        title = item.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(f"--{item.name}", **_argument(item, types[item.name]))
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(explain(unknown[0]))
    return vars(namespace)


def _argument(item: dataclasses.Field, type_hint: Any) -> Dict[str, Any]:
    described: Dict[str, Any] = dict(help=f"{item.metadata['help']} (default: {_shown(item.default)})".replace("%", "%%"))
    if item.metadata["choices"]:
        described.update(choices=item.metadata["choices"])
        if item.metadata["bare"]:
            described.update(nargs="?", const=item.metadata["bare"])
    elif type_hint is bool:
        described.update(type=_boolean, nargs="?", const=True, metavar="true|false")
    else:
        plain = {Optional[int]: int, Optional[str]: str}.get(type_hint, type_hint)
        described.update(type=plain if plain is type_hint else _optional(plain), metavar={int: "N", float: "X", str: "TEXT"}[plain])
    return described


def _optional(plain: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        return None if text.lower() == "none" else plain(text)

    parse.__name__ = plain.__name__  # argparse names it in its error
    return parse


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


# What a later command may change


def refuse_flags_of_other_phases(config: Config, typed: Sequence[str]) -> None:
    """Raise ConfigError where a flag was typed that this phase does not have."""
    for item in dataclasses.fields(config):
        phases = item.metadata["phases"]
        if item.name in typed and config.phase not in phases:
            wanted = " and ".join(f"--phase {phase}" for phase in phases)
            raise ConfigError(f"--{item.name} is for {wanted}, not for --phase {config.phase}: leave it out")


def merge_for_resume(config: Config, typed: Sequence[str], saved: Dict[str, Any]) -> Tuple[Config, List[str]]:
    """The run's own configuration with what this command may change; flags that were not typed keep the run's values.

    Returns:
        The configuration, and warnings to print.

    Raises:
        ConfigError: a typed flag differs from the run and may not; every such field is named. Or --init_from was typed.
    """
    if config.init_from and config.resume == "true":
        raise ConfigError("--init_from starts a new run and --resume goes on with one: leave one of them out")
    refusal = "--resume cannot change {}: leave these flags out, or start a new run with another --result_dir"
    saved, changed = _compared(config, typed, saved, "resume", refusal)
    kinds = {item.name: item.metadata["resume"] for item in dataclasses.fields(config)}
    warnings = [
        f"--{name} changes from {saved[name]} to {changed[name]}: the learning-rate schedule changes with it"
        for name in changed
        if kinds[name] == "warn"
    ]
    return dataclasses.replace(config, **{**saved, **changed}), warnings


def merge_for_test(config: Config, typed: Sequence[str], saved: Dict[str, Any]) -> Config:
    """The checkpoint's configuration; only where to read, how to evaluate, seed, device and precision come from this command.

    Raises:
        ConfigError: a typed flag differs from the checkpoint's value and may not; every such field is named.
    """
    refusal = "the checkpoint was trained with other settings than {}: leave these flags out"
    saved, changed = _compared(config, typed, saved, "test", refusal)
    return dataclasses.replace(config, **{**saved, **changed, "amp": config.amp, "eval_freq": 0, "keep_best": None})


def _compared(
    config: Config, typed: Sequence[str], saved: Dict[str, Any], use: str, refusal: str
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """The saved settings, with the defaults of those that are younger than the run, and the typed ones that differ from them.

    Raises ConfigError with `refusal` where one of these is "same" for this `use` (a key of the fields' metadata).
    """
    defaults = to_saved(type(config)())
    saved = {name: saved.get(name, default) for name, default in defaults.items()}
    changed = {name: getattr(config, name) for name in typed if name in saved and saved[name] != getattr(config, name)}
    same = {item.name for item in dataclasses.fields(config) if item.metadata[use] == "same"}
    refused = [f"--{name} {value} (the run has {saved[name]})" for name, value in changed.items() if name in same]
    if refused:
        raise ConfigError(refusal.format(", ".join(refused)))
    return saved, changed


# How a command ends


def exit_code_of(work: Callable[[], Optional[int]], see: str, stopped: str = "stopped", debug: bool = False) -> int:
    """Do `work`; its exit code (None is 0), or, after one line on stderr, that of what went wrong.

    Args:
        see: the flags that say where files are, for an error of the system.
        stopped: what to say after Ctrl-C.
        debug: print the traceback before the line.
    """
    with contextlib.redirect_stdout(TolerantStream(sys.stdout)), contextlib.redirect_stderr(TolerantStream(sys.stderr)):
        try:
            return work() or 0
        except (UserError, OSError, MemoryError, KeyboardInterrupt) as error:
            if debug:
                traceback.print_exc()
            message, exit_code = _last_words(error, see, stopped)
            print(f"error: {message}", file=sys.stderr)
            return exit_code


def _last_words(error: BaseException, see: str, stopped: str) -> Tuple[str, int]:
    """The line on stderr and the exit code that a command ends with."""
    if isinstance(error, UserError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno is None:
        # Paddle makes one, with the traceback as its text, of what is raised in a layer's backward pass.
        error = next((kind() for kind in (MemoryError, KeyboardInterrupt) if kind.__name__ in str(error)), error)
    if isinstance(error, OSError):
        return one_line(f"{error.filename or 'a file'}: {error.strerror or error}; see {see}"), 1
    if isinstance(error, MemoryError):
        return "the memory is not enough: use smaller --img_size, --ch or --batch_size, or train with --recompute", 1
    return stopped, 130


class TolerantStream:
    """A text stream that neither its reader nor its encoding can stop.

    What is printed after the reader has gone (`| head`, a terminal that was closed) is lost, and the work goes on. Letters that
    the encoding does not have are printed as escapes.
    """

    def __init__(self, stream: Optional[TextIO]) -> None:
        # None where the process was started without one.
        self._stream = stream = stream or open(os.devnull, "w")  # noqa: SIM115
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        with self._reader_may_be_gone():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._reader_may_be_gone():
            self._stream.flush()

    @contextlib.contextmanager
    def _reader_may_be_gone(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            # What Python flushes at its end would fail too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
