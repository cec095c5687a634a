"""Refined files as a user makes them: the same bytes whoever makes them, decoded to the picture that was scored."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.harness.command_line import DECOMPRESS, report, succeed
from tests.lightning_modules.sga.small_refinement import saved_crops

SGA_SSL = ("task=compress", "experiment=sga_ssl", "ckpt=demo", "inference.steps=12", "inference.evaluate_every=6")
NAMES = ("a.png", "b.png", "c/d.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_crops(tmp_path_factory.mktemp("photos"), NAMES)


@pytest.fixture(scope="module")
def refined(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder refined by two processes; its files in `files`, the run folder in `run`."""
    folder = tmp_path_factory.mktemp("refined")
    where = (f"input={photos}", f"output={folder / 'files'}", f"hydra.run.dir={folder / 'run'}")
    succeed(*SGA_SSL, "logger=none", "trainer=ddp_cpu", *where)
    return folder


def test_an_image_gets_the_same_file_alone_as_in_a_folder_of_two_processes(
    photos: Path, refined: Path, tmp_path: Path
) -> None:
    where = (f"input={photos / 'c' / 'd.png'}", f"output={tmp_path / 'out'}", f"hydra.run.dir={tmp_path / 'run'}")
    succeed(*SGA_SSL, "logger=none", *where)
    (alone,) = (tmp_path / "out").rglob("*.lpc")
    assert alone.read_bytes() == (refined / "files" / "c" / "d.png.lpc").read_bytes()


def test_the_decoded_pictures_are_those_that_were_scored_and_better_than_the_encoders(
    photos: Path, refined: Path, tmp_path: Path
) -> None:
    succeed(*DECOMPRESS, f"input={refined / 'files'}", f"output={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    rows = report(refined / "files")
    for name in NAMES:
        original, decoded = (np.array(Image.open(folder / name)).astype(float) for folder in (photos, tmp_path))
        psnr = 10 * np.log10(255**2 / np.square(original - decoded).mean())
        assert psnr == pytest.approx(float(rows[name]["psnr"]), abs=1e-4)
        trace = list(csv.DictReader((refined / "run" / "traces" / f"{name}.csv").open()))
        assert [int(record["step"]) for record in trace] == [0, 6, 12]
        best = min(trace, key=lambda record: float(record["true_loss"]))
        assert psnr == pytest.approx(float(best["psnr"]), abs=1e-3)
        assert float(rows[name]["bpp_estimated"]) == pytest.approx(float(best["bpp"]), rel=1e-5)
        assert float(best["true_loss"]) < float(trace[0]["true_loss"])
        assert Image.open(refined / "run" / "traces" / f"{name}.png").size[0] > 1000
