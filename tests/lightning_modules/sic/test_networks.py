"""Names, shapes and counts of the published model, from the table of its specification; sizes are otherwise free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from lightning_modules.errors import CodingError
from lightning_modules.exact.export import export
from lightning_modules.sic.networks import SicNetworks, sizes_of
from tests.lightning_modules.sic.small_networks import SIZES, pictures, small_networks

Shape = tuple[int, ...]


def configured(repository: Path, name: str) -> dict[str, Any]:
    sizes = OmegaConf.to_container(OmegaConf.load(repository / "conf" / "networks" / f"{name}.yaml"))
    assert isinstance(sizes, dict)
    return {str(key): value for key, value in sizes.items()}


@pytest.fixture(scope="module")
def published(repository: Path) -> SicNetworks:
    """The full model, without memory for its weights."""
    with torch.device("meta"):
        return SicNetworks(**configured(repository, "sic"))


def block(prefix: str, d: int) -> dict[str, Shape]:
    shapes = {
        "norm1.weight": (d,),
        "norm1.bias": (d,),
        "attn.relative_position_bias_table": (225, 16),
        "attn.qkv.weight": (3 * d, d),
        "attn.qkv.bias": (3 * d,),
        "attn.proj.weight": (d, d),
        "attn.proj.bias": (d,),
        "norm2.weight": (d,),
        "norm2.bias": (d,),
        "mlp.fc1.weight": (4 * d, d),
        "mlp.fc1.bias": (4 * d,),
        "mlp.fc2.weight": (d, 4 * d),
        "mlp.fc2.bias": (d,),
    }
    return {prefix + name: shape for name, shape in shapes.items()}


def layer(name: str, *shape: int, bias: int | None = None) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": (shape[0] if bias is None else bias,)}


def table() -> dict[str, Shape]:
    """The trainable entries of the authors' state dict."""
    shapes = layer("ga.patch_embed.proj", 256, 3, 2, 2) | layer("ga.patch_embed.norm", 256) | layer("ga.norm", 512)
    for stage, (d, blocks) in enumerate([(256, 1), (384, 2), (512, 2), (512, 3)]):
        for index in range(blocks):
            shapes |= block(f"ga.layers.{stage}.blocks.{index}.", d) | block(
                f"gs.layers.{3 - stage}.blocks.{index}.", d
            )
    for stage, (wide, narrow) in enumerate([(384, 1024), (512, 1536), (512, 2048)], start=1):
        shapes |= {f"ga.layers.{stage}.downsample.reduction.weight": (wide, narrow)}
        shapes |= layer(f"ga.layers.{stage}.downsample.norm", narrow)
    for stage, (wide, narrow) in enumerate([(512, 128), (384, 128), (256, 96), (256, 64)]):
        shapes |= {f"gs.layers.{stage}.upsample.increment.weight": (wide, narrow)}
        shapes |= layer(f"gs.layers.{stage}.upsample.norm", narrow)
    shapes |= layer("gs.outconv", 3, 256, 3, 3)
    shapes |= layer("ha.0", 384, 512, 3, 3) | layer("ha.2", 384, 384, 5, 5) | layer("ha.4", 384, 384, 5, 5)
    shapes |= layer("hs.0", 384, 512, 5, 5, bias=512) | layer("hs.2", 512, 768, 5, 5, bias=768)
    shapes |= layer("hs.4", 768, 1024, 3, 3, bias=1024) | layer("context_model.layer", 1024, 512, 5, 5)
    for index, shape in ((0, (1536, 128, 1, 1)), (2, (1536, 96, 1, 1)), (4, (1024, 96, 1, 1))):
        shapes |= layer(f"entropy_parameters.layer.{index}", *shape)
    bottleneck = {f"matrices.{i}": (384, 1 if i == 4 else 3, 1 if i == 0 else 3) for i in range(5)}
    bottleneck |= {f"biases.{i}": (384, 1 if i == 4 else 3, 1) for i in range(5)}
    bottleneck |= {f"factors.{i}": (384, 3, 1) for i in range(4)} | {"quantiles": (384, 1, 3)}
    return shapes | {f"entropy_bottleneck.{name}": shape for name, shape in bottleneck.items()}


def test_the_published_model_has_87_211_843_parameters_in_272_tensors(published: SicNetworks) -> None:
    trainable = [parameter for parameter in published.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trainable) == 87_211_843
    assert len(trainable) == 272


