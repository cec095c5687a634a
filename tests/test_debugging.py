"""`debug=tiny` makes every module small, also one that a new room brings."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from hydra import compose, initialize_config_dir

CONF = Path(__file__).resolve().parents[1] / "conf"
MODULES = sorted(path.stem for path in CONF.glob("module/*.yaml"))
MOST = 200_000
"""Parameters."""


@pytest.mark.parametrize("module", MODULES)
def test_a_tiny_run_has_a_small_codec(module: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[f"module={module}", "debug=tiny"])
    codec = hydra.utils.instantiate(cfg.module.codec, _convert_="all")
    assert 0 < sum(parameter.numel() for parameter in codec.parameters()) < MOST


def test_nothing_is_made_small_that_is_no_module() -> None:
    assert {path.stem for path in CONF.glob("shrink/tiny/*.yaml")} == set(MODULES)
