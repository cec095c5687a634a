"""A way of relative entropy coding: how latents become indices, and what the files say of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lightning_modules.codec import Codec
from lightning_modules.errors import CodingError
from lightning_modules.rec.files.settings import sample_settings
from lightning_modules.rec.samplers.beam_search import BeamSearch
from lightning_modules.rec.samplers.candidate_noise import CandidateNoise, Mirrored
from lightning_modules.rec.samplers.index_coder import IndexCoder, oversampled
from lightning_modules.rec.samplers.schedule import Schedule, SharedEqualKL
from lightning_modules.rec.samplers.variable_batch import Sampler
from lightning_modules.records import Coded, CodedPack, Latents


class FileCoder:
    """Codes pictures as samples of their posteriors.

    Args:
        kl_per_variable: Nats of an auxiliary variable, Omega in the paper; see `nats`.
        epsilon: How many more candidates a variable has: floor(exp(Omega (1 + epsilon))).
        schedule: Deals out the prior's variance to the variables.
        noise: Makes candidates, with the seed.
        sampler: Chooses among them. No file names it, so it can be any class.
        is_zipf: Whether small indices are likelier, as the sampler makes them.
        block_kl: Nats that a block is expected to hold.
        block_size: Dimensions of a block, at most.
        name: Of all that the contents of files depend on besides.
        batch_size: Pictures handed over at once.
        pack: Pictures in a file, at most.

    Raises:
        ValueError: No file can say so.
    """

    def __init__(
        self,
        *,
        kl_per_variable: float,
        epsilon: float,
        schedule: Schedule,
        noise: CandidateNoise,
        sampler: Sampler,
        is_zipf: bool,
        block_kl: float,
        block_size: int,
        name: str,
        batch_size: int = 1,
        pack: int = 1,
    ) -> None:
        self.index_coder = IndexCoder(
            kl_per_variable=kl_per_variable,
            num_candidates=oversampled(kl_per_variable, epsilon),
            schedule=schedule,
            noise=noise,
            sampler=sampler,
        )
        self.settings = sample_settings(self.index_coder, is_zipf=is_zipf, block_kl=block_kl, block_size=block_size)
        self.batch_size, self.pack = batch_size, pack
        self._name = name

    @property
    def key(self) -> str:
        """Return what the contents of files depend on, in a word."""
        named = f"{self._name} {self.pack}"
        return hashlib.sha256(self.settings.to_bytes() + named.encode()).hexdigest()[:12]

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        """Return one result for each picture, in their order."""
        able = _able(codec)
        return [able.encode_with(latents, self) for latents in images]

    def encode_pack(self, codec: Codec, images: Sequence[Latents]) -> CodedPack:
        """Return all pictures as one section."""
        return _able(codec).encode_pack(images, self)


@runtime_checkable
class SampleCodec(Protocol):
    """A codec that codes samples of posteriors."""

    def encode_with(self, latents: Latents, file_coder: FileCoder) -> Coded:
        """Code one picture."""

    def encode_pack(self, images: Sequence[Latents], file_coder: FileCoder) -> CodedPack:
        """Code several pictures as one section."""


def _able(codec: Codec) -> SampleCodec:
    if isinstance(codec, SampleCodec):
        return codec
    raise CodingError(
        f"{type(codec).__name__} has no posteriors to code samples of; use coder=separate, or an experiment of "
        "relative entropy coding"
    )


def nats(bits: float) -> float:
    """Return a number of bits in nats."""
    return bits * math.log(2.0)


def default_coder() -> FileCoder:
    """Return the coder of `encode`, where none is configured: conf/coder/irec.yaml with fewer beams."""
    return FileCoder(
        kl_per_variable=nats(5),
        epsilon=0.0,
        schedule=SharedEqualKL(),
        noise=Mirrored(seed=42),
        sampler=BeamSearch(num_beams=20),
        is_zipf=False,
        block_kl=100.0,
        block_size=4096,
        name="default",
    )
