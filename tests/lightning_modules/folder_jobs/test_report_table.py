"""The table of a folder job and its totals."""

from __future__ import annotations

import pytest

from lightning_modules.folder_jobs.journal import Row
from lightning_modules.folder_jobs.report_table import table, totals
from lightning_modules.records import PICTURES_IN_FILE, REPORT_COLUMNS

ROWS: list[Row] = [
    {"name": "a", "height": 1, "width": 30, "bpp": 1.0, "bpp_net": 0.5, "bpp_net_error": 0.1},
    {"name": "b", "height": 1, "width": 10, "bpp": 2.0, "bpp_net": 1.5, "bpp_net_error": 0.1},
    {"name": "c", "status": "failed"},
]


def test_totals_weigh_pictures_by_their_pixels() -> None:
    lines = totals(ROWS, [*REPORT_COLUMNS, "bpp_net"])
    assert lines[0] == "bpp of 2 pictures: 1.25000"


def test_totals_of_estimates_have_a_standard_error() -> None:
    """(0.1 * 30)^2 + (0.1 * 10)^2 = 10; its root over 40 pixels."""
    lines = totals(ROWS, [*REPORT_COLUMNS, "bpp_net", "bpp_net_error"])
    assert lines == ["bpp of 2 pictures: 1.25000", "bpp_net of 2 pictures: 0.75000, standard error 0.07906"]


def test_a_report_of_the_usual_columns_has_no_totals() -> None:
    assert totals(ROWS, REPORT_COLUMNS) == []


@pytest.mark.parametrize(("value", "cell"), [(None, ""), (0.12345678, "0.123457"), (7, "7")])
def test_cells_are_short_and_empty_for_what_is_not_known(value: object, cell: str) -> None:
    assert table([{"x": value, "y": 1}], ["x", "y"]) == f"x,y\n{cell},1\n"


def test_how_many_pictures_share_a_file_is_no_rate_to_sum_up() -> None:
    assert totals(ROWS, [*REPORT_COLUMNS, PICTURES_IN_FILE]) == []
