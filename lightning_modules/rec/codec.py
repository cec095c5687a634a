"""Codecs whose files hold samples of a hierarchy's posteriors, as indices into shared randomness.

    sender     x --infer--> features; level by level: prior, features --> q --index coder--> message, z
    receiver   level by level: prior, message --> z;  from all z what rooms of this kind make of them

What is random in a file is where the search for indices stops; what a receiver computes up to z is integers and single
float64 operations (`lightning_modules/rec/models/exact_pieces.py`, docs/rec.md). Legend as in `hierarchy.py`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lightning_modules.capabilities import Implying, Packed, RateMapped
from lightning_modules.checkpoints.state_dict import load_weights
from lightning_modules.codec import Codec
from lightning_modules.coding.ans import AnsStack
from lightning_modules.derived_value import DerivedValue
from lightning_modules.errors import CodingError, damaged, expect_content
from lightning_modules.image_padding import pad_to_multiple, padded_size
from lightning_modules.rec.files import packs
from lightning_modules.rec.files.file_coder import FileCoder, default_coder
from lightning_modules.rec.files.levels import Receiver, Sender, cuts
from lightning_modules.rec.files.message_code import push_messages
from lightning_modules.rec.files.settings import Settings, split
from lightning_modules.rec.models.exact_pieces import Derived, derive, implied_layers
from lightning_modules.rec.models.hierarchy import KL, Hierarchy, Prior, analytic, fixed_noise
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from lightning_modules.records import Coded, CodedPack, Estimate, ImageSize, Integers, Latents, Section

LN2 = math.log(2.0)
FIRST_KL = 0.1
"""Nats at a position, before training has measured any."""


class Pass(NamedTuple):
    """What networks make of a batch in floating point. state: of `generate`. kl: of each level, (B, C, h, w) nats."""

    state: Tensor
    kl: list[Tensor]


class RecCodec(Packed, RateMapped, Implying, Codec):
    """networks: the hierarchy. with_twins: the pieces that receivers compute in integers.

    fresh: the weights come from no training yet, and may be initialised by data.
    """

    kind: ClassVar[str]
    networks: Hierarchy
    with_twins: tuple[str, ...]

    def __init__(self, networks: Hierarchy, with_twins: Sequence[str], hyperparameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.hyperparameters = dict(hyperparameters)
        self.networks = networks
        self.with_twins = tuple(with_twins)
        self.fresh = True
        for level, channels in enumerate(networks.channels):
            self.register_buffer(f"expected_kl{level}", torch.full((channels,), FIRST_KL))
        self._derived = DerivedValue[Derived]()

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Parameters, all of them, and what there is of expected KL. Raises `CodingError`."""
        load_weights(self, state, self.kind)
        buffers = {name: state[name] for name, _ in self.named_buffers() if name in state}
        self.load_state_dict(buffers, strict=False)
        self.fresh = False

    # ---- in floating point

    def observe(self, x: Tensor, kl: KL, noise: Callable[[Tensor], Tensor]) -> Pass:
        """(B, 3, H, W) in [0, 1] -> samples of the posteriors all the way. noise: standard normal, like a tensor."""
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

        size = (padded.shape[-2], padded.shape[-1])
        return Pass(self.networks.generate(self.networks.trained, x, size, draw), found)

    @torch.no_grad()
    def remember_kl(self, kl: Sequence[Tensor], momentum: float) -> None:
        """Update the running averages that blocks are cut by. kl: as of `Pass`."""
        for level, values in enumerate(kl):
            getattr(self, f"expected_kl{level}").lerp_(values.float().mean((0, 2, 3)), 1.0 - momentum)

    def analyze(self, x: Tensor) -> Latents:
        """The pictures themselves: inference goes on while the levels are coded."""
        return Latents({"x": x}, (x.shape[-2], x.shape[-1]))

    def estimate(self, latents: Latents) -> Estimate:
        """With one sample of the posteriors: what files would take if relative entropy were all they took."""
        x = latents.variables["x"]
        found = self.observe(x, analytic, fixed_noise())
        kl = torch.stack([level.flatten(1).sum(1) for level in found.kl]).sum(0)
        return self.estimate_from(x, found.state, kl / LN2)

    def rate_map(self, x: Tensor) -> dict[str, Tensor]:
        """Relative entropy of each level, `z0` the topmost, with one sample of the posteriors."""
        found = self.observe(x, analytic, fixed_noise())
        return {f"z{level}": kl / LN2 for level, kl in enumerate(found.kl)}

    @abstractmethod
    def estimate_from(self, x: Tensor, state: Tensor, kl_bits: Tensor) -> Estimate:
        """state: of `generate` for the picture continued to the stride. kl_bits: (B,)."""

    # ---- files

    def encode(self, latents: Latents) -> Coded:
        return self.encode_with(latents, default_coder())

    def encode_with(self, latents: Latents, file_coder: FileCoder) -> Coded:
        """One picture by one way of relative entropy coding."""
        self.update()
        x = latents.variables["x"]
        settings = self.settings_for(x, file_coder.settings)
        padded = pad_to_multiple(x, self.networks.stride)
        size = (padded.shape[-2], padded.shape[-1])
        level_cuts = cuts(self.require_derived().expected_kl, self.networks.latent_sizes(size), settings)
        sender = Sender(self.networks, self.networks.infer(padded), file_coder.index_coder, level_cuts)
        state = self.draw_levels(size, sender)
        stack = AnsStack()
        bits = self.push_rest(stack, x, state, settings)
        stack, costs = push_messages(
            stack,
            [encoded.message for encoded in sender.encoded],
            [cut.expected for cut in level_cuts],
            file_coder.index_coder.schedule,
            settings.index_code(),
        )
        schedules, counts, indices = (sum(column) for column in zip(*costs, strict=True))
        kl = sum(float(encoded.kl.sum()) for encoded in sender.encoded) / LN2
        log_ratio = sum(float(encoded.log_ratio.sum()) for encoded in sender.encoded) / LN2
        section = Section(settings.to_bytes() + stack.to_bytes(), self.crc_of(x, sender.encoded))
        accounts = {"kl": kl, "log_ratio": log_ratio, "indices": indices, "counts": counts, "schedules": schedules}
        accounts |= {"bound": self.bound(latents)}
        return Coded([section], {"latents": schedules + counts + indices, **bits}, accounts | bits)

    def bound(self, latents: Latents) -> float:
        """Bits of the negative evidence bound, or of relative entropy alone: what a file is to be compared with."""
        return sum(float(bits.sum()) for bits in self.estimate(latents).bits.values())

    def read_integers(self, files: Sequence[Sequence[Section]], image_size: ImageSize) -> list[Integers | CodingError]:
        self.update()
        found: list[Integers | CodingError] = []
        for sections in files:
            try:
                found.append(self._read(sections, image_size))
            except CodingError as error:
                found.append(error)
        return found

    def _read(self, sections: Sequence[Section], image_size: ImageSize) -> Integers:
        if len(sections) != 1:
            raise damaged(f"a file of this codec has 1 section, this one {len(sections)}")
        integers = self.read_section(sections[0], image_size)
        expect_content(self.crc_of_integers(integers), sections[0].content_crc)
        return integers

    def read_section(self, section: Section, image_size: ImageSize) -> Integers:
        """All that one picture's section holds. Raises `DamagedFile`."""
        settings, words = split(section.payload)
        size = padded_size(image_size, self.networks.stride)
        level_cuts = cuts(self.require_derived().expected_kl, self.networks.latent_sizes(size), settings)
        receiver = Receiver(self.networks, AnsStack.from_bytes(words), settings, level_cuts)
        state = self.draw_levels(size, receiver)
        integers = self.pop_rest(receiver, state, settings, image_size)
        receiver.stack.expect_empty()
        return integers

    def draw_levels(self, size: ImageSize, draw: Sender | Receiver, count: int = 1) -> Tensor:
        """The state of `generate` for so many pictures of a size, a multiple of the stride, from integer twins."""
        like = torch.zeros(count, 1, dtype=torch.float64, device=next(self.parameters()).device)
        return self.networks.generate(self.require_derived().pieces, like, size, draw)

    def encode_pack(self, images: Sequence[Latents], file_coder: FileCoder) -> CodedPack:
        """Several pictures as one section."""
        return packs.encode(self, images, file_coder)

    def read_pack(self, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
        return packs.read(self, section, sizes)

    def settings_for(self, x: Tensor, settings: Settings) -> Settings:
        """What a picture's own file says."""
        del x
        return settings

    @classmethod
    @abstractmethod
    def sizes(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The constructor's arguments that shapes tell, of weights or of a stored model. Raises `CodingError`."""

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> RecCodec:
        """Of the sizes that the weights show; errors as `sizes` and `load_weights`."""
        del hyperparameters
        codec = cls.of_sizes(cls.sizes(state))
        codec.load_weights(state)
        return codec

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, Any]) -> RecCodec:
        """A codec without training."""
        return cls(**sizes)

    @classmethod
    def implied_weights(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of networks with integer twins, as these say."""
        if not any(name.startswith("exact.") for name in state):
            return {}
        codec = cls.of_sizes(cls.sizes(state))
        pieces = Derived.from_state(codec.networks, codec.with_twins, state).pieces
        return {f"networks.{name}": value for name, value in implied_layers(codec.networks, pieces).items()}

    @abstractmethod
    def push_rest(self, stack: AnsStack, x: Tensor, state: Tensor, settings: Settings) -> dict[str, float]:
        """What a receiver needs besides z, for a picture (1, 3, H, W); its cost in bits, by name."""

    @abstractmethod
    def pop_rest(self, receiver: Receiver, state: Tensor, settings: Settings, image_size: ImageSize) -> Integers:
        """All that the receiver knows in the end."""

    @abstractmethod
    def crc_of(self, x: Tensor, encoded: Sequence[Any]) -> int:
        """The checksum that a sender writes."""

    @abstractmethod
    def crc_of_integers(self, integers: Integers) -> int:
        """The same of a receiver."""

    # ---- derived state

    def update(self) -> bool:
        """Make the integer twins anew if the weights changed since; True if they did."""
        if self._derived.belongs_to(self._sources()):
            return False
        with torch.inference_mode(False):
            self._adopt(derive(self.networks, self.with_twins, self._expected_kl(), self.constants()))
        return True

    def constants(self) -> dict[str, Tensor]:
        """Integers that a receiver needs besides the twins, by name."""
        return {}

    def decoder_state(self) -> dict[str, Tensor]:
        """The twins, expected KL and constants (`exact.*`), and the weights that `synthesize` computes with."""
        self.update()
        return self.synthesis_weights() | self.require_derived().state()

    def synthesis_weights(self) -> dict[str, Tensor]:
        """Weights that pixels follow from in floating point, by name."""
        return {name: value for name, value in self.state_dict().items() if name == "networks.top"}

    def load_derived(self, state: Mapping[str, Tensor]) -> None:
        self._adopt(Derived.from_state(self.networks, self.with_twins, state))

    def require_derived(self) -> Derived:
        return self._derived.value

    def _adopt(self, derived: Derived) -> None:
        self._derived.adopt(derived, self._sources())

    def _expected_kl(self) -> list[Tensor]:
        return [getattr(self, f"expected_kl{level}") for level in range(len(self.networks.channels))]

    def _sources(self) -> dict[str, Tensor]:
        return self.state_dict() | self.constants()
