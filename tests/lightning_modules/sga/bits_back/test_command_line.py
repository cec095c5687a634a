"""Chains and payloads as a user makes them: compressed, decoded, damaged, and made whole again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.harness.command_line import DECOMPRESS, report, run, succeed
from tests.lightning_modules.sga.small_refinement import saved_crops

COMPRESS = ("task=compress", "experiment=bb_no_sga", "ckpt=demo", "inference.steps=2", "logger=none")
NAMES = ("a.png", "b/c.png", "d.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_crops(tmp_path_factory.mktemp("photos"), NAMES)


@pytest.fixture(scope="module")
def chain(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a chain, and what the command said."""
    folder = tmp_path_factory.mktemp("chain")
    return folder, succeed(*COMPRESS, "coder.mode=chained", f"input={photos}", f"output={folder}")


def test_the_report_has_the_rates_of_each_picture_and_the_command_those_of_the_folder(
    chain: tuple[Path, str], photos: Path
) -> None:
    folder, said = chain
    rows = report(folder)
    assert [row["status"] for row in rows.values()] == ["ok"] * 3
    initial = [float(row["bpp_initial"]) for row in rows.values()]
    assert sum(value > 0 for value in initial) == 1
    pixels = {name: int(row["height"]) * int(row["width"]) for name, row in rows.items()}
    net = sum(float(row["bpp_net"]) * pixels[name] for name, row in rows.items())
    assert net == pytest.approx(
        sum(float(row["bpp_net_estimated"]) * pixels[name] for name, row in rows.items()), 0.005
    )
    assert f"bpp_net of 3 pictures: {net / sum(pixels.values()):.5f}" in said
    assert "bpp of 3 pictures: " in said


@pytest.mark.slow
def test_a_chain_decodes_and_one_that_lost_a_file_is_made_again_as_a_whole(
    chain: tuple[Path, str], photos: Path, tmp_path: Path
) -> None:
    folder, _ = chain
    succeed(*DECOMPRESS, f"input={folder}", f"output={tmp_path / 'whole'}")
    for name in NAMES:
        original, decoded = (np.array(Image.open(where / name)).astype(float) for where in (photos, tmp_path / "whole"))
        psnr = 10 * np.log10(255**2 / np.square(original - decoded).mean())
        assert psnr == pytest.approx(float(report(folder)[name]["psnr"]), abs=1e-3)
    files = {name: (folder / f"{name}.lpc").read_bytes() for name in NAMES}
    (folder / "d.png.lpc").unlink()
    done = run(*DECOMPRESS, f"input={folder}", f"output={tmp_path / 'part'}")
    assert done.returncode == 1
    errors = [row["error"] for row in report(tmp_path / "part").values()]
    assert len(errors) == 2
    assert all("give the whole folder to one process" in error for error in errors)
    succeed(*COMPRESS, "coder.mode=chained", f"input={photos}", f"output={folder}")
    assert {name: (folder / f"{name}.lpc").read_bytes() for name in NAMES} == files
    assert {row["status"] for row in report(folder).values()} == {"ok"}


def test_a_payload_travels_with_the_picture(photos: Path, tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(1237)
    (tmp_path / "file").write_bytes(data)
    payload = ("coder.mode=payload", f"coder.payload={tmp_path / 'file'}")
    succeed(*COMPRESS, *payload, f"input={photos / 'd.png'}", f"output={tmp_path / 'out'}")
    succeed(*DECOMPRESS, f"input={tmp_path / 'out'}", f"output={tmp_path / 'back'}")
    assert (tmp_path / "back" / "d.png.payload").read_bytes() == data
    assert Image.open(tmp_path / "back" / "d.png").size == (112, 64)
