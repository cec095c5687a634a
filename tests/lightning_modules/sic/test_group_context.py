"""Who sees whom among groups and positions: by the mask, by the order of channels, and by perturbing y_hat."""

from __future__ import annotations

import itertools

import pytest
import torch

from lightning_modules.sic.group_context import EntropyParameters, GroupContext, causal_mask
from lightning_modules.sic.networks import SicNetworks
from tests.lightning_modules.sic.small_networks import SIZES, small_networks

GROUPS = SIZES["groups"]
WIDTH = SIZES["widths"][-1] // GROUPS


@pytest.fixture(scope="module")
def networks() -> SicNetworks:
    return small_networks().double().requires_grad_(False)


def test_the_mask_of_the_published_model_lets_6_537_216_weights_count() -> None:
    mask = causal_mask(16, 32)
    assert mask.shape == (1024, 512, 5, 5)
    assert int(mask.sum()) == 6_537_216


def test_earlier_groups_are_seen_whole_the_own_at_12_taps_later_ones_not_at_all() -> None:
    mask = causal_mask(3, 4)
    for output, channel in itertools.product(range(24), range(12)):
        taps = mask[output, channel]
        own, other = output // 8, channel // 4
        assert int(taps.sum()) == (25 if other < own else 12 if other == own else 0)
        if other == own:
            assert taps[:2].all()
            assert taps[2].tolist() == [True, True, False, False, False]
            assert not taps[3:].any()


@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("place", [(0, 0), (2, 3), (4, 5)])
def test_a_changed_symbol_changes_no_parameter_that_is_decoded_before_it(
    networks: SicNetworks, group: int, place: tuple[int, int]
) -> None:
    """Nor its own, nor those of the other channels at its place; it does change some that come after it."""
    height, width = 5, 6
    torch.manual_seed(group)
    hyper = torch.randn(1, 2 * networks.channels, height, width, dtype=torch.float64)
    y_hat = torch.randn(1, networks.channels, height, width, dtype=torch.float64).round()
    changed = y_hat.clone()
    changed[0, group * WIDTH : (group + 1) * WIDTH, place[0], place[1]] += 5
    pairs = zip(networks.parameters_of_y(hyper, y_hat), networks.parameters_of_y(hyper, changed), strict=True)
    differs = torch.stack([before != after for before, after in pairs]).any(0)[0]
    of_groups = differs.unflatten(0, (GROUPS, WIDTH)).any(1)
    reached = {tuple(index) for index in of_groups.nonzero().tolist()}
    assert all(key > (group, *place) for key in reached)
    assert {key[0] for key in reached} >= set(range(group + 1, GROUPS))
    assert place == (height - 1, width - 1) or (group in {key[0] for key in reached})


def test_the_first_symbols_depend_on_the_hyperprior_alone(networks: SicNetworks) -> None:
    hyper = torch.randn(1, 2 * networks.channels, 3, 3, dtype=torch.float64)
    zeros = torch.zeros(1, networks.channels, 3, 3, dtype=torch.float64)
    for some, other in zip(
        networks.parameters_of_y(hyper, zeros), networks.parameters_of_y(hyper, zeros + 7), strict=True
    ):
        assert torch.equal(some[:, :WIDTH, 0, 0], other[:, :WIDTH, 0, 0])


def test_the_context_comes_as_two_halves_in_the_order_of_y() -> None:
    """Output channel 2 g k + g j + c of the convolution becomes channel C j + g k + c."""
    groups, width = 3, 4
    context = GroupContext(groups, width)
    bias = context.layer.bias
    assert bias is not None
    with torch.no_grad():
        context.layer.weight.zero_()
        bias.copy_(torch.arange(float(2 * groups * width)))
        found = context(torch.zeros(1, groups * width, 1, 1))[0, :, 0, 0].tolist()
    expected = [8.0 * group + 4 * half + c for half in range(2) for group in range(groups) for c in range(width)]
    assert found == expected


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("group", range(3))
def test_a_group_sees_its_own_channels_of_hyperprior_and_context_and_no_others(group: int, block: int) -> None:
    """One-hot groups in each of the four blocks of features."""
    groups, width = 3, 2
    torch.manual_seed(0)
    network = EntropyParameters(groups, width).double().requires_grad_(False)
    features = torch.zeros(1, 4, groups, width, 1, 1, dtype=torch.float64)
    silent = torch.cat(network(*features.flatten(1, 3).chunk(2, 1)), 1)
    features[:, block, group] = 1
    heard = torch.cat(network(*features.flatten(1, 3).chunk(2, 1)), 1)
    differs = (heard != silent).unflatten(1, (2, groups, width)).any(3)[0, :, :, 0, 0]
    assert differs.tolist() == [[other == group for other in range(groups)]] * 2


@pytest.mark.parametrize("group", range(3))
def test_features_of_a_group_come_in_the_order_that_its_network_was_trained_with(group: int) -> None:
    """Hyper-scales, hyper-means, context half 0, context half 1: by reading them through an identity."""
    groups, width = 3, 2
    network = EntropyParameters(groups, width)
    hyper = torch.arange(12.0).reshape(1, 12, 1, 1)
    context = 100 + hyper
    own = network.of_group(group)
    inputs = torch.cat(
        [value.unflatten(1, (2, groups, width))[:, :, group].flatten(1, 2) for value in (hyper, context)], 1
    )
    assert inputs.flatten().tolist() == [
        *(base + group * width + c for base in (0.0, 6.0, 100.0, 106.0) for c in range(width))
    ]
    scales, means = network(hyper, context)
    with torch.no_grad():
        expected = own(inputs)
    span = slice(group * width, (group + 1) * width)
    assert torch.allclose(torch.cat([scales[:, span], means[:, span]], 1), expected, atol=1e-6)
