"""Files in the authors' format: imported with a report of what was dropped, or refused by name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from lightning_modules.errors import CodingError
from lightning_modules.sic.discriminator import Discriminator
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.sic.official_checkpoint import official_weights, read_official
from tests.lightning_modules.sic.official_file import PUBLISHED_DEPTHS, official_state
from tests.lightning_modules.sic.small_networks import pictures, small_networks


@pytest.fixture(scope="module")
def theirs() -> SicNetworks:
    """Narrow networks with the published number of blocks."""
    return small_networks(depths=PUBLISHED_DEPTHS)


@pytest.fixture
def state(theirs: SicNetworks) -> dict[str, Tensor]:
    return official_state(theirs)


def saved(content: object, folder: Path) -> Path:
    torch.save(content, folder / "official.pth")
    return folder / "official.pth"


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "under state_dict"])
def test_a_file_of_the_authors_computes_what_it_does_there(
    nested: bool, theirs: SicNetworks, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = saved({"epoch": 7, "state_dict": state} if nested else state, tmp_path)
    ours = SicNetworks.from_weights(official_weights(path))
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter), name
    x = pictures(1, 3, 64, 128)
    with torch.no_grad():
        y, z = ours.latents_of(x)
        hyper = ours.hs(ours.round_z(z))
        for found, expected in zip(
            ours.parameters_of_y(hyper, y.round()), theirs.parameters_of_y(hyper, y.round()), strict=True
        ):
            assert torch.equal(found, expected)
        assert torch.equal(ours.picture_of(y.round(), (64, 128)), theirs.picture_of(y.round(), (64, 128)))


def test_the_report_counts_what_was_kept_and_what_was_dropped(
    theirs: SicNetworks, state: dict[str, Tensor], tmp_path: Path
) -> None:
    assert len(state) == 363
    report = read_official(saved(state, tmp_path)).report
    assert report.tensors == 272
    assert report.parameters == sum(parameter.numel() for parameter in theirs.parameters())
    assert report.dropped == {
        "attn_mask": 6,
        "relative_position_index": 16,
        "context mask": 1,
        "of LPIPS": 22,
        "of DISTS": 34,
        "coding tables": 7,
        "constants": 5,
    }
    assert report.tensors + sum(report.dropped.values()) == 363
    assert report.hidden == int((~theirs.context_model.layer.mask).sum())


def test_the_report_is_one_line_of_the_log(
    state: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(state, tmp_path)
    with caplog.at_level(logging.WARNING):
        official_weights(path)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"{path}: 272 tensors of the codec with ")
    assert "6 attn_mask" in line
    assert "34 of DISTS" in line
    assert "\n" not in line


def test_a_file_with_nothing_to_drop_says_so(theirs: SicNetworks, tmp_path: Path) -> None:
    weights = dict(theirs.named_parameters())
    assert "dropped nothing; 0 context weights" in str(read_official(saved(weights, tmp_path)).report)


@pytest.mark.parametrize(
    "name",
    [
        "ga.layers.1.blocks.1.attn.proj.weight",
        "gs.layers.2.upsample.norm.bias",
        "entropy_bottleneck._matrix3",
        "entropy_bottleneck.quantiles",
        "context_model.layer.bias",
        "hs.2.weight",
    ],
)
def test_one_renamed_key_is_refused_by_name(name: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    head, _, last = name.rpartition(".")
    state[f"module.{head}.other"] = state.pop(f"module.{name}")
    with pytest.raises(CodingError) as caught:
        SicNetworks.from_weights(official_weights(saved(state, tmp_path)))
    assert f"missing {head}.{last.replace('_matrix', 'matrices.')}" in str(caught.value)
    assert f"unexpected {head}.other" in str(caught.value)


def test_a_discriminator_is_refused_by_name(tmp_path: Path) -> None:
    judge = Discriminator(groups=4, group_width=3, condition=5, widths=[4, 6, 8, 10])
    path = saved({f"module.{name}": value for name, value in judge.state_dict().items()}, tmp_path)
    with pytest.raises(CodingError, match=rf"{path}: holds a discriminator .* take another snapshot"):
        official_weights(path)


def test_faults_of_the_file_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(CodingError, match="no such checkpoint"):
        official_weights(tmp_path / "missing.pth")
    (tmp_path / "official.pth").write_bytes(b"\x80\x02garbage")
    with pytest.raises(CodingError, match="damaged"):
        official_weights(tmp_path / "official.pth")
    other = saved({"module.conv.weight": torch.zeros(3)}, tmp_path)
    with pytest.raises(CodingError, match=rf"^{other}: not SIC networks: no ga\.patch_embed.*choose the experiment"):
        official_weights(other)


def test_what_the_mask_hides_may_even_be_no_number(
    theirs: SicNetworks, state: dict[str, Tensor], tmp_path: Path
) -> None:
    state["module.context_model.layer.weight"][~theirs.context_model.layer.mask] = float("nan")
    ours = SicNetworks.from_weights(read_official(saved(state, tmp_path)).state)
    assert torch.equal(ours.context_model.layer.weight, theirs.context_model.layer.weight)


@pytest.mark.slow
def test_a_file_of_the_full_size_imports_whole(repository: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = OmegaConf.load(repository / "conf" / "networks" / "sic.yaml")
    theirs = SicNetworks(**{str(key): value for key, value in sizes.items()})
    path = saved(official_state(theirs), tmp_path)
    weights = read_official(path)
    assert (weights.report.tensors, weights.report.parameters) == (272, 87_211_843)
    assert sum(weights.report.dropped.values()) == 363 - 272
    assert weights.report.hidden == 13_107_200 - 6_537_216
    ours = SicNetworks.from_weights(weights.state)
    assert all(torch.equal(ours.get_parameter(name), value) for name, value in theirs.named_parameters())
    deviations = {"ha.0": 0.0241, "ha.2": 0.0144, "ha.4": 0.0102, "hs.0": 0.0144, "hs.2": 0.0125, "hs.4": 0.0120}
    for name, deviation in deviations.items():
        assert float(ours.get_parameter(f"{name}.weight").detach().std()) == pytest.approx(deviation, rel=0.01)
    with torch.no_grad():
        y, z = ours.latents_of(pictures(1, 3, 64, 64))
        scales, means = ours.parameters_of_y(ours.hs(ours.round_z(z)), y.round())
        x_hat = ours.picture_of(y.round(), (64, 64))
    assert (y.shape, z.shape, x_hat.shape) == ((1, 512, 4, 4), (1, 384, 1, 1), (1, 3, 64, 64))
    assert all(bool(value.isfinite().all()) for value in (scales, means, x_hat))
