"""Which way of relative entropy coding a sender's files are made in, as `coder=` names it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lightning_modules.codec import Codec
from lightning_modules.errors import CodingError
from lightning_modules.rec.files.settings import settings_of
from lightning_modules.rec.samplers.beam_search import BeamSearch
from lightning_modules.rec.samplers.candidate_noise import Mirrored
from lightning_modules.rec.samplers.index_coder import Coder
from lightning_modules.rec.samplers.schedule import SharedEqualKL
from lightning_modules.records import Coded, CodedPack, Latents


class FileCoder:
    """index_coder: turns samples into indices. is_zipf: whether small indices are likelier, as its sampler makes them.

    block_kl: nats that a block is expected to hold, block_size: its dimensions at most. name: of all that files depend
    on here. together, pack, key: see `lightning_modules.coding.coder.Coder`.
    """

    def __init__(
        self,
        *,
        index_coder: Coder,
        is_zipf: bool,
        block_kl: float,
        block_size: int,
        name: str,
        together: int = 1,
        pack: int = 1,
    ) -> None:
        self.index_coder, self.together, self.pack = index_coder, together, pack
        self.settings = settings_of(index_coder, is_zipf=is_zipf, block_kl=block_kl, block_size=block_size)
        self._name = name

    @property
    def key(self) -> str:
        named = f"{self._name} {self.pack}"
        return hashlib.sha256(self.settings.to_bytes() + named.encode()).hexdigest()[:12]

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        able = _able(codec)
        return [able.encode_with(latents, self) for latents in images]

    def encode_pack(self, codec: Codec, images: Sequence[Latents]) -> CodedPack:
        return _able(codec).encode_pack(images, self)


@runtime_checkable
class SampleCodec(Protocol):
    """A codec that codes samples of posteriors."""

    def encode_with(self, latents: Latents, file_coder: FileCoder) -> Coded: ...

    def encode_pack(self, images: Sequence[Latents], file_coder: FileCoder) -> CodedPack: ...


def _able(codec: Codec) -> SampleCodec:
    if isinstance(codec, SampleCodec):
        return codec
    raise CodingError(
        f"{type(codec).__name__} has no posteriors to code samples of; use coder=separate, or an experiment of "
        "relative entropy coding"
    )


def default_coder() -> FileCoder:
    """Of `encode`, where no coder is configured: conf/coder/irec.yaml with fewer beams."""
    search = BeamSearch(num_beams=20)
    index_coder = Coder(
        kl_per_variable=math.log(32.0),
        num_candidates=32,
        schedule=SharedEqualKL(),
        noise=Mirrored(seed=42),
        sampler=search,
    )
    return FileCoder(index_coder=index_coder, is_zipf=False, block_kl=100.0, block_size=4096, name="default")
