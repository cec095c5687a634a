"""Coders as the configurations make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lightning_modules.rec.files.file_coder import FileCoder
from lightning_modules.rec.samplers.index_coder import IndexCoder

MakeCoder = Callable[..., IndexCoder]


OTHERWISE: dict[str, dict[str, Any]] = {
    "irec": {
        "schedule": {"_target_": "lightning_modules.rec.samplers.schedule.EqualKL"},
        "sampler.num_beams": 128,
    }
}
"""What tests of single blocks change of a configuration: a schedule for each block, and the search of the benchmark."""


@pytest.fixture(scope="session")
def make_coder(repository: Path) -> MakeCoder:
    """Make a coder from the name of a file of conf/coder and settings as a dotlist of Hydra."""

    def make(name: str, **settings: Any) -> IndexCoder:
        cfg = OmegaConf.load(repository / "conf" / "coder" / f"{name}.yaml")
        changes = OTHERWISE.get(name, {}) | {key.replace("__", "."): value for key, value in settings.items()}
        for key, value in changes.items():
            OmegaConf.update(cfg, key, value)
        coder = instantiate(cfg)
        assert isinstance(coder, FileCoder)
        return coder.index_coder

    return make
