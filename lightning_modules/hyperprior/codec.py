"""The mean-scale hyperprior as a codec: latents on shifted grids, one ANS stream per picture.

    x --g_a--> y ------------------quantize(y, means)-----> y_hat --g_s--> x_hat
               |                          ^  ^
               +--h_a--> z --quantize(z, medians)--> z_hat --h_s--> scales, means

y is coded as integers round(y - means) under zero-mean Gaussians whose sigma is the table entry nearest to
`scales`; z as integers round(z - median) under its learned density (Minnen et al. 2018, section 3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor, nn

from lightning_modules.codec import (
    Coded,
    CodingError,
    DamagedFile,
    Estimate,
    ImageSize,
    Latents,
    LatentVariableCodec,
    Quantizer,
    Section,
    Synthesis,
)
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import content_crc, fingerprint
from lightning_modules.coding.damage import damaged
from lightning_modules.coding.tables import (
    SCALES,
    CodingTables,
    gaussian_tables,
    nearest_scale_index,
    tables_from_pmf,
)
from lightning_modules.hyperprior import networks
from lightning_modules.hyperprior.calibration import calibrated_tables
from lightning_modules.hyperprior.densities import (
    factorized_likelihood,
    factorized_pmfs,
    gaussian_likelihood,
    medians,
    update_medians,
)
from lightning_modules.image_padding import ceil_div, crop
from lightning_modules.quantization import hard_round, uniform_noise

TAIL_MASS = 2.0**-26
"""Probability left to the escape symbol of each table of z."""


@functools.cache
def scale_tables() -> CodingTables:
    """The tables of y: one for each sigma of the ladder, the same for every model."""
    return gaussian_tables(SCALES)


Method = TypeVar("Method", bound=Callable[..., Any])


def full_precision(method: Method) -> Method:
    """Run a codec's method without gradients and in float32, also under a trainer of mixed precision.

    What sender and receiver compute must not depend on the precision that either was trained or started with.
    """

    @functools.wraps(method)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        device = next(self.parameters()).device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return method(self, *args, **kwargs)

    return cast(Method, run)


class _Symbols(NamedTuple):
    """One picture's integers in coding order, and the table each is coded with (1-D int arrays)."""

    z: np.ndarray
    z_tables: np.ndarray
    y: np.ndarray
    y_tables: np.ndarray


