"""This machine: what it offers, and whether files decode on it as everywhere."""

from __future__ import annotations

from lightning_modules.errors import UserError
from lightning_modules.tasks.run import Run


def doctor(run: Run) -> None:
    """Tell what this machine offers, and whether files decode to the same integers under all its circumstances."""
    examination = run.build(run.cfg.task.doctor)
    examination.run()
    if examination.mismatches:
        raise UserError(
            f"{examination.mismatches} mismatches: files of this machine may not decode elsewhere; report it"
        )
