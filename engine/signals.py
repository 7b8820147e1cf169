"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal): a training finishes the iteration and saves; what is quick to repeat stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Any, Callable, Dict, Iterator, Optional

from errors import Interrupted

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
if hasattr(signal, "SIGHUP"):  # not on Windows
    EXIT_CODES[signal.SIGHUP] = 129


def handle_all(handler: Callable[[int, Optional[FrameType]], None]) -> Dict[int, Any]:
    """Make `handler` that of all these signals, but of those that are ignored, as by nohup; returns the earlier ones."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in EXIT_CODES if signal.getsignal(number) is not signal.SIG_IGN}


@contextlib.contextmanager
def signals_stop(message: str) -> Iterator[None]:
    """Within it a signal raises Interrupted with this message."""

    def stop(number: int, frame: Optional[FrameType]) -> None:
        raise Interrupted(message, EXIT_CODES[signal.Signals(number)])

    previous = handle_all(stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class StopRequest:
    """A context that notes the first signal in `exit_code`; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.exit_code: Optional[int] = None
        self._previous: Dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._previous = handle_all(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        if self.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = EXIT_CODES[signal.Signals(number)]
