"""Progressive files as a user makes, shortens and reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_modules.checkpoints.packaged_model import save_model
from lightning_modules.coding.container import section_ends
from tests.harness.command_line import report, run, succeed
from tests.lightning_modules.sic.small_networks import SIZES, small_codec

NAMES = ("a.png", "b/c.png")


class Files:
    """A folder with `photos`, `files` made of them, and what commands of its own models leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, task: str, source: str, output: str, *more: str) -> tuple[str, ...]:
        places = (f"input={self.folder / source}", f"output={self.folder / output}")
        kept = (f"paths.cache_dir={self.folder / 'cache'}", f"hydra.run.dir={self.folder / 'run'}")
        return (f"task={task}", "logger=none", *places, *kept, *more)

    def picture(self, path: str) -> np.ndarray:
        return np.asarray(Image.open(self.folder / path))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("progressive")
    save_model(small_codec(), folder / "model.safetensors")
    rng = np.random.default_rng(0)
    for name in NAMES:
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(folder / "photos" / name)
    files = Files(folder)
    sizes = [f"module.codec.{key}={str(value).replace(' ', '')}" for key, value in SIZES.items()]
    model = f"ckpt={folder / 'model.safetensors'}"
    succeed(*files.command("compress", "photos", "files", "experiment=sic_small", model, *sizes))
    return files


def test_a_shorter_file_is_the_beginning_and_decodes_as_the_longer_one_at_that_level(files: Files) -> None:
    succeed(*files.command("truncate", "files", "shorter", "level=2"))
    for name in NAMES:
        data = (files.folder / "files" / f"{name}.lpc").read_bytes()
        assert (files.folder / "shorter" / f"{name}.lpc").read_bytes() == data[: section_ends(data)[1]]
        row = report(files.folder / "shorter")[f"{name}.lpc"]
        assert int(row["bytes"]) == section_ends(data)[1]
        assert float(row["bpp"]) == pytest.approx(8 * section_ends(data)[1] / 4500, abs=1e-5)
    succeed(*files.command("decompress", "shorter", "decoded"))
    succeed(*files.command("decompress", "files", "chosen", "sic.level=2", "sic.samples=3"))
    for name in NAMES:
        assert np.array_equal(files.picture(f"decoded/{name}"), files.picture(f"chosen/{name}"))
        synonyms = [files.picture(f"chosen/{name}{suffix}") for suffix in ("", ".2.png", ".3.png")]
        assert all(not np.array_equal(a, b) for i, a in enumerate(synonyms) for b in synonyms[:i])


def test_the_report_has_a_rate_for_every_level(files: Files) -> None:
    for row in report(files.folder / "files").values():
        rates = [float(row[f"bpp_level_{level}"]) for level in range(1, 5)]
        assert rates == sorted(rates)
        assert rates[-1] < float(row["bpp"])


@pytest.mark.slow
def test_another_level_into_the_same_folder_is_decoded_anew(files: Files) -> None:
    for level in (1, 4):
        succeed(*files.command("decompress", "files", "again", f"sic.level={level}"))
        assert {row["status"] for row in report(files.folder / "again").values()} == {"ok"}
    succeed(*files.command("decompress", "files", "again", "sic.level=4"))
    assert {row["status"] for row in report(files.folder / "again").values()} == {"skipped"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "line"),
    [
        ((), "needs one of level=, bpp=, bytes="),
        (("level=0",), "levels count from 1"),
        (("level=9",), "2 of 2 files failed"),
        (("bytes=20",), "2 of 2 files failed"),
    ],
)
def test_what_cannot_be_cut_is_refused(files: Files, more: tuple[str, ...], line: str) -> None:
    done = run(*files.command("truncate", "files", "refused", *more))
    assert done.returncode == 1
    assert line in done.stderr


@pytest.mark.slow
def test_files_are_not_cut_in_place(files: Files) -> None:
    before = {name: (files.folder / "files" / f"{name}.lpc").read_bytes() for name in NAMES}
    done = run(*files.command("truncate", "files", "files", "level=1"))
    assert "is where the input lies" in done.stderr
    assert before == {name: (files.folder / "files" / f"{name}.lpc").read_bytes() for name in NAMES}
