"""Progressive SIC as a codec: a file has z and L groups of y, and a receiver decodes as many as it has or wants.

    x --ga--> y --------round--> groups 1 ... l, detail for the rest --gs--> x_hat
              |                    |             |
              +--ha--> z --round-->+--hs---------+        section k: group k; section 1: the detail's seed and z, too

Coding parameters come from integers (`lightning_modules/sic/coding_parameters.py`): the sender, who knows y, has those
of a group at once, the receiver front by front, and both have the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.capabilities import Formats, Implying, ManyPictured, Progressive, ReadingOthers
from lightning_modules.codec import LatentVariableCodec
from lightning_modules.coding.container import content_crc
from lightning_modules.coding.tables import total_bits
from lightning_modules.densities import factorized_likelihood, medians, update_medians
from lightning_modules.derived_value import CodingState, DerivedValue
from lightning_modules.errors import CodingError
from lightning_modules.exact.network import part_of
from lightning_modules.quantization import Quantizer
from lightning_modules.records import Coded, Estimate, ImageSize, Integers, Latents, Section, Synthesis
from lightning_modules.sic.coding_parameters import CodingParameters, derive
from lightning_modules.sic.decoding_options import Address, Readable, Reading
from lightning_modules.sic.group_coding import GroupSymbols, symbols_of
from lightning_modules.sic.hyper_networks import hyper_synthesis
from lightning_modules.sic.networks import SicNetworks, sizes_of
from lightning_modules.sic.official_checkpoint import official_weights
from lightning_modules.sic.rates import lattice_likelihood
from lightning_modules.sic.sections import Read, SicReader, write_sections

CODED_BY = ("hs.", "context_model.", "entropy_parameters.", "entropy_bottleneck.")
"""The weights that tables and integers follow from, by the beginning of their names."""


class _ToCode(NamedTuple):
    """The integers of one picture to code. z: (N, h, w). y: (k g, 4 h, 4 w), the first groups.

    hyper: from `CodingParameters.hyper`.
    """

    z: np.ndarray
    y: np.ndarray
    hyper: Tensor
    groups: list[GroupSymbols]


class SicCodec(Readable, SicNetworks, Progressive, ManyPictured, Implying, ReadingOthers, LatentVariableCodec):
    """`SicNetworks` with files. The arguments are those of conf/networks/sic.yaml.

    reading: the level and the detail with which it codes and decodes.
    """

    codec_id = 16
    packaged_family = "sic"
    checkpoint_formats: ClassVar[Formats] = {"sic": official_weights}

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
        self.reading = Reading()
        self._derived = DerivedValue[CodingState[CodingParameters]]()

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> SicCodec:
        """Make the codec of weights by name, all sizes read off them; raises as `sizes_of` and `load_weights` do."""
        del hyperparameters
        codec = cls(**sizes_of(state))
        codec.load_weights(state)
        return codec

    @property
    def levels(self) -> int:
        """Return the number of levels of rate: one for each group."""
        return self.groups

    def leading_sections(self) -> int | None:
        return self.reading.level

    # ---- latents, estimates

    def analyze(self, x: Tensor) -> Latents:
        """Compute y (B, C, h, w) and z of pictures (B, 3, H, W), continued to the stride."""
        y, z = self.latents_of(x)
        return Latents({"y": y, "z": z}, (x.shape[-2], x.shape[-1]))

    def estimate(self, latents: Latents) -> Estimate:
        """Estimate at the level that `reading` names, the top one by default; see `estimate_at`."""
        return self.estimate_at(self._level(), latents)

    def estimate_at(self, level: int, latents: Latents) -> Estimate:
        """Estimate bits of `z` and of the groups that a level codes, `y1`, `y2` ..., and x_hat with detail."""
        self.update()
        parts = [self._to_code(image, level) for image in latents.split()]
        bits = [self._bits(part) for part in parts]
        pictures = [self._with_detail(Read(self._seed(part.z), part.z, part.y, part.hyper)) for part in parts]
        device = next(self.parameters()).device
        return Estimate(
            self.synthesize(pictures, latents.image_size),
            {name: torch.tensor([one[name] for one in bits], device=device) for name in bits[0]},
        )

    def generate(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        """Generate at the level of `reading`, with the detail of a file; likelihoods are named as bits are.

        Coding parameters are the networks' own, which files only come near to.
        """
        level, z = self._level(), latents.variables["z"]
        coded, width = level * self.group_width, self.group_width
        z_hat = quantize(z, medians(self.entropy_bottleneck).expand_as(z))
        y_hat = quantize(latents.variables["y"], torch.zeros_like(latents.variables["y"]))
        hyper = self.features_of_z(z_hat)
        scales, means = self.parameters_of_y(hyper, y_hat)
        rates = lattice_likelihood(self.gaussian_conditional, y_hat, scales, means)[:, :coded].split(width, dim=1)
        detail = [
            self.reading.draw(of_image[self.channels + coded :], Address(self._seed(symbols), 0, coded))
            for of_image, symbols in zip(hyper, _int32(z - medians(self.entropy_bottleneck)), strict=True)
        ]
        complete = torch.cat([y_hat[:, :coded], torch.stack(detail).to(y_hat)], dim=1)
        x_hat = self.picture_of(complete, latents.image_size)
        likelihoods = {"z": factorized_likelihood(self.entropy_bottleneck, z_hat)}
        return Synthesis(x_hat, likelihoods | {f"y{number}": rate for number, rate in enumerate(rates, 1)})

    # ---- files

    def encode(self, latents: Latents) -> Coded:
        """Encode sections 1 to the level of `reading`. accounts: `level_l`, the bits of payload up to there."""
        self.update()
        derived = self._derived.value
        part = self._to_code(latents, self._level())
        sections = write_sections(derived, self._seed(part.z), part.z, part.y, part.groups)
        lengths = np.cumsum([8.0 * len(section.payload) for section in sections])
        accounts = {f"level_{number}": float(bits) for number, bits in enumerate(lengths, 1)}
        return Coded(sections, self._bits(part), accounts)

    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        """Read `seed`, `z`, decoded channels of `y`, and `detail` (samples, c, h, w) for its other channels."""
        self.update()
        found: list[Integers | CodingError] = []
        for sections in files:
            try:
                if self.reading.level is not None and len(sections) < self.reading.level:
                    raise CodingError(f"has no level above {len(sections)}; give sic.level={len(sections)} or less")
                read = SicReader(self._derived.value, sections, self._z_shape(image_size)).read()
                found.append(self._with_detail(read))
            except CodingError as error:
                found.append(error)
        return found

    def synthesize(self, integers: Sequence[Integers], image_size: ImageSize) -> Tensor:
        return self.picture_of(self._y_hat([(picture, 0) for picture in integers]), image_size)

    def further_pictures(self, integers: Integers, image_size: ImageSize) -> list[Tensor]:
        """Synthesize the second and further samples."""
        samples = range(1, len(integers["detail"]))
        return [self.picture_of(self._y_hat([(integers, sample)]), image_size) for sample in samples]

    def _y_hat(self, chosen: Sequence[tuple[Integers, int]]) -> Tensor:
        """Return y_hat, (B, C, h, w) float32, of pictures and the numbers of their samples."""
        y_hat = [np.concatenate([picture["y"], picture["detail"][sample]]) for picture, sample in chosen]
        return torch.from_numpy(np.stack(y_hat).astype(np.float32)).to(next(self.parameters()).device)

    def _to_code(self, latents: Latents, level: int) -> _ToCode:
        """Round one image's latents, and find what to code of its first groups."""
        z = _int32(latents.variables["z"] - medians(self.entropy_bottleneck))
        y = _int32(latents.variables["y"])
        parameters = self._derived.value.parameters
        hyper, values = parameters.hyper(torch.from_numpy(z)), torch.from_numpy(y).double()
        groups = [symbols_of(parameters, hyper, values, group)[0] for group in range(level)]
        return _ToCode(z[0], y[0, : level * self.group_width], hyper, groups)

    def _with_detail(self, read: Read) -> Integers:
        means = self._derived.value.parameters.hyper_means(read.hyper)[0, len(read.y) :]
        samples = range(self.reading.samples)
        detail = [self.reading.draw(means, Address(read.seed, sample, len(read.y))) for sample in samples]
        return {"seed": np.array([read.seed]), "z": read.z, "y": read.y, "detail": _int32(torch.stack(detail))}

    def _bits(self, part: _ToCode) -> dict[str, float]:
        derived, z = self._derived.value, part.z
        of_z = total_bits(derived.z_tables, z.ravel(), np.repeat(np.arange(len(z)), z[0].size))
        of_groups = [total_bits(derived.y_tables, group.symbols.ravel(), group.keys.ravel()) for group in part.groups]
        return {"z": of_z} | {f"y{number}": bits for number, bits in enumerate(of_groups, 1)}

    def _level(self) -> int:
        level = self.reading.level or self.levels
        if level > self.levels:
            raise CodingError(f"sic.level={level}: this model has levels 1 to {self.levels}")
        return level

    def _seed(self, z: np.ndarray) -> int:
        return content_crc(z) if self.reading.seed is None else self.reading.seed

    def _z_shape(self, image_size: ImageSize) -> tuple[int, int, int]:
        height, width = (-(-side // self.stride) for side in image_size)
        return self.entropy_bottleneck.channels, height, width

    # ---- derived state

    def update(self) -> bool:
        """Derive medians, tables and integers anew if the weights have changed; return whether they have."""
        if self._derived.belongs_to(self._sources()):
            return False
        update_medians(self.entropy_bottleneck)
        self._derived.adopt(derive(self), self._sources())
        return True

    def decoder_state(self) -> dict[str, Tensor]:
        """Return weights of gs, tables of z and y (`tables.*`) and integers of hs and the groups (`exact.*`)."""
        self.update()
        weights = {f"gs.{name}": value for name, value in self.gs.state_dict().items()}
        return weights | self._derived.value.state()

    @classmethod
    def implied_weights(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of hs, context_model and entropy_parameters that their integers stand for."""
        exact = part_of(state, "exact.")
        if not exact:
            return {}
        hs = hyper_synthesis(len(exact["medians"]), len(exact["hs.4.bias"]) // 2)
        return CodingParameters.from_state(hs, exact).float_weights()

    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        parameters = CodingParameters.from_state(self.hs, part_of(state, "exact."))
        self._derived.adopt(CodingState.from_state(state, parameters), self._sources())

    def _sources(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.named_parameters() if name.startswith(CODED_BY)}


def _int32(values: Tensor) -> np.ndarray:
    """Return the nearest integers."""
    return values.detach().round().to("cpu", torch.int32).numpy()
