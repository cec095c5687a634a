"""The fault that integer networks end: shown on CompressAI's decoder, absent from ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.measurement import Settings
from benchmarks.rows.wrong_decodes import measure_in
from lightning_modules.doctor.environments import ENVIRONMENTS

CHOSEN = ("channels last", "oneDNN for SSE4.1", "without oneDNN")


@pytest.mark.slow
def test_only_theirs_decodes_wrong_elsewhere(
    kodak: list[Path], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = Settings(ckpt="demo", pictures=kodak[0].parent, images=24, rounds=1)
    chosen = [environment for environment in ENVIRONMENTS if environment.name in CHOSEN]
    *lines, total = measure_in(tmp_path, settings, chosen)
    for line in lines:
        record_property(line.what, f"ours {line.ours}, CompressAI {line.theirs}")
    assert len(lines) == len(CHOSEN)
    assert total.value == 0
    assert int(total.theirs.split()[0]) > 0, "these environments do not differ here, so they prove nothing"
