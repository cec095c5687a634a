"""The coder: the receiver's z is the sender's bit for bit, at the rates and gaps that the room promises."""

from __future__ import annotations

import hashlib
import itertools
import math
import statistics

import pytest
import torch

from lightning_modules.rec.samplers.auxiliary_variables import Gaussian, kl_divergence
from lightning_modules.rec.samplers.blocks import equal_blocks
from lightning_modules.rec.samplers.index_coder import NUMBERS_AT_ONCE, IndexCoder, Message, batches, oversampled
from tests.lightning_modules.rec.conftest import MakeCoder
from tests.lightning_modules.rec.peer_target import peer_target

ONE_BLOCK = equal_blocks(1000, 1000, seed=0)
VECTOR_SAMPLE = "efb5df3f224c5b2935e0c41a37faa38f1c13194af1726e1ef284baded3f159f7"
SMALL = {"irec": {"sampler__num_beams": 4}, "irec_paper": {"sampler__num_beams": 4}, "orc": {}}


def latent(shape: tuple[int, ...], nats: float, seed: int = 0) -> tuple[Gaussian, Gaussian]:
    """A posterior and a prior of that shape with means and scales of their own."""
    dimensions = math.prod(shape)
    posterior, _ = peer_target(dimensions, nats, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    mean, std = (torch.rand(2, dimensions, generator=generator, dtype=torch.float64) + 0.5).view(2, *shape)
    return Gaussian(mean + std * posterior.mean.view(shape), std * posterior.std.view(shape)), Gaussian(mean, std)


def gap(coder: IndexCoder, seed: int) -> float:
    """Nats by which the rate of the 1000-dimension, 300-nat target exceeds log q(z) / p(z)."""
    encoded = coder.encode(*peer_target(seed=seed), ONE_BLOCK, first_block=seed)
    return coder.nominal_nats(encoded.message) - float(encoded.log_ratio.sum())


def test_the_gap_is_at_most_50_nats_at_omega_3_with_20_beams(make_coder: MakeCoder) -> None:
    coder = make_coder("irec", kl_per_variable=3.0, sampler__num_beams=20)
    assert coder.num_candidates == 20
    assert statistics.mean(gap(coder, seed) for seed in range(6)) < 50


def test_the_gap_is_at_most_30_nats_by_default(make_coder: MakeCoder) -> None:
    coder = make_coder("irec")
    assert statistics.mean(gap(coder, seed) for seed in range(4)) < 30


@pytest.mark.parametrize(
    ("beams", "epsilon", "log_ratio"), [(10, 0, 199.4), (10, 0.2, 258.6), (20, 0, 208.9), (20, 0.2, 270.0)]
)
def test_the_papers_preset_reaches_the_log_ratios_of_the_authors_coder(
    make_coder: MakeCoder, beams: int, epsilon: float, log_ratio: float
) -> None:
    coder = make_coder("irec_paper", sampler__num_beams=beams, epsilon=epsilon)
    assert coder.num_candidates == {0: 20, 0.2: 36}[epsilon]
    found = [float(coder.encode(*peer_target(seed=seed), ONE_BLOCK, seed).log_ratio) for seed in range(2)]
    assert abs(statistics.mean(found) - log_ratio) < 15


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize(("shape", "size"), [((2, 3, 10, 7), 100), ((1,), 100), ((101,), 100), ((3, 50), 1)])
def test_the_receivers_sample_is_the_senders_bit_for_bit(
    make_coder: MakeCoder, preset: str, shape: tuple[int, ...], size: int
) -> None:
    posterior, prior = latent(shape, 0.2 * math.prod(shape))
    layout = equal_blocks(math.prod(shape), size, seed=1)
    encoded = make_coder(preset, **SMALL[preset]).encode(posterior, prior, layout, first_block=5)
    receiver = make_coder(preset)
    decoded = receiver.decode(encoded.message, prior, layout, first_block=5)
    assert decoded.shape == shape
    assert torch.equal(decoded, encoded.z)


def test_the_sample_lies_where_the_posterior_does(make_coder: MakeCoder) -> None:
    posterior, prior = latent((1000,), 300.0)
    z = make_coder("irec").encode(posterior, prior, ONE_BLOCK).z
    per_dimension = float(((z - posterior.mean) / posterior.std).square().mean())
    assert 0.8 < per_dimension < 1.2
    of_prior = prior.mean + prior.std * torch.randn(
        1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    assert float(((of_prior - posterior.mean) / posterior.std).square().mean()) > 2


def test_log_ratio_and_kl_are_those_of_the_sample(make_coder: MakeCoder) -> None:
    posterior, prior = latent((500,), 60.0)
    encoded = make_coder("irec", sampler__num_beams=8).encode(posterior, prior, equal_blocks(500, 200, seed=2))
    q, p = (torch.distributions.Normal(*law).log_prob(encoded.z).sum() for law in (posterior, prior))
    assert float(encoded.log_ratio.sum()) == pytest.approx(float(q - p), abs=1e-9)
    assert float(encoded.kl.sum()) == pytest.approx(float(kl_divergence(posterior, prior)), abs=1e-10)


def test_z_and_indices_do_not_depend_on_threads_batches_or_what_else_is_coded(
    make_coder: MakeCoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    posterior, prior = latent((700,), 150.0)
    layout = equal_blocks(700, 150, seed=2)
    coder = make_coder("irec", sampler__num_beams=16)
    reference = coder.encode(posterior, prior, layout, first_block=3)
    threads = torch.get_num_threads()
    for at_once, count in ((1, 1), (310 * 32, 2), (1 << 25, 2)):
        monkeypatch.setitem(NUMBERS_AT_ONCE, "cpu", at_once)
        torch.set_num_threads(count)
        again = coder.encode(posterior, prior, layout, first_block=3)
        for field in ("counts", "choices", "indices"):
            assert torch.equal(getattr(again.message, field), getattr(reference.message, field))
        assert torch.equal(coder.decode(reference.message, prior, layout, first_block=3), reference.z)
    torch.set_num_threads(threads)


@pytest.mark.gpu
def test_a_gpu_finds_and_decodes_the_same_sample(make_coder: MakeCoder) -> None:
    posterior, prior = latent((700,), 150.0)
    layout = equal_blocks(700, 150, seed=2)
    coder = make_coder("irec", sampler__num_beams=16)
    reference = coder.encode(posterior, prior, layout)
    q, p = (Gaussian(*(part.cuda() for part in law)) for law in (posterior, prior))
    there = coder.encode(q, p, layout)
    assert torch.equal(there.message.indices, reference.message.indices)
    assert torch.equal(there.z.cpu(), reference.z)
    assert torch.equal(coder.decode(reference.message, p, layout).cpu(), reference.z)


def test_a_message_of_the_format_decodes_to_the_known_sample(make_coder: MakeCoder) -> None:
    """The receiver of `irec`, whatever the sender becomes: change this only with the version of the format."""
    message = Message(torch.tensor([3, 0, 2]), torch.tensor([9, 0, 63]), torch.tensor([31, 0, 7, 12, 5]))
    count = 25
    prior = Gaussian(torch.arange(count) / 8 - 1, 1 + torch.arange(count) / 16)
    z = make_coder("irec").decode(message, prior, equal_blocks(count, 10, seed=42), first_block=6)
    assert hashlib.sha256(z.numpy().astype("<f8").tobytes()).hexdigest() == VECTOR_SAMPLE


@pytest.mark.parametrize(
    ("omega", "epsilon", "count"),
    [
        (3, 0, 20),
        (3, 0.1, 27),
        (3, 0.2, 36),
        (3, 0.5, 90),
        (6, 0, 403),
        (9 * math.log(2), 0, 512),
        (math.log(32), 0, 32),
    ],
)
def test_the_number_of_candidates_is_the_papers(omega: float, epsilon: float, count: int) -> None:
    assert oversampled(omega, epsilon) == count


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (Message(torch.tensor([1]), torch.tensor([0]), torch.tensor([0])), "does not fit a latent of 2"),
        (Message(torch.tensor([1, 1]), torch.tensor([0, 0]), torch.tensor([0])), "other numbers of variables"),
        (Message(torch.tensor([1, 0]), torch.tensor([64, 0]), torch.tensor([0])), "does not exist"),
        (Message(torch.tensor([1, 0]), torch.tensor([0, 0]), torch.tensor([-1])), "does not exist"),
        (Message(torch.tensor([-1, 2]), torch.tensor([0, 0]), torch.tensor([0])), "other numbers of variables"),
    ],
)
def test_a_message_that_no_sender_writes_is_refused(make_coder: MakeCoder, message: Message, fault: str) -> None:
    prior = Gaussian(torch.zeros(20), torch.ones(20))
    with pytest.raises(ValueError, match=fault):
        make_coder("irec").decode(message, prior, equal_blocks(20, 10, seed=0))


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_scales_that_no_density_has_are_refused(make_coder: MakeCoder, value: float) -> None:
    posterior, prior = latent((20,), 5.0)
    posterior.std[3] = value
    with pytest.raises(ValueError, match="bound the scales"):
        make_coder("irec").encode(posterior, prior, equal_blocks(20, 10, seed=0))


def test_a_large_block_of_few_variables_leaves_the_small_ones_together() -> None:
    """They went one by one while any larger block was still to come."""
    counts, sizes = torch.tensor([2, *[90, 70] * 20, 0]), torch.tensor([16384, *[249] * 40, 5])
    found = [batch.tolist() for batch in batches(counts, sizes, width=32)]
    assert sorted(itertools.chain(*found)) == list(range(41)), "all that have variables, once"
    assert found[-1] == [0]
    assert len(found) == 3
    for batch in found:
        variables = counts[batch].tolist()
        assert variables == sorted(variables, reverse=True)
        assert len(batch) * int(sizes[batch].max()) * 32 <= NUMBERS_AT_ONCE["cpu"] or len(batch) == 1