@pytest.mark.parametrize(
    ("part", "count"),
    [
        ("ga", 22_371_712),
        ("gs", 20_292_803),
        ("ha", 9_143_424),
        ("hs", 21_825_792),
        ("context_model", 13_108_224),
        ("entropy_parameters", 446_464),
        ("entropy_bottleneck", 23_424),
    ],
)
def test_each_part_has_its_share_of_them(published: SicNetworks, part: str, count: int) -> None:
    assert sum(parameter.numel() for parameter in published.get_submodule(part).parameters()) == count


def test_names_and_shapes_are_those_of_the_authors(published: SicNetworks) -> None:
    assert {name: tuple(parameter.shape) for name, parameter in published.named_parameters()} == table()


def test_nothing_that_follows_from_sizes_is_stored(published: SicNetworks) -> None:
    stored = published.state_dict().keys() - table().keys()
    assert {name.partition(".")[0] for name in stored} == {"entropy_bottleneck", "gaussian_conditional"}


def test_the_small_configuration_has_a_few_million_parameters(repository: Path) -> None:
    with torch.device("meta"):
        networks = SicNetworks(**configured(repository, "sic_small"))
    assert 2e6 < sum(parameter.numel() for parameter in networks.parameters()) < 6e6
    assert networks.groups in {4, 8}


@pytest.mark.parametrize(
    "sizes",
    [
        SIZES,
        SIZES | {"groups": 1, "hyper_width": 3},
        SIZES | {"groups": 12, "heads": 2},
        {"widths": [4, 8, 16], "depths": [3, 1, 2], "heads": 4, "groups": 2, "hyper_width": 5},
        {"widths": [24], "depths": [1], "heads": 3, "groups": 3, "hyper_width": 5},
    ],
)
def test_sizes_are_free_and_can_be_read_off_the_weights(sizes: dict[str, Any]) -> None:
    networks = SicNetworks(**sizes)
    assert sizes_of(networks.state_dict()) == sizes
    x = pictures(1, 3, 2 * networks.stride, networks.stride)
    with torch.no_grad():
        y, z = networks.latents_of(x)
        hyper = networks.hs(networks.round_z(z))
        scales, means = networks.parameters_of_y(hyper, y.round())
        assert networks.picture_of(y.round(), (2 * networks.stride, networks.stride)).shape == x.shape
    assert y.shape == scales.shape == means.shape == (1, sizes["widths"][-1], 8, 4)
    assert z.shape == (1, sizes["hyper_width"], 2, 1)


def test_the_published_sizes_can_be_read_off_their_weights(published: SicNetworks, repository: Path) -> None:
    assert sizes_of(published.state_dict()) == configured(repository, "sic")


@pytest.mark.parametrize("size", [(1, 1), (63, 65), (64, 64), (70, 130)])
def test_pictures_of_every_size_come_back_in_theirs(size: tuple[int, int]) -> None:
    networks = small_networks()
    with torch.no_grad():
        y, z = networks.latents_of(pictures(2, 3, *size))
        assert y.shape[-2:] == (4 * z.shape[-2], 4 * z.shape[-1])
        assert networks.picture_of(y, size).shape == (2, 3, *size)
        assert networks.hs(z).shape == (2, 2 * networks.channels, *y.shape[-2:])


def test_y_leaves_the_analysis_with_unit_variance_over_its_channels() -> None:
    torch.manual_seed(0)
    y, _ = SicNetworks(**SIZES).latents_of(pictures(1, 3, 64, 64))
    assert torch.allclose(y.var(1, correction=0), torch.ones(1, 4, 4), atol=1e-2)


def test_weights_return_by_name() -> None:
    networks = small_networks()
    loaded = SicNetworks.from_weights(networks.state_dict())
    for name, parameter in networks.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter), name


