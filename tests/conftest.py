from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from engine.cpu import configure_cpu  # noqa: E402

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
configure_cpu()
