"""Relative entropy coding of black and white digits: samples of the latents, then pixels under Bernoulli laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.capabilities import SometimesCodable
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import content_crc
from lightning_modules.coding.tables import TOTAL
from lightning_modules.errors import CodingError, damaged
from lightning_modules.exact.numpy_functions import sigmoid
from lightning_modules.image_padding import crop
from lightning_modules.rec.codec import LN2, Pass, RecCodec
from lightning_modules.rec.files.levels import Receiver
from lightning_modules.rec.files.settings import Settings
from lightning_modules.rec.models.hierarchy import KL
from lightning_modules.rec.models.latent_priors import latent_prior, settings_in
from lightning_modules.rec.models.mnist_vae import SIDE, MnistVAE, binarized
from lightning_modules.records import Coded, CodedPack, Estimate, ImageSize, Integers, Latents

if TYPE_CHECKING:
    from lightning_modules.rec.files.file_coder import FileCoder


class MnistCodec(SometimesCodable, RecCodec):
    """width, latents: of `MnistVAE`. Pictures are made black and white: white is what is above a half.

    prior: of the latents, as `latent_prior` takes it; only the standard normal has files.
    """

    codec_id = 128
    packaged_family = "rec_mnist"
    kind = "VAE of binarised MNIST"
    networks: MnistVAE

    def __init__(self, *, width: int, latents: int, prior: Mapping[str, Any]) -> None:
        networks = MnistVAE(width=width, latents=latents)
        sizes = {"width": width, "latents": latents, "prior": dict(prior)}
        super().__init__(networks, tuple(networks.pieces), sizes)
        self.prior = latent_prior(prior, latents, SIDE * SIDE)

    @classmethod
    def sizes(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        first, latents = state.get("networks.encoder.0.bias"), state.get("expected_kl0")
        if first is None or latents is None:
            raise CodingError(f"not a {cls.kind}: it has no networks.encoder.0.bias or expected_kl0")
        return {"width": len(first), "latents": len(latents), "prior": settings_in(state)}

    def observe(self, x: Tensor, kl: KL, noise: Callable[[Tensor], Tensor]) -> Pass:
        """With KL over the prior; kl: over the standard normal."""
        return super().observe(x, self.prior.kl(kl, noise, self.networks.encode), noise)

    def require_codable(self) -> None:
        if not self.prior.has_files:
            kind = self.hyperparameters["prior"]["kind"]
            raise CodingError(
                f"a model with prior={kind} has an evidence bound and no files; give one that was trained with "
                "prior=standard_normal"
            )

    def encode_with(self, latents: Latents, file_coder: FileCoder) -> Coded:
        self.require_codable()
        return super().encode_with(latents, file_coder)

    def encode_pack(self, images: Sequence[Latents], file_coder: FileCoder) -> CodedPack:
        self.require_codable()
        return super().encode_pack(images, file_coder)

    def pixel_bits(self, x: Tensor, state: Tensor) -> Tensor:
        """(B,) -log2 P of the picture in black and white."""
        logits = crop(self.networks.output(self.networks.trained, state), (x.shape[-2], x.shape[-1])).float()
        nats = F.binary_cross_entropy_with_logits(logits, binarized(x).float(), reduction="none")
        return nats.flatten(1).sum(1) / LN2

    def estimate_from(self, x: Tensor, state: Tensor, kl_bits: Tensor) -> Estimate:
        x_hat = binarized(x).expand(x.shape).to(x)
        return Estimate(x_hat, {"latents": kl_bits, "pixels": self.pixel_bits(x, state)})

    # ---- files

    def push_rest(self, stack: AnsStack, x: Tensor, state: Tensor, settings: Settings) -> dict[str, float]:
        del settings
        frequencies = self._frequencies(state, (x.shape[-2], x.shape[-1]))
        values = _values(x).ravel()
        stack.push_rows(values, frequencies)
        chosen = np.where(values == 1, frequencies[:, 1], frequencies[:, 0])
        return {"pixels": -float(np.log2(chosen / TOTAL).sum())}

    def pop_rest(self, receiver: Receiver, state: Tensor, settings: Settings, image_size: ImageSize) -> Integers:
        """x: (1, H, W), 1 for white."""
        del settings
        values = receiver.stack.pop_rows(self._frequencies(state, image_size))
        if receiver.stack.is_exhausted():
            raise damaged("the coded data end before the last pixel")
        return {"x": values.reshape(1, *image_size)}

    def crc_of(self, x: Tensor, encoded: Sequence[Any]) -> int:
        """Of the pixels, which are right only if everything before them was."""
        del encoded
        return content_crc(_values(x))

    def crc_of_integers(self, integers: Integers) -> int:
        return content_crc(integers["x"])

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        pixels = torch.from_numpy(np.stack([picture["x"] for picture in integers]))
        return pixels.to(next(self.parameters()).device).float().expand(-1, 3, -1, -1)

    def _frequencies(self, state: Tensor, size: ImageSize) -> NDArray[np.int32]:
        """(H W, 2) of black and white, of sum 2^24."""
        logits = crop(self.networks.output(self.require_derived().pieces, state), size)
        white = np.floor(sigmoid(logits.cpu().numpy().ravel()) * TOTAL).clip(1, TOTAL - 1)
        return np.stack([TOTAL - white, white], axis=1).astype(np.int32)


def _values(x: Tensor) -> NDArray[np.int32]:
    """(1, H, W)"""
    values: NDArray[np.int32] = binarized(x)[0].to("cpu", torch.int32).numpy()
    return values
