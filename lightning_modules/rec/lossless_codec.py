"""Lossless relative entropy coding: samples of the latents, then pixels under the law that they imply."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lightning_modules.capabilities import Chained, Formats, ReadingOthers
from lightning_modules.coding.ans import AnsStack
from lightning_modules.errors import CodingError, damaged
from lightning_modules.image_padding import crop
from lightning_modules.rec.codec import RecCodec
from lightning_modules.rec.files import logistic_code
from lightning_modules.rec.files.bits_back_files import BitsBackFiles, PictureSection, chain_of
from lightning_modules.rec.files.logistic_code import IntegerLaw
from lightning_modules.rec.files.sample_files import LN2, size_of
from lightning_modules.rec.files.settings import is_back
from lightning_modules.rec.models.hilloc_weights import hilloc_weights
from lightning_modules.rec.models.integer_networks import ReceiverState
from lightning_modules.rec.models.pixel_likelihood import (
    LEVELS,
    LIKELIHOODS,
    LOG_SCALE_BITS,
    MEAN_BITS,
    OwnScales,
    SharedScale,
    is_gray,
)
from lightning_modules.rec.models.resnet_vae import ResNetVAE
from lightning_modules.records import Chain, Coded, CodedPack, Estimate, ImageSize, Integers, Latents, Section

LEVEL = r"expected_kl\d+"
"""Names of buffers, of which each block has one."""
HALF = (LEVELS // 2 << MEAN_BITS) - (1 << MEAN_BITS - 1)
"""The mean that a network's 0 stands for, in 2^-MEAN_BITS."""


class LosslessCodec(Chained, ReadingOthers, RecCodec):
    """A ResNet VAE whose files hold every pixel. depth, width, latent_width: of it. likelihood: of `LIKELIHOODS`."""

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
        """Return -log2 P (B,) of pictures (B, 3, H, W) in [0, 1]."""
        law = self.likelihood(crop(self.networks.output(self.networks.trained, state), size_of(x)).float())
        return law.log_mass((x * (LEVELS - 1.0)).round()).flatten(1).sum(1) / -LN2

    def estimate_from(self, x: Tensor, state: Tensor, kl_bits: Tensor) -> Estimate:
        return Estimate(x, {"latents": kl_bits, "pixels": self.pixel_bits(x, state)})

    # ---- files

    def contents(self) -> LosslessPixels:
        return LosslessPixels(self.networks, self.require_derived(), self.likelihood)

    def encode_back(self, latents: Latents, cell_bits: int) -> Coded:
        """Code one picture by bits-back coding. cell_bits: a latent has 2^cell_bits cells."""
        return self._bits_back_files().write(latents.variables["x"], self.bound(latents), cell_bits)

    def encode_back_chain(self, images: Sequence[Latents], cell_bits: int) -> list[Coded]:
        """Code pictures on one stack, of which each file holds a part."""
        return self._bits_back_files().write_chain(*self._bounded(images), cell_bits)

    def encode_back_pack(self, images: Sequence[Latents], cell_bits: int) -> CodedPack:
        """Code pictures on one stack, in one section."""
        return self._bits_back_files().write_pack(*self._bounded(images), cell_bits)

    def read_section(self, section: Section, image_size: ImageSize) -> Integers:
        files = self._bits_back_files() if is_back(section.payload) else self._sample_files()
        return files.read(section, image_size)

    def read_pack(self, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
        files = self._bits_back_files() if is_back(section.payload) else self._sample_files()
        return files.read_pack(section, sizes)

    def chain_of(self, sections: Sequence[Section]) -> Chain | None:
        return chain_of(sections)

    def read_together(self, files: Sequence[tuple[Sequence[Section], ImageSize]]) -> list[Integers | CodingError]:
        """Read files of any kind. Those of a chain are needed all at once; a fault of one is a fault of all."""
        found: dict[int, Integers | CodingError] = {}
        chains: dict[Chain, dict[int, PictureSection]] = {}
        for number, (sections, size) in enumerate(files):
            try:
                chain = chain_of(sections)
                if chain is not None:
                    chains.setdefault(chain, {})[number] = PictureSection.of(sections[0], size)
                    continue
            except CodingError as error:
                found[number] = error
                continue
            (found[number],) = self.read_integers([sections], size)
        for members in chains.values():
            found |= self._bits_back_files().read_chain(members)
        return [found[number] for number in range(len(files))]

    def _bounded(self, images: Sequence[Latents]) -> tuple[list[Tensor], list[float]]:
        return [latents.variables["x"] for latents in images], [self.bound(latents) for latents in images]

    def _bits_back_files(self) -> BitsBackFiles:
        self.update()
        return BitsBackFiles(self.networks, self.require_derived(), self.contents())

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        pixels = torch.from_numpy(np.stack([picture["x"] for picture in integers]))
        return pixels.to(next(self.parameters()).device).float() / (LEVELS - 1.0)

    def constants(self) -> dict[str, Tensor]:
        if not isinstance(self.likelihood, SharedScale):
            return {}
        in_levels = float(self.likelihood.log_scale.detach()) + math.log(LEVELS)
        return {"log_scale": torch.tensor(round(in_levels * 2**LOG_SCALE_BITS))}


class LosslessPixels:
    """The pixels of pictures, under the laws that their latents imply. receiver: what receivers compute with."""

    def __init__(self, networks: ResNetVAE, receiver: ReceiverState, likelihood: SharedScale | OwnScales) -> None:
        self._networks, self._receiver, self._likelihood = networks, receiver, likelihood

    def is_gray(self, x: Tensor) -> bool:
        return is_gray(x)

    def push(self, stack: AnsStack, x: Tensor, state: Tensor, gray: bool) -> dict[str, float]:
        values = pixels_of(x).reshape(3, -1)[: 1 if gray else 3].astype(np.int64)
        return {"pixels": logistic_code.push_pixels(stack, values, self._law(state, size_of(x)))}

    def pop(self, stack: AnsStack, z: Sequence[Tensor], state: Tensor, gray: bool, size: ImageSize) -> Integers:
        """Return x (3, H, W)."""
        values = logistic_code.pop_pixels(stack, 1 if gray else 3, self._law(state, size))
        if stack.is_exhausted():
            raise damaged("the coded data end before the last pixel")
        return {"x": np.broadcast_to(values.astype(np.int32).reshape(-1, *size), (3, *size))}

    def known(self, x: Tensor, z: Sequence[Tensor]) -> Integers:
        """Return the pixels, which are right only if everything before them was."""
        return {"x": pixels_of(x)}

    def _law(self, state: Tensor, size: ImageSize) -> IntegerLaw:
        """Return the law of one picture's pixels, from the integers that the output's network gives."""
        output = crop(self._networks.output(self._receiver.integer_networks, state), size)[0]
        units = 2.0 ** torch.tensor(self._likelihood.fractions, dtype=torch.float64)
        integers = (output.cpu() * units.reshape(-1, 1, 1)).long().flatten(1).numpy()
        mean = integers[:3] + HALF
        if isinstance(self._likelihood, SharedScale):
            return IntegerLaw(mean, np.full_like(mean, int(self._receiver.constants["log_scale"])))
        first = round(self._likelihood.first_log_scale * 2**LOG_SCALE_BITS)
        return IntegerLaw(mean, integers[3:6] + first, integers[6:])


def pixels_of(x: Tensor) -> np.ndarray:
    """Return one picture (1, 3, H, W) in [0, 1] as 8-bit integers (3, H, W)."""
    pixels: np.ndarray = (x[0] * (LEVELS - 1.0)).round().to("cpu", torch.int32).numpy()
    return pixels
