"""Rate-distortion training of the hyperprior: one optimizer, no auxiliary loss (Minnen et al. 2018, section 3.2)."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.codec import LatentVariableCodec
from lightning_modules.compression_module import TrainedModule
from lightning_modules.quantization import uniform_noise
from lightning_modules.records import Synthesis
from lightning_modules.training.rate_distortion import rate_distortion


class HyperpriorModule(TrainedModule):
    """A training that minimises lmbda * mse + bpp under additive uniform noise."""

    codec: LatentVariableCodec

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        """Compute the mean loss of a batch x (B, 3, H, W) in [0, 1]."""
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
        """Compute what the loss is made of: reconstruction and likelihoods under the noise of training."""
        return self.codec.generate(self.codec.analyze(x), uniform_noise)
