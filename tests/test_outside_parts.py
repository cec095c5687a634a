"""A task, a metric, a datamodule and a choice of reading that come from outside the repository, which is not edited.

Each is one function or class of a package on PYTHONPATH and one file of a folder given with `--config-dir`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from lightning_modules.launch.building import ComposedRun
from lightning_modules.launch.paths import CONF
from tests.harness.command_line import COMPRESS, refuse, report, succeed
from tests.lightning_modules.sga.small_refinement import crop_of_photograph

CONFIGURATIONS = {
    "task/count": """
        name: count
        run: {_target_: outside_lab.parts.count, suffix: .png}
        needs: [input]
        """,
    "metrics/my_psnr": """
        my_psnr:
          _target_: hydra.utils.get_method
          path: outside_lab.parts.my_psnr
        """,
    "datamodule/mine": """
        _target_: outside_lab.parts.Mine
        folder: ${paths.data_dir}/mine
        """,
    "decoding/mine": """
        # @package _global_
        mine: {strength: 1.0}
        """,
}
PARTS = """
from pathlib import Path

import torch
from lightning import LightningDataModule


def count(run, suffix):
    found = list(Path(run.cfg.input).glob(f"*{suffix}"))
    print(f"{len(found)} of my pictures")


def my_psnr(x, x_hat):
    return -10 * torch.log10((x - x_hat).double().square().mean(dim=(1, 2, 3)))


class Mine(LightningDataModule):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package, `outside_lab`, and configurations of its own, in `conf`."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "outside_lab").mkdir()
    (folder / "outside_lab" / "__init__.py").touch()
    (folder / "outside_lab" / "parts.py").write_text(PARTS)
    for name, text in CONFIGURATIONS.items():
        path = folder / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line[8:] for line in text.strip("\n").splitlines()))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one small picture."""
    folder = tmp_path_factory.mktemp("photos")
    picture = crop_of_photograph(60, 150, 48, 64)
    Image.fromarray((picture[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / "a.png")
    return folder


def outside(lab: Path) -> tuple[str, str]:
    return "--config-dir", str(lab / "conf")


def test_a_task_is_one_function_and_one_file(lab: Path, photos: Path) -> None:
    printed = succeed(*outside(lab), "task=count", f"input={photos}", PYTHONPATH=str(lab))
    assert printed.splitlines()[-1] == "1 of my pictures"
    assert refuse(*outside(lab), "task=count") == "error: task=count needs input=..."
    assert "did you mean count" in refuse(*outside(lab), "task=cuont")


def test_a_metric_is_a_column_of_what_compress_reports(lab: Path, photos: Path, tmp_path: Path) -> None:
    places = (f"input={photos}", f"output={tmp_path / 'files'}", f"hydra.run.dir={tmp_path / 'run'}")
    command = (*outside(lab), *COMPRESS, "ckpt=demo", "metrics=[my_psnr]", *places)
    printed = succeed(*command, PYTHONPATH=str(lab))
    (row,) = report(tmp_path / "files").values()
    assert row["status"] == "ok"
    assert float(row["my_psnr"]) == pytest.approx(float(row["psnr"]), abs=1e-3)
    assert f"my_psnr of 1 pictures: {float(row['my_psnr']):.5f}" in printed


def test_a_metric_of_whole_sets_is_refused_where_a_folder_is_compressed(photos: Path, tmp_path: Path) -> None:
    places = (f"input={photos}", f"output={tmp_path / 'files'}", f"hydra.run.dir={tmp_path / 'run'}")
    line = refuse(*COMPRESS, "ckpt=demo", "metrics=[fid_256]", *places)
    assert line == "error: metrics=[fid_256]: is one number for a set of pictures; task=test measures it"
    assert not list((tmp_path / "files").glob("*.lpc"))


def test_a_datamodule_and_what_reading_offers_are_found_by_name(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(lab))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["task=test", "datamodule=mine", "paths.data_dir=sets", f"hydra.searchpath=[{lab / 'conf'}]"]
        run = ComposedRun(compose("config", words))
    datamodule = run.build(run.cfg.task.datamodule)
    assert type(datamodule).__module__ == "outside_lab.parts"
    assert datamodule.folder == "sets/mine"


def test_what_reading_offers_is_a_setting_of_every_run(lab: Path) -> None:
    written = succeed(*outside(lab), "--cfg", "job", "task=decompress", "mine.strength=2.5", "sic.level=3")
    assert "mine:\n  strength: 2.5\n" in written
    assert "  level: 3\n" in written
    assert "decoding" not in succeed("--cfg", "job", "task=decompress", "decoding=[]").split("datamodule:")[0]
