"""Relative entropy coding of black and white digits: samples of the latents, then pixels under Bernoulli laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.capabilities import SometimesCodable
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.tables import TOTAL
from lightning_modules.errors import CodingError, damaged
from lightning_modules.exact.numpy_functions import sigmoid
from lightning_modules.image_padding import crop
from lightning_modules.rec.codec import Pass, RecCodec
from lightning_modules.rec.files.file_coder import FileCoder
from lightning_modules.rec.files.sample_files import LN2, size_of
from lightning_modules.rec.models.hierarchy import KL
from lightning_modules.rec.models.integer_networks import ReceiverState
from lightning_modules.rec.models.latent_priors import latent_prior, settings_in
from lightning_modules.rec.models.mnist_vae import SIDE, MnistVAE, binarized
from lightning_modules.records import Coded, CodedPack, Estimate, ImageSize, Integers, Latents


class MnistCodec(SometimesCodable, RecCodec):
    """A VAE of binarised digits. Pictures are made black and white: white is what is above a half.

    width, latents: of `MnistVAE`. prior: as `latent_prior` takes it; only the standard normal has files.
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
        """Draw samples of the posteriors, with KL over the prior; kl: over the standard normal."""
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
        """Return -log2 P (B,) of the picture in black and white."""
        logits = crop(self.networks.output(self.networks.trained, state), size_of(x)).float()
        nats = F.binary_cross_entropy_with_logits(logits, binarized(x).float(), reduction="none")
        return nats.flatten(1).sum(1) / LN2

    def estimate_from(self, x: Tensor, state: Tensor, kl_bits: Tensor) -> Estimate:
        x_hat = binarized(x).expand(x.shape).to(x)
        return Estimate(x_hat, {"latents": kl_bits, "pixels": self.pixel_bits(x, state)})

    def contents(self) -> BinaryPixels:
        return BinaryPixels(self.networks, self.require_derived())

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        pixels = torch.from_numpy(np.stack([picture["x"] for picture in integers]))
        return pixels.to(next(self.parameters()).device).float().expand(-1, 3, -1, -1)


class BinaryPixels:
    """Pixels, black or white, under Bernoulli laws that the latents imply. receiver: what receivers compute with."""

    def __init__(self, networks: MnistVAE, receiver: ReceiverState) -> None:
        self._networks, self._receiver = networks, receiver

    def is_gray(self, x: Tensor) -> bool:
        return False

    def push(self, stack: AnsStack, x: Tensor, state: Tensor, gray: bool) -> dict[str, float]:
        frequencies = self._frequencies(state, size_of(x))
        values = _values(x).ravel()
        stack.push_rows(values, frequencies)
        chosen = np.where(values == 1, frequencies[:, 1], frequencies[:, 0])
        return {"pixels": -float(np.log2(chosen / TOTAL).sum())}

    def pop(self, stack: AnsStack, z: Sequence[Tensor], state: Tensor, gray: bool, size: ImageSize) -> Integers:
        """Return x (1, H, W), 1 for white."""
        values = stack.pop_rows(self._frequencies(state, size))
        if stack.is_exhausted():
            raise damaged("the coded data end before the last pixel")
        return {"x": values.reshape(1, *size)}

    def known(self, x: Tensor, z: Sequence[Tensor]) -> Integers:
        """Return the pixels, which are right only if everything before them was."""
        return {"x": _values(x)}

    def _frequencies(self, state: Tensor, size: ImageSize) -> NDArray[np.int32]:
        """Return frequencies (H W, 2) of black and white, of sum 2^24."""
        logits = crop(self._networks.output(self._receiver.integer_networks, state), size)
        white = np.floor(sigmoid(logits.cpu().numpy().ravel()) * TOTAL).clip(1, TOTAL - 1)
        return np.stack([TOTAL - white, white], axis=1).astype(np.int32)


def _values(x: Tensor) -> NDArray[np.int32]:
    """Return one picture as integers (1, H, W)."""
    values: NDArray[np.int32] = binarized(x)[0].to("cpu", torch.int32).numpy()
    return values
