"""Traces in the run folder: of each picture that was refined, and of no other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from callbacks.refinement_trace import RefinementTrace
from lightning_modules.records import CodedImage, Failure, PixelFormat


class KnownTrace:
    def csv(self) -> str:
        return "step,true_loss\n0,1.5\n"

    def png(self) -> bytes:
        return b"picture"


def coded(name: str) -> CodedImage:
    x = torch.zeros(1, 3, 2, 2)
    return CodedImage(name, x, x, PixelFormat(), b"", 0.0, 0, 0.0, 0.0)


def files_after(folder: Path, outputs: Any, traces: Any) -> list[str]:
    trainer: Any = SimpleNamespace(default_root_dir=str(folder))
    module: Any = SimpleNamespace(traces=traces)
    RefinementTrace().on_predict_batch_end(trainer, module, outputs, None, 0)
    RefinementTrace().on_test_batch_end(trainer, module, outputs, None, 0)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_refined_picture_leaves_its_trace_under_its_own_name(tmp_path: Path) -> None:
    outputs = [Failure("b.png", "broken"), coded("sub/a.png")]
    assert files_after(tmp_path, outputs, {1: KnownTrace()}) == ["traces/sub/a.png.csv", "traces/sub/a.png.png"]
    assert (tmp_path / "traces" / "sub" / "a.png.csv").read_text() == KnownTrace().csv()
    assert (tmp_path / "traces" / "sub" / "a.png.png").read_bytes() == b"picture"


def test_amortized_and_failed_pictures_leave_none(tmp_path: Path) -> None:
    assert files_after(tmp_path, [coded("a.png")], {}) == []
    assert files_after(tmp_path, [Failure("a.png", "broken")], {0: KnownTrace()}) == []
