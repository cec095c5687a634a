"""Jobs whose work is a few words of Python in their folder, so that hundreds of them cost no time."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning_modules.sweeps.record import UNFINISHED, SweepJob

PROGRAM = """
import json, os, pathlib, signal, subprocess, sys, time
here = pathlib.Path(os.environ["LATENTPRESS_JOB_FOLDER"])
exec((here / "work.py").read_text())
record = json.loads((here / "job.json").read_text())
(here / "job.json").write_text(json.dumps({**record, "error": None}))
"""
COMMAND = (sys.executable, "-c", PROGRAM)


def job_folder(sweep: Path, number: int, work: str = "") -> Path:
    """A job that has not begun; it is done when `work` has come to its end."""
    folder = sweep / str(number)
    folder.mkdir(parents=True)
    (folder / "work.py").write_text(work)
    SweepJob(number, "test", [], UNFINISHED).write(folder)
    return folder
