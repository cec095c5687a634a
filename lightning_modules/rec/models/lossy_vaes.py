"""The lossy models of iREC, with latents at 1/16 and 1/64 of a picture's sides.

| | levels, as drawn | parameters at the paper's widths |
|---|---|---|
| `OneLevelVAE` | z1 at 1/16 | 192: 5,846,403 |
| `TwoLevelVAE` | z2 at 1/64, z1 at 1/16 | 196, 128: 10,308,659 |
| `FourLevelVAE` | z4, z3 at 1/64, z2, z1 at 1/16 | 196, 128: 25,454,843 |

Deviations are softplus of what networks give. In `FourLevelVAE` features are handed on before their nonlinearity.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn

from lightning_modules.rec.models.hierarchy import SOFTPLUS, Draw, Hierarchy, Network, Prior
from lightning_modules.rec.models.lossy_layers import conv, doubling, halving, up
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from lightning_modules.records import ImageSize

FINE, COARSE = 16, 64
PRIOR_BITS = 16
"""Fractional bits of what the integer networks of the generative networks give."""


class StatisticsPair(nn.Module):
    """A posterior's mean and spread, each of the prior's and the inference network's: 1x1 convolutions of ELU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = conv(2 * channels, channels, 1)
        self.spread = conv(2 * channels, channels, 1)

    def forward(self, feature: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        mean, spread = feature.chunk(2, dim=1)
        from_means = torch.cat([mean, prior.mean.to(mean)], dim=1)
        from_spreads = torch.cat([spread, prior.spread.to(spread)], dim=1)
        return self.mean(F.elu(from_means)), self.spread(F.elu(from_spreads))


class LossyVAE(Hierarchy):
    """A lossy hierarchy. top: of the highest prior, equal at every position. synthesis: from a state to a picture."""

    scale_map = SOFTPLUS
    top: nn.Parameter
    synthesis: nn.Sequential
    sides: tuple[int, ...]
    """Pixels along a latent's position, of each level."""

    def latent_sizes(self, size: ImageSize) -> list[ImageSize]:
        return [(size[0] // side, size[1] // side) for side in self.sides]

    def posterior(self, level: int, feature: Tensor, prior: Prior) -> Gaussian:
        mean, spread = self.statistics(level, feature, prior)
        return Gaussian(mean, self.scale_map.trained(spread))

    @abstractmethod
    def statistics(self, level: int, feature: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        """Return mean and spread of a posterior."""

    def output_fractions(self, piece: str) -> Tensor:
        return torch.full((self.outputs_of(piece),), PRIOR_BITS, dtype=torch.int32)

    def _tiled_top(self, like: Tensor, size: ImageSize) -> Tensor:
        return self.top.to(like)[:, None, None].expand(len(like), -1, *self.latent_sizes(size)[0])


def _prior(output: Tensor) -> Prior:
    mean, spread = output.chunk(2, dim=1)
    return Prior(mean, spread, mean)


def top_prior(channels: int) -> nn.Sequential:
    return nn.Sequential(conv(channels, channels, 3), nn.ELU(), conv(channels, 2 * channels, 3))


class OneLevelVAE(LossyVAE):
    """A VAE of one level. widths: one, of every layer and of z1."""

    def __init__(self, *, widths: Sequence[int]) -> None:
        super().__init__()
        (width,) = widths
        self.stride, self.sides, self.channels = FINE, (FINE,), (width,)
        self.analysis = nn.Sequential(
            conv(3, width, 9, 4), GDN(width), conv(width, width, 5, 2), GDN(width), conv(width, 2 * width, 5, 2, False)
        )
        self.top = nn.Parameter(torch.zeros(width))
        self.pieces = nn.ModuleDict({"prior": top_prior(width)})
        first = [up(width, width), GDN(width, inverse=True), up(width, width), GDN(width, inverse=True)]
        self.synthesis = nn.Sequential(*first, up(width, 3, 9, 4))

    def infer(self, x: Tensor) -> list[Tensor]:
        return [self.analysis(x)]

    def statistics(self, level: int, feature: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        mean, spread = feature.chunk(2, dim=1)
        return mean, spread

    def generate(self, pieces: Mapping[str, Network], like: Tensor, size: ImageSize, draw: Draw) -> Tensor:
        return draw(0, _prior(pieces["prior"](self._tiled_top(like, size))))


class TwoLevelVAE(LossyVAE):
    """The VAE that the paper reports. widths: of transforms and z1, and of hyper-transforms and z2."""

    def __init__(self, *, widths: Sequence[int]) -> None:
        super().__init__()
        width, hyper = widths
        self.stride, self.sides, self.channels = COARSE, (COARSE, FINE), (hyper, width)
        self.analysis = halving(width)
        self.heads = conv(width, 2 * width, 5, 2)
        self.hyper_analysis = nn.Sequential(
            conv(width, hyper, 3), nn.ReLU(), conv(hyper, hyper, 5, 2), nn.ReLU(), conv(hyper, 2 * hyper, 5, 2, False)
        )
        self.combined = StatisticsPair(width)
        self.top = nn.Parameter(torch.zeros(hyper))
        hyper_synthesis = nn.Sequential(
            up(hyper, hyper), nn.ReLU(), up(hyper, hyper), nn.ReLU(), conv(hyper, 2 * width, 3)
        )
        self.pieces = nn.ModuleDict({"prior": top_prior(hyper), "hyper_synthesis": hyper_synthesis})
        self.synthesis = doubling(width)

    def infer(self, x: Tensor) -> list[Tensor]:
        feature = self.heads(self.analysis(x))
        return [self.hyper_analysis(feature.chunk(2, dim=1)[0]), feature]

    def statistics(self, level: int, feature: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        if level == 1:
            mean, spread = self.combined(feature, prior)
        else:
            mean, spread = feature.chunk(2, dim=1)
        return mean, spread

    def generate(self, pieces: Mapping[str, Network], like: Tensor, size: ImageSize, draw: Draw) -> Tensor:
        z2 = draw(0, _prior(pieces["prior"](self._tiled_top(like, size))))
        return draw(1, _prior(pieces["hyper_synthesis"](z2)))


class FourLevelVAE(LossyVAE):
    """A VAE of four levels. widths: at 1/16 and at 1/64."""

    def __init__(self, *, widths: Sequence[int]) -> None:
        super().__init__()
        width, hyper = widths
        self.stride, self.sides = COARSE, (COARSE, COARSE, FINE, FINE)
        self.channels = (hyper, hyper, width, width)
        self.inference = FourLevelInference(width, hyper)
        self.combined = nn.ModuleList([StatisticsPair(channels) for channels in self.channels])
        self.top = nn.Parameter(torch.zeros(hyper))
        self.pieces = nn.ModuleDict(_priors(width, hyper) | _merges(width, hyper))
        self.synthesis = doubling(width)

    def infer(self, x: Tensor) -> Sequence[Tensor]:
        return self.inference(x)

    def statistics(self, level: int, feature: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
        mean, spread = self.combined[level](feature, prior)
        return mean, spread

    def generate(self, pieces: Mapping[str, Network], like: Tensor, size: ImageSize, draw: Draw) -> Tensor:
        """Draw level by level; each level's features reach all later ones."""
        features = [pieces["top"](self._tiled_top(like, size))]
        prior, state = _prior(pieces["prior0"](features[0])), like
        for level, channels in enumerate(self.channels):
            if level:
                mean, spread, feature = pieces[f"prior{level}"](state).split(channels, dim=1)
                features.append(feature)
                prior = Prior(mean, spread, mean)
            z = draw(level, prior)
            earlier = [pieces[f"connect{k}_{level}"](feature) for k, feature in enumerate(features[:-1])]
            state = pieces[f"merge{level}"](torch.cat([z, features[-1], *earlier], dim=1))
        return state


def _priors(width: int, hyper: int) -> dict[str, nn.Module]:
    """Build what leads from a level's state to the next one's mean, spread and features."""
    fine_heads, coarse_heads = conv(width, 3 * width, 3), conv(hyper, 3 * hyper, 3)
    fine: list[nn.Module] = []
    for _ in range(2):
        fine += [conv(width, width, 3), GDN(width, inverse=True)]
    return {
        "top": nn.Sequential(conv(hyper, hyper, 3)),
        "prior0": nn.Sequential(nn.ELU(), conv(hyper, 2 * hyper, 3)),
        "prior1": nn.Sequential(conv(hyper, hyper, 3), nn.ELU(), conv(hyper, hyper, 3), nn.ELU(), coarse_heads),
        "prior2": nn.Sequential(up(hyper, hyper), nn.ELU(), up(hyper, hyper), nn.ELU(), conv(hyper, 3 * width, 3)),
        "prior3": nn.Sequential(*fine, fine_heads),
    }


def _merges(width: int, hyper: int) -> dict[str, nn.Module]:
    """Build what leads from z, its level's features and all earlier ones to the state, 1x1."""
    merges: dict[str, nn.Module] = {}
    for level, channels in enumerate((hyper, hyper, width, width)):
        merges[f"merge{level}"] = nn.Sequential(nn.ELU(), conv((2 + level) * channels, channels, 1))
        for k in range(level):
            is_near = (k < 2) == (level < 2)
            layer = conv(channels, channels, 1) if is_near else up(hyper, channels, 5, 4)
            merges[f"connect{k}_{level}"] = nn.Sequential(layer)
    return merges


class FourLevelInference(nn.Module):
    """Bottom-up: from a picture to mean and spread of each level, as they are drawn."""

    def __init__(self, width: int, hyper: int) -> None:
        super().__init__()
        self.analysis = halving(width)
        self.skip = conv(width, width, 9, 8)
        self.heads1 = conv(width, 3 * width, 5, 2)
        self.join2 = conv(2 * width, width, 1)
        self.level2 = nn.Sequential(
            conv(width, width, 3), GDN(width), conv(width, width, 3), GDN(width), conv(width, 3 * width, 3)
        )
        self.into3 = nn.ModuleList([conv(width, width, 1) for _ in range(2)])
        self.join3 = conv(3 * width, width, 1)
        self.level3 = nn.Sequential(
            conv(width, hyper, 3), nn.ELU(), conv(hyper, hyper, 5, 2), nn.ELU(), conv(hyper, 3 * hyper, 5, 2, False)
        )
        self.into4 = nn.ModuleList([conv(width, hyper, 5, 4) for _ in range(3)])
        self.join4 = conv(4 * hyper, hyper, 1)
        self.level4 = nn.Sequential(
            conv(hyper, hyper, 3), nn.ELU(), conv(hyper, hyper, 3), nn.ELU(), conv(hyper, 2 * hyper, 3)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        halved = self.analysis[:2](x)
        skip = self.skip(halved)
        statistics1, feature1 = _split_thirds(self.heads1(self.analysis[2:](halved)))
        statistics2, feature2 = _split_thirds(self.level2(_joined(self.join2, skip, feature1)))
        joined3 = _joined(self.join3, self.into3[0](skip), self.into3[1](feature1), feature2)
        statistics3, feature3 = _split_thirds(self.level3(joined3))
        far = [layer(value) for layer, value in zip(self.into4, (skip, feature1, feature2), strict=True)]
        statistics4 = self.level4(_joined(self.join4, *far, feature3))
        return [statistics4, statistics3, statistics2, statistics1]


def _split_thirds(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread, and features."""
    third = values.shape[1] // 3
    return values[:, : 2 * third], values[:, 2 * third :]


def _joined(layer: nn.Module, *values: Tensor) -> Tensor:
    joined: Tensor = layer(F.elu(torch.cat(values, dim=1)))
    return joined


ARCHITECTURES: dict[str, type[OneLevelVAE] | type[TwoLevelVAE] | type[FourLevelVAE]] = {
    "one_level": OneLevelVAE,
    "two_levels": TwoLevelVAE,
    "four_levels": FourLevelVAE,
}
"""By the names that configurations and model files give."""
