"""The mean-scale hyperprior as a codec: latents on shifted grids, one ANS stream per picture.

    x --g_a--> y ------------------quantize(y, means)-----> y_hat --g_s--> x_hat
               |                          ^  ^
               +--h_a--> z --quantize(z, medians)--> z_hat --h_s--> scales, means

y is coded as integers round(y - means) under zero-mean Gaussians whose sigma is the table entry nearest to
`scales`; z as integers round(z - median) under its learned density (Minnen et al. 2018, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor

from lightning_modules.capabilities import Calibratable, Implying
from lightning_modules.checkpoints.state_dict import load_weights
from lightning_modules.codec import LatentVariableCodec
from lightning_modules.coding.ans import AnsStack, StackReader
from lightning_modules.coding.container import content_crc
from lightning_modules.coding.tables import SCALES, total_bits
from lightning_modules.densities import factorized_likelihood, gaussian_likelihood, medians, update_medians
from lightning_modules.derived_value import CodingState, DerivedValue
from lightning_modules.errors import CodingError
from lightning_modules.exact.network import part_of
from lightning_modules.hyperprior import networks
from lightning_modules.hyperprior.calibration import calibrated_tables
from lightning_modules.hyperprior.coding_parameters import MEAN_BITS, CodingParameters, derive
from lightning_modules.hyperprior.table_mixtures import table_mixtures
from lightning_modules.hyperprior.transforms import PAPERS, Transforms, made_of, read_sizes
from lightning_modules.image_padding import ceil_div, crop
from lightning_modules.quantization import Quantizer, hard_round, uniform_noise
from lightning_modules.records import Coded, Estimate, ImageSize, Integers, Latents, Section, Synthesis

MEAN_UNIT = 2.0**-MEAN_BITS

KIND = "mean-scale hyperprior"

Density = Callable[[GaussianConditional, Tensor, Tensor, Tensor], Tensor]
"""(bounds, y_hat, scales, means) -> the probability of each element; all (B, M, h, w)."""


class HyperpriorCodec(Calibratable, Implying, LatentVariableCodec):
    """Mean-scale hyperprior with N transform channels and M latent channels.

    transforms: the settings of `DeepTransforms` by name; None or none of them: those of the papers, of N channels.
    `forward`, `aux_loss` and `update` keep CompressAI's signatures; parameters keep its names.
    """

    codec_id = 1
    packaged_family = "demo"
    papers: ClassVar[Transforms] = PAPERS

    def __init__(self, *, N: int, M: int, lmbda: float, transforms: Mapping[str, Any] | None = None) -> None:
        if not 0 <= lmbda < math.inf:
            raise CodingError(f"lmbda={lmbda}: the weight of the distortion is at least 0")
        super().__init__()
        self.hyperparameters: dict[str, Any] = {"N": N, "M": M, "lmbda": lmbda}
        if transforms:
            self.hyperparameters["transforms"] = dict(transforms)
        family = made_of(transforms) if transforms else self.papers
        self.g_a = family.analysis(N, M)
        self.g_s = family.synthesis(N, M)
        self.h_a = family.hyper_analysis(N, M)
        self.h_s = family.hyper_synthesis(N, M)
        networks.initialize(self.g_a, self.g_s, self.h_a, self.h_s)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.entropy_bottleneck.quantiles.requires_grad_(False)  # solved for, not trained: see update_medians
        self.gaussian_conditional = GaussianConditional(None)
        self._derived = DerivedValue[CodingState[CodingParameters]]()

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> HyperpriorCodec:
        """Make the codec of named weights; N, M and transforms are read off their shapes. Raises `CodingError`."""
        found = read_sizes(state, KIND)
        if len(state.get("h_s.4.weight", ())) == found.M:
            raise CodingError("not a mean-scale hyperprior, but one of scales alone; give module=hyperprior_scale")
        codec = cls(**found._asdict(), lmbda=float(hyperparameters["lmbda"]))
        load_weights(codec, state, KIND)
        return codec

    # ---- the sender's and the receiver's networks

    def analyze(self, x: Tensor) -> Latents:
        """Compute y (B, M, H/16, W/16) and z (B, N, H/64, W/64) of pictures (B, 3, H, W), sizes rounded up."""
        y = self.g_a(x).float()
        z = self.h_a(y).float()
        return Latents({"y": y, "z": z}, (x.shape[-2], x.shape[-1]))

    def coding_parameters(self, z_hat: Tensor, size: ImageSize) -> tuple[Tensor, Tensor]:
        """Compute scales and means of y, each (B, M, *size), from z_hat; scales are raw, bounded where used."""
        scales, means = crop(self.h_s(z_hat).float(), size).chunk(2, dim=1)
        return scales, means

    def generate(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        return self._generate(latents, quantize, gaussian_likelihood)

    def generate_as_coded(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        """Generate as `generate` does, with y under the densities of the calibrated tables."""
        return self._generate(latents, quantize, table_mixtures(self._derived.value.y_tables).likelihood)

    def _generate(self, latents: Latents, quantize: Quantizer, density: Density) -> Synthesis:
        y, z = latents.variables["y"], latents.variables["z"]
        z_hat = quantize(z, medians(self.entropy_bottleneck))
        scales, means = self.coding_parameters(z_hat, (y.shape[-2], y.shape[-1]))
        y_hat = quantize(y, means)
        likelihoods = {
            "y": density(self.gaussian_conditional, y_hat, scales, means),
            "z": factorized_likelihood(self.entropy_bottleneck, z_hat),
        }
        return Synthesis(crop(self.g_s(y_hat).float(), latents.image_size), likelihoods)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Return x_hat and likelihoods as CompressAI does: under noise while training, with hard rounding otherwise."""
        quantize = uniform_noise if self.training else hard_round
        synthesis = self.generate(self.analyze(x), quantize)
        return {"x_hat": synthesis.x_hat, "likelihoods": synthesis.likelihoods}

    def aux_loss(self) -> Tensor:
        """Return the distance of the bottleneck's quantiles, which are solved for, from their targets."""
        return self.entropy_bottleneck.loss()

    # ---- coding

    def estimate(self, latents: Latents) -> Estimate:
        self.update()
        coded = [self._integers(image) for image in latents.split()]
        bits = [self._bits(integers) for integers in coded]
        x_hat = self.synthesize(coded, latents.image_size)
        return Estimate(x_hat, {name: torch.tensor([image[name] for image in bits]) for name in bits[0]})

    def encode(self, latents: Latents) -> Coded:
        self.update()
        derived, integers = self._derived.value, self._integers(latents)
        stack = AnsStack()  # last in, first out: the receiver needs z first, so z goes in last
        stack.push(integers["y"].ravel(), integers["index"].ravel(), derived.y_tables)
        stack.push(integers["z"].ravel(), _channels(integers["z"].shape), derived.z_tables)
        return Coded([Section(stack.to_bytes(), _content_crc(integers))], self._bits(integers))

    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        self.update()
        derived = self._derived.value
        z_shape = (self.hyperparameters["N"], *ceil_div(image_size, networks.HYPER_STRIDE))
        y_shape = (self.hyperparameters["M"], *ceil_div(image_size, networks.LATENT_STRIDE))
        least_bits = derived.least_bits_of_z(z_shape) + math.prod(y_shape) * float(derived.y_tables.least_bits.min())
        readers = [StackReader(sections, least_bits) for sections in files]
        pictures: dict[StackReader, dict[str, np.ndarray]] = {}
        for reader in _sound(readers):
            pictures[reader] = {"z": reader.pop(_channels(z_shape), derived.z_tables).reshape(z_shape)}
        if sound := _sound(readers):
            z = np.stack([pictures[reader]["z"] for reader in sound])
            for reader, index, mean in zip(sound, *self._coding_parameters(z, y_shape[1:]), strict=True):
                y = reader.pop(index.ravel(), derived.y_tables).reshape(y_shape)
                pictures[reader] |= {"index": index, "mean": mean, "y": y}
        for reader in _sound(readers):
            reader.expect_content(_content_crc(pictures[reader]))
        return [reader.fault or pictures[reader] for reader in readers]

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        device = next(self.parameters()).device
        y_hat = torch.from_numpy(np.stack([_y_hat(picture) for picture in integers])).to(device)
        return crop(self.g_s(y_hat).float(), image_size)

    def _integers(self, latents: Latents) -> Integers:
        """Round one image's latents onto the grids that the decoder will know."""
        y, z = latents.variables["y"], latents.variables["z"]
        z_symbols = _numpy(torch.round(z - medians(self.entropy_bottleneck)))
        index, mean = self._coding_parameters(z_symbols, (y.shape[-2], y.shape[-1]))
        y_symbols = _numpy(torch.round(y - torch.from_numpy(mean).to(y.device) * MEAN_UNIT))
        return {"z": z_symbols[0], "index": index[0], "mean": mean[0], "y": y_symbols[0]}

    def _coding_parameters(self, z: np.ndarray, size: ImageSize) -> tuple[np.ndarray, np.ndarray]:
        """Look up tables and means of y, (B, M, *size), for z (B, N, h, w); sender and receiver both call this."""
        device = next(self.parameters()).device
        index, mean = self._derived.value.parameters(torch.from_numpy(z).to(device), size)
        return index.to("cpu", torch.uint8).numpy(), _numpy(mean)

    def _bits(self, integers: Integers) -> dict[str, float]:
        derived = self._derived.value
        return {
            "y": total_bits(derived.y_tables, integers["y"].ravel(), integers["index"].ravel()),
            "z": total_bits(derived.z_tables, integers["z"].ravel(), _channels(integers["z"].shape)),
        }

    # ---- derived state

    def calibrate(self, pictures: Iterable[Tensor]) -> None:
        """Fit the tables of y to pictures, each (1, 3, H, W) in [0, 1]: fewer bits for what training did not see."""
        self.update()
        coded = [self._integers(self.analyze(x)) for x in pictures]
        y = np.concatenate([image["y"].ravel() for image in coded])
        index = np.concatenate([image["index"].ravel() for image in coded])
        self._derived.adopt(self._derived.value._replace(y_tables=calibrated_tables(y, index, SCALES)), self._sources())

    def update(self, scale_table: Any = None, force: bool = False) -> bool:
        """Derive medians, tables and the integer h_s anew if the weights have changed; return whether they have."""
        del scale_table
        if self._derived.belongs_to(self._sources()) and not force:
            return False
        update_medians(self.entropy_bottleneck)
        self._derived.adopt(derive(self.h_s, self.entropy_bottleneck), self._sources())
        return True

    def decoder_state(self) -> dict[str, Tensor]:
        """Return the weights of g_s, both tables (`tables.z.*`, `tables.y.*`) and the integer h_s (`exact.*`)."""
        self.update()
        weights = {name: value for name, value in self.state_dict().items() if name.startswith("g_s.")}
        return weights | self._derived.value.state()

    @classmethod
    def implied_weights(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of h_s that its stored integers stand for; none where no integers are stored."""
        exact = part_of(state, "exact.")
        if not exact:
            return {}
        N, M, transforms = read_sizes(state, KIND)
        family = made_of(transforms) if transforms else cls.papers
        return CodingParameters.from_state(family.hyper_synthesis(N, M), exact).float_weights()

    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        parameters = CodingParameters.from_state(self.h_s, part_of(state, "exact."))
        self._derived.adopt(CodingState.from_state(state, parameters), self._sources())

    def _sources(self) -> dict[str, Tensor]:
        """Return the weights that derived state depends on, by name."""
        networks = {"h_s": self.h_s, "entropy_bottleneck": self.entropy_bottleneck}
        return {f"{name}.{key}": value for name, part in networks.items() for key, value in part.named_parameters()}


def _sound(readers: Sequence[StackReader]) -> list[StackReader]:
    return [reader for reader in readers if reader.fault is None]


def _content_crc(integers: Integers) -> int:
    """Return the CRC of all that y_hat consists of, so that no other picture can pass."""
    return content_crc(integers["z"], integers["y"], integers["mean"])


def _y_hat(integers: Integers) -> np.ndarray:
    """Return y_hat, (M, h, w) float32, exact for |y_hat| < 2^16."""
    return integers["y"].astype(np.float32) + integers["mean"].astype(np.float32) * np.float32(MEAN_UNIT)


def _numpy(values: Tensor) -> np.ndarray:
    """Return integers of any type as int32."""
    return values.detach().to("cpu", torch.int32).numpy()


def _channels(shape: Sequence[int]) -> np.ndarray:
    """Return the table of each element of z, (N, h, w) flattened: its channel."""
    return np.repeat(np.arange(shape[0], dtype=np.int32), shape[1] * shape[2])
