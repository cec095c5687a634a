"""The contract of a codec: the few methods that coding, training and refinement call.

Legend for shapes: B images, C colour channels (3), H x W pixels.

One image's trip, each arrow one call:

    SourceImage --analyze--> Latents --encode--> sections --Bitstream--> bytes   (sender)
    bytes --Bitstream--> sections --read_integers--> Integers --synthesize--> x_hat   (receiver)

A paper's codec subclasses `Codec`, or `LatentVariableCodec` when its latents live on a grid and can be refined. What
some codecs can do besides (progressive files, packs, chains ...) is in `lightning_modules/capabilities.py`.
"""

from __future__ import annotations

import functools
import inspect
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_modules.capabilities import RateMapped
from lightning_modules.errors import CodingError
from lightning_modules.precision import coding_path
from lightning_modules.quantization import Quantizer, hard_round
from lightning_modules.records import Coded, Estimate, ImageSize, Integers, Latents, Section, Synthesis
from lightning_modules.tiling import in_tiles

CODING_PATH = (
    "calibrate",
    "decode",
    "decoder_state",
    "encode",
    "estimate",
    "further_pictures",
    "load_derived",
    "rate_map",
    "read_integers",
    "read_pack",
    "read_together",
    "synthesize",
    "update",
)
"""Methods of `Codec` and of `lightning_modules/capabilities.py` whose results sender and receiver depend on."""


FIRST_DERIVED_ID = 129
"""Numbers from here on are not given out: they name classes outside this repository."""


def _on_coding_path(method: Callable[..., Any], always: bool) -> Callable[..., Any]:
    """Have a method compute in full precision. always: or only where no gradients are recorded."""

    @functools.wraps(method)
    def call(self: Codec, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and not always:
            return method(self, *args, **kwargs)
        with coding_path(self):
            return method(self, *args, **kwargs)

    call.__dict__["is_on_coding_path"] = True
    return call


def _derived_id(codec_class: type[Codec]) -> int:
    """Return a number from 129 to 255 that follows from the name of a class outside this repository."""
    name = f"{codec_class.__module__}.{codec_class.__qualname__}"
    return FIRST_DERIVED_ID + zlib.crc32(name.encode()) % (256 - FIRST_DERIVED_ID)


class Codec(nn.Module, ABC):
    """A model that turns images into sections and back. Any H, W >= 1 goes in and comes out: it pads and crops.

    What the paths of all codecs have in common is kept here, and a subclass need not know of it. Its methods on the
    coding path compute without gradients and in full precision, under any trainer; so does `analyze` where no
    gradients are recorded. Networks that are plain `nn.Sequential`s of convolutions take large pictures in tiles.

    Attributes:
        codec_id: The byte that names this class in files. Those below 129 are listed in docs/format.md; a class
            outside this repository gets one from its name, and need not state any.
        hyperparameters: The constructor's keyword arguments, JSON values only, enough to build an equal codec.
        packaged_family: What `ckpt=demo` means: the packaged models whose names begin so. Empty: there are none.
    """

    codec_id: ClassVar[int]
    packaged_family: ClassVar[str] = ""
    hyperparameters: dict[str, Any]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "codec_id" not in vars(cls) and not cls.__module__.startswith(f"{__package__}."):
            cls.codec_id = _derived_id(cls)
        for name in (*CODING_PATH, "analyze"):
            method = inspect.getattr_static(cls, name, None)
            is_done = hasattr(method, "is_on_coding_path") or getattr(method, "__isabstractmethod__", False)
            if inspect.isfunction(method) and not is_done:
                setattr(cls, name, _on_coding_path(method, always=name != "analyze"))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, in_tiles(value))

    @abstractmethod
    def analyze(self, x: Tensor) -> Latents:
        """Return the unrounded latents of x, (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def estimate(self, latents: Latents) -> Estimate:
        """Return the rate under the coding tables and the reconstruction, as `encode` and `decode` would give them."""

    @abstractmethod
    def encode(self, latents: Latents) -> Coded:
        """Return the sections of one image, of which `decode` needs nothing besides but the image size."""

    @abstractmethod
    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        """Return what `encode` was given, of each of B files of one size, as the decoder's integers.

        An entry is a `DamagedFile` when that file's bytes are none that `encode` writes, or a CRC disagrees; the
        other files are none the worse for it.
        """

    @abstractmethod
    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        """Return the pictures of what `read_integers` gave: (B, 3, H, W), not clamped. Floats may round here."""

    def decode(self, sections: Sequence[Section], image_size: ImageSize) -> Tensor:
        """Return the inverse of `encode`: (1, 3, H, W), not clamped. Raises `DamagedFile` when a CRC disagrees."""
        (integers,) = self.read_integers([sections], image_size)
        if isinstance(integers, CodingError):
            raise integers
        return self.synthesize([integers], image_size)

    @classmethod
    @abstractmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> Codec:
        """Return a codec whose sizes are read off a named state dict, loaded with it.

        Args:
            state: Weights by name.
            hyperparameters: Values that shapes do not tell (lmbda).

        Raises:
            CodingError: The weights are of another architecture.
        """

    @abstractmethod
    def update(self) -> bool:
        """Rebuild state derived from the weights (medians, tables) if the weights changed; return whether it did."""

    @abstractmethod
    def decoder_state(self) -> dict[str, Tensor]:
        """Return every tensor the decoder computes with, tables included, by name: what the fingerprint covers."""

    @abstractmethod
    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        """Take derived state (tables, integer networks) as stored, instead of computing it on this machine."""


Decoding = Callable[[Codec], None]
"""What a user chooses of how files are read: told to every codec in use, whichever it is."""


class LatentVariableCodec(RateMapped, Codec):
    """A codec whose latents can be optimised: training, evaluation and refinement share `generate`."""

    @abstractmethod
    def generate(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        """Return reconstruction and likelihoods: the one differentiable path from latents to both.

        `quantize` decides the rounding: hard, straight-through, noise, or any annealed relaxation.
        """

    def rate_map(self, x: Tensor) -> dict[str, Tensor]:
        """Return -log2 of the likelihoods under hard rounding."""
        likelihoods = self.generate(self.analyze(x), hard_round).likelihoods
        return {name: -value.log2() for name, value in likelihoods.items()}

    def generate_as_coded(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        """Return `generate`, with likelihoods under the coding tables where these differ from training's densities.

        What refinement minimises: for hard rounding its rate is, nearly, that of `estimate`.
        """
        return self.generate(latents, quantize)


Inference = Callable[[Codec, Tensor], Latents]
"""How latents are found for an image: `amortized`, or a refinement of what it gives."""


def amortized(codec: Codec, x: Tensor, steps: int = 0, lmbda: float | None = None) -> Latents:
    """Return the encoder network's own answer, of one forward pass without gradients.

    steps, lmbda: of refinement, for the other inference methods of a sweep that sets one value for all; here no steps
    are done, and the latents are the same for any weight.
    """
    del steps, lmbda
    with coding_path(codec):
        return codec.analyze(x)
