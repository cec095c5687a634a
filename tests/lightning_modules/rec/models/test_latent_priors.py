"""Learned priors: their KL is that of independent formulas in float64, and what they bound is bounded."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.checkpoints.packaged_model import load_model, save_model
from lightning_modules.errors import CodingError
from lightning_modules.rec.files.file_coder import default_coder
from lightning_modules.rec.mnist_codec import MnistCodec
from lightning_modules.rec.models.hierarchy import analytic
from lightning_modules.rec.models.latent_priors import Energy, Mixture, Vamp, latent_prior, log_gain, log_mixture
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from tests.lightning_modules.rec.small_codecs import picture

LEARNED: dict[str, dict[str, Any]] = {
    "mixture": {"kind": "mixture", "components": 7},
    "vamp": {"kind": "vamp", "pseudo_inputs": 6},
    "energy": {"kind": "energy", "hidden": 5, "proposals": 9},
}
D = 3


def normal(like: Tensor) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(5))


def laws() -> tuple[Gaussian, Gaussian, Tensor]:
    """Posterior, standard normal, z; (2, D, 1, 2) each."""
    generator = torch.Generator().manual_seed(0)
    mean, z, scale = (torch.randn(2, D, 1, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    return Gaussian(mean, 0.5 * scale.exp()), Gaussian(torch.zeros_like(mean), torch.ones_like(mean)), z


def log_density(z: float, mean: float, deviation: float) -> float:
    return float(np.log(NormalDist(mean, deviation).pdf(z)))


def encode(fields: Tensor) -> Gaussian:
    """Means and deviations that tell pseudo-inputs apart."""
    mean = torch.stack([fields.sum(1), fields[:, 0], fields[:, 1]], 1)
    return Gaussian(mean, 0.2 + mean.abs())


@pytest.mark.parametrize("kind", ["mixture", "vamp"])
def test_kl_over_a_mixture_is_that_of_its_densities_dimension_by_dimension(kind: str) -> None:
    torch.manual_seed(1)
    prior = latent_prior(LEARNED[kind], D, 4).double()
    means: Tensor
    if isinstance(prior, Mixture):
        means, deviations = prior.means, torch.nn.functional.softplus(prior.spreads) + 1e-5
    else:
        assert isinstance(prior, Vamp)
        means, deviations = (part[..., 0, 0] for part in encode(prior.pseudo_inputs[..., None, None]))
    q, p, z = laws()
    found = prior.kl(analytic, normal, encode)(q, p, z)
    for place in np.ndindex(*z.shape):
        d = place[1]
        densities = [
            NormalDist(float(m), float(s)).pdf(float(z[place]))
            for m, s in zip(means[:, d], deviations[:, d], strict=True)
        ]
        expected = log_density(float(z[place]), float(q.mean[place]), float(q.std[place])) - np.log(np.mean(densities))
        assert float(found[place]) == pytest.approx(expected, abs=1e-10)


def test_kl_over_resampled_proposals_is_less_by_what_the_energy_says() -> None:
    torch.manual_seed(2)
    prior = latent_prior(LEARNED["energy"], D, 4).double()
    assert isinstance(prior, Energy)
    q, p, z = laws()
    found = prior.kl(analytic, normal, encode)(q, p, z).sum(1)
    others = prior.energy(normal(z.new_empty(8, D)))[:, 0].detach().numpy()
    for b, w in np.ndindex(2, 2):
        u = float(prior.energy(z[b, :, 0, w]))
        gain = u + np.log(9) - np.log(np.exp(u) + np.exp(others).sum())
        expected = float(analytic(q, p, z)[b, :, 0, w].sum()) - gain
        assert float(found[b, 0, w]) == pytest.approx(expected, abs=1e-10)


def test_the_bound_of_two_proposals_is_below_the_exact_density_which_sums_to_one() -> None:
    """In one dimension, U(z) = 1.5 z: p(z) = N(z) * integral of N(s) 2 e^U(z) / (e^U(z) + e^U(s))."""
    grid = np.linspace(-8.0, 8.0, 1601)
    mass = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi) * (grid[1] - grid[0])
    u = 1.5 * grid
    exact = np.array([(mass * 2 / (1 + np.exp(u - own))).sum() for own in u])
    assert (mass * exact).sum() == pytest.approx(1.0, abs=1e-9)
    gains = np.stack([log_gain(torch.from_numpy(u), torch.tensor([other])).numpy() for other in u], axis=1)
    bound = gains @ mass
    assert (bound <= np.log(exact) + 1e-9).all()
    assert (mass * exact * (np.log(exact) - bound)).sum() > 0.01, "and not the density itself"


def test_with_many_proposals_the_bound_is_the_tilted_density() -> None:
    """N(z) e^(a z) / e^(a^2 / 2) for U(z) = a z."""
    a, z = 0.7, torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    others = a * torch.randn(400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert log_gain(a * z, others).tolist() == pytest.approx((a * z - a**2 / 2).tolist(), abs=0.01)


def test_a_mixture_of_equal_components_is_the_component() -> None:
    z = torch.randn(2, D, 1, 1, dtype=torch.float64)
    found = log_mixture(z, torch.zeros(5, D, dtype=torch.float64), torch.ones(5, D, dtype=torch.float64))
    assert torch.allclose(found, torch.distributions.Normal(0.0, 1.0).log_prob(z), atol=1e-12)


@pytest.mark.parametrize("settings", [*LEARNED.values(), {"kind": "standard_normal"}], ids=lambda value: value["kind"])
def test_a_model_with_any_prior_has_a_bound_learns_and_is_kept(settings: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(3)
    codec = MnistCodec(width=8, latents=D, prior=settings)
    x = torch.cat([picture(28, 28), picture(28, 28, seed=1)])
    found = codec.observe(x, analytic, torch.randn_like)
    (codec.pixel_bits(x, found.state).sum() + found.kl[0].sum()).backward()
    assert all(parameter.grad is not None for parameter in codec.parameters())
    save_model(codec.eval(), tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again.hyperparameters == codec.hyperparameters
    bits, same = (one.estimate(one.analyze(x)).bits["latents"] for one in (codec, again))
    assert torch.isfinite(bits).all()
    assert torch.equal(bits, same), "one sample of a seeded generator"


@pytest.mark.parametrize("kind", LEARNED)
def test_a_learned_prior_has_no_files_and_says_so(kind: str) -> None:
    codec = MnistCodec(width=8, latents=D, prior=LEARNED[kind])
    line = f"a model with prior={kind} has an evidence bound and no files; .*prior=standard_normal"
    image = codec.analyze(picture(28, 28))
    for refused in (
        codec.require_codable,
        lambda: codec.encode(image),
        lambda: default_coder().encode_pack(codec, [image, image]),
    ):
        with pytest.raises(CodingError, match=line):
            refused()
    MnistCodec(width=8, latents=D, prior={"kind": "standard_normal"}).require_codable()


@pytest.mark.parametrize("settings", [{"kind": "cauchy"}, {"kind": "mixture"}, {**LEARNED["energy"], "proposals": 1}])
def test_a_prior_that_does_not_exist_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(CodingError, match="give standard_normal, mixture, vamp or energy"):
        latent_prior(settings, D, 4)
