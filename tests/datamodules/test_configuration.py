"""conf/datamodule/*.yaml build what they name, and a set that is not there says what to put where."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from lightning_modules.errors import CodingError

CONF = Path(__file__).resolve().parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "datamodule").glob("*.yaml"))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DictConfig]:
    """Every datamodule's node, with data, cache and an input folder where nothing is yet."""
    root = tmp_path_factory.mktemp("configuration")
    (root / "input").mkdir()
    values = {"seed": 0, "input": root / "input", "steps_per_epoch": 5, "coder.batch_size": 1}
    values |= {f"paths.{name}_dir": root / name for name in ("data", "cache")}
    overrides = [f"+{key}={value}" for key, value in values.items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return {name: compose(f"datamodule/{name}", overrides=overrides).datamodule for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_builds_its_datamodule(nodes: dict[str, DictConfig], name: str) -> None:
    module = instantiate(nodes[name])
    assert nodes[name]._target_ == f"datamodules.{name}.{type(module).__name__}"


@pytest.mark.parametrize(
    ("name", "loader", "hint"),
    [
        ("tecnick", "test_dataloader", "/data/tecnick: no such file or folder; get the archive TESTIMAGES"),
        ("clic", "train_dataloader", "/data/clic/train: no such file or folder; unpack the professional and"),
        ("clic", "val_dataloader", "/data/clic/valid: no such"),
        ("small_photos", "train_dataloader", "/data/train_cid22: no such file or folder; put photographs there"),
        ("imagenet", "train_dataloader", "/data/imagenet/train: no such file or folder; unpack the ILSVRC"),
    ],
)
def test_a_set_that_cannot_be_downloaded_says_what_to_put_where(
    nodes: dict[str, DictConfig], name: str, loader: str, hint: str
) -> None:
    with pytest.raises(CodingError) as caught:
        getattr(instantiate(nodes[name]), loader)()
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_set_still_codes_the_input_that_is_given(nodes: dict[str, DictConfig]) -> None:
    with pytest.raises(CodingError, match=r"holds no image .* with input=$"):
        instantiate(nodes["tecnick"]).predict_dataloader()
