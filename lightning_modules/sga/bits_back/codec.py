"""The hyperprior whose z is continuous and coded by bits-back (Yang, Bamler, Mandt 2020, section 3.3).

    x --g_a--> y --round--> y_hat --g_s--> x_hat
               |              ^
               +--h_a--> q(z) = N(mean, variance),  z --h_s--> scales, means of y

Net rate: -log2 P(y_hat | z) - log2 p(z) + log2 q(z), for any one z drawn from q.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.ops import LowerBound
from torch import Tensor

from lightning_modules.capabilities import Chained, Implying
from lightning_modules.checkpoints.state_dict import load_weights
from lightning_modules.codec import LatentVariableCodec
from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.densities import gaussian_likelihood
from lightning_modules.derived_value import DerivedValue
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior import networks
from lightning_modules.hyperprior.transforms import PAPERS, made_of, read_sizes
from lightning_modules.image_padding import ceil_div, crop
from lightning_modules.quantization import Quantizer, uniform_noise
from lightning_modules.records import Chain, Coded, Estimate, ImageSize, Integers, Latents, Section, Synthesis
from lightning_modules.sga.bits_back.coding_state import BitsBackState, derive
from lightning_modules.sga.bits_back.densities import (
    FILTERS,
    INIT_SCALE,
    inverse_gaussian_density,
    prior_density,
    sample,
)
from lightning_modules.sga.bits_back.networks import hyper_analysis
from lightning_modules.sga.bits_back.picture_order import Written, write
from lightning_modules.sga.bits_back.posterior import Search
from lightning_modules.sga.bits_back.reading import Reader
from lightning_modules.sga.bits_back.section_header import Mode
from lightning_modules.sga.bits_back.section_header import split as settings_of
from lightning_modules.sga.bits_back.streams import Picture, single
from lightning_modules.training.rate_distortion import bits

KIND = "bits-back hyperprior"

LARGEST_TRAINING_SCALE = 10.0**0.5
"""Upper bound of sigma, in training only: it keeps early samples of z from being ignored (the authors' choice)."""

FINENESS = 0
"""A picture alone is coded with z on multiples of 2^-FINENESS unless a coder says otherwise."""

SAMPLES = 8
"""Of z, for the estimate of the net rate."""

SEARCH = "search"
"""Name, among latents, of a tensor (B, 2): steps of the local optimum of q, and its rate in `RATE_UNIT`."""

Bound = Callable[[Tensor], Tensor]
"""(scales) -> the scales that are used."""

Noise = Callable[[Tensor], Tensor]
"""(tensor) -> standard normal numbers of its shape."""


class BitsBackCodec(Chained, Implying, LatentVariableCodec):
    """A hyperprior with continuous z, coded by bits-back.

    N: transform channels, also of z. M: channels of y. transforms: as `HyperpriorCodec`'s."""

    codec_id = 8
    packaged_family = "bits_back"

    def __init__(self, *, N: int, M: int, lmbda: float, transforms: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.hyperparameters: dict[str, Any] = {"N": N, "M": M, "lmbda": lmbda}
        if transforms:
            self.hyperparameters["transforms"] = dict(transforms)
        family = made_of(transforms) if transforms else PAPERS
        self.g_a = family.analysis(N, M)
        self.g_s = family.synthesis(N, M)
        self.h_a = hyper_analysis(N, M)
        self.h_s = family.hyper_synthesis(N, M)
        networks.initialize(self.g_a, self.g_s, self.h_a, self.h_s)
        self.entropy_bottleneck = EntropyBottleneck(N, filters=FILTERS, init_scale=INIT_SCALE)
        self.entropy_bottleneck.quantiles.requires_grad_(False)  # of no meaning here: z has no grid to be centred
        self.gaussian_conditional = GaussianConditional(None)
        self.least_negative_scale = LowerBound(-LARGEST_TRAINING_SCALE)
        self._derived = DerivedValue[BitsBackState]()

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> BitsBackCodec:
        codec = cls(**read_sizes(state, KIND)._asdict(), lmbda=float(hyperparameters["lmbda"]))
        load_weights(codec, state, KIND)
        return codec

    # ---- networks

    def analyze(self, x: Tensor) -> Latents:
        """Compute y (B, M, H/16, W/16), and mean and log_variance of z given unrounded y, (B, N, H/64, W/64)."""
        y = self.g_a(x).float()
        mean, log_variance = self.h_a(y).float().chunk(2, dim=1)
        return Latents({"y": y, "mean": mean, "log_variance": log_variance}, (x.shape[-2], x.shape[-1]))

    def generate(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        """Generate on the grid of integers, z from torch's generator; likelihoods multiply to the net rate."""
        return self.generate_from(latents, quantize, torch.randn_like)

    def generate_for_training(self, latents: Latents) -> Synthesis:
        """Generate under uniform noise on y, and with the upper bound of sigma."""
        return self._generate(latents, uniform_noise, torch.randn_like, self._bounded)

    def generate_from(self, latents: Latents, quantize: Quantizer, noise: Noise) -> Synthesis:
        """Generate as `generate` does, with the sample of z made of given noise."""
        return self._generate(latents, quantize, noise, _unbounded)

    def _generate(self, latents: Latents, quantize: Quantizer, noise: Noise, bound: Bound) -> Synthesis:
        y = latents.variables["y"]
        y_hat = quantize(y, torch.zeros_like(y))
        likelihoods = self._likelihoods(
            y_hat, latents.variables["mean"], latents.variables["log_variance"], noise, bound
        )
        return Synthesis(crop(self.g_s(y_hat).float(), latents.image_size), likelihoods)

    def _bounded(self, scales: Tensor) -> Tensor:
        """Bound scales by LARGEST_TRAINING_SCALE, with a gradient that passes where it pushes down."""
        return -self.least_negative_scale(-scales)

    def _likelihoods(
        self, y_hat: Tensor, mean: Tensor, log_variance: Tensor, noise: Noise, bound: Bound
    ) -> dict[str, Tensor]:
        """Compute the likelihoods of y_hat and of one sample of z; their product is 2^-(net rate)."""
        epsilon = noise(mean)
        z = sample(mean, log_variance, epsilon)
        scales, means = crop(self.h_s(z).float(), (y_hat.shape[-2], y_hat.shape[-1])).chunk(2, dim=1)
        return {
            "y": gaussian_likelihood(self.gaussian_conditional, y_hat, bound(scales), means),
            "z": prior_density(self.entropy_bottleneck, z),
            "back": inverse_gaussian_density(epsilon, log_variance),
        }

    # ---- coding

    def estimate(self, latents: Latents) -> Estimate:
        """Estimate bits under the coding tables, of the z that `encode` draws. They sum to the net rate: `back` < 0."""
        self.update()
        written = [self._drawn(*_picture(image)) for image in latents.split()]
        x_hat = self.synthesize([one.integers for one in written], latents.image_size)
        return Estimate(x_hat, {name: torch.tensor([one.bits[name] for one in written]) for name in written[0].bits})

    def encode(self, latents: Latents) -> Coded:
        """Encode one image alone, under seeded initial bits. latents: y, and `search` where q is searched for."""
        (coded,) = self.encode_each([latents], lambda pictures: [single(picture, FINENESS) for picture in pictures])
        return coded

    def encode_each(self, images: Sequence[Latents], stream: Callable[[Sequence[Picture]], list[Coded]]) -> list[Coded]:
        """Encode several images in one of the ways of `lightning_modules/sga/bits_back/streams.py`."""
        self.update()
        pictures = [_picture(latents) for latents in images]
        written: list[Written] = []

        def onto(y: np.ndarray, search: Search, stack: AnsStack, fineness: int, mode: Mode) -> Written:
            written.append(write(stack, self._derived.value, y, search, fineness, mode))
            return written[-1]

        symbols = [self._symbols_of_z(y) for y, _ in pictures]
        writers = [Picture(functools.partial(onto, *picture), n) for picture, n in zip(pictures, symbols, strict=True)]
        coded = stream(writers)
        return [self._with_monte_carlo(one, of) for one, of in zip(coded, written, strict=True)]

    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        return self.read_together([(sections, image_size) for sections in files])

    def chain_of(self, sections: Sequence[Section]) -> Chain | None:
        link = settings_of(sections[0].payload)[0].link
        return Chain(link.mark, link.length) if link.length else None

    def read_together(self, files: Sequence[tuple[Sequence[Section], ImageSize]]) -> list[Integers | CodingError]:
        self.update()
        channels = (self.hyperparameters["N"], self.hyperparameters["M"])
        return Reader(self._derived.value, channels).read_each(files)

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        device = next(self.parameters()).device
        y_hat = torch.from_numpy(np.stack([picture["y"] for picture in integers]).astype(np.float32)).to(device)
        return crop(self.g_s(y_hat).float(), image_size)

    def _drawn(self, y: np.ndarray, search: Search) -> Written:
        """Write one image as `streams.single` does, without the section."""
        words = bits_back.most_words(self._symbols_of_z(y))
        stack = bits_back.stack_of(bits_back.seeded_bytes(words))
        return write(stack, self._derived.value, y, search, FINENESS, Mode.SINGLE)

    def _symbols_of_z(self, y: np.ndarray) -> int:
        height, width = ceil_div((y.shape[1], y.shape[2]), networks.HYPER_STRIDE // networks.LATENT_STRIDE)
        return int(self.hyperparameters["N"]) * height * width

    def _with_monte_carlo(self, coded: Coded, written: Written) -> Coded:
        """Add the net rate of a continuous z to the accounts: mean and standard error of some samples, in bits."""
        device = next(self.parameters()).device
        y = torch.from_numpy(written.integers["y"].astype(np.float32)).to(device)
        mean, log_variance = (torch.from_numpy(values).float().to(device)[None] for values in written.q)
        generator = torch.Generator().manual_seed(0)

        def noise(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(like)

        nets = torch.tensor(
            [self._net_bits(y[None], mean, log_variance, noise) for _ in range(SAMPLES)], dtype=torch.float64
        )
        found = {"net_monte_carlo": float(nets.mean()), "net_monte_carlo_error": float(nets.std()) / math.sqrt(SAMPLES)}
        return coded._replace(accounts={**coded.accounts, **found})

    def _net_bits(self, y_hat: Tensor, mean: Tensor, log_variance: Tensor, noise: Noise) -> float:
        likelihoods = self._likelihoods(y_hat, mean, log_variance, noise, _unbounded)
        return sum(float(bits(likelihood)) for likelihood in likelihoods.values())

    # ---- derived state

    def update(self, scale_table: Any = None, force: bool = False) -> bool:
        """Derive integer networks and portable density anew if the weights have changed; return whether they have."""
        del scale_table
        if self._derived.belongs_to(self._sources()) and not force:
            return False
        with torch.inference_mode(False):
            self._derived.adopt(derive(self.h_a, self.h_s, self.entropy_bottleneck), self._sources())
        return True

    def decoder_state(self) -> dict[str, Tensor]:
        """Return g_s, integer h_s and h_a, the density of z, and the answers that check the rest (`exact.*`)."""
        self.update()
        weights = {name: value for name, value in self.state_dict().items() if name.startswith("g_s.")}
        return weights | self._derived.value.state()

    @classmethod
    def implied_weights(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of h_s and h_a that their stored integers stand for; none where none are stored."""
        if not any(name.startswith("exact.") for name in state):
            return {}
        N, M, transforms = read_sizes(state, KIND)
        family = made_of(transforms) if transforms else PAPERS
        return BitsBackState.from_state(hyper_analysis(N, M), family.hyper_synthesis(N, M), state).float_weights()

    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        self._derived.adopt(BitsBackState.from_state(self.h_a, self.h_s, state), self._sources())

    def _sources(self) -> dict[str, Tensor]:
        parts = {"h_a": self.h_a, "h_s": self.h_s, "entropy_bottleneck": self.entropy_bottleneck}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.named_parameters()}


def _unbounded(scales: Tensor) -> Tensor:
    return scales


def _picture(latents: Latents) -> tuple[np.ndarray, Search]:
    """Return one image's y, rounded, and how its q is searched for."""
    y = torch.round(latents.variables["y"][0]).detach().to("cpu", torch.int32).numpy()
    found = latents.variables.get(SEARCH)
    return y, Search(0, 0) if found is None else Search(*(int(value) for value in found[0]))
