"""Packaging from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints.__main__ import main
from lightning_modules.checkpoints.packaged_model import load_model, read_metadata, save_model
from lightning_modules.hyperprior.codec import HyperpriorCodec


def test_a_model_is_rounded_and_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_model(HyperpriorCodec(N=8, M=12, lmbda=0.01), tmp_path / "whole.safetensors")
    target = tmp_path / "small.safetensors"
    assert main([str(tmp_path / "whole.safetensors"), str(target), "--note", "data=CLIC=2020"]) == 0
    assert str(target.stat().st_size) in capsys.readouterr().out
    assert target.stat().st_size < (tmp_path / "whole.safetensors").stat().st_size
    assert read_metadata(target)["data"] == "CLIC=2020"
    weights = load_model(target).named_parameters()
    assert all(torch.equal(p, p.half().float()) for name, p in weights if p.requires_grad and "h_s." not in name)


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no model")
    assert main([str(tmp_path / "text"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
