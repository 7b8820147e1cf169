from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from engine.cpu import configure_cpu  # noqa: E402

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
if disabled := os.environ.get("OPENCV_CPU_DISABLE"):
    # OpenCV prints a line for each feature that it does not know, and some tests want nothing printed.
    printed = subprocess.run([sys.executable, "-c", "import cv2"], capture_output=True, text=True).stderr
    os.environ["OPENCV_CPU_DISABLE"] = ",".join(name for name in disabled.split(",") if f"'{name}'" not in printed)
configure_cpu()

# Commands that run in the background (nohup, &) ignore these, and what is ignored stays ignored in the processes that tests start.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)
