"""The moving average is its closed form, is what is validated and kept, and survives resuming bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks.ema import EMA
from callbacks.last_checkpoint import LastCheckpoint


class Codec(nn.Module):
    """Two parameters, a float and an integer buffer, and tables derived from the weights."""

    counter: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("counter", torch.zeros(1, dtype=torch.long))
        self.tables = self.layer.weight.detach().clone()

    def update(self) -> bool:
        self.tables = self.layer.weight.detach().clone()
        return True


class Module(L.LightningModule):
    """Fits a line by Adam; notes the weights after every step and those it is validated with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.codec = Codec()
        self.other = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []
        self.validated: list[Tensor] = []
        self.is_derived: list[bool] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.codec.scale += 0.5
        self.codec.counter += 1
        return (self.codec.layer(batch[:, :2])[:, 0] - batch[:, 2]).square().mean() + self.other.sum()

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        self.seen.append(self.codec.layer.weight.detach().clone())

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.is_derived.append(torch.equal(self.codec.tables, self.codec.layer.weight))
        self.validated.append(self.codec.layer.weight.detach().clone())
        self.log("val/loss", self.codec.layer.weight.sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        data = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
        return DataLoader(data, batch_size=8)  # type: ignore[arg-type]

    def val_dataloader(self) -> list[Tensor]:
        return [torch.zeros(1)]


def fit(folder: Path, epochs: int, ckpt_path: Path | None = None, **options: Any) -> tuple[Module, EMA, L.Trainer]:
    module, ema = Module(), EMA(decay=0.9)
    best = ModelCheckpoint(folder / "checkpoints", monitor="val/loss")
    last = LastCheckpoint(path=folder / "checkpoints" / "last.ckpt")
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[ema, best, last],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(module, ckpt_path=ckpt_path)
    return module, ema, trainer


def closed_form(first: Tensor, seen: list[Tensor], decay: float) -> Tensor:
    """sum_k w_k (1 - d_k) prod_(j > k) d_j, with the first weights as w_0 and d_0 = 0."""
    decays = [0.0] + [min(decay, (1 + n) / (10 + n)) for n in range(1, len(seen) + 1)]
    total = torch.zeros_like(first, dtype=torch.double)
    for k, weight in enumerate([first, *seen]):
        remaining = torch.tensor(decays[k + 1 :], dtype=torch.double).prod()
        total += (1 - decays[k]) * remaining * weight
    return total


def test_the_average_is_its_closed_form_and_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    first = Module().codec.layer.weight.detach().clone()
    module, _, _ = fit(tmp_path, epochs=3)
    assert len(module.seen) == 24
    expected = [closed_form(first, module.seen[:steps], 0.9) for steps in (8, 16, 24)]
    for validated, average in zip(module.validated, expected, strict=True):
        torch.testing.assert_close(validated.double(), average, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(module.codec.layer.weight.double(), expected[-1], rtol=1e-5, atol=1e-6)
    assert module.is_derived == [True] * 3, "tables follow the swap"
    assert torch.equal(module.codec.tables, module.codec.layer.weight)
    scales = [torch.tensor([1 + 0.5 * step]) for step in range(25)]
    torch.testing.assert_close(module.codec.scale.double(), closed_form(scales[0], scales[1:], 0.9))
    assert module.codec.counter.item() == 24, "integers are not averaged"


def test_averaging_leaves_the_training_itself_alone(tmp_path: Path) -> None:
    plain = Module()
    L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(plain)
    averaged, _, _ = fit(tmp_path, epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(averaged.seen, plain.seen, strict=True))
    assert torch.equal(averaged.other, plain.other), "only the codec is averaged"


def test_a_resumed_training_is_bit_equal_to_one_never_stopped(tmp_path: Path) -> None:
    whole, whole_ema, _ = fit(tmp_path / "whole", epochs=4)
    fit(tmp_path / "part", epochs=2)
    resumed, resumed_ema, _ = fit(tmp_path / "part", 4, tmp_path / "part" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(resumed.seen, whole.seen[16:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(resumed.validated, whole.validated[2:], strict=True))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert resumed_ema.num_steps == whole_ema.num_steps == 32


def test_a_checkpoint_holds_the_average_where_everybody_looks_for_weights(tmp_path: Path) -> None:
    module, _, trainer = fit(tmp_path, epochs=2)
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert torch.equal(checkpoint["state_dict"]["codec.layer.weight"], module.validated[-1])
    assert torch.equal(checkpoint["ema"]["raw"]["layer.weight"], module.seen[-1])
    fresh = Module()
    trainer.validate(fresh, ckpt_path=tmp_path / "checkpoints" / "last.ckpt", verbose=False)
    assert torch.equal(fresh.validated[0], module.validated[-1])


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    module, ema, _ = fit(tmp_path, epochs=1, accumulate_grad_batches=4)
    assert ema.num_steps == 2
    first = Module().codec.layer.weight.detach()
    expected = closed_form(first, [module.seen[3], module.seen[7]], 0.9)
    torch.testing.assert_close(module.codec.layer.weight.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_that_cannot_be_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        EMA(decay=decay)
