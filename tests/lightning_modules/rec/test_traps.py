"""The faults of the paper's code that touch the coder, each by the name it has in the specification."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.shared_randomness import normal_integers
from lightning_modules.rec.files.message_code import UniformCode
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian, stack_targets
from lightning_modules.rec.samplers.blocks import equal_blocks
from lightning_modules.rec.samplers.candidate_noise import SignFlipped
from lightning_modules.rec.samplers.greedy_rejection import GreedyRejection, rejection_levels
from lightning_modules.rec.samplers.importance_sampling import ImportanceSampling
from lightning_modules.rec.samplers.index_coder import IndexCoder
from lightning_modules.rec.samplers.poisson_functional import PoissonFunctional
from lightning_modules.rec.samplers.schedule import EqualKL, PowerLaw
from lightning_modules.rec.samplers.sequential_sampler import OneByOne, SelectionRule, exponentials
from lightning_modules.rec.samplers.variable_batch import Variables
from tests.lightning_modules.rec.conftest import MakeCoder
from tests.lightning_modules.rec.peer_target import peer_target


def one_by_one(rule: SelectionRule, kl_per_variable: float = 3.0, num_candidates: int = 4096) -> IndexCoder:
    return IndexCoder(
        kl_per_variable=kl_per_variable,
        num_candidates=num_candidates,
        schedule=EqualKL(),
        noise=SignFlipped(seed=1),
        sampler=OneByOne(rule=rule),
    )


def law(mean: list[float], std: list[float]) -> Gaussian:
    return Gaussian(torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64))


def standard(dimensions: int) -> Gaussian:
    return law([0.0] * dimensions, [1.0] * dimensions)


def test_trap_l2_the_alphabet_of_indices_follows_from_the_number_of_candidates(make_coder: MakeCoder) -> None:
    coder = make_coder("irec_paper")
    indices = coder.encode(*peer_target(200, 60.0), equal_blocks(200, 200, 0)).message.indices.numpy()
    assert indices.max() >= 20
    stack, code = AnsStack(), UniformCode(num_candidates=coder.num_candidates)
    code.push(stack, indices)
    assert code.pop(stack, len(indices)).tolist() == indices.tolist()


def test_trap_c1_rejection_works_within_the_chain_of_variables() -> None:
    posterior, prior = peer_target(dimensions=5, nats=6.0, seed=3)
    coder, layout = one_by_one(GreedyRejection(num_samples=2000, seed=1)), equal_blocks(5, 5, 0)
    encoded = coder.encode(posterior, prior, layout)
    assert encoded.message.counts.tolist() == [2]
    assert torch.equal(coder.decode(encoded.message, prior, layout), encoded.z)


def test_trap_c2_gumbel_noise_is_made_from_uniform_numbers() -> None:
    drawn = exponentials(1, torch.arange(10), 0, range(10_000))
    gumbels = -torch.log(drawn)
    assert bool(torch.isfinite(gumbels).all())
    assert float(gumbels.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(gumbels.var()) == pytest.approx(math.pi**2 / 6, abs=0.05)


def test_trap_c3_a_trial_accepts_by_what_was_left_before_it() -> None:
    """With one value of q at w = 4: trial 1 accepts min(w, 1) of it with certainty, so 1/4 of q; dividing by what is
    left after the trial would leave another recursion."""
    levels = rejection_levels([4.0])
    assert next(levels) == (0.0, 1.0)
    assert next(levels) == (1.0, 0.75)
    assert next(levels) == (1.75, 0.5625)


def test_trap_c4_a_block_that_equals_its_prior_takes_no_variable(make_coder: MakeCoder) -> None:
    prior = law([1.0, -2.0, 0.5], [0.5, 2.0, 1.0])
    for preset in ("irec", "irec_paper", "orc"):
        encoded = make_coder(preset).encode(prior, prior, equal_blocks(3, 3, 0))
        assert encoded.message.counts.tolist() == [0]
        assert len(encoded.message.indices) == 0
        assert torch.equal(encoded.z, prior.mean)
        assert float(encoded.log_ratio) == 0


def test_trap_c4_blocks_without_kl_stand_among_others(make_coder: MakeCoder) -> None:
    posterior = law([0.0] * 4 + [2.0] * 4, [1.0] * 8)
    coder, layout = make_coder("irec"), equal_blocks(8, 1, 0)
    encoded = coder.encode(posterior, standard(8), layout)
    by_dimension = layout.join(list(encoded.message.counts.split(1)))
    assert by_dimension.tolist() == [0] * 4 + [1] * 4
    assert not encoded.z[:4].any()
    assert torch.equal(coder.decode(encoded.message, standard(8), layout), encoded.z)


def test_trap_c5_decoding_leaves_its_message_as_it_is(make_coder: MakeCoder) -> None:
    posterior, prior = peer_target(200, 30.0)
    coder, layout = make_coder("irec", sampler__num_beams=4), equal_blocks(200, 60, 0)
    message = coder.encode(posterior, prior, layout).message
    before = message.indices.clone(), message.counts.clone()
    first = coder.decode(message, prior, layout)
    assert torch.equal(message.indices, before[0])
    assert torch.equal(message.counts, before[1])
    assert torch.equal(coder.decode(message, prior, layout), first)


def test_trap_c6_the_length_is_that_of_all_indices_of_all_blocks(make_coder: MakeCoder) -> None:
    posterior, prior = peer_target(200, 60.0)
    coder = make_coder("irec", sampler__num_beams=4)
    message = coder.encode(posterior, prior, equal_blocks(200, 100, 0)).message
    assert len(message.counts) == 2
    assert int(message.counts.sum()) > 10
    assert coder.nominal_nats(message) == pytest.approx(int(message.counts.sum()) * math.log(32))


@pytest.mark.parametrize("preset", ["irec", "irec_paper", "orc"])
def test_trap_c7_equal_blocks_get_different_candidates(make_coder: MakeCoder, preset: str) -> None:
    posterior = law([1.0] * 60, [0.7] * 60)
    encoded = make_coder(preset).encode(posterior, standard(60), equal_blocks(60, 30, 0))
    first, second = encoded.message.indices.split(encoded.message.counts.tolist())
    assert len(first) == len(second) > 3
    assert first.tolist() != second.tolist()


def test_trap_c8_noise_has_many_levels_and_reaches_four_deviations() -> None:
    rows = torch.arange(200)
    drawn = normal_integers((1, 2), (rows * 0, rows * 0, rows), 1000) / 4096
    assert len(drawn.unique()) > 12_000
    assert float(drawn.abs().max()) > 4


def test_trap_c9_global_seeds_change_nothing(make_coder: MakeCoder) -> None:
    posterior, prior = peer_target(200, 30.0)
    coder, layout = make_coder("irec", sampler__num_beams=4), equal_blocks(200, 60, 0)
    torch.manual_seed(1)
    first = coder.encode(posterior, prior, layout)
    torch.manual_seed(2)
    assert torch.equal(coder.encode(posterior, prior, layout).z, first.z)


@pytest.mark.parametrize("schedule", [PowerLaw(exponent=-0.7864636765648174), EqualKL()])
def test_trap_c10_nothing_is_left_after_the_last_variable_however_narrow_the_posterior(schedule: object) -> None:
    """At std 1e-5 the last variable takes up all that is left: what a rounded difference would spoil."""
    assert isinstance(schedule, (PowerLaw, EqualKL))
    targets = stack_targets([torch.tensor([0.3]).double()], [torch.tensor([1e-10]).double()])
    counts = torch.tensor([6])
    scales = schedule.scales(6, int(schedule.choose(targets, counts)[0]))
    rest = Variables.stacked(torch.zeros(1, dtype=torch.int64), [scales]).shares.rest[0]
    assert float(rest[-1]) == 0
    assert bool((rest[:-1] > 0).all())


@pytest.mark.parametrize("preset", ["irec", "orc"])
def test_trap_c10_a_very_narrow_posterior_is_met(make_coder: MakeCoder, preset: str) -> None:
    """Within a few of its deviations, of 1e-5 each."""
    posterior = law([0.3, -0.8], [1e-5, 1e-5])
    encoded = make_coder(preset).encode(posterior, standard(2), equal_blocks(2, 2, 0))
    assert float(((encoded.z - posterior.mean) / posterior.std).abs().max()) < 12


def test_trap_c11_the_number_of_variables_forgives_rounding_of_the_kl(make_coder: MakeCoder) -> None:
    coder = make_coder("irec_paper", sampler__num_beams=2)
    for nats, count in ((29.99999, 10), (30.00001, 10), (30.001, 11)):
        posterior, prior = peer_target(100, nats)
        assert coder.encode(posterior, prior, equal_blocks(100, 100, 0)).message.counts.tolist() == [count]


def test_trap_c13_a_chosen_candidate_is_made_without_those_before_it() -> None:
    noise, blocks = SignFlipped(seed=4), torch.tensor([2])
    prefix = noise.first_prefix(blocks)
    (open_step,) = noise.steps(blocks, [1], range(100), 12, first_variable=5)
    among_others = open_step(prefix[:, None]).chosen(torch.tensor([[0]]), torch.tensor([[73]]))
    alone = noise.replay(blocks, torch.tensor([5]), prefix, torch.tensor([73]), 12)
    assert torch.equal(alone, among_others[0])


@pytest.mark.parametrize("preset", ["irec", "irec_paper", "orc"])
def test_trap_d4_a_posterior_wider_than_the_prior_is_coded(make_coder: MakeCoder, preset: str) -> None:
    posterior = law([0.5] * 30, [2.5] * 30)
    encoded = make_coder(preset).encode(posterior, standard(30), equal_blocks(30, 30, 0))
    assert float(encoded.kl) > 50
    assert float(encoded.log_ratio) > 20
    assert 1.5 < float(encoded.z.std()) < 3.5


def test_trap_d4_a_sampler_that_needs_a_bound_refuses_a_wider_posterior() -> None:
    coder = one_by_one(PoissonFunctional(seed=1))
    with pytest.raises(ValueError, match="no bound and this sampler no end: use ordered random coding"):
        coder.encode(law([0.5], [2.5]), standard(1), equal_blocks(1, 1, 0))


@pytest.mark.parametrize("preset", ["irec", "irec_paper", "orc"])
def test_one_dimension_is_a_block(make_coder: MakeCoder, preset: str) -> None:
    posterior = law([2.5], [0.05])
    coder, layout = make_coder(preset), equal_blocks(1, 1000, 0)
    encoded = coder.encode(posterior, standard(1), layout)
    assert abs(float(encoded.z) - 2.5) < 0.5
    assert torch.equal(coder.decode(encoded.message, standard(1), layout), encoded.z)


def test_a_huge_kl_is_coded(make_coder: MakeCoder) -> None:
    """A mean 20 deviations away in each of 20 dimensions: 4000 nats, where 4 beams lose a quarter."""
    posterior = law([20.0] * 20, [1.0] * 20)
    coder, layout = make_coder("irec", sampler__num_beams=4), equal_blocks(20, 20, 0)
    encoded = coder.encode(posterior, standard(20), layout)
    assert encoded.message.counts.tolist() == [math.ceil(4000 / math.log(32))]
    assert float(encoded.log_ratio) > 0.7 * 4000
    assert torch.equal(coder.decode(encoded.message, standard(20), layout), encoded.z)


def test_a_kl_beyond_the_most_variables_is_refused_with_the_remedy(make_coder: MakeCoder) -> None:
    with pytest.raises(ValueError, match="cut the latent into smaller blocks, or bound the networks' scales"):
        make_coder("irec").encode(law([1e4], [1.0]), standard(1), equal_blocks(1, 1, 0))


def test_importance_sampling_in_a_chain_loses_more_than_a_search() -> None:
    """Greedy choices one by one, as the paper's importance coder; 165 of 300 nats at 37 candidates there."""
    posterior, prior = peer_target(200, 60.0)
    coder = one_by_one(ImportanceSampling(temperature=0, seed=1), num_candidates=37)
    encoded = coder.encode(posterior, prior, equal_blocks(200, 200, 0))
    assert 25 < float(encoded.log_ratio) < 60
