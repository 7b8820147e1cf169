from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from engine.cpu import configure_cpu  # noqa: E402

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
configure_cpu()

# Commands that run in the background (nohup, &) ignore these, and what is ignored stays ignored in the processes that tests start.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)
