"""Training of SIC's last phase: the codec against a discriminator, one step of each in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from lightning_modules.errors import CodingError
from lightning_modules.sic.discriminator import Discriminator
from lightning_modules.sic.losses import Terms, discriminator_loss, generator_loss
from lightning_modules.sic.module import SicModule
from lightning_modules.sic.phase import Decoded, TripleTradeOff

COUNTER = "generator_steps"
"""Key under which a checkpoint keeps the number of the codec's steps."""


class GanModule(SicModule):
    """The main phase with `game` times the generator's loss added to each perceptual distance.

    A step decodes once, teaches the discriminator with these pictures, then the codec with what the discriminator
    now says of them. Steps are those of the codec: `generator_steps` counts them and is kept in checkpoints. Levels,
    random numbers and schedules follow it. The trainer's own count is of codec steps as well, because the
    discriminator's optimizer is stepped behind its back: so are `max_steps`, logs and what the data have shown.

    discriminator: made of the codec's `groups` and `group_width`; always starts anew, and is none of the codec's.
    fake_weight: of each kind of reconstruction for the discriminator, against 1 of real pictures. clip: global norm
    of the codec's gradient. discriminator_clip: likewise; None: as it comes.
    """

    phase: TripleTradeOff

    def __init__(
        self,
        *,
        phase: TripleTradeOff,
        discriminator: Callable[..., Discriminator],
        discriminator_optimizer: Callable[[Iterable[Tensor]], Optimizer],
        game: float,
        fake_weight: float,
        clip: float,
        discriminator_clip: float | None,
        **settings: Any,
    ) -> None:
        super().__init__(phase=phase, **settings)
        self.automatic_optimization = False
        self.discriminator = discriminator(groups=self.codec.groups, group_width=self.codec.group_width)
        self.make_discriminator_optimizer = discriminator_optimizer
        self.game = game
        self.fake_weight = fake_weight
        self.clip = clip
        self.discriminator_clip = discriminator_clip
        self.generator_steps = 0

    @property
    def step(self) -> int:
        return self.generator_steps

    def configure_optimizers(self) -> Any:
        """Return the codec's optimizer first, whose rate is what logs show, then the discriminator's."""
        trained = self.make_discriminator_optimizer(self.discriminator.parameters())
        return [super().configure_optimizers(), self.scheduled(trained)]

    def on_train_start(self) -> None:
        if not getattr(self.trainer.model, "find_unused_parameters", True):  # of DistributedDataParallel
            raise CodingError(
                "each step teaches one network at a time; on several processes give "
                "trainer.strategy=ddp_find_unused_parameters_true"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[COUNTER] = self.generator_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.generator_steps = checkpoint[COUNTER]

    # ---- a step

    def training_step(self, x: Tensor, batch_idx: int) -> None:
        """Take a step of both networks for pictures x (B, 3, H, W) in [0, 1]."""
        del batch_idx
        decoded = self.phase.decode(self.codec, x, self.step)
        self.teach_discriminator(x, decoded)
        self.teach_codec(x, decoded)
        self.generator_steps += 1

    def teach_discriminator(self, x: Tensor, decoded: Decoded) -> None:
        """Teach it that pictures are real and their reconstructions fake, without a gradient to the codec."""
        real, full, sampled = (self.judge(value.detach(), decoded) for value in (x, decoded.full, decoded.sampled))
        loss = discriminator_loss(real, full, sampled, self.fake_weight)
        self.log_terms("train", {"discriminator": loss, "real": real.sigmoid().mean(), "fake": full.sigmoid().mean()})
        _, optimizer = _each(self.optimizers(use_pl_optimizer=False))  # Lightning's wrapper would count its steps
        self.learn(loss, optimizer, self.discriminator_clip)

    def teach_codec(self, x: Tensor, decoded: Decoded) -> None:
        """Minimise the main phase's loss, with what the discriminator, now left as it is, says of reconstructions."""
        self.discriminator.requires_grad_(False)
        full, sampled = (
            self.with_game(terms, self.judge(x_hat, decoded))
            for terms, x_hat in zip(self.phase.compare(x, decoded), (decoded.full, decoded.sampled), strict=True)
        )
        outcome = self.phase.weigh(self.codec, decoded, full, sampled)
        self.log_terms("train", {"loss": outcome.loss, **outcome.terms})
        optimizer, _ = _each(self.optimizers())
        self.learn(outcome.loss, optimizer, self.clip)
        self.discriminator.requires_grad_(True)
        for schedule in _each(self.lr_schedulers()):
            schedule.step()

    def learn(self, loss: Tensor, optimizer: Any, clip: float | None) -> None:
        """Run backward, clip and step in full precision, which a training step of Lightning's may not be in."""
        optimizer.zero_grad()
        with torch.autocast(self.device.type, enabled=False):
            self.manual_backward(loss)
            if clip is not None:
                clip_grad_norm_([one for group in optimizer.param_groups for one in group["params"]], clip)
            optimizer.step()
        torch.clear_autocast_cache()  # what was cast to half precision has changed

    def judge(self, x: Tensor, decoded: Decoded) -> Tensor:
        """Compute logits of (n B, 3, H, W), n pictures of each of the batch, with its latents at the step's level."""
        y_hat = decoded.coding.y_hat
        return self.discriminator(x, y_hat.repeat(len(x) // len(y_hat), 1, 1, 1), decoded.level).float()

    def with_game(self, terms: Terms, logits: Tensor) -> Terms:
        return terms._replace(perceptual=terms.perceptual + self.game * generator_loss(logits))


def _each(value: Any) -> list[Any]:
    """Return a list of what Lightning gives as one thing or as a list of them."""
    return value if isinstance(value, list) else [value]
