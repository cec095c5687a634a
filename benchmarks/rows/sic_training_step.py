"""Row 25: a step of each phase of SIC at full size under Lightning, log and progress included, over a bare loop.

CPU time. 87.2 million parameters, one crop of 64x64, one draw of detail: the networks' part of a step is as small as
it gets, what is done for each parameter (AdamW, clipping) is what it always is. Both sides take the distance of edges.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from benchmarks.measurement import Goal, Measurement, Settings, relative_time
from benchmarks.rows.training_step import BareStepsBetween
from callbacks.learning_rate import LearningRate
from callbacks.training_progress import TrainingProgress
from lightning_modules.codec import amortized
from lightning_modules.metrics.edge_distance import edge_distance
from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.discriminator import Discriminator
from lightning_modules.sic.gan_module import GanModule
from lightning_modules.sic.level_schedule import LevelTable
from lightning_modules.sic.losses import discriminator_loss, generator_loss
from lightning_modules.sic.module import SicModule
from lightning_modules.sic.phase import Evenness, Phase, TripleTradeOff, WarmUp
from lightning_modules.training.learning_rate import constant

NUMBER = 25
CROP = 64
CLIP = 0.5
PERIOD = 4
"""Steps of a pair, and between two lines of the log."""

SIZES = Path(__file__).resolve().parents[2] / "conf" / "networks" / "sic.yaml"
DISTANCE = partial(edge_distance, scales=3)
TABLE = LevelTable(16, 2048.0, (32.0, 8.0), (64.0, 1.0))
WARM_UP = WarmUp(TABLE, DISTANCE)
MAIN = TripleTradeOff(TABLE, DISTANCE, 0.5, 1, 2.0, 1, Evenness(0, 1, 64.0, 4.0))
ADAM = partial(torch.optim.AdamW, lr=1e-4, weight_decay=5e-5)


def measure(settings: Settings) -> list[Measurement]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    measurements = []
    for phase in ("warm-up", "main", "GAN"):
        module, bare = made(phase)
        between = BareStepsBetween(bare, 1, PERIOD)
        train(module, between, PERIOD * (settings.rounds + 1))
        what = f"training step of SIC, {phase} phase, over a bare loop, full size, a crop of {CROP}x{CROP}"
        measurements.append(relative_time(NUMBER, what, between.pairs[1:], Goal("<=", 1.05)))
    return measurements


def made(phase: str) -> tuple[SicModule, Callable[[], None]]:
    """Our side, and a step of the other with networks of its own."""
    if phase == "GAN":
        return gan_module(), bare_game(gan_module())
    objective: Phase = WARM_UP if phase == "warm-up" else MAIN
    return SicModule(**common(objective)), bare_step(SicModule(**common(objective)))


def common(phase: Phase) -> dict[str, Any]:
    sizes: Any = OmegaConf.to_container(OmegaConf.load(SIZES))
    torch.manual_seed(0)
    return {
        "codec": SicCodec(**sizes),
        "inference": amortized,
        "lmbda": 0.0315,
        "seed": 0,
        "phase": phase,
        "median_steps": 50,
        "optimizer": ADAM,
        "schedule": constant(warmup=0),
    }


def gan_module() -> GanModule:
    return GanModule(
        **common(MAIN),
        discriminator=partial(Discriminator, condition=12, widths=[64, 128, 256, 512]),
        discriminator_optimizer=partial(torch.optim.AdamW, lr=2e-4, weight_decay=5e-5),
        game=1.0,
        fake_weight=0.5,
        clip=CLIP,
        discriminator_clip=None,
    )


def train(module: SicModule, between: BareStepsBetween, steps: int) -> None:
    """Train as run.py does, without checkpoints."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            devices=1,
            max_steps=steps,
            gradient_clip_val=CLIP if module.automatic_optimization else None,
            log_every_n_steps=PERIOD,
            logger=CSVLogger(folder),
            callbacks=[between, LearningRate(), TrainingProgress(interval=30.0)],
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, DataLoader(crops(), batch_size=None))  # type: ignore[arg-type]


def crops() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return list(torch.randint(0, 256, (1000, 1, 3, CROP, CROP), dtype=torch.uint8, generator=generator))


# ---- the same in plain functions


def bare_step(module: SicModule) -> Callable[[], None]:
    codec, phase = module.codec, module.phase
    parameters = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    optimizer = ADAM(parameters)
    pictures, steps = _pictures(), itertools.count()

    def step() -> None:
        loss = phase(codec, next(pictures), next(steps)).loss
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(parameters, CLIP)
        optimizer.step()

    return step


def bare_game(module: GanModule) -> Callable[[], None]:
    codec, judge = module.codec, module.discriminator
    optimizer, of_judge = ADAM(codec.parameters()), module.make_discriminator_optimizer(judge.parameters())
    pictures, steps = _pictures(), itertools.count()

    def step() -> None:
        x = next(pictures)
        decoded = MAIN.decode(codec, x, next(steps))
        y_hat, level = decoded.coding.y_hat, decoded.level
        real, full, sampled = (judge(one.detach(), y_hat, level) for one in (x, decoded.full, decoded.sampled))
        of_judge.zero_grad()
        discriminator_loss(real, full, sampled, 0.5).backward()
        of_judge.step()

        judge.requires_grad_(False)
        compared = zip(MAIN.compare(x, decoded), (decoded.full, decoded.sampled), strict=True)
        terms = [
            one._replace(perceptual=one.perceptual + generator_loss(judge(x_hat, y_hat, level)))
            for one, x_hat in compared
        ]
        loss = MAIN.weigh(codec, decoded, *terms).loss
        optimizer.zero_grad()
        loss.backward()
        judge.requires_grad_(True)
        clip_grad_norm_(codec.parameters(), CLIP)
        optimizer.step()

    return step


def _pictures() -> Iterator[Tensor]:
    return (crop.float() / 255.0 for crop in itertools.cycle(crops()))
