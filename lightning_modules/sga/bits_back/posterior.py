"""The posterior q(z | y_hat), found alike by sender and receiver to the last bit: h_a's answer, improved.

    mean, log_variance = h_a(y_hat)                                        an integer network
    at each step:  z = mean + exp(log_variance / 2) noise                  noise: a counter-based generator, by step
                   scales, means = h_s(z), and back                        integer networks
                   Adam on -ln P(y_hat | z) - ln p(z) + ln q(z)            with respect to mean and log_variance

It sees y_hat and never the picture, so the receiver, who knows y_hat by then, repeats it. Sums of products are exact
(`lightning_modules/exact/gradient.py`); everything else is one correctly rounded operation a number in float64
(`lightning_modules/exact/numpy_functions.py`). Whether this machine does what the model's maker's did is asked once, by
a known answer.
"""

from __future__ import annotations

import functools
import math
import zlib
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.errors import CodingError
from lightning_modules.exact.gradient import ExactGradient
from lightning_modules.exact.network import LIMIT, ExactNetwork
from lightning_modules.exact.numpy_functions import exp, normal_quantiles
from lightning_modules.exact.products import products
from lightning_modules.sga.bits_back.box_gradient import box_gradient
from lightning_modules.sga.bits_back.portable_density import PortableDensity

Float64s = NDArray[np.float64]
Int32s = NDArray[np.int32]

POSTERIOR_BITS = 12
"""Fractional bits in which h_a gives means and logarithms of variances."""

LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE = -14.0, 6.0
"""Deviations from 1/1100 to 20: grids and frequencies are made for no others."""

NOISE_LEVELS = 4096
NOISE_SEED = 0x5EED
BETAS = (0.9, 0.999)
EPSILON = 1e-8

RATE_UNIT = 2.0**-16
"""The optimizer's rate is stored in this unit."""

MOST_STEPS = 20000


class Search(NamedTuple):
    """The search for q from h_a's answer. steps: of the optimizer, 0 for none. rate: its step size in `RATE_UNIT`."""

    steps: int
    rate: int


class Gaussians(NamedTuple):
    """Independent Gaussians, one for each element of z: (N, h, w) each, float64."""

    mean: Float64s
    log_variance: Float64s

    @property
    def deviation(self) -> Float64s:
        return exp(0.5 * self.log_variance)


