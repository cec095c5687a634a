"""Training of the bits-back hyperprior: the negative evidence bound in bits, plus lmbda times the error."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.hyperprior.module import HyperpriorModule
from lightning_modules.records import Synthesis
from lightning_modules.sga.bits_back.codec import BitsBackCodec


class BitsBackModule(HyperpriorModule):
    """Minimises lmbda * mse + [-log2 P(y|z) - log2 p(z) + log2 q(z)] / (H W), with noise on y and a sample of q."""

    codec: BitsBackCodec

    def synthesis(self, x: Tensor) -> Synthesis:
        return self.codec.generate_for_training(self.codec.analyze(x))
