"""What a codec may be able to do besides, a base class each, and the one place where each is asked for.

A codec adds an ability by inheriting from its class. Callers use the functions, which answer for every codec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from lightning_modules.errors import CodingError
from lightning_modules.records import Chain, ImageSize, Integers, Section

if TYPE_CHECKING:
    from lightning_modules.codec import Codec


class Progressive(ABC):
    """Some first sections of a file are a file, too, of a lower rate."""

    @abstractmethod
    def leading_sections(self) -> int | None:
        """Return how many of a file's sections are to be read at most; None: all that are there."""


def leading_sections(codec: Codec) -> int | None:
    """Return how many sections of its files a codec is to read at most; None: all."""
    return codec.leading_sections() if isinstance(codec, Progressive) else None


class Chained(ABC):
    """Some files can only be read with others."""

    @abstractmethod
    def chain_of(self, sections: Sequence[Section]) -> Chain | None:
        """Return the chain that a file with these sections belongs to; None for one that is read by itself."""

    @abstractmethod
    def read_together(self, files: Sequence[tuple[Sequence[Section], ImageSize]]) -> list[Integers | CodingError]:
        """Return `read_integers` of files of any sizes, those of a chain among them."""


def chain_of(codec: Codec, sections: Sequence[Section]) -> Chain | None:
    """Return the chain that a file belongs to; None for one that is read by itself. Raises `CodingError`."""
    return codec.chain_of(sections) if isinstance(codec, Chained) else None


def read_together(codec: Codec, files: Sequence[tuple[Sequence[Section], ImageSize]]) -> list[Integers | CodingError]:
    """Return the integers of files of any sizes, in their order: of those without chains, size by size."""
    if isinstance(codec, Chained):
        return codec.read_together(files)
    numbers: dict[ImageSize, list[int]] = {}
    for number, (_, size) in enumerate(files):
        numbers.setdefault(size, []).append(number)
    found: dict[int, Integers | CodingError] = {}
    for size, group in numbers.items():
        found |= zip(group, codec.read_integers([files[number][0] for number in group], size), strict=True)
    return [found[number] for number in range(len(files))]


class Packed(ABC):
    """A section can hold several pictures."""

    @abstractmethod
    def read_pack(self, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
        """Return the integers of each picture of a section, given their sizes. Raises `CodingError`."""


def read_pack(codec: Codec, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
    """Return the integers of each picture of a section. Raises `CodingError`."""
    if isinstance(codec, Packed):
        return codec.read_pack(section, sizes)
    raise CodingError(f"a file of several pictures, and {type(codec).__name__} makes none; get another copy of it")


class ManyPictured(ABC):
    """A file stands for more than one picture."""

    @abstractmethod
    def further_pictures(self, integers: Integers, image_size: ImageSize) -> list[Tensor]:
        """Return what a file stands for besides the picture that `synthesize` gives: (1, 3, H, W) each."""


def further_pictures(codec: Codec, integers: Integers, image_size: ImageSize) -> list[Tensor]:
    """Return the further pictures of a file, (1, 3, H, W) each; most have none."""
    return codec.further_pictures(integers, image_size) if isinstance(codec, ManyPictured) else []


class RateMapped(ABC):
    """It is known what each element of the latents costs."""

    @abstractmethod
    def rate_map(self, x: Tensor) -> dict[str, Tensor]:
        """Return the bits of each element of the latents of x (B, 3, H, W), by name, (B, C, h, w) each."""


def rate_map(codec: Codec, x: Tensor) -> dict[str, Tensor]:
    """Return where the bits of pictures go, for people to see; empty for a codec that cannot tell."""
    return codec.rate_map(x) if isinstance(codec, RateMapped) else {}


class Calibratable(ABC):
    """Coding tables can be fitted to pictures."""

    @abstractmethod
    def calibrate(self, pictures: Iterable[Tensor]) -> None:
        """Fit coding tables to pictures, each (1, 3, H, W) in [0, 1]."""


def calibrate(codec: Codec, pictures: Iterable[Tensor]) -> None:
    """Fit a codec's coding tables to pictures. Raises `CodingError` for one without such tables."""
    if not isinstance(codec, Calibratable):
        raise CodingError(f"{type(codec).__name__} has no tables to calibrate; leave --calibrate out")
    codec.calibrate(pictures)


class SometimesCodable(ABC):
    """Not every model of this class has files."""

    @abstractmethod
    def require_codable(self) -> None:
        """Raise `CodingError` for a model whose `encode` would refuse every picture."""


def require_codable(codec: Codec) -> None:
    """Raise `CodingError` for a model that has no files."""
    if isinstance(codec, SometimesCodable):
        codec.require_codable()


class Implying(ABC):
    """Some weights follow from other tensors of a packaged model, which need not store them."""

    @classmethod
    @abstractmethod
    def implied_weights(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights that other tensors of a stored state determine, by name."""


def implied_weights(codec_class: type[Codec], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that a stored state implies, by name; where they agree, they are not stored."""
    return codec_class.implied_weights(state) if issubclass(codec_class, Implying) else {}


class Recoding(ABC):
    """Packaged models of another class are coded in another way.

    Attributes:
        codes_weights_of: That other class.
    """

    codes_weights_of: ClassVar[type[Codec]]


def codes_weights_of(codec_class: type[Codec]) -> type[Codec] | None:
    """Return the class whose packaged models this one codes in its own way; None for most."""
    return codec_class.codes_weights_of if issubclass(codec_class, Recoding) else None


Formats = Mapping[str, Callable[[Path], Mapping[str, Tensor]]]
"""By name, what reads weights for `from_weights` out of a file of another program, or raises `CodingError`."""


class ReadingOthers(ABC):
    """Files of other programs can be read.

    Attributes:
        checkpoint_formats: The files that `ckpt=FORMAT:PATH` names.
    """

    checkpoint_formats: ClassVar[Formats]


def checkpoint_formats(codec_class: type[Codec]) -> Formats:
    """Return the formats of others that a codec class reads."""
    return codec_class.checkpoint_formats if issubclass(codec_class, ReadingOthers) else {}
