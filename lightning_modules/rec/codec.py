"""Codecs whose files hold samples of a hierarchy's posteriors, as indices into shared randomness.

    sender     x --infer--> features; level by level: prior, features --> q --index coder--> message, z
    receiver   level by level: prior, message --> z;  from all z the pixels

Indices are found by a search; what a receiver computes up to z is integers and single
float64 operations (`lightning_modules/rec/models/integer_networks.py`, docs/rec.md). Legend as in `hierarchy.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lightning_modules.capabilities import Implying, Packed, RateMapped
from lightning_modules.checkpoints.state_dict import load_weights
from lightning_modules.codec import Codec
from lightning_modules.derived_value import DerivedValue
from lightning_modules.errors import CodingError, damaged
from lightning_modules.image_padding import pad_to_multiple
from lightning_modules.rec.files.file_coder import FileCoder, default_coder
from lightning_modules.rec.files.sample_files import LN2, Contents, SampleFiles, size_of
from lightning_modules.rec.models.hierarchy import KL, Hierarchy, Prior, analytic, fixed_noise
from lightning_modules.rec.models.integer_networks import ReceiverState, implied_layers
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from lightning_modules.records import Coded, CodedPack, Estimate, ImageSize, Integers, Latents, Section

FIRST_KL = 0.1
"""Expected nats at a position, before training has measured any."""


class Pass(NamedTuple):
    """One pass of a batch through the networks. state: of `generate`. kl: of each level, (B, C, h, w) nats."""

    state: Tensor
    kl: list[Tensor]


class RecCodec(Packed, RateMapped, Implying, Codec):
    """A hierarchy of latents, and the files of their samples.

    networks: the hierarchy. exported: names of its networks that receivers compute in integers. fresh: the weights come
    from no training yet, and may be initialised by data.
    """

    kind: ClassVar[str]
    networks: Hierarchy
    exported: tuple[str, ...]

    def __init__(self, networks: Hierarchy, exported: Sequence[str], hyperparameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.hyperparameters = dict(hyperparameters)
        self.networks = networks
        self.exported = tuple(exported)
        self.fresh = True
        for level, channels in enumerate(networks.channels):
            self.register_buffer(f"expected_kl{level}", torch.full((channels,), FIRST_KL))
        self._derived = DerivedValue[ReceiverState]()

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load all parameters, and what there is of expected KL. Raises `CodingError`."""
        load_weights(self, state, self.kind)
        buffers = {name: state[name] for name, _ in self.named_buffers() if name in state}
        self.load_state_dict(buffers, strict=False)
        self.fresh = False

    # ---- in floating point

    def observe(self, x: Tensor, kl: KL, noise: Callable[[Tensor], Tensor]) -> Pass:
        """Draw samples of the posteriors of x (B, 3, H, W) in [0, 1]. noise: gives normal numbers like a tensor."""
        padded = pad_to_multiple(x, self.networks.stride)
        features = self.networks.infer(padded)
        found: list[Tensor] = []

        def draw(level: int, prior: Prior) -> Tensor:
            q = self.networks.posterior(level, features[level], prior)
            q = Gaussian(q.mean.float(), q.std.float())
            p = Gaussian(prior.mean.float(), self.networks.scale_map.trained(prior.spread.float()))
            z = q.mean + noise(q.mean) * q.std
            found.append(kl(q, p, z))
            return z

        size = size_of(padded)
        return Pass(self.networks.generate(self.networks.trained, x, size, draw), found)

    @torch.no_grad()
    def remember_kl(self, kl: Sequence[Tensor], momentum: float) -> None:
        """Update the running averages that blocks are cut by. kl: as of `Pass`."""
        for level, values in enumerate(kl):
            getattr(self, f"expected_kl{level}").lerp_(values.float().mean((0, 2, 3)), 1.0 - momentum)

    def analyze(self, x: Tensor) -> Latents:
        """Return the pictures themselves: inference goes on while the levels are coded."""
        return Latents({"x": x}, size_of(x))

    def estimate(self, latents: Latents) -> Estimate:
        """Estimate with one sample of the posteriors what files would take if relative entropy were all they took."""
        x = latents.variables["x"]
        found = self.observe(x, analytic, fixed_noise())
        kl = torch.stack([level.flatten(1).sum(1) for level in found.kl]).sum(0)
        return self.estimate_from(x, found.state, kl / LN2)

    def rate_map(self, x: Tensor) -> dict[str, Tensor]:
        """Return the relative entropy of each level, `z0` the topmost, with one sample of the posteriors."""
        found = self.observe(x, analytic, fixed_noise())
        return {f"z{level}": kl / LN2 for level, kl in enumerate(found.kl)}

    @abstractmethod
    def estimate_from(self, x: Tensor, state: Tensor, kl_bits: Tensor) -> Estimate:
        """Estimate with given samples. state: of `generate`, the picture continued to the stride. kl_bits: (B,)."""

    # ---- files

    def encode(self, latents: Latents) -> Coded:
        """Code one picture by the default way of relative entropy coding."""
        return self.encode_with(latents, default_coder())

    def encode_with(self, latents: Latents, file_coder: FileCoder) -> Coded:
        """Code one picture by one way of relative entropy coding."""
        return self._sample_files().write(latents.variables["x"], file_coder, self.bound(latents))

    def encode_pack(self, images: Sequence[Latents], file_coder: FileCoder) -> CodedPack:
        """Code several pictures as one section."""
        pictures, bounds = [latents.variables["x"] for latents in images], [self.bound(latents) for latents in images]
        return self._sample_files().write_pack(pictures, file_coder, bounds)

    def bound(self, latents: Latents) -> float:
        """Return the bits that a file is compared with: the negative evidence bound, or relative entropy alone."""
        return sum(float(bits.sum()) for bits in self.estimate(latents).bits.values())

    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        found: list[Integers | CodingError] = []
        for sections in files:
            try:
                if len(sections) != 1:
                    raise damaged(f"a file of this codec has 1 section, this one {len(sections)}")
                found.append(self.read_section(sections[0], image_size))
            except CodingError as error:
                found.append(error)
        return found

    def read_section(self, section: Section, image_size: ImageSize) -> Integers:
        """Return all that one picture's section holds. Raises `DamagedFile`."""
        return self._sample_files().read(section, image_size)

    def read_pack(self, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
        return self._sample_files().read_pack(section, sizes)

    def _sample_files(self) -> SampleFiles:
        self.update()
        return SampleFiles(self.networks, self.require_derived(), self.contents())

    @abstractmethod
    def contents(self) -> Contents:
        """Return what files hold besides samples, for the model as it is now."""

    @classmethod
    @abstractmethod
    def sizes(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the constructor's arguments that shapes of weights or a stored model tell. Raises `CodingError`."""

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> RecCodec:
        """Return a codec of the sizes that the weights show; errors as `sizes` and `load_weights`."""
        del hyperparameters
        codec = cls.of_sizes(cls.sizes(state))
        codec.load_weights(state)
        return codec

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, Any]) -> RecCodec:
        """Return a codec without training."""
        return cls(**sizes)

    @classmethod
    def implied_weights(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights that the integer networks stand for."""
        if not any(name.startswith("exact.") for name in state):
            return {}
        codec = cls.of_sizes(cls.sizes(state))
        found = ReceiverState.from_state(codec.networks, codec.exported, state).integer_networks
        return {f"networks.{name}": value for name, value in implied_layers(codec.networks, found).items()}

    # ---- derived state

    def update(self) -> bool:
        """Make the integer networks anew if the weights changed since; True if they did."""
        if self._derived.belongs_to(self._sources()):
            return False
        expected = [getattr(self, f"expected_kl{level}") for level in range(len(self.networks.channels))]
        with torch.inference_mode(False):
            self._adopt(ReceiverState.derived(self.networks, self.exported, expected, self.constants()))
        return True

    def constants(self) -> dict[str, Tensor]:
        """Return integers that a receiver needs besides the integer networks, by name."""
        return {}

    def decoder_state(self) -> dict[str, Tensor]:
        """Return integer networks, expected KL and constants (`exact.*`), and the weights that `synthesize` takes."""
        self.update()
        return self.synthesis_weights() | self.require_derived().state()

    def synthesis_weights(self) -> dict[str, Tensor]:
        """Return the weights that pixels follow from in floating point, by name."""
        return {name: value for name, value in self.state_dict().items() if name == "networks.top"}

    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        self._adopt(ReceiverState.from_state(self.networks, self.exported, state))

    def require_derived(self) -> ReceiverState:
        """Return what receivers compute with, as of the last `update`."""
        return self._derived.value

    def _adopt(self, derived: ReceiverState) -> None:
        self._derived.adopt(derived, self._sources())

    def _sources(self) -> dict[str, Tensor]:
        return self.state_dict() | self.constants()
