"""Lossy relative entropy coding: samples of the latents, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.coding.ans import AnsStack
from lightning_modules.errors import CodingError
from lightning_modules.image_padding import crop, padded_size
from lightning_modules.rec.codec import RecCodec
from lightning_modules.rec.files.levels import integers_of, value_of
from lightning_modules.rec.files.sample_files import size_of
from lightning_modules.rec.models.hierarchy import Prior
from lightning_modules.rec.models.lossy_vaes import ARCHITECTURES, LossyVAE
from lightning_modules.records import Estimate, ImageSize, Integers
from lightning_modules.tiling import footprint, tiled


class LossyCodec(RecCodec):
    """A VAE whose files hold latents alone.

    architecture: a name of `ARCHITECTURES`. widths: of its layers. lmbda: what it was trained for.
    """

    codec_id = 64
    packaged_family = "rec_lossy"
    kind = "lossy VAE"
    networks: LossyVAE

    def __init__(self, *, architecture: str, widths: Sequence[int], lmbda: float) -> None:
        if architecture not in ARCHITECTURES:
            raise CodingError(f"module.codec.architecture={architecture}: give one of {', '.join(ARCHITECTURES)}")
        networks = ARCHITECTURES[architecture](widths=widths)
        sizes = {"architecture": architecture, "widths": [*widths], "lmbda": lmbda}
        super().__init__(networks, tuple(networks.pieces), sizes)

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> LossyCodec:
        codec = cls(**cls.sizes(state), lmbda=float(hyperparameters["lmbda"]))
        codec.load_weights(state)
        return codec

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, Any]) -> LossyCodec:
        return cls(**sizes, lmbda=0.0)

    @classmethod
    def sizes(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        names = {"networks.hyper_analysis.0.bias": "two_levels", "networks.inference.level3.0.bias": "four_levels"}
        top, last = state.get("networks.top"), state.get("networks.synthesis.0.bias")
        if top is None or last is None:
            raise CodingError(f"not a {cls.kind}: it has no networks.top or networks.synthesis.0.bias")
        architecture = next((name for key, name in names.items() if key in state), "one_level")
        widths = [len(last)] if architecture == "one_level" else [len(last), len(top)]
        return {"architecture": architecture, "widths": widths}

    def pictures(self, state: Tensor, size: ImageSize) -> Tensor:
        """Return pictures (B, 3, *size), not clamped, of what `generate` gives."""
        return crop(tiled(self.networks.synthesis, footprint(self.networks.synthesis), state.float()).float(), size)

    def estimate_from(self, x: Tensor, state: Tensor, kl_bits: Tensor) -> Estimate:
        return Estimate(self.pictures(state, size_of(x)), {"latents": kl_bits})

    # ---- files

    def contents(self) -> SamplesAlone:
        return SamplesAlone()

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        device = next(self.parameters()).device
        stacked = [torch.stack([value_of(one[name]) for one in integers]) for name in sorted(integers[0])]
        size = padded_size(image_size, self.networks.stride)

        def draw(level: int, prior: Prior) -> Tensor:
            return stacked[level].to(prior.mean)

        like = torch.zeros(len(integers), 1, device=device)
        return self.pictures(self.networks.generate(self.networks.trained, like, size, draw), image_size)

    def synthesis_weights(self) -> dict[str, Tensor]:
        beginnings = ("networks.top", "networks.synthesis.", "networks.pieces.")
        return {name: value for name, value in self.state_dict().items() if name.startswith(beginnings)}


class SamplesAlone:
    """Nothing but latents: pictures follow from them."""

    def is_gray(self, x: Tensor) -> bool:
        return False

    def push(self, stack: AnsStack, x: Tensor, state: Tensor, gray: bool) -> dict[str, float]:
        return {}

    def pop(self, stack: AnsStack, z: Sequence[Tensor], state: Tensor, gray: bool, size: ImageSize) -> Integers:
        """Return z of each level, (C, h, w), in 2^-GRID_BITS."""
        return {f"z{level}": integers_of(values) for level, values in enumerate(z)}

    def known(self, x: Tensor, z: Sequence[Tensor]) -> Integers:
        return {f"z{level}": integers_of(values) for level, values in enumerate(z)}
