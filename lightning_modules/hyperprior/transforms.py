"""Transforms that a hyperprior may be built of: the papers' own, and those with more layers where they are cheap.

    x --unshuffle f--> 3 f^2 channels at 1/f --> widths[0] --> ... --> widths[-1] at 1/8 --blocks--> M at 1/16 --> y
    GDN follows every layer before the blocks; g_s is the mirror image.

Four fifths of the time that the papers' g_a and g_s take pass at 1/2 and 1/4 of the picture's size. Residual
bottlenecks (He et al. 2016) at 1/8 and 1/16 add depth and a wider view for a few per cent of it; channels made of
blocks of f x f pixels (Shi et al. 2016) leave the largest sizes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, cast

from compressai.layers import GDN
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.errors import CodingError
from lightning_modules.hyperprior import networks
from lightning_modules.hyperprior.networks import (
    IMAGE_CHANNELS,
    convolution,
    to_parameters,
    upsampling,
)

LAST_OF_G_A = "g_a.6.weight"
"""(M, N, 5, 5) of the papers' transforms: tells both sizes of a model."""

STEPS = {1: 3, 2: 3, 4: 2, 8: 1}
"""Widths before the last layer of g_a, by the factor of the unshuffle; 1: the papers' strided layer instead."""


class Transforms(Protocol):
    """Makes the four networks of a hyperprior with N channels of z and M of y."""

    def analysis(self, N: int, M: int) -> nn.Sequential:
        """Build g_a: (B, 3, H, W) -> (B, M, H/16, W/16), rounded up."""

    def synthesis(self, N: int, M: int) -> nn.Sequential:
        """Build g_s: (B, M, h, w) -> (B, 3, 16h, 16w)."""

    def hyper_analysis(self, N: int, M: int) -> nn.Sequential:
        """Build h_a: (B, M, h, w) -> (B, N, h/4, w/4), rounded up."""

    def hyper_synthesis(self, N: int, M: int) -> nn.Sequential:
        """Build h_s: (B, N, h, w) -> (B, 2M, 4h, 4w), raw scales first, then means."""


class PaperTransforms:
    """Those of Minnen et al. 2018, with CompressAI's names: N channels inside."""

    def analysis(self, N: int, M: int) -> nn.Sequential:
        return networks.analysis(N, M)

    def synthesis(self, N: int, M: int) -> nn.Sequential:
        return networks.synthesis(N, M)

    def hyper_analysis(self, N: int, M: int) -> nn.Sequential:
        return networks.hyper_analysis(N, M)

    def hyper_synthesis(self, N: int, M: int) -> nn.Sequential:
        return networks.hyper_synthesis(N, M)


class ScaleTransforms(PaperTransforms):
    """Those of Balle et al. 2018: h_a sees magnitudes, h_s is N channels wide and says scales alone."""

    def hyper_analysis(self, N: int, M: int) -> nn.Sequential:
        return networks.magnitude_analysis(N, M)

    def hyper_synthesis(self, N: int, M: int) -> nn.Sequential:
        return networks.scale_synthesis(N, M)


class PaddedUnshuffle(nn.PixelUnshuffle):
    """(B, C, H, W) -> (B, C f^2, H/f, W/f), rounded up: what the last blocks lack repeats the last row and column."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = input.shape[-2:]
        bottom, right = -height % self.downscale_factor, -width % self.downscale_factor
        if bottom or right:
            input = F.pad(input, (0, right, 0, bottom), mode="replicate")
        return super().forward(input)


LEAST_INSIDE = 64
"""Channels of a bottleneck's narrow part: fewer would make it hardly faster."""


