"""Every file of conf/callbacks builds, without touching a disk."""

from __future__ import annotations

from pathlib import Path

import hydra
import lightning as L
import pytest
from hydra import compose, initialize_config_dir

from callbacks.bitstream_writer import BitstreamWriter
from callbacks.ema import EMA
from callbacks.provenance import Provenance
from callbacks.reconstruction_writer import ReconstructionWriter
from lightning_modules.folder_jobs.folder_job import FolderJob

CONF = Path(__file__).resolve().parents[2] / "conf"


def built(name: str, folder: Path) -> dict[str, L.Callback]:
    """The callbacks of a configuration file, as a task's."""
    overrides = [
        f"+callbacks={name}",
        f"+paths.output_dir={folder / 'run'}",
        "+task.job._target_=lightning_modules.folder_jobs.folder_job.FolderJob",
        f"+task.job.output={folder / 'out'}",
        "+task.job.key=a",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=overrides)
    return {key: hydra.utils.instantiate(node, _convert_="all") for key, node in cfg.get("callbacks", {}).items()}


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "callbacks").glob("*.yaml")))
def test_every_configuration_builds(name: str, tmp_path: Path) -> None:
    callbacks = built(name, tmp_path)
    assert all(isinstance(callback, L.Callback) for callback in callbacks.values())
    assert list(tmp_path.iterdir()) == [], "nothing is written before a run starts"


@pytest.mark.parametrize(
    ("name", "writer_class", "output_name"),
    [("compress", BitstreamWriter, "a.png.lpc"), ("decompress", ReconstructionWriter, "a.png")],
)
def test_folder_jobs_write_under_the_promised_names(
    tmp_path: Path, name: str, writer_class: type, output_name: str
) -> None:
    writer = built(name, tmp_path)["writer"]
    assert isinstance(writer, (BitstreamWriter, ReconstructionWriter))
    assert isinstance(writer, writer_class)
    assert writer.output_name("a.png" if name == "compress" else "a.png.lpc") == output_name
    assert isinstance(writer.job, FolderJob)
    assert (writer.job.output, writer.job.key) == (tmp_path / "out", "a")


def test_the_moving_average_comes_with_the_default_callbacks(tmp_path: Path) -> None:
    default, with_average = built("default", tmp_path), built("ema", tmp_path)
    assert with_average.keys() - default.keys() == {"ema"}
    assert isinstance(with_average["ema"], EMA)


def test_a_configuration_recorded_for_later_is_not_built(tmp_path: Path) -> None:
    provenance = built("default", tmp_path)["provenance"]
    assert isinstance(provenance, Provenance)
    assert provenance.config == {}