class Posterior:
    """The way from y_hat, (M, h, w) integers, to q.

    answer: the known answer of the machine that exported the model; None: computed here. Raises `CodingError` when this
    machine computes another one.
    """

    def __init__(
        self, h_a: ExactNetwork, h_s: ExactNetwork, density: PortableDensity, answer: int | None = None
    ) -> None:
        self.h_a, self.h_s, self.density = h_a, h_s, density
        ways = [ExactGradient(h_s, product) for product in products(torch.device("cpu"))]
        self.answer = self._answer(ways[-1]) if answer is None else answer
        agreeing = (way for way in ways if self._answer(way) == self.answer)
        fastest = next(agreeing, None)
        if fastest is None:
            raise CodingError(
                "this machine finds another q(z) than the model's known answer, so bits-back files would decode to "
                "garbage here; use another machine, and report it"
            )
        self.gradient = fastest

    def __call__(self, y: Int32s, search: Search) -> Gaussians:
        q = self.amortized(y)
        return self._refined(y, q, search) if search.steps else q

    def amortized(self, y: Int32s) -> Gaussians:
        """Return h_a's own answer."""
        fraction = int(self.h_a.fractions[0])
        found = self.h_a(torch.from_numpy(y[None].astype(np.float64)) * 2.0**fraction)[0].numpy()
        mean, log_variance = np.split(found * 2.0**-POSTERIOR_BITS, 2)
        return Gaussians(mean, np.clip(log_variance, LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE))

    def _refined(self, y: Int32s, q: Gaussians, search: Search) -> Gaussians:
        """Improve q by Adam, whose random numbers and bias corrections depend on the step alone."""
        y_hat, rate = y.astype(np.float64), search.rate * RATE_UNIT
        state = np.stack(q)
        average, square = np.zeros_like(state), np.zeros_like(state)
        decays = [1.0, 1.0]
        for step in range(search.steps):
            gradient = self.slope(y_hat, Gaussians(*state), noise(step, state[0].shape))
            average = BETAS[0] * average + (1.0 - BETAS[0]) * gradient
            square = BETAS[1] * square + (1.0 - BETAS[1]) * (gradient * gradient)
            decays = [decay * beta for decay, beta in zip(decays, BETAS, strict=True)]
            spread = np.sqrt(square / (1.0 - decays[1])) + EPSILON
            state = state - rate * ((average / (1.0 - decays[0])) / spread)
            state[1] = np.clip(state[1], LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE)
        return Gaussians(*state)

    def slope(self, y_hat: Float64s, q: Gaussians, epsilon: Float64s) -> Float64s:
        """Compute the gradient of the net rate in nats, (2, N, h, w), by mean and log_variance, for one noise.

        The entropy of q is known, so that ln q(z) adds -1/2 to each log_variance without any noise.
        """
        spread = q.deviation * epsilon
        z = q.mean + spread
        by_z = self._slope_of_y(y_hat, z) + self.density.surprise_slope(z.reshape(len(z), -1)).reshape(z.shape)
        return np.stack([by_z, 0.5 * (by_z * spread) - 0.5])

    def _slope_of_y(self, y_hat: Float64s, z: Float64s) -> Float64s:
        """Compute d/dz of -ln P(y_hat | z)."""
        unit = 2.0 ** int(self.h_s.fractions[0])
        integers = np.clip(np.rint(z * unit), -LIMIT, LIMIT - 1)
        passed = self.gradient.forward(torch.from_numpy(integers[None]))
        units = 2.0 ** -self.h_s.fractions[-1].double().numpy().reshape(-1, 1, 1)
        output = passed[-1][0].numpy() * units
        height, width = y_hat.shape[-2:]
        scale, mean = np.split(output[:, :height, :width], 2)
        gradient = np.zeros_like(output)
        gradient[:, :height, :width] = np.concatenate(box_gradient(y_hat, scale, mean))
        return self.gradient.backward(passed, (gradient * units)[None])[0] * unit

    def _answer(self, gradient: ExactGradient) -> int:
        """Compute the CRC-32 of what a fixed y_hat leads to, in 2^-20, and of a table of the density."""
        self.gradient = gradient
        channels = self.h_s.fractions[-1].numel() // 2
        count = np.arange(channels * 7 * 5, dtype=np.int64)
        y = (count * 40503 % 251 % 7 - 3).astype(np.int32).reshape(channels, 7, 5)
        q = self._refined(y, self.amortized(y), Search(3, 512))
        table = self.density.cdf((np.arange(64) - 31.5) / 4) * 2.0**24
        crc = 0
        for values in (q.mean * 2.0**20, q.log_variance * 2.0**20, table):
            crc = zlib.crc32(np.floor(values).astype("<i8").tobytes(), crc)
        return crc


@functools.cache
def _levels() -> Float64s:
    """Return (NOISE_LEVELS,) equally likely values, symmetric, of variance 1 within 1e-3: a Gaussian in steps."""
    return normal_quantiles(NOISE_LEVELS)


def noise(step: int, shape: tuple[int, ...]) -> Float64s:
    """Draw standard normal numbers as a function of step and place alone: Philox4x64, counter = step * 2^32."""
    count = math.prod(shape)
    words = np.random.Philox(key=NOISE_SEED, counter=step << 32).random_raw(-(-count // 4))
    sixteens = words.astype("<u8").view("<u2")[:count]
    return _levels()[sixteens >> 4].reshape(shape)
