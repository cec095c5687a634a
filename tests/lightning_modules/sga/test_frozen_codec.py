"""The frozen twin that takes the steps: the codec's own numbers, in the precision that is fastest."""

from __future__ import annotations

import copy

import pytest
import torch
from compressai.layers import GDN
from torch import Tensor

from lightning_modules.codec import LatentVariableCodec
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import Latents
from lightning_modules.sga import frozen_codec
from tests.lightning_modules.sga.small_refinement import crop_of_photograph, packaged_codec
from tests.lightning_modules.sga.small_refinement import refinement as small


def gradients_of(codec: HyperpriorCodec, latents: Latents) -> list[Tensor]:
    leaves = {name: value.detach().clone().requires_grad_() for name, value in latents.variables.items()}
    synthesis = codec.generate(Latents(leaves, latents.image_size), lambda value, offset: value)
    loss = synthesis.x_hat.square().sum() + sum(likelihood.log().sum() for likelihood in synthesis.likelihoods.values())
    return [synthesis.x_hat.detach(), *torch.autograd.grad(loss, list(leaves.values()))]


@pytest.mark.parametrize(("make", "tolerance"), [(frozen_codec.float32, 1e-5), (frozen_codec.bfloat16, 0.05)])
def test_the_step_codec_computes_what_the_codec_does(
    x: Tensor, make: frozen_codec.MakeStepCodec, tolerance: float
) -> None:
    codec = packaged_codec(lmbda=0.01)  # no latent of x is at its likelihood's bound, where gradients jump
    latents = codec.analyze(x)
    for expected, found in zip(gradients_of(codec, latents), gradients_of(make(codec), latents), strict=True):  # type: ignore[arg-type]
        assert float((found - expected).norm()) <= tolerance * float(expected.norm())


@pytest.mark.parametrize("inverse", [True, False])
def test_a_frozen_gdn_is_the_layer_and_its_gradient(inverse: bool) -> None:
    layer = GDN(3, inverse=inverse).double()
    with torch.no_grad():
        layer.gamma += torch.rand(3, 3, generator=torch.Generator().manual_seed(0)) * 0.1
    value = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    frozen = frozen_codec.FrozenGDN(layer)
    assert torch.allclose(frozen(value), layer(value), rtol=1e-12)
    assert torch.autograd.gradcheck(frozen, (value,))


def test_fastest_decides_once_and_by_a_clear_margin(codec: HyperpriorCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    trials: list[float] = []

    def seconds(*unused: object) -> float:
        trials.append(1.0 if len(trials) % 2 == 0 else 0.9)  # bfloat16, the second of two, gains but a little
        return trials[-1]

    monkeypatch.setattr(frozen_codec, "trial_seconds", seconds)
    fastest = frozen_codec.Fastest()
    for _ in range(2):
        assert next(fastest(codec).g_s.parameters()).dtype == torch.float32  # type: ignore[union-attr]
    assert trials == [1.0, 0.9]


@pytest.mark.slow
def test_a_compiled_twin_computes_the_same_and_is_kept_while_the_weights_are(codec: HyperpriorCodec, x: Tensor) -> None:
    made: list[object] = []

    def inside(codec: LatentVariableCodec) -> LatentVariableCodec:
        made.append(frozen_codec.float32(codec))
        return made[-1]  # type: ignore[return-value]

    make, latents = frozen_codec.Compiled(inside), codec.analyze(x)
    for _ in range(2):
        found = gradients_of(make(codec), latents)  # type: ignore[arg-type]
        for expected, value in zip(gradients_of(codec, latents), found, strict=True):
            assert float((value - expected).norm()) <= 1e-5 * float(expected.norm())
    assert len(made) == 1
    another = copy.deepcopy(codec)
    with torch.no_grad():
        next(another.g_s.parameters()).add_(1.0)
    make(another)
    assert len(made) == 2


def test_bfloat16_and_float32_end_at_the_same_loss() -> None:
    codec = packaged_codec(lmbda=0.01)
    crop = crop_of_photograph(100, 100, 64, 64)
    ends = []
    for make in (frozen_codec.float32, frozen_codec.bfloat16):
        refine = small(steps=40, evaluate_every=40, step_codec=make)
        refine(codec, crop)
        ends.append(refine.trace[0][-1].true_loss)
    assert ends[1] == pytest.approx(ends[0], rel=0.02)
