"""Progressive SIC as a codec: z and L groups of y, of which a receiver decodes as many as it has or wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_modules.codec import Codec, Coded, CodingError, Estimate, ImageSize, Integers, Latents, Section
from lightning_modules.hyperprior.densities import factorized_likelihood, update_medians
from lightning_modules.sic.networks import SicNetworks, sizes_of
from lightning_modules.sic.official_checkpoint import official_weights
from lightning_modules.sic.rates import group_bits, lattice_likelihood

NOT_YET = "files of SIC are not written yet"


class SicCodec(SicNetworks, Codec):
    """`SicNetworks` with files. The arguments are those of conf/networks/sic.yaml."""

    codec_id = 16
    checkpoint_formats: ClassVar[Mapping[str, Callable[[Path], Mapping[str, Tensor]]]] = {"sic": official_weights}

    def __init__(
        self, *, widths: Sequence[int], depths: Sequence[int], heads: int, groups: int, hyper_width: int
    ) -> None:
        super().__init__(widths=widths, depths=depths, heads=heads, groups=groups, hyper_width=hyper_width)
        self.hyperparameters: dict[str, Any] = {
            "widths": [*widths],
            "depths": [*depths],
            "heads": heads,
            "groups": groups,
            "hyper_width": hyper_width,
        }

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> SicCodec:
        """Of the sizes that a named state dict shows, all of them; errors as `sizes_of` and `load_weights`."""
        del hyperparameters
        codec = cls(**sizes_of(state))
        codec.load_weights(state)
        return codec

    @property
    def levels(self) -> int:
        """Of rate: one for each group."""
        return self.groups

    def analyze(self, x: Tensor) -> Latents:
        """(B, 3, H, W) -> y (B, C, h, w) and z, of the picture continued to the stride."""
        y, z = self.latents_of(x)
        return Latents({"y": y, "z": z}, (x.shape[-2], x.shape[-1]))

    @torch.no_grad()
    def estimate(self, latents: Latents) -> Estimate:
        """bits: of `z` and of each group, `y1` to `yL`. x_hat: at the top level."""
        y_hat = latents.variables["y"].round()
        z_hat = self.round_z(latents.variables["z"])
        scales, means = self.parameters_of_y(self.features_of_z(z_hat), y_hat)
        of_groups = group_bits(lattice_likelihood(self.gaussian_conditional, y_hat, scales, means), self.groups)
        of_z = -factorized_likelihood(self.entropy_bottleneck, z_hat).log2().flatten(1).sum(1)
        bits = {"z": of_z} | {f"y{level + 1}": of_groups[:, level] for level in range(self.groups)}
        return Estimate(self.picture_of(y_hat, latents.image_size), bits)

    def encode(self, latents: Latents) -> Coded:
        raise CodingError(NOT_YET)

    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        return [CodingError(NOT_YET) for _ in files]

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        raise CodingError(NOT_YET)

    def update(self) -> bool:
        """Medians from the weights."""
        update_medians(self.entropy_bottleneck)
        return True

    def decoder_state(self) -> dict[str, Tensor]:
        return dict(self.state_dict())

    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        del state
