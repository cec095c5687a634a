"""Which columns of results are drawn against rate."""

from __future__ import annotations

from lightning_modules.records import PICTURES_IN_FILE
from lightning_modules.reports.rate_panels import is_distance


def test_distances_are_drawn_and_rates_errors_and_what_files_hold_are_not() -> None:
    columns = ["lpips_alex", "bpp_net", "net_error", "psnr", "chain", PICTURES_IN_FILE]
    assert [column for column in columns if is_distance(column)] == ["lpips_alex"]
