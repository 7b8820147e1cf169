"""How a tool's command ends."""

from __future__ import annotations

import sys
from typing import Callable, Optional

from errors import UserError


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
