"""The contracts of the house: what a codec is, and the records that travel between its parts.

Legend for shapes: B images, C colour channels (3), H x W pixels.

One image's trip, each arrow one call:

    SourceImage --analyze--> Latents --encode--> sections --Bitstream--> bytes   (sender)
    bytes --Bitstream--> sections --read_integers--> Integers --synthesize--> x_hat   (receiver)

A room subclasses `Codec` (or `LatentVariableCodec`, when its latents live on a grid and can be refined);
datamodules and callbacks know only the records.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.quantization import hard_round
from lightning_modules.records import Chain, ImageSize

Quantizer = Callable[[Tensor, Tensor], Tensor]
"""`(value, offset) -> value`: a point on, or near, the grid `offset + Z`. Same shape in and out."""

Integers = Mapping[str, NDArray[np.integer[Any]]]
"""All that a decoder computes of one picture before floating point enters, by name: equal on every machine."""


class Latents(NamedTuple):
    """Latent variables of one batch, before rounding, by name (`y`, `z`, ...), and the size of their images."""

    variables: Mapping[str, Tensor]
    image_size: ImageSize

    def split(self) -> list[Latents]:
        """The images of the batch, each as a batch of one."""
        count = next(iter(self.variables.values())).shape[0]
        return [
            Latents({name: value[i : i + 1] for name, value in self.variables.items()}, self.image_size)
            for i in range(count)
        ]


class Synthesis(NamedTuple):
    """x_hat: (B, 3, H, W), not clamped. likelihoods: per latent variable, its elements' probabilities."""

    x_hat: Tensor
    likelihoods: dict[str, Tensor]


class Estimate(NamedTuple):
    """x_hat: (B, 3, H, W). bits: per latent variable, (B,) bits under the tables that coding uses."""

    x_hat: Tensor
    bits: dict[str, Tensor]


class Section(NamedTuple):
    """One independently checked part of a file.

    payload: the coded bytes. content_crc: CRC-32 of what they decode to (integer latents, little-endian int32).
    """

    payload: bytes
    content_crc: int


class Coded(NamedTuple):
    """What `encode` makes of one image. bits: the cost of its symbols under the coding tables, by latent.

    accounts: other numbers of bits that belong into a report, by name; a column `bpp_NAME` for each.
    """

    sections: list[Section]
    bits: dict[str, float]
    accounts: Mapping[str, float] = MappingProxyType({})


class CodedPack(NamedTuple):
    """Several pictures coded as one. pictures: bits and accounts of each, in order; they have no sections."""

    section: Section
    pictures: list[Coded]


