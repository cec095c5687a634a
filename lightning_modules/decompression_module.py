"""The decode side of a predict loop: files to pictures, and progressive files to shorter ones."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import lightning as L

from lightning_modules.capabilities import chain_of, leading_sections
from lightning_modules.checkpoints.model_library import ModelLibrary
from lightning_modules.codec import Codec
from lightning_modules.coding.container import read
from lightning_modules.coding.pack import unpack_pack
from lightning_modules.coding.picture import unpack_each
from lightning_modules.coding.truncation import Limit, truncated
from lightning_modules.errors import CodingError
from lightning_modules.records import Chain, CompressedImage, DecodedImage, DecodedPack, Failure, TruncatedFile

Decoded = DecodedImage | DecodedPack | Failure
"""What comes of a file."""


class DecompressionModule(L.LightningModule):
    """Decodes files made by any model that the library holds; each file names its own by fingerprint."""

    def __init__(self, *, library: ModelLibrary) -> None:
        super().__init__()
        self.library = library
        self.waiting: dict[tuple[Codec, Chain], list[CompressedImage]] = {}
        self.progress_message = ""

    def predict_step(self, files: list[CompressedImage | Failure], batch_idx: int) -> list[Decoded]:
        """Decode files, those of one model and picture size together; each shares their time equally.

        A file of a chain waits for the others, and comes out with the last of them.
        """
        del batch_idx
        decoded: list[Decoded] = []
        by_codec: dict[Codec, list[CompressedImage]] = {}
        for file in files:
            if isinstance(file, Failure):
                decoded.append(file)
                continue
            try:
                codec = self.library.find(file.data).to(self.device)
                if read(file.data, leading=1).is_pack:
                    decoded.append(decode_pack(codec, file))
                    continue
                by_codec.setdefault(codec, []).extend(self._ready(codec, file))
            except CodingError as error:
                decoded.append(Failure(file.name, f"{file.name}: {error}"))
        for codec, group in by_codec.items():
            self.progress_message = f"decoding {len(group)}" if len(group) > 1 else ""
            decoded += decode(codec, group) if group else []
        self.progress_message = ""
        return decoded

    def unfinished(self) -> list[DecodedImage | Failure]:
        """Return the files of chains that others of are missing, each with a line that says so."""
        held, self.waiting = self.waiting, {}
        return [image for (codec, _), group in held.items() for image in decode(codec, group)]

    def _ready(self, codec: Codec, file: CompressedImage) -> list[CompressedImage]:
        """Return what can be decoded now that this file is here."""
        chain = chain_of(codec, read(file.data, leading=leading_sections(codec)).sections)
        if chain is None:
            return [file]
        group = self.waiting.setdefault((codec, chain), [])
        group.append(file)
        return self.waiting.pop((codec, chain)) if len(group) == chain.length else []


def decode(codec: Codec, files: Sequence[CompressedImage]) -> Iterator[DecodedImage | Failure]:
    """Decode files, in their order; a damaged one fails alone."""
    start = time.perf_counter()
    pictures = unpack_each([file.data for file in files], codec)
    seconds = (time.perf_counter() - start) / len(files)
    for file, picture in zip(files, pictures, strict=True):
        if isinstance(picture, CodingError):
            yield Failure(file.name, f"{file.name}: {picture}")
        else:
            yield DecodedImage(file.name, picture.x_hat, picture.format, len(file.data), seconds)


def decode_pack(codec: Codec, file: CompressedImage) -> DecodedPack | Failure:
    """Decode all pictures of a file that holds several; a fault of one is a fault of all."""
    start = time.perf_counter()
    try:
        found = unpack_pack(file.data, codec)
    except CodingError as error:
        return Failure(file.name, f"{file.name}: {error}")
    seconds = time.perf_counter() - start
    share, time_share = len(file.data) // len(found), seconds / len(found)
    pictures = tuple(DecodedImage(name, *one, share, time_share) for name, one in found.items())
    return DecodedPack(file.name, pictures, len(file.data), seconds)


class TruncationModule(L.LightningModule):
    """limit: what is kept of each file."""

    def __init__(self, *, limit: Limit) -> None:
        super().__init__()
        self.limit = limit

    def predict_step(self, files: list[CompressedImage | Failure], batch_idx: int) -> list[TruncatedFile | Failure]:
        del batch_idx
        return [file if isinstance(file, Failure) else self._cut(file) for file in files]

    def unfinished(self) -> list[TruncatedFile | Failure]:
        return []

    def _cut(self, file: CompressedImage) -> TruncatedFile | Failure:
        try:
            data, image_size = truncated(file.data, self.limit)
        except CodingError as error:
            return Failure(file.name, f"{file.name}: {error}")
        return TruncatedFile(file.name, data, image_size)
