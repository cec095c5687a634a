"""Samples of Gaussian posteriors as indices into shared randomness: the sender's and the receiver's half.

    sender:    posterior, prior -> blocks -> K, schedule -> sampler -> indices -> z
    receiver:              prior, K, schedule, indices  ------------------------> z

The receiver's path is integers, table look-ups, an exact sum and z = mean + std * sum in float64, so z depends on the
message and the prior alone, bit for bit, on any machine; and the sender's z comes from the same function.
Legend: N blocks, M dimensions of a latent, K variables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.rec.samplers.auxiliary_variables import Gaussian, Targets, stack_targets, variance_ratio
from lightning_modules.rec.samplers.blocks import Layout
from lightning_modules.rec.samplers.candidate_noise import CandidateNoise
from lightning_modules.rec.samplers.candidate_scores import MAX_DIMENSIONS
from lightning_modules.rec.samplers.schedule import MAX_VARIABLES, Schedule
from lightning_modules.rec.samplers.variable_batch import Sampler, VariableBatch, Variables, replay

ROUNDING = 1e-4
"""Nats that a block may have beyond K variables' worth: a float32 network does not know KL any better."""
MAX_BLOCKS = 1 << 32
NUMBERS_AT_ONCE = {"cpu": 3 << 16}
NUMBERS_ON_DEVICE = 1 << 27
"""Numbers in one array of a batch, dimensions times paths or candidates: on a CPU, about what its cache holds."""


@dataclass(frozen=True)
class Message:
    """A latent for a receiver that has the prior. All int64 on the CPU.

    counts: (N,) auxiliary variables of each block, 0 where z is the prior's mean. choices: (N,) the schedules' numbers,
    0 where there are no variables. indices: (sum of counts,) block after block.
    """

    counts: Tensor
    choices: Tensor
    indices: Tensor


@dataclass(frozen=True)
class CodedSample:
    """A message, and the sample z it stands for (the prior's shape, float64).

    In nats, of each block (N,): kl, KL(q || p), and log_ratio, log q(z) / p(z), whose mean over fair samples is kl.
    """

    message: Message
    z: Tensor
    kl: Tensor
    log_ratio: Tensor


class IndexCoder:
    """Codes samples as indices. kl_per_variable: nats, Omega. num_candidates: n. schedule: deals out variance.

    noise: candidates, with the seed. sampler: chooses among them. The receiver needs n only to read indices.
    """

    def __init__(
        self,
        *,
        kl_per_variable: float,
        num_candidates: int,
        schedule: Schedule,
        noise: CandidateNoise,
        sampler: Sampler,
    ) -> None:
        if kl_per_variable <= 0 or num_candidates < 1:
            raise ValueError(
                f"variables need KL above 0 and at least 1 candidate, got {kl_per_variable} and {num_candidates}"
            )
        self.kl_per_variable = kl_per_variable
        self.num_candidates = num_candidates
        self.schedule = schedule
        self.noise = noise
        self.sampler = sampler

    def encode(self, posterior: Gaussian, prior: Gaussian, layout: Layout, first_block: int = 0) -> CodedSample:
        """Code a sample of the posterior; all tensors have one shape, of M numbers.

        first_block: number of the layout's first block. No two blocks of a file may have the same number, or they
        would share their candidates.
        """
        targets = _targets(posterior, prior, layout)
        kl = targets.kl()
        counts = self._num_variables(kl)
        choices = torch.where(counts > 0, self.schedule.choose(targets, counts), 0)
        indices: list[Tensor] = [torch.zeros(0, dtype=torch.int64)] * len(counts)
        width = max(self.sampler.num_paths, self.num_candidates)
        for rows in batches(counts, targets.sizes, width):
            variables = self._variables(rows + first_block, counts[rows], choices[rows])
            batch = VariableBatch(targets.rows(rows).trimmed(), variables, self.noise, self.num_candidates)
            chosen = self.sampler.choose(batch).cpu()
            for row, block in enumerate(rows.tolist()):
                indices[block] = chosen[row, : int(counts[block])]
        message = Message(counts.cpu(), choices.cpu(), torch.cat(indices))
        u = self._sums(message, layout, first_block, prior.mean.device)
        log_ratio = targets.log_ratio(torch.nn.utils.rnn.pad_sequence(u, batch_first=True))
        return CodedSample(message, _sample(u, prior, layout), kl, log_ratio)

    def decode(self, message: Message, prior: Gaussian, layout: Layout, first_block: int = 0) -> Tensor:
        """Return z, of the prior's shape, float64. Raises ValueError for a message that does not fit the layout."""
        return _sample(self._sums(message, layout, first_block, prior.mean.device), prior, layout)

    def nominal_nats(self, message: Message) -> float:
        """Return the nats of the indices, each of n equally likely."""
        return len(message.indices) * math.log(self.num_candidates)

    def _num_variables(self, kl: Tensor) -> Tensor:
        counts = torch.ceil((kl - ROUNDING) / self.kl_per_variable).clamp_min(0)
        if bool((counts > MAX_VARIABLES).any()):
            raise ValueError(
                f"a block of {float(kl.max()):.4g} nats would take more than {MAX_VARIABLES} variables: cut the latent "
                "into smaller blocks, or bound the networks' scales"
            )
        return counts.to(torch.int64)

    def _variables(self, blocks: Tensor, counts: Tensor, choices: Tensor) -> Variables:
        scales = [self.schedule.scales(*pair) for pair in zip(counts.tolist(), choices.tolist(), strict=True)]
        return Variables.stacked(blocks, scales)

    def _sums(self, message: Message, layout: Layout, first_block: int, device: torch.device) -> list[Tensor]:
        """Return the sums of each block, in prior units."""
        sizes = torch.tensor(layout.starts).diff()
        if not 0 <= first_block <= MAX_BLOCKS - len(sizes):
            raise ValueError(f"blocks are numbered 0 ... {MAX_BLOCKS - 1}, and {first_block} is to be the first one")
        _check_message(message, len(sizes), self.schedule.num_choices)
        indices = message.indices.to(device).split(message.counts.tolist())
        sums = [torch.zeros(int(size), dtype=torch.float64, device=device) for size in sizes]
        for rows in batches(message.counts, sizes, 1):
            variables = self._variables((rows + first_block).to(device), message.counts[rows], message.choices[rows])
            padded = torch.nn.utils.rnn.pad_sequence([indices[block] for block in rows.tolist()], batch_first=True)
            found = replay(self.noise, variables, padded, int(sizes[rows].max()))
            for row, block in enumerate(rows.tolist()):
                sums[block] = found[row, : int(sizes[block])]
        return sums


