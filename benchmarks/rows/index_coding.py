"""Row 12, and the gap of row 13: relative entropy coding of Gaussians, blocks of 1000 dimensions and 300 nats.

CPU time of the encoder and the decoder against a plain PyTorch form of the published coder, at Omega 3, 20 beams and
36 candidates: of one block, and of a latent of eight, divided by eight; the published coder takes one at a time. The
gap is the nominal rate of the indices over log q(z) / p(z), as a share of the KL, of `coder=irec`.
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from benchmarks import papers_coder
from benchmarks.__main__ import REPOSITORY
from benchmarks.measurement import Goal, Measurement, Pair, Settings, interleave, quartiles, speed_up
from lightning_modules.rec.files.file_coder import FileCoder
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian, kl_divergence
from lightning_modules.rec.samplers.blocks import equal_blocks
from lightning_modules.rec.samplers.index_coder import IndexCoder

NUMBER = 12
DIMENSIONS, NATS = 1000, 300.0
NUM_VARIABLES, NUM_BEAMS, EPSILON = 100, 20, 0.2
NUM_BLOCKS = 8
LAYOUT = equal_blocks(DIMENSIONS, DIMENSIONS, seed=0)


@torch.no_grad()
def measure(settings: Settings) -> list[Measurement]:
    rounds = settings.rounds
    q, p = target(seed=0)
    ours = coder(kl_per_variable=3.0, epsilon=EPSILON, num_beams=NUM_BEAMS)
    mean, std, count = q.mean.float(), q.std.float(), ours.num_candidates

    def theirs() -> tuple[papers_coder.Message, torch.Tensor]:
        return papers_coder.encode(mean, std, NUM_VARIABLES, count, NUM_BEAMS, seed=42)

    encoded, (message, z) = ours.encode(q, p, LAYOUT), theirs()
    check(torch.equal(ours.decode(encoded.message, p, LAYOUT), encoded.z))
    check(torch.equal(papers_coder.decode(message, count), z))
    lines = []
    for blocks in (1, NUM_BLOCKS):
        many_q, many_p = latent(blocks)
        layout = equal_blocks(blocks * DIMENSIONS, DIMENSIONS, seed=0)
        encode = partial(ours.encode, many_q, many_p, layout)
        decode = partial(ours.decode, encode().message, many_p, layout)
        encoding = per_block(interleave(encode, theirs, rounds=rounds), blocks)
        decoding = per_block(interleave(decode, partial(papers_coder.decode, message, count), rounds=rounds), blocks)
        what = f"a block of {NATS:.0f} nats, of {blocks}, {NUM_BEAMS} beams, {count} candidates, over plain PyTorch"
        lines += [
            speed_up(NUMBER, f"relative entropy encoding speed, {what}", encoding, Goal(">=", 25.0)),
            speed_up(NUMBER, f"relative entropy decoding speed, {what}", decoding, Goal(">=", 40.0)),
        ]
    return [*lines, gap_line(rounds)]


def per_block(pairs: list[Pair], blocks: int) -> list[Pair]:
    """Ours codes so many blocks in the time measured, theirs one."""
    return [Pair(pair.ours / blocks, pair.theirs) for pair in pairs]


def latent(blocks: int) -> tuple[Gaussian, Gaussian]:
    """Targets end to end."""
    pairs = [target(seed) for seed in range(blocks)]
    q, p = (Gaussian(*(torch.cat(parts) for parts in zip(*laws, strict=True))) for laws in zip(*pairs, strict=True))
    return q, p


def gap_line(seeds: int) -> Measurement:
    """Both sides on the same targets, theirs at epsilon 0, which costs it least."""
    ours, mine, others = coder(), [], []
    for seed in range(seeds):
        q, p = target(seed)
        encoded = ours.encode(q, p, LAYOUT, first_block=seed)
        mine.append((ours.nominal_nats(encoded.message) - float(encoded.log_ratio)) / NATS)
        _, z = papers_coder.encode(q.mean.float(), q.std.float(), NUM_VARIABLES, 20, NUM_BEAMS, seed)
        log_ratio = sum(sign * torch.distributions.Normal(*law).log_prob(z).sum() for sign, law in ((1, q), (-1, p)))
        others.append((papers_coder.nominal_nats(NUM_VARIABLES, 20) - float(log_ratio)) / NATS)
    value, theirs = statistics.mean(mine), statistics.mean(others)
    what = f"gap between rate and log density ratio over KL, {seeds} targets, coder=irec"
    return Measurement(NUMBER, what, value, quartiles(mine), f"{value:.3f}", f"{theirs:.3f}", Goal("<=", 0.1))


def target(seed: int) -> tuple[Gaussian, Gaussian]:
    """Return std = exp(-|N(0, 1)| / 4), means scaled to the KL; prior N(0, I)."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, DIMENSIONS, generator=generator, dtype=torch.float64)
    prior = Gaussian(torch.zeros(DIMENSIONS, dtype=torch.float64), torch.ones(DIMENSIONS, dtype=torch.float64))
    std = torch.exp(-drawn[0].abs() / 4)
    missing = NATS - float(kl_divergence(Gaussian(prior.mean, std), prior))
    return Gaussian(drawn[1] * (2 * missing / drawn[1].square().sum()).sqrt(), std), prior


def coder(
    kl_per_variable: float | None = None, epsilon: float | None = None, num_beams: int | None = None
) -> IndexCoder:
    """Return the index coder of conf/coder/irec.yaml with a schedule for each block, and other settings if given."""
    cfg = OmegaConf.load(REPOSITORY / "conf" / "coder" / "irec.yaml")
    OmegaConf.update(cfg, "schedule", {"_target_": "lightning_modules.rec.samplers.schedule.EqualKL"})
    changes = {
        "kl_per_variable": kl_per_variable,
        "epsilon": epsilon,
        "sampler.num_beams": 128 if num_beams is None else num_beams,
    }
    for key, value in changes.items():
        if value is not None:
            OmegaConf.update(cfg, key, value)
    built = instantiate(cfg)
    check(isinstance(built, FileCoder))
    return built.index_coder


def check(is_right: bool) -> None:
    if not is_right:
        raise AssertionError("a decoder did not return the sample it was sent")
