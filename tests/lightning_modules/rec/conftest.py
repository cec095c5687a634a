"""Coders as the configurations make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lightning_modules.rec.samplers.index_coder import Coder

MakeCoder = Callable[..., Coder]


@pytest.fixture(scope="session")
def make_coder(repository: Path) -> MakeCoder:
    """From the name of a file of conf/coder, and settings as a dotlist of Hydra, to a coder."""

    def make(name: str, **settings: Any) -> Coder:
        cfg = OmegaConf.load(repository / "conf" / "index_coder" / f"{name}.yaml")
        for key, value in settings.items():
            OmegaConf.update(cfg, key.replace("__", "."), value)
        coder = instantiate(cfg)
        assert isinstance(coder, Coder)
        return coder

    return make