def oversampled(kl_per_variable: float, epsilon: float) -> int:
    """Return the paper's number of candidates, floor(exp(Omega (1 + epsilon))); powers are not rounded down."""
    return math.floor(math.exp(kl_per_variable * (1.0 + epsilon)) * (1.0 + 1e-12))


def _targets(posterior: Gaussian, prior: Gaussian, layout: Layout) -> Targets:
    q, p = (Gaussian(*(part.to(torch.float64) for part in law)) for law in (posterior, prior))
    if int(torch.tensor(layout.starts).diff().max()) > MAX_DIMENSIONS:
        raise ValueError(f"a block may have at most {MAX_DIMENSIONS} dimensions")
    if not bool((q.std > 0).all() and (p.std > 0).all()):
        raise ValueError("standard deviations must be above 0: bound the scales that the networks give")
    return stack_targets(layout.split((q.mean - p.mean) / p.std), layout.split(variance_ratio(q, p)))


def _sample(sums: list[Tensor], prior: Gaussian, layout: Layout) -> Tensor:
    mean, std = (part.to(torch.float64) for part in prior)
    scaled = layout.join(sums).view(mean.shape) * std
    return scaled + mean


def batches(counts: Tensor, sizes: Tensor, width: int) -> Iterator[Tensor]:
    """Yield the blocks that have variables by number, a batch at a time, those with most variables first.

    Blocks of about one size go together, since a batch is as wide as its largest. width: numbers that are held for
    each dimension.
    """
    limit = NUMBERS_AT_ONCE.get(counts.device.type, NUMBERS_ON_DEVICE) // width
    dimensions = sizes.tolist()
    coded = [block for block, count in enumerate(counts.tolist()) if count > 0]
    batch: list[int] = []
    widest = 0
    for block in sorted(coded, key=lambda block: dimensions[block].bit_length()):
        widest = max(widest, dimensions[block])
        if batch and (len(batch) + 1) * widest > limit:
            yield _most_first(batch, counts)
            batch, widest = [], dimensions[block]
        batch.append(block)
    if batch:
        yield _most_first(batch, counts)


def _most_first(batch: list[int], counts: Tensor) -> Tensor:
    blocks = torch.tensor(batch, device=counts.device)
    return blocks[torch.argsort(counts[blocks], descending=True, stable=True)]


def _check_message(message: Message, num_blocks: int, num_choices: int) -> None:
    counts, choices, indices = message.counts, message.choices, message.indices
    if len(counts) != num_blocks or len(choices) != num_blocks:
        raise ValueError(f"a message of {len(counts)} blocks does not fit a latent of {num_blocks}")
    if bool((counts < 0).any() or (counts > MAX_VARIABLES).any()) or int(counts.sum()) != len(indices):
        raise ValueError("a message has other numbers of variables than of indices")
    if bool((choices < 0).any() or (choices >= num_choices).any() or (indices < 0).any()):
        raise ValueError("a message has an index or a schedule that does not exist")