class Bottleneck(nn.Sequential):
    """(B, C, h, w) -> same: the input, and what 1x1, 3x3 and 1x1 convolutions, C/2 channels inside, make of it."""

    def __init__(self, channels: int) -> None:
        inside = max(LEAST_INSIDE, channels // 2)
        super().__init__(
            convolution(channels, inside, 1, 1),
            nn.LeakyReLU(),
            convolution(inside, inside, 3, 1),
            nn.LeakyReLU(),
            convolution(inside, channels, 1, 1),
        )

    def forward(self, input: Tensor) -> Tensor:
        return input + cast(Tensor, super().forward(input))


class DeepTransforms(NamedTuple):
    """Transforms with a width for each size down to 1/8, and residual bottlenecks at 1/8 and 1/16.

    unshuffle: 1, the papers' first layer; 2, 4 or 8, blocks of so many pixels first. widths: of g_a, and of g_s the
    other way round: at 1/2, 1/4 and 1/8 for 1 and 2, at 1/4 and 1/8 for 4, at 1/8 for 8. blocks: how many at 1/8, and
    at 1/16. hyper_widths: of h_s, after its first and its second layer.
    """

    unshuffle: int
    widths: Sequence[int]
    blocks: Sequence[int]
    hyper_widths: Sequence[int]

    def checked(self) -> DeepTransforms:
        """Return itself. Raises `CodingError` for numbers that give no network."""
        counts = (STEPS.get(self.unshuffle), 2, 2)
        found = (len(self.widths), len(self.blocks), len(self.hyper_widths))
        if counts != found:
            raise CodingError(
                f"transforms: unshuffle {self.unshuffle} with {found[0]} widths, {found[1]} blocks and {found[2]} "
                f"hyper_widths; unshuffle is {', '.join(map(str, STEPS))}, with {', '.join(map(str, STEPS.values()))} "
                "widths, and the others are pairs"
            )
        if self.unshuffle == 1 and not any(self.blocks):
            raise CodingError("transforms: without unshuffle and blocks they are the papers'; give transforms=papers")
        return self

    def analysis(self, N: int, M: int) -> nn.Sequential:
        del N
        layers: list[nn.Module] = []
        if self.unshuffle > 1:
            layers += [PaddedUnshuffle(self.unshuffle)]
            layers += [convolution(IMAGE_CHANNELS * self.unshuffle**2, self.widths[0], 3, 1)]
        else:
            layers += [convolution(IMAGE_CHANNELS, self.widths[0], 5, 2)]
        layers += [GDN(self.widths[0])]
        for before, after in pairwise(self.widths):
            layers += [convolution(before, after, 5, 2), GDN(after)]
        layers += [Bottleneck(self.widths[-1]) for _ in range(self.blocks[0])]
        layers += [convolution(self.widths[-1], M, 5, 2)]
        return nn.Sequential(*layers, *(Bottleneck(M) for _ in range(self.blocks[1])))

    def synthesis(self, N: int, M: int) -> nn.Sequential:
        del N
        layers: list[nn.Module] = [Bottleneck(M) for _ in range(self.blocks[1])]
        layers += [upsampling(M, self.widths[-1]), GDN(self.widths[-1], inverse=True)]
        layers += [Bottleneck(self.widths[-1]) for _ in range(self.blocks[0])]
        for before, after in pairwise(reversed(self.widths)):
            layers += [upsampling(before, after), GDN(after, inverse=True)]
        if self.unshuffle > 1:
            layers += [convolution(self.widths[0], IMAGE_CHANNELS * self.unshuffle**2, 3, 1)]
            return nn.Sequential(*layers, nn.PixelShuffle(self.unshuffle))
        return nn.Sequential(*layers, upsampling(self.widths[0], IMAGE_CHANNELS))

    def hyper_analysis(self, N: int, M: int) -> nn.Sequential:
        return networks.hyper_analysis(N, M)

    def hyper_synthesis(self, N: int, M: int) -> nn.Sequential:
        first, second = self.hyper_widths
        return to_parameters((N, first, second), 2 * M, nn.LeakyReLU)


PAPERS = PaperTransforms()
SCALES = ScaleTransforms()


def made_of(settings: Mapping[str, Any]) -> DeepTransforms:
    """Build transforms from JSON values, the fields of `DeepTransforms` by name. Raises `CodingError` for others."""
    missing = set(DeepTransforms._fields) ^ set(settings)
    if missing:
        raise CodingError(f"transforms: {', '.join(sorted(missing))}: give {', '.join(DeepTransforms._fields)}")
    lists = {name: tuple(settings[name]) for name in ("widths", "blocks", "hyper_widths")}
    return DeepTransforms(int(settings["unshuffle"]), **lists).checked()


def as_json(transforms: DeepTransforms) -> dict[str, Any]:
    """Return the JSON values that `made_of` takes."""
    return {name: value if isinstance(value, int) else list(value) for name, value in transforms._asdict().items()}


class Sizes(NamedTuple):
    """Of a model: N channels of z, M of y. transforms: as `made_of` takes them; None for the papers'."""

    N: int
    M: int
    transforms: dict[str, Any] | None


def read_sizes(state: Mapping[str, Tensor], kind: str) -> Sizes:
    """Read the sizes off the shapes of weights, whose h_s may be stored as integers.

    kind: what the weights should be, for the `CodingError` where they are something else.
    """
    found = _read_deep(state)
    return Sizes(*sizes(state, kind), None) if found is None else found


def _read_deep(state: Mapping[str, Tensor]) -> Sizes | None:
    """Read the settings of `DeepTransforms` off weights; None for those of other transforms."""
    places = [place for name in state if (place := re.fullmatch(r"g_a\.(\d+)(\.0)?\.weight", name))]
    banks = sorted((int(place[1]), place[2] is None) for place in places if state[place[0]].ndim == 4)
    direct = [index for index, is_direct in banks if is_direct]
    hyper = [state.get(f"h_s.{index}.weight", state.get(f"exact.h_s.{index}.weight")) for index in (0, 2)]
    shapes = [bank.shape for bank in hyper if bank is not None and bank.ndim == 4]
    if not direct or len(shapes) < len(hyper):
        return None
    widths = [len(state[f"g_a.{index}.weight"]) for index in direct]
    M = widths.pop()
    in_channels = state[f"g_a.{direct[0]}.weight"].shape[1]
    factor = 1 if direct[0] == 0 else round((in_channels / IMAGE_CHANNELS) ** 0.5)
    blocks = tuple(
        sum(not is_direct and (index > direct[-1]) == late for index, is_direct in banks) for late in (False, True)
    )
    hyper_widths = tuple(shape[1] for shape in shapes)
    if STEPS.get(factor) != len(widths) or (factor == 1 and not any(blocks)):
        return None
    return Sizes(shapes[0][0], M, as_json(DeepTransforms(factor, widths, blocks, hyper_widths)))


def sizes(state: Mapping[str, Tensor], kind: str) -> tuple[int, int]:
    """Read N and M off the last layer of g_a. kind: what the weights should be, for the error."""
    last = state.get(LAST_OF_G_A)
    if last is None or last.ndim != 4:
        raise CodingError(f"not a {kind}: it has no {LAST_OF_G_A} of 4 dimensions")
    return last.shape[1], last.shape[0]