def test_context_weights_that_do_not_count_come_in_as_zero() -> None:
    state = small_networks().state_dict()
    state["context_model.layer.weight"] = torch.ones_like(state["context_model.layer.weight"])
    layer = SicNetworks.from_weights(state).context_model.layer
    assert torch.equal(layer.weight, layer.mask.float())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("ga.layers.3.blocks.1.mlp.fc1.weight", "missing ga.layers.3.blocks.1.mlp.fc1.weight; unexpected "),
        ("gs.outconv.bias", "missing gs.outconv.bias; unexpected renamed.bias"),
        ("ga.patch_embed.proj.weight", "no ga.patch_embed.proj.weight of 4 dimensions"),
        ("entropy_parameters.layer.0.weight", "no entropy_parameters.layer.0.weight of 4 dimensions"),
    ],
)
def test_one_renamed_weight_is_refused_by_name(name: str, line: str) -> None:
    state = small_networks().state_dict()
    state[f"renamed.{name.rpartition('.')[2]}"] = state.pop(name)
    with pytest.raises(CodingError, match=line):
        SicNetworks.from_weights(state)


def test_a_weight_of_another_shape_is_refused_by_name() -> None:
    state = small_networks().state_dict()
    state["hs.2.weight"] = state["hs.2.weight"][:, 1:]
    with pytest.raises(CodingError, match=r"hs\.2\.weight is \(12, 17, 5, 5\), not \(12, 18, 5, 5\)"):
        SicNetworks.from_weights(state)


def test_many_faults_are_listed_and_the_rest_counted() -> None:
    state = {name: value for name, value in small_networks().state_dict().items() if not name.startswith("gs.")}
    missing = sum(name.startswith("gs.") for name in small_networks().state_dict())
    with pytest.raises(CodingError, match=rf"missing gs\.layers\.0.* and {missing - 8} more$"):
        SicNetworks.from_weights(state)


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(CodingError, match="not SIC networks"):
        SicNetworks.from_weights({"0.weight": torch.zeros(3, 3)})
    state = small_networks().state_dict() | {"entropy_parameters.layer.0.weight": torch.zeros(7, 5, 1, 1)}
    with pytest.raises(CodingError, match="does not fit 12 channels"):
        SicNetworks.from_weights(state)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="5 groups do not divide 12 channels"):
        SicNetworks(**SIZES | {"groups": 5})


# ---- initialisation


def test_linear_layers_start_small_and_normalisations_as_the_identity() -> None:
    torch.manual_seed(0)
    networks = SicNetworks(**SIZES | {"widths": [32, 32, 32, 32]})
    for name, parameter in networks.named_parameters():
        value, part = parameter.detach(), name.split(".")[-2]
        if name.startswith(("ga.layers", "gs.layers")) and value.ndim == 2:
            assert float(value.std()) == pytest.approx(0.02, rel=0.1), name
        elif part.startswith("norm"):
            assert torch.equal(value, torch.full_like(value, float(name.endswith("weight")))), name
        elif name.startswith(("ga.layers", "gs.layers")):
            assert not value.any(), name


# ---- what a codec builds on


def test_all_that_gives_coding_parameters_has_an_exact_form() -> None:
    """hs, and each group's layers, run in integers that agree with the float networks to the step of their units."""
    networks = small_networks()
    hyper, y_hat = torch.randn(8, 6, 2, 2).round(), (2 * torch.randn(8, 12, 6, 6)).round()
    parts: list[tuple[torch.nn.Sequential, torch.Tensor]] = [(networks.hs, hyper)]
    for group in range(networks.groups):
        convolution = torch.nn.Sequential(networks.context_model.layer.of_group(group))
        parts.append((convolution, y_hat[:, : 3 * (group + 1)]))
        parts.append((networks.entropy_parameters.of_group(group), torch.randn(8, 12, 4, 4)))
    for network, examples in parts:
        with torch.no_grad():
            expected = network(examples)
        exact = export(network, examples, torch.full((expected.shape[1],), 8))
        step = 2.0 ** -int(exact.fractions[0])
        found = exact((examples.double() / step).round()) * 2.0**-8
        assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_mixed_precision_leaves_latents_parameters_and_pictures_in_float32() -> None:
    networks = small_networks().requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        y, z = networks.latents_of(pictures(1, 3, 64, 64))
        hyper = networks.features_of_z(networks.round_z(z))
        scales, means = networks.parameters_of_y(hyper, y.round())
        x_hat = networks.picture_of(y.round(), (64, 64))
    assert {value.dtype for value in (y, z, hyper, scales, means, x_hat)} == {torch.float32}
    assert torch.allclose(networks.y_of(pictures(1, 3, 64, 64)), y, atol=0.1)
