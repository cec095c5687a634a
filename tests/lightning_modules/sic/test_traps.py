"""What goes wrong in the authors' code, or is unusual in it and must stay, one test for each.

The numbers are those of the list in the specification of this room. Here are the traps of networks, losses, schedules
and checkpoints.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.metrics.lpips import PerceptualDistance
from lightning_modules.sic.discriminator import Discriminator
from lightning_modules.sic.level_schedule import LevelTable, descending
from lightning_modules.sic.losses import consistency, discriminator_loss
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.sic.official_checkpoint import read_official
from lightning_modules.sic.rates import lattice_likelihood
from lightning_modules.sic.swin import SwinBlock
from lightning_modules.sic.synonym_noise import uniform_detail
from lightning_modules.sic.training_pass import Coding, code, compare, group_bpp, reconstruct, synonyms
from tests.lightning_modules.sic.official_file import PUBLISHED_DEPTHS, official_state
from tests.lightning_modules.sic.small_networks import SIZES, pictures, small_networks

LPIPS_TRUNK = "data/lpips_squeezenet/squeezenet1_1_fp16.pth"


@pytest.fixture(scope="module")
def networks() -> SicNetworks:
    return small_networks().requires_grad_(False)


@pytest.fixture(scope="module")
def coding(networks: SicNetworks) -> Coding:
    return code(networks, pictures(2, 3, 64, 64), torch.zeros(2, 6, 1, 1))


def drawn(coding: Coding, samples: int, level: int, seed: int) -> Tensor:
    means = coding.hyper_means[:, 3 * level :]
    uniform = torch.rand(samples, *means.shape, generator=torch.Generator().manual_seed(seed))
    return uniform_detail(means, uniform, reach=2.0)


def test_trap_03_the_rate_that_files_will_have_is_free_of_noise(networks: SicNetworks, coding: Coding) -> None:
    once, again = (group_bpp(networks, coding, coding.y_hat) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.allclose(once, group_bpp(networks, coding, coding.y + torch.rand_like(coding.y) - 0.5))


def test_trap_06_a_discriminator_saved_over_the_codec_is_recognised(tmp_path: Path) -> None:
    judge = Discriminator(groups=4, group_width=3, condition=5, widths=[4, 6, 8, 10])
    torch.save({f"module.{name}": value for name, value in judge.state_dict().items()}, tmp_path / "codec.pth")
    with pytest.raises(CodingError, match="holds a discriminator"):
        read_official(tmp_path / "codec.pth")


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_trap_11_every_level_runs_on_the_device_of_its_pictures(
    networks: SicNetworks, coding: Coding, level: int
) -> None:
    x_hat = reconstruct(networks, synonyms(coding, drawn(coding, 1, level, seed=0)), (64, 64))
    assert x_hat.device == coding.y.device == torch.device("cpu")
    assert x_hat.shape == (4, 3, 64, 64)


def test_trap_12_detail_is_drawn_again_from_the_same_seed(coding: Coding) -> None:
    assert torch.equal(drawn(coding, 2, 1, seed=3), drawn(coding, 2, 1, seed=3))
    assert not torch.equal(drawn(coding, 2, 1, seed=3), drawn(coding, 2, 1, seed=4))


def test_trap_14_the_mean_of_the_details_consistency_counts_a_zero_unless_told_not_to() -> None:
    y_hat, details = torch.zeros(1, 4, 1, 1), torch.zeros(2, 2, 1, 1)
    again = torch.full((3, 4, 1, 1), 3.0)
    assert float(consistency(y_hat, details, again, absent=1).detail) == pytest.approx(9 * 2 / 3)
    assert float(consistency(y_hat, details, again, absent=0).detail) == pytest.approx(9)


@pytest.mark.parametrize("groups", [1, 3, 6, 12])
def test_trap_15_the_number_of_groups_is_free_and_independent_of_the_heads(groups: int) -> None:
    made = SicNetworks(**SIZES | {"groups": groups})
    block = made.ga.get_submodule("layers.0.blocks.0.attn")
    assert block.heads == SIZES["heads"]
    y_hat = torch.zeros(1, 12, 4, 4)
    scales, means = made.parameters_of_y(torch.zeros(1, 24, 4, 4), y_hat)
    assert scales.shape == means.shape == y_hat.shape


def test_trap_16_scales_may_be_negative_and_are_bounded_where_they_are_used(networks: SicNetworks) -> None:
    """The gradient of a scale below the bound passes only when it leads upwards."""
    raw = torch.tensor([-3.0, 0.11, 0.05, 0.05], requires_grad=True)
    values = torch.tensor([0.0, 0.0, 0.0, 1.0])
    likelihood = lattice_likelihood(networks.gaussian_conditional, values, raw, torch.zeros(4))
    assert likelihood[0] == likelihood[1] == likelihood[2]
    likelihood[3].log().neg().backward()
    assert raw.grad is not None
    assert raw.grad[3] < 0
    near = torch.tensor([0.05], requires_grad=True)
    lattice_likelihood(
        networks.gaussian_conditional, near.new_zeros(1), near, near.new_full((1,), 0.3)
    ).log().neg().backward()
    assert near.grad is not None
    assert near.grad[0] == 0


def test_trap_17_detail_comes_from_the_hyperprior_not_from_the_context(networks: SicNetworks, coding: Coding) -> None:
    hyper = networks.features_of_z(networks.round_z(networks.latents_of(pictures(2, 3, 64, 64))[1]))
    assert torch.equal(coding.hyper_means, hyper[:, 12:])
    assert not torch.allclose(coding.hyper_means, coding.means, atol=0.1)


def test_trap_18_the_reach_of_detail_is_2_unless_told_otherwise(repository: Path) -> None:
    from omegaconf import OmegaConf

    assert OmegaConf.load(repository / "conf" / "objective" / "sic.yaml").detail_reach == 2
    uniform = torch.rand(1, 1, 1, 100, 100)
    for reach in (0.4, 2.0, 5.0):
        detail = uniform_detail(torch.zeros(1, 1, 100, 100), uniform, reach)
        assert float(detail.abs().max()) == round(reach)


def test_trap_19_many_draws_of_many_pictures_keep_picture_and_draw_apart(networks: SicNetworks, coding: Coding) -> None:
    details = drawn(coding, 3, 1, seed=1)
    latents = synonyms(coding, details).unflatten(0, (4, 2))
    for picture in range(2):
        assert all(torch.equal(draw, coding.y_hat[picture, :3]) for draw in latents[:, picture, :3])
    pixels = reconstruct(networks, latents.flatten(0, 1), (64, 64))
    alone = reconstruct(networks, latents[2, 1:2], (64, 64))
    assert torch.allclose(pixels.unflatten(0, (4, 2))[2, 1], alone[0], atol=1e-5)


def test_trap_21_a_picture_off_the_stride_is_continued_not_framed_in_black(networks: SicNetworks) -> None:
    x = pictures(1, 3, 40, 50)
    continued = F.pad(x, (0, 14, 0, 24), mode="replicate")
    assert torch.equal(networks.latents_of(x)[0], networks.latents_of(continued)[0])
    framed = F.pad(x, (0, 14, 0, 24))
    assert not torch.allclose(networks.latents_of(x)[0], networks.latents_of(framed)[0], atol=0.01)
    assert networks.picture_of(networks.latents_of(x)[0], (40, 50)).shape == x.shape


def test_trap_30_the_perceptual_distance_has_no_dropout(shared: Path) -> None:
    distance = PerceptualDistance("squeeze", shared / LPIPS_TRUNK)
    x, x_hat = pictures(2, 1, 3, 64, 64)
    assert not distance.network.training
    assert torch.equal(distance(x, x_hat), distance(x, x_hat))


def test_trap_31_the_perceptual_network_neither_trains_nor_enters_a_clipped_norm(shared: Path) -> None:
    distance = PerceptualDistance("squeeze", shared / LPIPS_TRUNK)
    made = small_networks()
    x = pictures(1, 3, 64, 64)
    with_terms = code(made, x, torch.zeros(1, 6, 1, 1))
    compare(x, reconstruct(made, with_terms.y_hat, (64, 64)), with_terms.z_bpp, distance).perceptual.backward()
    assert made.gs.outconv.weight.grad is not None
    assert not any(value.requires_grad or value.grad is not None for value in distance.network.parameters())
    assert not any("lpips" in name for name in made.state_dict())


def test_trap_32_weights_that_the_mask_hides_have_no_gradient_and_stay_zero() -> None:
    made = small_networks()
    layer = made.context_model.layer
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.05)
    before = layer.weight.detach().clone()
    for _ in range(2):
        optimizer.zero_grad()
        made.context_model(torch.randn(1, 12, 5, 5)).square().sum().backward()
        assert layer.weight.grad is not None
        assert not layer.weight.grad[~layer.mask].any()
        optimizer.step()
    assert not layer.weight[~layer.mask].any()
    assert not torch.equal(layer.weight, before)


def test_trap_33_medians_get_a_gradient_of_nothing_from_what_is_rounded_around_them() -> None:
    made = small_networks()
    _, z = made.latents_of(pictures(1, 3, 64, 64))
    made.hs(made.round_z(z)).square().sum().backward()
    quantiles = made.entropy_bottleneck.quantiles
    assert quantiles.requires_grad
    assert quantiles.grad is None or not quantiles.grad.any()
    assert made.ha.get_submodule("4").get_parameter("weight").grad is not None


def test_trap_39_a_picture_of_another_size_in_between_changes_nothing(networks: SicNetworks) -> None:
    x = pictures(1, 3, 64, 128)
    before = networks.latents_of(x)[0]
    state = {name: value.clone() for name, value in networks.state_dict().items()}
    networks.picture_of(networks.latents_of(pictures(1, 3, 192, 64))[0], (192, 64))
    assert torch.equal(networks.latents_of(x)[0], before)
    assert all(torch.equal(value, state[name]) for name, value in networks.state_dict().items())


def test_trap_40_masks_of_windows_are_dropped_from_files_and_never_written(tmp_path: Path) -> None:
    theirs = small_networks(depths=PUBLISHED_DEPTHS)
    assert not any("attn_mask" in name for name in theirs.state_dict())
    torch.save(official_state(theirs), tmp_path / "official.pth")
    weights = read_official(tmp_path / "official.pth")
    assert weights.report.dropped["attn_mask"] == 6
    assert not any("attn_mask" in name for name in weights.state)


def test_trap_41_module_is_taken_off_the_front_alone_and_nothing_may_be_missing(tmp_path: Path) -> None:
    theirs = small_networks(depths=PUBLISHED_DEPTHS)
    state = official_state(theirs)
    torch.save(state | {"module.gs.module.extra": torch.zeros(1)}, tmp_path / "official.pth")
    with pytest.raises(CodingError, match=r"unexpected gs\.module\.extra$"):
        SicNetworks.from_weights(read_official(tmp_path / "official.pth").state)
    del state["module.entropy_bottleneck._matrix2"]
    torch.save(state, tmp_path / "official.pth")
    with pytest.raises(CodingError, match=r"missing entropy_bottleneck\.matrices\.2$"):
        SicNetworks.from_weights(read_official(tmp_path / "official.pth").state)


def test_trap_42_tokens_of_padding_are_attended_to() -> None:
    """A grid that is padded by itself and one that is padded with zeros beforehand agree where both have tokens."""
    torch.manual_seed(0)
    block = SwinBlock(8, 2, shift=0)
    with torch.no_grad():
        assert block.attn.qkv.bias is not None
        block.attn.qkv.bias.normal_()
        normed = torch.randn(1, 4, 6, 8)
        attended = block.attend(normed)
        assert torch.allclose(attended, block.attend(F.pad(normed, (0, 0, 0, 2, 0, 4)))[:, :4, :6], atol=1e-6)
        block.attn.qkv.bias.zero_()
        assert not torch.allclose(attended, block.attend(normed), atol=0.01)


def test_trap_43_the_discriminator_has_strides_of_2_and_neither_normalisation_nor_biases() -> None:
    judge = Discriminator(groups=4, group_width=3, condition=5, widths=[4, 6, 8, 10])
    layers = [judge.get_submodule(f"dsc{index}.cbr") for index in range(1, 6)]
    convolutions = [layer.get_submodule("0.conv") for layer in layers]
    assert [convolution.stride for convolution in convolutions] == [(2, 2)] * 4 + [(1, 1)]
    assert all(convolution.bias is None for convolution in convolutions)
    kinds = {type(layer) for layer in judge.modules() if not list(layer.children())}
    assert kinds == {nn.Conv2d, nn.LeakyReLU}


def test_trap_44_pictures_of_all_groups_are_judged_by_those_of_the_level() -> None:
    judge = Discriminator(groups=4, group_width=3, condition=5, widths=[4, 6]).eval()
    x, y_hat = torch.rand(1, 3, 16, 16), torch.randn(1, 12, 4, 4)
    with torch.no_grad():
        assert torch.equal(judge(x, y_hat, 2), judge(x, y_hat[:, :6], 2))


def test_trap_45_real_pictures_weigh_1_and_each_kind_of_fake_a_half() -> None:
    judged = functools.partial(discriminator_loss, fake_weight=0.5)
    nothing, sure = torch.zeros(1), torch.full((1,), 50.0)
    undecided = float(torch.log(torch.tensor(2.0)))
    assert float(judged(nothing, nothing, nothing)) == pytest.approx(2 * undecided)
    assert float(judged(sure, -sure, nothing)) == pytest.approx(undecided / 2)
    assert float(judged(nothing, -sure, -sure)) == pytest.approx(undecided)


def test_trap_46_levels_are_counted_from_1_by_schedule_and_weights_alike() -> None:
    table = LevelTable(levels=16, distortion=2048.0, perception=(32.0, 8.0), rate=(64.0, 1.0))
    schedule = descending(16)
    assert [table(schedule(step)).distortion for step in (0, 15)] == [2048, 128]
    with pytest.raises(ValueError, match="level 0"):
        table(0)
