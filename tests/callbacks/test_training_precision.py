"""`trainer.precision=auto`, `memory_format`, `compile`: what training steps compute in, and nothing else."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks import training_precision
from callbacks.memory_layout import MemoryLayout
from callbacks.training_precision import TrainingPrecision, quickest_precision


class Codec(nn.Module):
    g_a: nn.Sequential

    def __init__(self) -> None:
        super().__init__()
        self.g_a = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))


class Module(L.LightningModule):
    """Notes the precision of its network's outputs, and how its filters lie, by step."""

    codec: Codec

    def __init__(self) -> None:
        super().__init__()
        self.codec = Codec()
        self.seen: dict[str, Any] = {}

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        y = self.codec.g_a(x)
        self.seen["train"] = y.dtype
        self.seen["layout"] = self.codec.g_a[2].get_parameter("weight").is_contiguous(memory_format=torch.channels_last)
        return y.float().square().mean()

    def validation_step(self, x: Tensor, batch_idx: int) -> None:
        self.seen["validation"] = self.codec.g_a(x).dtype

    def test_step(self, x: Tensor, batch_idx: int) -> None:
        self.seen["test"] = self.codec.g_a(x).dtype
        self.seen["test layout"] = self.codec.g_a[2].get_parameter("weight").is_contiguous()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(**settings: Any) -> dict[str, Any]:
    module: Module = Module()
    loader: DataLoader[Tensor] = DataLoader(list(torch.rand(2, 3, 8, 8)))  # type: ignore[arg-type]
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, num_sanity_val_steps=0, **quiet, **settings)
    trainer.fit(module, loader, loader)
    trainer.test(module, loader, verbose=False)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    return module.seen


def test_training_steps_alone_are_in_bfloat16() -> None:
    seen = trained(plugins=[TrainingPrecision("cpu")])
    assert (seen["train"], seen["validation"], seen["test"]) == (torch.bfloat16, torch.float32, torch.float32)


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(training_precision, "multiplies_bfloat16", lambda accelerator: native)
    assert trained(**quickest_precision("cpu"))["train"] == (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_filters_lie_as_asked_while_they_are_trained_and_as_ever_afterwards(memory_format: str) -> None:
    seen = trained(callbacks=[MemoryLayout(memory_format=memory_format, compiled=False)])
    assert seen["layout"] == (memory_format == "channels_last")
    assert seen["test layout"]


def test_networks_are_compiled_for_the_fit_and_not_for_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_in_place(network: nn.Sequential, **how: Any) -> None:
        compiled.append(type(network).__name__)
        network._compiled_call_impl = lambda value: network._call_impl(value)

    monkeypatch.setattr(nn.Sequential, "compile", compile_in_place)
    layout, module = MemoryLayout(memory_format="contiguous", compiled=True), Module()
    layout.on_fit_start(L.Trainer(logger=False), module)
    assert compiled == ["Sequential"]
    assert module.codec.g_a._compiled_call_impl is not None
    layout.on_fit_end(L.Trainer(logger=False), module)
    assert module.codec.g_a._compiled_call_impl is None


def test_another_memory_format_is_refused() -> None:
    with pytest.raises(ValueError, match="contiguous and channels_last"):
        MemoryLayout(memory_format="channels_first", compiled=False)
