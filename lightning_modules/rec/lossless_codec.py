"""Lossless relative entropy coding: samples of the latents, then pixels under the law that they imply."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.capabilities import Chained, Formats, ReadingOthers
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import content_crc
from lightning_modules.errors import CodingError, damaged
from lightning_modules.image_padding import crop
from lightning_modules.rec.codec import LN2, RecCodec
from lightning_modules.rec.files import bits_back_files, logistic_code
from lightning_modules.rec.files.bits_back_files import chain_of, encode_back, encode_back_pack, read_alone, read_files
from lightning_modules.rec.files.levels import Receiver
from lightning_modules.rec.files.logistic_code import IntegerLaw
from lightning_modules.rec.files.settings import Settings, is_back
from lightning_modules.rec.models.hilloc_weights import hilloc_weights
from lightning_modules.rec.models.pixel_likelihood import (
    LEVELS,
    LIKELIHOODS,
    MEAN_BITS,
    SCALE_BITS,
    OwnScales,
    SharedScale,
    is_gray,
)
from lightning_modules.rec.models.resnet_vae import ResNetVAE
from lightning_modules.records import Chain, Coded, CodedPack, Estimate, ImageSize, Integers, Latents, Section

LEVEL = r"expected_kl\d+"
"""Names of buffers, of which each block has one."""
HALF = (LEVELS // 2 << MEAN_BITS) - (1 << MEAN_BITS - 1)
"""What a network's 0 stands for as a mean, in 2^-MEAN_BITS."""


