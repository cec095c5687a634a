"""Files decode under other circumstances than they were made in, as a user starts both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.harness.command_line import COMPRESS, DECOMPRESS, report, succeed

NAMES = ("0.png", "1.png", "2.png", "3.png", "other size.png")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made with one thread: four pictures of one size and one of another."""
    import skimage

    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "pictures").mkdir()
    with Image.open(Path(skimage.__file__).parent / "data" / "coffee.png") as photo:
        for k, name in enumerate(NAMES):
            photo.crop((40 * k, 20 * k, 40 * k + 300 - 30 * (k == 4), 20 * k + 200)).save(folder / "pictures" / name)
    places = (f"input={folder / 'pictures'}", f"output={folder / 'files'}", f"hydra.run.dir={folder / 'run'}")
    succeed(*COMPRESS, "ckpt=demo", "threads=1", *places)
    return folder / "files"


def decoded(files: Path, folder: Path, *settings: str) -> dict[str, np.ndarray]:
    """Pixels of every picture; that they are there says that all integers had the checksum in the file."""
    succeed(*DECOMPRESS, f"input={files}", f"output={folder}", f"hydra.run.dir={folder}.run", *settings)
    assert {row["status"] for row in report(folder).values()} == {"ok"}
    return {name: np.asarray(Image.open(folder / name)).astype(int) for name in NAMES}


def test_other_threads_and_batches_give_the_same_integers_and_pixels_within_one_level(
    files: Path, tmp_path: Path
) -> None:
    alone = decoded(files, tmp_path / "alone", "threads=1")
    again = decoded(files, tmp_path / "again", "threads=1")
    together = decoded(
        files, tmp_path / "together", "threads=2", "datamodule=bitstream_folder", "task.datamodule.batch_size=4"
    )
    for name in NAMES:
        np.testing.assert_array_equal(alone[name], again[name])
        assert np.abs(alone[name] - together[name]).max() <= 1
