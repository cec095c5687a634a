"""Row 17: a step under Lightning with our module, log and progress included, over the same in a bare loop.

CPU time. One process holds both: after every few of the Trainer's steps a callback runs as many bare steps
of a second model. N, M and the crops make a bare step take about 15 ms on one core, the hardest case.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.measurement import Goal, Measurement, Pair, Settings, relative_time, seconds
from callbacks.learning_rate import LearningRate
from callbacks.training_progress import TrainingProgress
from lightning_modules.codec import amortized
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.module import HyperpriorModule
from lightning_modules.quantization import uniform_noise
from lightning_modules.training import learning_rate
from lightning_modules.training.rate_distortion import rate_distortion

NUMBER = 17
N, M = 16, 24
BATCH, CROP = 4, 64
STEPS_PER_TURN = 5
LOG_PERIOD = 50
LMBDA = 0.01
CLIP = 1.0


def measure(settings: Settings) -> list[Measurement]:
    between = BareStepsBetween(bare_step(make_module()), STEPS_PER_TURN, LOG_PERIOD)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            devices=1,
            max_steps=LOG_PERIOD * (settings.rounds + 1),
            gradient_clip_val=CLIP,
            log_every_n_steps=LOG_PERIOD,
            logger=CSVLogger(folder),
            callbacks=[between, LearningRate(), TrainingProgress(interval=30.0), RichProgressBar(refresh_rate=20)],
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(make_module(), DataLoader(CropBatches(), batch_size=None))
    pairs = between.pairs[1:]  # the first period warms both sides up
    what = f"training step over a bare loop, {BATCH} crops of {CROP}x{CROP}"
    return [relative_time(NUMBER, what, pairs, Goal("<=", 1.10))]


class BareStepsBetween(L.Callback):
    """Stops the Trainer's clock every `turn` steps, and times as many bare ones: a pair per `period` steps.

    Turns are short, so that both sides of a pair meet the same load on a machine that does other things too.
    """

    def __init__(self, step: Callable[[], None], turn: int, period: int) -> None:
        self.step = step
        self.turn = turn
        self.period = period
        self.pairs: list[Pair] = []
        self._ours = self._theirs = self._since = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.process_time()

    def on_train_batch_end(self, trainer: L.Trainer, *unused: Any, **also_unused: Any) -> None:
        if trainer.global_step % self.turn:
            return
        self._ours += time.process_time() - self._since
        self._theirs += seconds(self._turn, time.process_time)
        if trainer.global_step % self.period == 0:
            self.pairs.append(Pair(self._ours / self.period, self._theirs / self.period))
            self._ours = self._theirs = 0.0
        self._since = time.process_time()

    def _turn(self) -> None:
        for _ in range(self.turn):
            self.step()


def make_module() -> HyperpriorModule:
    """Build the module as `conf/module/hyperprior.yaml` does, but small."""
    torch.manual_seed(0)
    return HyperpriorModule(
        codec=HyperpriorCodec(N=N, M=M, lmbda=LMBDA),
        inference=amortized,
        lmbda=LMBDA,
        seed=0,
        optimizer=partial(torch.optim.Adam, lr=1e-4),
        schedule=learning_rate.constant(warmup=0),
    )


class CropBatches(Dataset[Tensor]):
    """(B, 3, H, W) uint8 from memory, so that neither side waits for a disk."""

    def __init__(self, count: int = 64) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (count, BATCH, 3, CROP, CROP)
        self.batches = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, k: int) -> Tensor:
        return self.batches[k % len(self.batches)]


def bare_step(module: HyperpriorModule) -> Callable[[], None]:
    """Do the module's step, of the same loss, optimizer, clipping and schedule, in a plain function."""
    codec = module.codec
    parameters = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate.constant(warmup=0))
    crops = iter(DataLoader(CropBatches(), batch_size=None))

    def step() -> None:
        x = next(crops).float() / 255.0
        synthesis = codec.generate(codec.analyze(x), uniform_noise)
        loss = rate_distortion(x, synthesis.x_hat, synthesis.likelihoods, LMBDA).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        schedule.step()

    return step
