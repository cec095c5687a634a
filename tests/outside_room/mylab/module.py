"""Rate-distortion training of the factorized prior."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.codec import LatentVariableCodec
from lightning_modules.compression_module import TrainedModule
from lightning_modules.quantization import uniform_noise
from lightning_modules.training.rate_distortion import rate_distortion


class FactorizedModule(TrainedModule):
    """Minimises lmbda * mse + bpp under additive uniform noise."""

    codec: LatentVariableCodec

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        synthesis = self.codec.generate(self.codec.analyze(x), uniform_noise)
        loss = rate_distortion(x, synthesis.x_hat, synthesis.likelihoods, self.lmbda).loss.mean()
        self.log("train/loss", loss.detach())
        return loss
