"""Factorized prior: y is coded under one learned density for each channel (Balle, Laparra, Simoncelli, ICLR 2017).

x --g_a--> y --quantize--> y_hat --g_s--> x_hat
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.layers import GDN
from torch import Tensor, nn

from lightning_modules.checkpoints.state_dict import load_weights
from lightning_modules.codec import LatentVariableCodec
from lightning_modules.coding.ans import AnsStack, StackReader
from lightning_modules.coding.container import content_crc
from lightning_modules.coding.tables import TAIL_MASS, CodingTables, tables_from_pmf, total_bits
from lightning_modules.densities import factorized_likelihood, factorized_pmfs, medians, update_medians
from lightning_modules.derived_value import DerivedValue
from lightning_modules.errors import CodingError
from lightning_modules.image_padding import ceil_div, crop
from lightning_modules.quantization import Quantizer
from lightning_modules.records import Coded, Estimate, ImageSize, Integers, Latents, Section, Synthesis

STRIDE = 8


def down(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, 2, padding=2)


def up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, 2, padding=2, output_padding=1)


class FactorizedCodec(LatentVariableCodec):
    """N channels inside the transforms, M channels of y, which is 8 times smaller than x."""

    def __init__(self, *, N: int, M: int, lmbda: float) -> None:
        super().__init__()
        self.hyperparameters = {"N": N, "M": M, "lmbda": lmbda}
        self.g_a = nn.Sequential(down(3, N), GDN(N), down(N, N), GDN(N), down(N, M))
        self.g_s = nn.Sequential(up(M, N), GDN(N, inverse=True), up(N, N), GDN(N, inverse=True), up(N, 3))
        self.entropy_bottleneck = EntropyBottleneck(M)
        self.entropy_bottleneck.quantiles.requires_grad_(False)  # solved for, not trained
        self._tables = DerivedValue[CodingTables]()

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> FactorizedCodec:
        if "g_a.4.weight" not in state:
            raise CodingError("not a factorized prior: it has no g_a.4.weight")
        M, N = state["g_a.4.weight"].shape[:2]
        codec = cls(N=N, M=M, lmbda=float(hyperparameters["lmbda"]))
        load_weights(codec, state, "factorized prior")
        return codec

    def analyze(self, x: Tensor) -> Latents:
        return Latents({"y": self.g_a(x).float()}, (x.shape[-2], x.shape[-1]))

    def generate(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        y_hat = quantize(latents.variables["y"], medians(self.entropy_bottleneck))
        likelihoods = {"y": factorized_likelihood(self.entropy_bottleneck, y_hat)}
        return Synthesis(crop(self.g_s(y_hat).float(), latents.image_size), likelihoods)

    def estimate(self, latents: Latents) -> Estimate:
        self.update()
        pictures = [self._symbols(image) for image in latents.split()]
        bits = [total_bits(self._tables.value, y.ravel(), channels(y.shape)) for y in pictures]
        x_hat = self.synthesize([{"y": y} for y in pictures], latents.image_size)
        return Estimate(x_hat, {"y": torch.tensor(bits)})

    def encode(self, latents: Latents) -> Coded:
        self.update()
        y, stack = self._symbols(latents), AnsStack()
        stack.push(y.ravel(), channels(y.shape), self._tables.value)
        bits = total_bits(self._tables.value, y.ravel(), channels(y.shape))
        return Coded([Section(stack.to_bytes(), content_crc(y))], {"y": bits})

    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        self.update()
        shape = (self.hyperparameters["M"], *ceil_div(image_size, STRIDE))
        least = float(self._tables.value.least_bits.sum() * shape[1] * shape[2])
        found: list[Integers | CodingError] = []
        for reader in [StackReader(sections, least) for sections in files]:
            if reader.fault is None:
                y = reader.pop(channels(shape), self._tables.value).reshape(shape)
                reader.expect_content(content_crc(y))
            found.append(reader.fault or {"y": y})
        return found

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        offset = medians(self.entropy_bottleneck)
        y = torch.from_numpy(np.stack([picture["y"] for picture in integers])).to(offset)
        return crop(self.g_s(y + offset).float(), image_size)

    def _symbols(self, latents: Latents) -> np.ndarray:
        """Return one picture's y, rounded around the medians: (M, h, w) int32."""
        rounded = torch.round(latents.variables["y"] - medians(self.entropy_bottleneck))
        return rounded[0].to("cpu", torch.int32).numpy()

    def update(self) -> bool:
        if self._tables.belongs_to(self._sources()):
            return False
        update_medians(self.entropy_bottleneck)
        self._tables.adopt(tables_from_pmf(*factorized_pmfs(self.entropy_bottleneck, TAIL_MASS)), self._sources())
        return True

    def decoder_state(self) -> dict[str, Tensor]:
        self.update()
        weights = {name: value for name, value in self.state_dict().items() if name.startswith("g_s.")}
        tables = {f"tables.{name}": torch.from_numpy(array) for name, array in self._tables.value.state().items()}
        return {**weights, **tables, "medians": medians(self.entropy_bottleneck)}

    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        stored = {name.removeprefix("tables."): value for name, value in state.items() if name.startswith("tables.")}
        self._tables.adopt(CodingTables.from_state(stored), self._sources())

    def _sources(self) -> dict[str, Tensor]:
        return dict(self.entropy_bottleneck.named_parameters())


def channels(shape: Sequence[int]) -> np.ndarray:
    """Return the table of each element of y, (M, h, w) flattened: its channel."""
    return np.repeat(np.arange(shape[0], dtype=np.int32), shape[1] * shape[2])
