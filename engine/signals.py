"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal): finish the iteration, save, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Dict, Optional

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
if hasattr(signal, "SIGHUP"):  # not on Windows
    EXIT_CODES[signal.SIGHUP] = 129


class StopRequest:
    """A context that notes the first signal in `exit_code`; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.exit_code: Optional[int] = None
        self._previous: Dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                if signal.getsignal(number) is not signal.SIG_IGN:  # what is ignored, as by nohup, stays ignored
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        if self.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = EXIT_CODES[signal.Signals(number)]
