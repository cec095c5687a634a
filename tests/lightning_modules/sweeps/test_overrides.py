"""Overrides as names: short, and safe whatever a user types."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.sweeps.overrides import MOST_BYTES, Override, folder_name, parse, short_key


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("inference.lr=0.01", "inference.lr", "0.01"),
        ("+inference.distortion.mask=a=b.png", "inference.distortion.mask", "a=b.png"),
        ("++ckpt='logs/my run/codec.safetensors'", "ckpt", "logs/my run/codec.safetensors"),
        ("~logger", "logger", ""),
        ("ckpt='", "ckpt", "'"),
    ],
)
def test_signs_and_quotes_of_the_command_line_are_no_part_of_an_override(text: str, key: str, value: str) -> None:
    assert parse(text) == Override(key, value)


def test_a_key_is_short_unless_that_is_another_keys_as_well() -> None:
    assert short_key("inference.method.schedule.upper") == "schedule.upper"
    assert short_key("inference.steps", ["inference.steps", "steps"]) == "inference.steps"
    clash = ["inference.method.schedule.upper", "module.schedule.upper"]
    assert [short_key(key, clash) for key in clash] == clash


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["inference=sga_ssl", "inference.lr=0.01"], "inference-sga_ssl_inference.lr-0.01"),
        (["datamodule.root=../shared/data/kodak"], "datamodule.root-shared_data_kodak"),
        (["ckpt='my runs/best one.ckpt'", "seed=1"], "ckpt-my_runs_best_one.ckpt_seed-1"),
        (["ckpt=/a" + "/long" * 30 + "/codec.safetensors"], "ckpt-long_long_long_long_codec.safetensors"),
        (["+x.betas=[0.9,0.99]", "~logger"], "x.betas-0.9_0.99_logger"),
        (["task=test", "lmbda=0.01"], "lmbda-0.01"),
        ([], ""),
    ],
)
def test_a_folder_is_named_for_what_was_changed(overrides: list[str], name: str) -> None:
    assert folder_name(overrides, left_out=["task"]) == name


@given(st.lists(st.tuples(st.sampled_from(["ckpt", "a.b.c", "+x", "~y"]), st.text()).map("=".join), max_size=12))
def test_any_override_gives_the_name_of_one_folder_that_can_be_made(overrides: list[str]) -> None:
    name = "0_" + folder_name(overrides)
    assert Path(name).name == name
    assert not set(name) & set("/\\ ,=:*?\"'<>|\n\0$[]{}()")
    assert len(name.encode()) <= MOST_BYTES + 2
