"""Training: the loss is the paper's, it falls, and every random draw belongs to its step."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.codec import amortized
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.module import HyperpriorModule
from lightning_modules.training.learning_rate import constant


def make_module(seed: int = 0) -> HyperpriorModule:
    torch.manual_seed(3)
    return HyperpriorModule(
        codec=HyperpriorCodec(N=8, M=12, lmbda=0.01),
        inference=amortized,
        lmbda=0.01,
        seed=seed,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        schedule=constant(warmup=0),
    )


def train(module: HyperpriorModule, batches: list[Tensor], steps: int) -> list[float]:
    losses: list[float] = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: object, module: object, outputs: object, *rest: object) -> None:
            assert isinstance(outputs, dict)
            losses.append(float(outputs["loss"]))

    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Keep()],
    )
    loader: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]  # a list is a dataset
    trainer.fit(module, loader)
    return losses


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 4, 4, generator=generator)  # smooth, like pictures: noise cannot be learned
    smooth = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    return [(255 * smooth).to(torch.uint8)] * 40


def test_the_loss_falls_on_a_batch_seen_again_and_again(batches: list[Tensor]) -> None:
    losses = train(make_module(), batches, 40)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_noise_is_a_function_of_seed_and_step(batches: list[Tensor]) -> None:
    torch.manual_seed(1)
    first = train(make_module(), batches, 3)
    torch.manual_seed(2)
    assert train(make_module(), batches, 3) == first
    assert train(make_module(seed=1), batches, 3) != first


def test_the_loss_is_lmbda_times_mse_on_255_plus_bpp(batches: list[Tensor]) -> None:
    module = make_module()
    loss = train(module, batches, 1)[0]
    reference = make_module()
    torch.manual_seed(0)  # seed 0, step 0, rank 0
    x = batches[0].float() / 255
    synthesis = reference.codec.generate(
        reference.codec.analyze(x), lambda value, offset: value + torch.rand_like(value) - 0.5
    )
    bits = sum(-p.log2().sum() for p in synthesis.likelihoods.values())
    expected = 0.01 * 255**2 * (x - synthesis.x_hat).square().mean() + bits / (2 * 64 * 64)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
