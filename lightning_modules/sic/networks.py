"""SIC's networks, assembled under the names of the authors' checkpoints; their widths and group count are free.

    x --ga--> y ---------------------------------round--> y_hat, detail for what is not coded --gs--> x_hat
              |                                             |
              +--ha--> z --round--> z_hat --hs--> hyper     +--context_model--> context
                                                  hyper, context --entropy_parameters--> scales, means of y

y: (B, C, h, w), C = L g channels in L groups of g; level l codes the first l groups. z is 4 times smaller than y,
which is 2^stages times smaller than x. hyper: (B, 2C, h, w), first hyper-scales, then hyper-means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor, nn

from lightning_modules.densities import medians
from lightning_modules.errors import CodingError
from lightning_modules.image_padding import crop, pad_to_multiple
from lightning_modules.precision import at_least_float32
from lightning_modules.quantization import straight_through
from lightning_modules.records import ImageSize
from lightning_modules.sic.group_context import EntropyParameters, GroupContext
from lightning_modules.sic.hyper_networks import STRIDE, hyper_analysis, hyper_synthesis
from lightning_modules.sic.transforms import SwinAnalysis, SwinSynthesis

LISTED = 8
"""Names that an error lists before it counts the rest."""


class SicNetworks(nn.Module):
    """The networks that are trained of SIC, apart from the discriminator.

    widths, depths: of ga's stages, gs has them in reverse; the last width is C. heads: of every block, a divisor of
    every width. groups: L, a divisor of C. hyper_width: channels of z.
    """

    def __init__(
        self, *, widths: Sequence[int], depths: Sequence[int], heads: int, groups: int, hyper_width: int
    ) -> None:
        super().__init__()
        channels = widths[-1]
        if channels % groups:
            raise ValueError(f"{groups} groups do not divide {channels} channels")
        self.groups, self.channels, self.group_width = groups, channels, channels // groups
        self.stride = STRIDE * 2 ** len(widths)
        self.ga = SwinAnalysis(widths, depths, heads)
        self.gs = SwinSynthesis(widths[::-1], depths[::-1], heads)
        self.ha = hyper_analysis(channels, hyper_width)
        self.hs = hyper_synthesis(hyper_width, channels)
        self.entropy_bottleneck = EntropyBottleneck(hyper_width)
        self.gaussian_conditional = GaussianConditional(None)
        self.context_model = GroupContext(groups, self.group_width)
        self.entropy_parameters = EntropyParameters(groups, self.group_width)

    # Whatever the precision of a trainer, latents, their parameters and pictures are float32 at least.

    def y_of(self, x: Tensor) -> Tensor:
        """Compute y of pictures (B, 3, H, W) of any size in [0, 1], continued below and right to the stride."""
        return at_least_float32(self.ga(pad_to_multiple(x, self.stride)))

    def latents_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute y and z of pictures (B, 3, H, W), as for `y_of`."""
        y = self.y_of(x)
        return y, at_least_float32(self.ha(y))

    def round_z(self, z: Tensor) -> Tensor:
        """Round z to z_hat on the grid of the medians; gradients pass to z."""
        return straight_through(z, medians(self.entropy_bottleneck))

    def features_of_z(self, z_hat: Tensor) -> Tensor:
        """Compute hyper, (B, 2C, h, w): hyper-scales and hyper-means."""
        return at_least_float32(self.hs(z_hat))

    def parameters_of_y(self, hyper: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Compute raw scales and means of all of y at once, each (B, C, h, w), from a y_hat that is known."""
        scales, means = self.entropy_parameters(hyper, self.context_model(y_hat))
        return at_least_float32(scales), at_least_float32(means)

    def picture_of(self, y_hat: Tensor, size: ImageSize) -> Tensor:
        """Synthesize pictures (B, 3, *size), not clamped, from y_hat (B, C, h, w)."""
        return crop(at_least_float32(self.gs(y_hat)), size)

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor]) -> SicNetworks:
        """Make the networks of weights by name, sizes read off them; raises as `sizes_of` and `load_weights` do."""
        networks = cls(**sizes_of(state))
        networks.load_weights(state)
        return networks

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load every weight by name and shape; those that the context's mask hides become 0.

        Raises `CodingError`, with the names, when one is missing, unexpected or of another shape.
        """
        wanted = dict(self.named_parameters())  # buffers are constants and tables: none of them is learned
        known = self.state_dict()
        faults = [f"missing {name}" for name in wanted if name not in state]
        faults += [f"unexpected {name}" for name in state if name not in known]
        faults += [
            f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in state and state[name].shape != value.shape
        ]
        if faults:
            more = f" and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
            raise CodingError(f"not SIC networks of this shape: {'; '.join(faults[:LISTED])}{more}")
        self.load_state_dict({name: state[name] for name in wanted}, strict=False)
        self.context_model.layer.hide()


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the arguments of `SicNetworks` off a state dict. Raises `CodingError` when it shows none."""
    blocks = {match.groups() for name in state if (match := re.match(r"ga\.layers\.(\d+)\.blocks\.(\d+)\.", name))}
    stages = _count(stage for stage, _ in blocks)
    first = _shape(state, "ga.patch_embed.proj.weight", 4)[0]
    merges = [_shape(state, f"ga.layers.{stage}.downsample.reduction.weight", 2)[0] for stage in range(1, stages)]
    widths = [first, *merges]
    of_all_groups, of_one = _shape(state, "entropy_parameters.layer.0.weight", 4)[:2]
    groups, rest = divmod(4 * of_all_groups, 3 * max(1, of_one))
    if rest or not groups or widths[-1] % groups:
        raise CodingError(f"not SIC networks: entropy_parameters.layer.0.weight does not fit {widths[-1]} channels")
    return {
        "widths": widths,
        "depths": [_count(block for of, block in blocks if of == str(stage)) for stage in range(stages)],
        "heads": _shape(state, "ga.layers.0.blocks.0.attn.relative_position_bias_table", 2)[1],
        "groups": groups,
        "hyper_width": _shape(state, "ha.0.weight", 4)[0],
    }


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> torch.Size:
    if name not in state or state[name].ndim != dimensions or 0 in state[name].shape:
        raise CodingError(f"not SIC networks: no {name} of {dimensions} dimensions")
    return state[name].shape


def _count(indices: Any) -> int:
    """Count how many of 0, 1, 2 ... are among the indices before the first that is not."""
    known = set(indices)
    return next(number for number in range(len(known) + 1) if str(number) not in known)