class Codec(nn.Module, ABC):
    """Turns images into sections and back. Any H, W >= 1 goes in and comes out; padding is the codec's business.

    codec_id: the byte that names this class in files; unique, never reused.
    hyperparameters: the constructor's keyword arguments, JSON values only, enough to build an equal codec.
    codes_weights_of: another class whose packaged models this one codes with in its own way; None for most.
    packaged_family: the packaged models of this class, by the beginning of their names, are what `ckpt=demo` means.
    progressive: some first sections of a file are a file, too, of a lower rate.
    checkpoint_formats: others' files that `ckpt=FORMAT:PATH` names, each with what reads weights out of them for
    `from_weights`, or raises `CodingError`.
    """

    codec_id: ClassVar[int]
    codes_weights_of: ClassVar[type[Codec] | None] = None
    packaged_family: ClassVar[str] = "demo"
    progressive: ClassVar[bool] = False
    checkpoint_formats: ClassVar[Mapping[str, Callable[[Path], Mapping[str, Tensor]]]] = {}
    hyperparameters: dict[str, Any]

    @abstractmethod
    def analyze(self, x: Tensor) -> Latents:
        """x: (B, 3, H, W) in [0, 1] -> unrounded latents."""

    @abstractmethod
    def estimate(self, latents: Latents) -> Estimate:
        """Rate under the coding tables and reconstruction, as `encode` and `decode` would give them."""

    @abstractmethod
    def encode(self, latents: Latents) -> Coded:
        """Latents of one image -> its sections. `decode` needs these and the image size, nothing else."""

    def bits_where(self, x: Tensor) -> dict[str, Tensor]:
        """What each element of the latents of x (B, 3, H, W) costs: bits by name, (B, C, h, w) each, for people to see.

        Empty for a codec that cannot tell.
        """
        del x
        return {}

    def require_files(self) -> None:
        """Raises `CodingError` for a model that has none: whose `encode` would refuse every picture."""

    @abstractmethod
    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        """What `encode` was given, of each of B files of one size, as the decoder's integers.

        An entry is a `DamagedFile` when that file's bytes are none that `encode` writes, or a CRC disagrees; the
        other files are none the worse for it.
        """

    def leading_sections(self) -> int | None:
        """How many of a progressive file's sections are to be read at most; None: all that are there."""
        return None

    def chain_of(self, sections: Sequence[Section]) -> Chain | None:
        """The chain that a file with these sections belongs to; None for one that is read by itself."""
        del sections
        return None

    def read_together(self, files: Sequence[tuple[Sequence[Section], ImageSize]]) -> list[Integers | CodingError]:
        """`read_integers` of files of any sizes; a codec may have some that are read only with others."""
        numbers: dict[ImageSize, list[int]] = {}
        for number, (_, size) in enumerate(files):
            numbers.setdefault(size, []).append(number)
        found: dict[int, Integers | CodingError] = {}
        for size, group in numbers.items():
            found |= zip(group, self.read_integers([files[number][0] for number in group], size), strict=True)
        return [found[number] for number in range(len(files))]

    def read_pack(self, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
        """`read_integers` of a section that holds several pictures, given their sizes. Raises `CodingError`."""
        raise CodingError(f"a file of several pictures, and {type(self).__name__} makes none; get another copy of it")

    @abstractmethod
    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        """What `read_integers` gave, of B pictures -> (B, 3, H, W), not clamped. Floating point may round here."""

    def further_pictures(self, integers: Integers, image_size: ImageSize) -> list[Tensor]:
        """What else one file stands for, besides the picture that `synthesize` gives: (1, 3, H, W) each."""
        del integers, image_size
        return []

    def decode(self, sections: Sequence[Section], image_size: ImageSize) -> Tensor:
        """The inverse of `encode`: (1, 3, H, W), not clamped. Raises `DamagedFile` when a CRC disagrees."""
        (integers,) = self.read_integers([sections], image_size)
        if isinstance(integers, CodingError):
            raise integers
        return self.synthesize([integers], image_size)

    @classmethod
    @abstractmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> Codec:
        """A codec whose sizes are read off a named state dict, loaded with it.

        hyperparameters: values that shapes do not tell (lmbda). Raises `CodingError` for another architecture.
        """

    @abstractmethod
    def update(self) -> bool:
        """Rebuild state derived from the weights (medians, tables) if the weights changed; True if it did."""

    def calibrate(self, pictures: Iterable[Tensor]) -> None:
        """Fit coding tables to pictures, each (1, 3, H, W) in [0, 1]; for codecs that can."""
        del pictures
        raise CodingError(f"{type(self).__name__} has no tables to calibrate; leave --calibrate out")

    @classmethod
    def implied_weights(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights that other tensors of a stored state determine, by name; where they agree, they are not stored."""
        del state
        return {}

    @abstractmethod
    def decoder_state(self) -> dict[str, Tensor]:
        """Every tensor the decoder computes with, tables included, by name: what the fingerprint covers."""

    @abstractmethod
    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        """Take derived state (tables, integer networks) as stored, instead of computing it on this machine."""


Decoding = Callable[[Codec], None]
"""What a user chooses of how a room's files are read: told to every codec in use, which may be of another room."""


class LatentVariableCodec(Codec):
    """A codec whose latents can be optimised: training, evaluation and refinement share `generate`."""

    @abstractmethod
    def generate(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        """The one differentiable path from latents to reconstruction and likelihoods.

        `quantize` decides the rounding: hard, straight-through, noise, or any annealed relaxation.
        """

    def bits_where(self, x: Tensor) -> dict[str, Tensor]:
        """-log2 of the likelihoods under hard rounding."""
        likelihoods = self.generate(self.analyze(x), hard_round).likelihoods
        return {name: -value.log2() for name, value in likelihoods.items()}

    def generate_as_coded(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        """`generate`, with likelihoods under what the coding tables say, where that differs from training's densities.

        What refinement minimises: for hard rounding its rate is, nearly, that of `estimate`.
        """
        return self.generate(latents, quantize)


Inference = Callable[[Codec, Tensor], Latents]
"""How latents are found for an image: `amortized`, or a refinement of what it gives."""


def amortized(codec: Codec, x: Tensor, steps: int = 0, lmbda: float | None = None) -> Latents:
    """The encoder network's own answer, one forward pass.

    steps, lmbda: of refinement, for the other inference methods of a sweep that sets one value for all; here no steps
    are done, and the latents are the same for any weight.
    """
    del steps, lmbda
    return codec.analyze(x)
