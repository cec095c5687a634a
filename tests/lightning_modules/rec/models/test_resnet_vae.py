"""The lossless model: the paper's size, its formula computed another way, and pictures of any even size."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.rec.lossless_codec import LosslessCodec
from lightning_modules.rec.models.hierarchy import Prior, analytic_kl, sampled_kl
from lightning_modules.rec.models.pixel_likelihood import SharedScale
from lightning_modules.rec.models.resnet_vae import ResNetVAE
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian


def test_the_papers_model_has_its_number_of_parameters() -> None:
    codec = LosslessCodec(depth=24, width=160, latent_width=32, likelihood="shared_scale")
    assert sum(parameter.numel() for parameter in codec.parameters()) == 29_462_823


def small_model() -> ResNetVAE:
    torch.manual_seed(3)
    model = ResNetVAE(depth=3, width=6, latent_width=2, output_fractions=SharedScale.fractions).double()
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("size", [(2, 2), (6, 10)])
def test_latents_and_outputs_have_the_sizes_that_are_told(size: tuple[int, int]) -> None:
    model = small_model()
    shapes: list[torch.Size] = []

    def draw(level: int, prior: Prior) -> Tensor:
        assert level == len(shapes)
        assert prior.mean.shape == prior.spread.shape
        shapes.append(prior.mean.shape)
        return prior.mean

    x = torch.rand(2, 3, *size, dtype=torch.float64)
    output = model.output(model.trained, model.generate(model.trained, x, size, draw))
    assert shapes == [torch.Size((2, 2, h, w)) for h, w in model.latent_sizes(size)]
    assert output.shape == (2, 3, size[0] + 1, size[1] + 1)


def filters(layer: Any) -> tuple[Tensor, Tensor]:
    """exp(g) V / ||V|| and bias, by the paper's words."""
    gain, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    norms = torch.stack([row.norm() for row in direction])
    return direction * (gain.exp() / norms)[:, None, None, None], layer.bias


def same(x: Tensor, layer: Any) -> Tensor:
    return F.conv2d(x, *filters(layer), padding=1)


def test_the_evidence_bound_is_the_papers_formula() -> None:
    """Written out in the paper's order, one picture at a time, in float64; the sample of z is shared."""
    model, size = small_model(), (8, 6)
    x = (torch.rand(1, 3, *size, dtype=torch.float64) * 255).round() / 255
    noise = torch.randn(3, 1, 2, 4, 3, dtype=torch.float64)
    found: list[float] = []
    features = model.infer(x)

    def draw(level: int, prior: Prior) -> Tensor:
        q = model.posterior(level, features[level], prior)
        p = type(q)(prior.mean, model.scale_map.trained(prior.spread))
        z = q.mean + noise[level] * q.std
        found.append(float(sampled_kl(q, p, z).detach().sum()))
        return z

    output = model.output(model.trained, model.generate(model.trained, x, size, draw))[..., :8, :6]

    centred = (256 * ((255 * x + 0.5) / 256) - 128) / 256
    stem_weight, stem_bias = filters(model.stem)
    h = F.conv2d(F.pad(centred, (1, 2, 1, 2)), stem_weight, stem_bias, stride=2)
    up = {}
    for level in (2, 1, 0):
        both = same(F.elu(h), model.up_features[level])
        up[level] = both[:, :2], both[:, 2:4]
        if level:
            h = h + 0.1 * same(F.elu(both[:, 4:]), model.up_residuals[level - 1])
    h = model.top[None, :, None, None].expand(1, 6, 4, 3)
    for level in range(3):
        both = same(F.elu(h), model.layers_of(f"prior{level}")[1])
        shift = same(F.elu(h), model.shifts[level])
        p_mean, p_log, g = both[:, :2], both[:, 2:4].clamp(-10, 5), both[:, 4:]
        q_mean, q_log = up[level][0] + shift[:, :2], (up[level][1] + shift[:, 2:]).clamp(-10, 5)
        z = q_mean + noise[level] * q_log.exp()
        log_q = -0.5 * ((z - q_mean) / q_log.exp()) ** 2 - q_log
        log_p = -0.5 * ((z - p_mean) / p_log.exp()) ** 2 - p_log
        assert found[level] == pytest.approx(float((log_q - log_p).detach().sum()), rel=1e-10)
        h = h + 0.1 * same(F.elu(torch.cat([g, z], 1)), model.layers_of(f"merge{level}")[1])
    last: Any = model.layers_of("output")[1]
    whole = F.conv_transpose2d(F.elu(h), last.weight, last.bias, stride=2)
    assert torch.allclose(output, whole[..., 1:-2, 1:-2], rtol=1e-10, atol=1e-10)


def test_kl_in_closed_form_is_the_mean_of_its_samples() -> None:
    torch.manual_seed(0)
    q = Gaussian(torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64))
    p = Gaussian(torch.tensor(-0.2, dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64))
    z = q.mean + q.std * torch.randn(200_000, dtype=torch.float64)
    expected = math.log(1.5 / 0.4) + (0.4**2 + 0.5**2) / (2 * 1.5**2) - 0.5
    assert float(analytic_kl(q, p)) == pytest.approx(expected, rel=1e-12)
    assert float(sampled_kl(q, p, z).mean()) == pytest.approx(expected, abs=0.01)