class HyperpriorCodec(LatentVariableCodec):
    """Mean-scale hyperprior with N transform channels and M latent channels.

    `forward`, `aux_loss` and `update` keep CompressAI's signatures; parameters keep its names.
    """

    codec_id = 1

    def __init__(self, *, N: int, M: int, lmbda: float) -> None:
        super().__init__()
        self.hyperparameters: dict[str, Any] = {"N": N, "M": M, "lmbda": lmbda}
        self.g_a = networks.analysis(N, M)
        self.g_s = networks.synthesis(N, M)
        self.h_a = networks.hyper_analysis(N, M)
        self.h_s = networks.hyper_synthesis(N, M)
        networks.initialize(self.g_a, self.g_s, self.h_a, self.h_s)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.entropy_bottleneck.quantiles.requires_grad_(False)  # solved for, not trained: see update_medians
        self.gaussian_conditional = GaussianConditional(None)
        self._tables: tuple[CodingTables, CodingTables] | None = None
        self._tables_fingerprint = b""

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> HyperpriorCodec:
        """N and M are read off the last layer of g_a, (M, N, 5, 5)."""
        last = state.get("g_a.6.weight")
        if last is None or last.ndim != 4:
            raise CodingError("not a mean-scale hyperprior: it has no g_a.6.weight of 4 dimensions")
        codec = cls(N=last.shape[1], M=last.shape[0], lmbda=float(hyperparameters["lmbda"]))
        wanted = dict(codec.named_parameters())  # buffers are constants and tables: none of them is learned
        faults = [f"missing {name}" for name in wanted if name not in state]
        faults += [f"unexpected {name}" for name in state if name not in codec.state_dict()]
        faults += [
            f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in state and state[name].shape != value.shape
        ]
        if faults:
            more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise CodingError(f"not a mean-scale hyperprior of this shape: {'; '.join(faults[:3])}{more}")
        codec.load_state_dict({name: state[name] for name in wanted}, strict=False)
        return codec

    # ---- the sender's and the receiver's networks

    def analyze(self, x: Tensor) -> Latents:
        """(B, 3, H, W) -> y (B, M, H/16, W/16) and z (B, N, H/64, W/64), sizes rounded up."""
        y = self.g_a(x)
        return Latents({"y": y.float(), "z": self.h_a(y).float()}, (x.shape[-2], x.shape[-1]))

    def coding_parameters(self, z_hat: Tensor, size: ImageSize) -> tuple[Tensor, Tensor]:
        """z_hat -> scales, means of y, each (B, M, *size); scales are raw, bounded where they are used."""
        scales, means = crop(self.h_s(z_hat).float(), size).chunk(2, dim=1)
        return scales, means

    def generate(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        y, z = latents.variables["y"], latents.variables["z"]
        z_hat = quantize(z, medians(self.entropy_bottleneck))
        scales, means = self.coding_parameters(z_hat, (y.shape[-2], y.shape[-1]))
        y_hat = quantize(y, means)
        likelihoods = {
            "y": gaussian_likelihood(self.gaussian_conditional, y_hat, scales, means),
            "z": factorized_likelihood(self.entropy_bottleneck, z_hat),
        }
        return Synthesis(crop(self.g_s(y_hat).float(), latents.image_size), likelihoods)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """CompressAI's signature: noise while training, hard rounding otherwise."""
        quantize = uniform_noise if self.training else hard_round
        synthesis = self.generate(self.analyze(x), quantize)
        return {"x_hat": synthesis.x_hat, "likelihoods": synthesis.likelihoods}

    def aux_loss(self) -> Tensor:
        """Distance of the bottleneck's quantiles from their targets; zero gradient is owed to it here."""
        return self.entropy_bottleneck.loss()

    # ---- coding

    @full_precision
    def estimate(self, latents: Latents) -> Estimate:
        self.update()
        x_hats, bits = [], []
        for image in _split(latents):
            symbols, y_hat = self._symbols(image)
            bits.append(self._bits(symbols))
            x_hats.append(crop(self.g_s(y_hat).float(), image.image_size))
        return Estimate(torch.cat(x_hats), {name: torch.tensor([image[name] for image in bits]) for name in bits[0]})

    @full_precision
    def encode(self, latents: Latents) -> Coded:
        self.update()
        z_tables, y_tables = self._require_tables()
        symbols, _ = self._symbols(latents)
        stack = AnsStack()  # last in, first out: the receiver needs z first, so z goes in last
        stack.push(symbols.y, symbols.y_tables, y_tables)
        stack.push(symbols.z, symbols.z_tables, z_tables)
        section = Section(stack.to_bytes(), content_crc(symbols.z, symbols.y))
        return Coded([section], self._bits(symbols))

    @full_precision
    def decode(self, sections: Sequence[Section], image_size: ImageSize) -> Tensor:
        self.update()
        if len(sections) != 1:
            raise damaged(f"a hyperprior file has 1 section, this one {len(sections)}")
        z_tables, y_tables = self._require_tables()
        stack = AnsStack.from_bytes(sections[0].payload)
        z_shape = (1, self.hyperparameters["N"], *ceil_div(image_size, networks.HYPER_STRIDE))
        z = stack.pop(_channel_index(z_shape), z_tables)
        z_hat = self._dequantize_z(z, z_shape)
        y_size = ceil_div(image_size, networks.LATENT_STRIDE)
        scales, means = self.coding_parameters(z_hat, y_size)
        y = stack.pop(_flat(nearest_scale_index(scales)), y_tables)
        stack.expect_empty()
        if content_crc(z, y) != sections[0].content_crc:
            raise DamagedFile(
                "its latents decode to other values than were coded: this machine computes other coding parameters "
                "than the one that wrote it; decode it there, or with the same versions and thread count"
            )
        y_hat = torch.from_numpy(y).to(means.device).reshape(means.shape) + means
        return crop(self.g_s(y_hat).float(), image_size)

    def _symbols(self, latents: Latents) -> tuple[_Symbols, Tensor]:
        """Hard-rounded integers of one image on the grids that `generate` uses, and y_hat (1, M, h, w)."""
        y, z = latents.variables["y"], latents.variables["z"]
        z_symbols = torch.round(z - medians(self.entropy_bottleneck))
        z_hat = self._dequantize_z(_flat(z_symbols), z.shape)
        scales, means = self.coding_parameters(z_hat, (y.shape[-2], y.shape[-1]))
        y_symbols = torch.round(y - means)
        indices = _flat(nearest_scale_index(scales))
        symbols = _Symbols(_flat(z_symbols), _channel_index(z.shape), _flat(y_symbols), indices)
        return symbols, y_symbols + means

    def _bits(self, symbols: _Symbols) -> dict[str, float]:
        z_tables, y_tables = self._require_tables()
        return {
            "y": float(y_tables.bits(symbols.y, symbols.y_tables).sum()),
            "z": float(z_tables.bits(symbols.z, symbols.z_tables).sum()),
        }

    def _dequantize_z(self, symbols: np.ndarray, shape: Sequence[int]) -> Tensor:
        """Integers -> z_hat (1, N, h, w), by the same arithmetic in sender and receiver."""
        offset = medians(self.entropy_bottleneck)
        return torch.from_numpy(symbols).to(offset.device).reshape(tuple(shape)) + offset

    # ---- derived state

    @full_precision
    def calibrate(self, pictures: Iterable[Tensor]) -> None:
        """Fit the tables of y to pictures, each (1, 3, H, W) in [0, 1]: fewer bits for what training did not see."""
        self.update()
        z_tables, _ = self._require_tables()
        symbols = [self._symbols(self.analyze(x))[0] for x in pictures]
        y = np.concatenate([image.y for image in symbols])
        indices = np.concatenate([image.y_tables for image in symbols])
        self._adopt(z_tables, calibrated_tables(y, indices, SCALES))

    def update(self, scale_table: Any = None, force: bool = False) -> bool:
        """Solve the medians and rebuild the coding tables if the weights changed since; True if they did."""
        del scale_table
        current = fingerprint(dict(self.entropy_bottleneck.named_parameters()))
        if self._tables is not None and current == self._tables_fingerprint and not force:
            return False
        update_medians(self.entropy_bottleneck)
        z_tables = tables_from_pmf(*factorized_pmfs(self.entropy_bottleneck, TAIL_MASS))
        self._adopt(z_tables, scale_tables())
        return True

    def decoder_state(self) -> dict[str, Tensor]:
        """Weights of g_s, h_s and the bottleneck, and both tables (`tables.z.*`, `tables.y.*`)."""
        self.update()
        z_tables, y_tables = self._require_tables()
        state = {
            name: value
            for name, value in self.state_dict().items()
            if name.split(".")[0] in ("g_s", "h_s") or name == "entropy_bottleneck.quantiles"
        }
        for prefix, tables in (("tables.z", z_tables), ("tables.y", y_tables)):
            state |= {f"{prefix}.{name}": torch.from_numpy(value) for name, value in tables.state().items()}
        return state

    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        z_tables, y_tables = (
            CodingTables.from_state(
                {
                    name.removeprefix(f"{prefix}."): value
                    for name, value in state.items()
                    if name.startswith(f"{prefix}.")
                }
            )
            for prefix in ("tables.z", "tables.y")
        )
        self._adopt(z_tables, y_tables)

    def _adopt(self, z_tables: CodingTables, y_tables: CodingTables) -> None:
        self._tables = (z_tables, y_tables)
        self._tables_fingerprint = fingerprint(dict(self.entropy_bottleneck.named_parameters()))

    def _require_tables(self) -> tuple[CodingTables, CodingTables]:
        assert self._tables is not None, "update() builds the tables"
        return self._tables


def _flat(values: Tensor) -> np.ndarray:
    """Any tensor of integers -> int32 (n,), in channel-major raster order."""
    return values.detach().to("cpu", torch.int32).reshape(-1).numpy()


def _channel_index(shape: Sequence[int]) -> np.ndarray:
    """Table index of each element of z, (1, N, h, w) flattened: its channel."""
    return np.repeat(np.arange(shape[1], dtype=np.int32), shape[2] * shape[3])


def _split(latents: Latents) -> list[Latents]:
    """A batch as single images."""
    count = next(iter(latents.variables.values())).shape[0]
    return [
        Latents({name: value[i : i + 1] for name, value in latents.variables.items()}, latents.image_size)
        for i in range(count)
    ]
