"""Rate-distortion training of the hyperprior: one optimizer, no auxiliary loss (Minnen et al. 2018, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.codec import Inference, LatentVariableCodec, Synthesis
from lightning_modules.coding.coder import Coder
from lightning_modules.compression_module import CompressionModule
from lightning_modules.quantization import uniform_noise
from lightning_modules.rate_distortion import rate_distortion


class HyperpriorModule(CompressionModule):
    """Minimises lmbda * mse + bpp under additive uniform noise.

    optimizer: from parameters to an optimizer. schedule: from step to the factor on its learning rate.
    """

    codec: LatentVariableCodec

    def __init__(
        self,
        *,
        codec: LatentVariableCodec,
        inference: Inference,
        lmbda: float,
        seed: int,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        schedule: Callable[[int], float],
        coder: Coder | None = None,
    ) -> None:
        super().__init__(codec=codec, inference=inference, lmbda=lmbda, seed=seed, coder=coder)
        self.make_optimizer = optimizer
        self.schedule = schedule

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        """x: (B, 3, H, W) in [0, 1] -> mean loss of the batch."""
        del batch_idx
        synthesis = self.synthesis(x)
        terms = rate_distortion(x, synthesis.x_hat, synthesis.likelihoods, self.lmbda)
        loss = terms.loss.mean()
        if self.is_logging_step():
            rates = {f"train/bpp_{name}": bpp.mean() for name, bpp in terms.bpp_parts.items()}
            totals = {"train/loss": loss, "train/mse": terms.mse.mean(), "train/bpp": terms.bpp.mean()}
            self.log_dict({name: value.detach() for name, value in (totals | rates).items()})
        return loss

    def synthesis(self, x: Tensor) -> Synthesis:
        """What the loss is made of: reconstruction and likelihoods under the noise of training."""
        return self.codec.generate(self.codec.analyze(x), uniform_noise)

    def configure_optimizers(self) -> dict[str, Any]:
        trained = (parameter for parameter in self.codec.parameters() if parameter.requires_grad)
        optimizer = self.make_optimizer(trained)
        scheduler = LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Crops travel as bytes and become floats where they are used: (B, 3, H, W) uint8 -> [0, 1]."""
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return batch.float() / 255.0 if isinstance(batch, Tensor) and batch.dtype == torch.uint8 else batch