class LosslessCodec(Chained, ReadingOthers, RecCodec):
    """depth, width, latent_width: of `ResNetVAE`. likelihood: a name of `LIKELIHOODS`."""

    codec_id = 32
    packaged_family = "rec_lossless"
    checkpoint_formats: ClassVar[Formats] = {"hilloc": hilloc_weights}
    kind = "lossless ResNet VAE"
    networks: ResNetVAE

    def __init__(self, *, depth: int, width: int, latent_width: int, likelihood: str) -> None:
        if likelihood not in LIKELIHOODS:
            raise CodingError(f"module.codec.likelihood={likelihood}: give one of {', '.join(LIKELIHOODS)}")
        law = LIKELIHOODS[likelihood]
        networks = ResNetVAE(depth=depth, width=width, latent_width=latent_width, output_fractions=law.fractions)
        sizes = {"depth": depth, "width": width, "latent_width": latent_width, "likelihood": likelihood}
        super().__init__(networks, tuple(networks.trained), sizes)
        self.likelihood: SharedScale | OwnScales = law()

    @classmethod
    def sizes(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        top, levels = state.get("networks.top"), [state[name] for name in state if re.fullmatch(LEVEL, name)]
        if top is None or not levels or "networks.synthesis.0.bias" in state:
            raise CodingError(f"not a {cls.kind}: it has no networks.top or expected_kl0, or it has networks.synthesis")
        law = "shared_scale" if "likelihood.log_scale" in state else "own_scales"
        return {"depth": len(levels), "width": len(top), "latent_width": len(levels[0]), "likelihood": law}

    # ---- in floating point

    def pixel_bits(self, x: Tensor, state: Tensor) -> Tensor:
        """(B,) -log2 P of pictures (B, 3, H, W) in [0, 1]."""
        law = self.likelihood(crop(self.networks.output(self.networks.trained, state), size_of(x)).float())
        return law.log_mass((x * (LEVELS - 1.0)).round()).flatten(1).sum(1) / -LN2

    def estimate_from(self, x: Tensor, state: Tensor, kl_bits: Tensor) -> Estimate:
        return Estimate(x, {"latents": kl_bits, "pixels": self.pixel_bits(x, state)})

    # ---- files

    def settings_for(self, x: Tensor, settings: Settings) -> Settings:
        return settings._replace(gray=is_gray(x))

    def push_rest(self, stack: AnsStack, x: Tensor, state: Tensor, settings: Settings) -> dict[str, float]:
        return {"pixels": self.push_pixels(stack, x, state, settings.gray)}

    def pop_rest(self, receiver: Receiver, state: Tensor, settings: Settings, image_size: ImageSize) -> Integers:
        return {"x": self.pop_pixels(receiver.stack, state, settings.gray, image_size)}

    def read_section(self, section: Section, image_size: ImageSize) -> Integers:
        if is_back(section.payload):
            return read_alone(self, section, image_size)
        return super().read_section(section, image_size)

    def encode_back(self, images: Sequence[Latents], mode: str, cell_bits: int) -> list[Coded]:
        """By bits-back coding. mode: single or chained. cell_bits: a latent has 2^cell_bits cells."""
        return encode_back(self, images, mode, cell_bits)

    def encode_back_pack(self, images: Sequence[Latents], cell_bits: int) -> CodedPack:
        return encode_back_pack(self, images, cell_bits)

    def read_pack(self, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
        return (
            bits_back_files.read_pack(self, section, sizes)
            if is_back(section.payload)
            else super().read_pack(section, sizes)
        )

    def chain_of(self, sections: Sequence[Section]) -> Chain | None:
        return chain_of(sections)

    def read_together(self, files: Sequence[tuple[Sequence[Section], ImageSize]]) -> list[Integers | CodingError]:
        """Those of a chain are needed all at once; a fault of one is a fault of all."""
        self.update()
        return read_files(self, files)

    def push_pixels(self, stack: AnsStack, x: Tensor, state: Tensor, gray: bool) -> float:
        values = pixels_of(x).reshape(3, -1)[: 1 if gray else 3].astype(np.int64)
        return logistic_code.push_pixels(stack, values, self._law(state, size_of(x)))

    def pop_pixels(self, stack: AnsStack, state: Tensor, gray: bool, size: ImageSize) -> NDArray[np.int32]:
        """(3, H, W)"""
        values = logistic_code.pop_pixels(stack, 1 if gray else 3, self._law(state, size))
        if stack.is_exhausted():
            raise damaged("the coded data end before the last pixel")
        return np.broadcast_to(values.astype(np.int32).reshape(-1, *size), (3, *size))

    def crc_of(self, x: Tensor, encoded: Sequence[Any]) -> int:
        """Of the pixels, which are right only if everything before them was."""
        return content_crc(pixels_of(x))

    def crc_of_integers(self, integers: Integers) -> int:
        return content_crc(integers["x"])

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        pixels = torch.from_numpy(np.stack([picture["x"] for picture in integers]))
        return pixels.to(next(self.parameters()).device).float() / (LEVELS - 1.0)

    def _law(self, state: Tensor, size: ImageSize) -> IntegerLaw:
        """Of the pixels of one picture, from the integers that the output's twin gives."""
        derived = self.require_derived()
        output = crop(self.networks.output(derived.pieces, state), size)[0]
        units = 2.0 ** torch.tensor(self.likelihood.fractions, dtype=torch.float64)
        integers = (output.cpu() * units.reshape(-1, 1, 1)).long().flatten(1).numpy()
        mean = integers[:3] + HALF
        if isinstance(self.likelihood, SharedScale):
            return IntegerLaw(mean, np.full_like(mean, int(derived.constants["log_scale"])))
        first = round(self.likelihood.first_log_scale * 2**SCALE_BITS)
        return IntegerLaw(mean, integers[3:6] + first, integers[6:])

    def constants(self) -> dict[str, Tensor]:
        if not isinstance(self.likelihood, SharedScale):
            return {}
        in_levels = float(self.likelihood.log_scale.detach()) + math.log(LEVELS)
        return {"log_scale": torch.tensor(round(in_levels * 2**SCALE_BITS))}


def pixels_of(x: Tensor) -> np.ndarray:
    """One picture (1, 3, H, W) in [0, 1] as 8-bit integers (3, H, W)."""
    pixels: np.ndarray = (x[0] * (LEVELS - 1.0)).round().to("cpu", torch.int32).numpy()
    return pixels


def size_of(x: Tensor) -> ImageSize:
    return x.shape[-2], x.shape[-1]
