"""`python -m benchmarks` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import benchmarks.__main__ as command_line
from benchmarks.measurement import Goal, Measurement, Settings


def row(number: int, *lines: Measurement, fault: Exception | None = None) -> SimpleNamespace:
    """A row module in miniature."""

    def measure(settings: Settings) -> list[Measurement]:
        if fault:
            raise fault
        return list(lines)

    return SimpleNamespace(NUMBER=number, __name__=f"rows.row{number}", measure=measure)


def line(number: int) -> Measurement:
    return Measurement(number, "something", 0.5, (0.4, 0.6), "1 s", "2 s", Goal("<=", 0.7))


def test_help_needs_no_heavy_import(repository: Path) -> None:
    program = (
        "import sys, benchmarks.__main__ as b\n"
        "try: b.main(['--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=repository, check=True, stdout=subprocess.DEVNULL)


def test_every_row_of_this_stage_is_found_by_its_number() -> None:
    rows = list(command_line.chosen_rows(None))
    numbers = [row.NUMBER for row in rows]
    assert numbers == sorted(set(numbers))
    assert {3, 4, 6, 7, 8, 17, 18, 22, 24} <= set(numbers)
    assert [row.NUMBER for row in command_line.chosen_rows([22, 4])] == [4, 22]


def test_a_row_that_does_not_exist_is_refused_by_number() -> None:
    with pytest.raises(SystemExit, match="no row 99; there are 1, 2, 3, 4"):
        command_line.chosen_rows([3, 99])


def test_a_row_that_fails_costs_the_exit_code_but_not_the_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(3, fault=OSError("no weights")), row(4, line(4)), row(6, line(7))]
    monkeypatch.setattr(command_line, "chosen_rows", lambda only: rows)
    results = tmp_path / "results.json"
    assert command_line.main(["--output", str(results)]) == 1
    output = capsys.readouterr()
    assert "row 3 could not be measured: OSError: no weights" in output.err
    assert "row 6 could not be measured" in output.err
    assert "something" in output.out
    (saved,) = json.loads(results.read_text())["measurements"]
    assert saved["row"] == 4
    assert saved["reached"]
