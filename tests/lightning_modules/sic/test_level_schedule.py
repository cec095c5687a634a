"""The weights of levels and the order in which training visits them, against the published table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_modules.sic.level_schedule import LevelTable, descending

PUBLISHED = [
    (1, 128, 29.3441, 49.3507),
    (2, 256, 26.9087, 38.0546),
    (3, 384, 24.6754, 29.3441),
    (4, 512, 22.6274, 22.6274),
    (5, 640, 20.7494, 17.4481),
    (6, 768, 19.0273, 13.4543),
    (7, 896, 17.4481, 10.3747),
    (8, 1024, 16.0, 8.0),
    (9, 1152, 14.6721, 6.1688),
    (10, 1280, 13.4543, 4.7568),
    (11, 1408, 12.3377, 3.6680),
    (12, 1536, 11.3137, 2.8284),
    (13, 1664, 10.3747, 2.1810),
    (14, 1792, 9.5137, 1.6818),
    (15, 1920, 8.7241, 1.2968),
    (16, 2048, 8.0, 1.0),
]


@pytest.fixture(scope="module")
def settings(repository: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(repository / "conf" / "objective" / "sic.yaml"))


def table(settings: Any, levels: int) -> LevelTable:
    return LevelTable(levels=levels, **settings["levels"])


@pytest.mark.parametrize(("level", "distortion", "perception", "rate"), PUBLISHED)
def test_the_configured_weights_are_the_published_ones(
    settings: Any, level: int, distortion: float, perception: float, rate: float
) -> None:
    assert table(settings, 16)(level) == pytest.approx((distortion, perception, rate), rel=5e-5)


def test_the_top_level_weighs_2048_8_and_1_with_any_number_of_levels(settings: Any) -> None:
    for levels in (1, 4, 8, 16):
        assert table(settings, levels).top == pytest.approx((2048, 8, 1))


@pytest.mark.parametrize("levels", [4, 8])
def test_fewer_levels_span_the_same_trade_offs(settings: Any, levels: int) -> None:
    every = 16 // levels
    for level in range(1, levels + 1):
        assert table(settings, levels)(level) == pytest.approx(table(settings, 16)(every * level))


@pytest.mark.parametrize("level", [-1, 0, 17])
def test_a_level_that_is_none_has_no_weights(settings: Any, level: int) -> None:
    with pytest.raises(ValueError, match=f"level {level} is none of 1 to 16"):
        table(settings, 16)(level)


def test_steps_visit_the_levels_from_the_top_down_and_begin_again() -> None:
    schedule = descending(16)
    assert [schedule(step) for step in range(18)] == [*range(16, 0, -1), 16, 15]
    visits = [schedule(step) for step in range(6250)]
    assert [visits.count(level) for level in (16, 7, 6, 1)] == [391, 391, 390, 390]
