"""Where the configurations are, and the command that does one job of a sweep."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CONF = REPOSITORY / "conf"
JOB_COMMAND = (sys.executable, str(REPOSITORY / "run.py"))
"""Does the job of a sweep that its environment names."""
