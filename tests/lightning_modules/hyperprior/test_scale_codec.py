"""The scale hyperprior: CompressAI's model number for number, coded exactly, refined, and without means for good."""

from __future__ import annotations

import pytest
import torch
from compressai.models import ScaleHyperprior
from torch import Tensor

from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.scale_codec import ScaleHyperpriorCodec
from tests.lightning_modules.sga.small_refinement import refinement

N, M = 6, 10


@pytest.fixture(scope="module")
def compressai_model() -> ScaleHyperprior:
    """With random weights, and scales on both sides of their bound."""
    torch.manual_seed(0)
    model = ScaleHyperprior(N, M)
    with torch.no_grad():
        for network in (model.g_a, model.g_s, model.h_a, model.h_s):
            for name, weight in network.named_parameters():
                if name.endswith("weight") and weight.ndim == 4:
                    weight.mul_(2.0)
        model.h_s[4].bias.copy_(torch.linspace(-0.5, 3.0, M))
    model.update()
    return model.eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def codec(compressai_model: ScaleHyperprior) -> HyperpriorCodec:
    codec = ScaleHyperpriorCodec.from_weights(learned(compressai_model), lmbda=0.01).eval()
    codec.update()
    return codec


def learned(model: ScaleHyperprior) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


@torch.no_grad()
def test_latents_and_scales_are_those_of_compressai(
    compressai_model: ScaleHyperprior, codec: HyperpriorCodec, x: Tensor
) -> None:
    variables = codec.analyze(x).variables
    y = compressai_model.g_a(x)
    z = compressai_model.h_a(y.abs())
    torch.testing.assert_close(variables["y"], y)
    torch.testing.assert_close(variables["z"], z)
    scales, means = codec.coding_parameters(z.round(), (y.shape[-2], y.shape[-1]))
    torch.testing.assert_close(scales.relu(), compressai_model.h_s(z.round()))
    assert not bool(means.any())


@torch.no_grad()
def test_what_is_coded_comes_back_on_the_grid_of_integers(codec: HyperpriorCodec, x: Tensor) -> None:
    latents = codec.analyze(x[..., :50, :70])
    coded = codec.encode(latents)
    assert torch.equal(codec.decode(coded.sections, (50, 70)), codec.estimate(latents).x_hat)
    (integers,) = codec.read_integers([coded.sections], (50, 70))
    assert not isinstance(integers, CodingError)
    assert not integers["mean"].any()
    assert torch.equal(torch.from_numpy(integers["y"]), latents.variables["y"][0].round().int())
    assert len(set(integers["index"].ravel())) > 10, "scales differ"


def test_its_latents_are_refined_like_any_others(codec: HyperpriorCodec, x: Tensor) -> None:
    refine = refinement(steps=40, evaluate_every=40, lmbda=0.01)
    refine(codec, x)
    assert refine.trace[0][-1].true_loss < refine.trace[0][0].true_loss


def test_training_leaves_the_means_at_zero(x: Tensor) -> None:
    torch.manual_seed(0)
    codec = ScaleHyperpriorCodec(N=N, M=M, lmbda=0.01).train()
    optimizer = torch.optim.Adam(codec.parameters(), lr=1e-3)
    for _ in range(3):
        result = codec(x)
        loss = result["x_hat"].square().mean() - sum(p.log().mean() for p in result["likelihoods"].values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    last = codec.h_s[-1]
    assert not bool(last.get_parameter("weight")[M:].any())
    assert not bool(last.get_parameter("bias")[M:].any())
    assert bool(last.get_parameter("weight")[:M].any())


def test_its_own_weights_load_as_compressais_do(codec: HyperpriorCodec) -> None:
    again = ScaleHyperpriorCodec.from_weights(dict(codec.named_parameters()), lmbda=0.01)
    for name, value in codec.named_parameters():
        assert torch.equal(value, again.get_parameter(name))


def test_each_of_both_architectures_refuses_the_other(compressai_model: ScaleHyperprior) -> None:
    with pytest.raises(CodingError, match="module=hyperprior_scale"):
        HyperpriorCodec.from_weights(learned(compressai_model), lmbda=0.01)
    torch.manual_seed(0)
    mean_scale = HyperpriorCodec(N=N, M=M, lmbda=0.01)
    with pytest.raises(CodingError, match=r"h_s\.0\.weight is"):
        ScaleHyperpriorCodec.from_weights(dict(mean_scale.named_parameters()), lmbda=0.01)
