"""CompressAI's JSON schema: what is read is what was published, what is written is read again, others are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.errors import CodingError
from lightning_modules.reports.published_curve import published_form, read_published

DOCUMENT = {
    "name": "mbt2018-mean",
    "description": "Inference on the test set",
    "results": {
        "psnr-rgb": [29.0, 27.5, 31.0],
        "ms-ssim-rgb": [0.99, 0.9, 0.999],
        "bpp": [0.2, 0.1, 0.3],
        "encoding_time": [0.5, 0.25, 1.0],
        "decoding_time": [0.5, 0.25, 1.0],
    },
}


def write(folder: Path, document: Any) -> Path:
    path = folder / "curve.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_published_curve_has_its_points_by_rate_and_no_pictures(tmp_path: Path) -> None:
    found = read_published(write(tmp_path, DOCUMENT))
    assert (found.name, found.settings) == ("mbt2018-mean", "Inference on the test set")
    assert [(point.bpp, point.quality("psnr")) for point in found.points] == [(0.1, 27.5), (0.2, 29.0), (0.3, 31.0)]
    assert [point.quality("ms_ssim_db") for point in found.points] == pytest.approx([10.0, 20.0, 30.0])
    assert found.points[2].quality("encode_seconds") == 1.0
    assert found.common_pictures() == []


def test_psnr_may_be_called_by_its_short_name(tmp_path: Path) -> None:
    found = read_published(write(tmp_path, {"name": "a", "results": {"bpp": [0.1], "psnr": [30.0]}}))
    assert found.points[0].quality("psnr") == 30.0


def test_what_is_written_is_read_again_as_the_same_curve(tmp_path: Path) -> None:
    once = read_published(write(tmp_path, DOCUMENT))
    document = published_form(once)
    assert document["results"].keys() == DOCUMENT["results"].keys()  # type: ignore[attr-defined]
    again = read_published(write(tmp_path, document))
    assert [point.means for point in again.points] == [point.means for point in once.points]


@pytest.mark.parametrize(
    "document",
    [
        "not json",
        "[]",
        {"name": "a"},
        {"results": {"bpp": [0.1]}},
        {"results": {"bpp": [0.1, 0.2], "psnr": [30.0]}},
        {"results": {"bpp": [], "psnr": []}},
        {"results": {"bpp": ["x"], "psnr": [30.0]}},
        {"results": {"bpp": 0.1, "psnr": 30.0}},
    ],
)
def test_another_schema_is_refused_in_one_line_that_names_the_file(tmp_path: Path, document: Any) -> None:
    path = write(tmp_path, document)
    with pytest.raises(CodingError, match=r"curve\.json: .*CompressAI's schema") as error:
        read_published(path)
    assert "\n" not in str(error.value)
