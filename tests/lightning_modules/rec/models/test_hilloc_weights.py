"""HiLLoC's weights under our names compute what they compute there, written out from their layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.checkpoints.checkpoint import load_codec
from lightning_modules.checkpoints.foreign_checkpoint import recognise
from lightning_modules.errors import CodingError
from lightning_modules.rec.lossless_codec import LosslessCodec
from lightning_modules.rec.models.hierarchy import Prior
from lightning_modules.rec.models.hilloc_weights import hilloc_weights

DEPTH, WIDTH, LATENTS = 3, 5, 2


@pytest.fixture(scope="module")
def variables() -> dict[str, np.ndarray]:
    """A small model with their names, shapes and fused heads."""
    rng = np.random.default_rng(0)
    shapes = {"x_enc": (5, 5, 3, WIDTH), "x_dec": (5, 5, 3, WIDTH)}
    for layer in range(DEPTH):
        shapes |= {
            f"IAF_0_{layer}/up_conv1": (3, 3, WIDTH, 2 * LATENTS + 2 * WIDTH),
            f"IAF_0_{layer}/up_conv3": (3, 3, WIDTH, WIDTH),
            f"IAF_0_{layer}/down_conv1": (3, 3, WIDTH, 4 * LATENTS + 2 * WIDTH),
            f"IAF_0_{layer}/down_conv2": (3, 3, LATENTS + WIDTH, WIDTH),
        }
    found: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        outputs = 3 if name == "x_dec" else shape[-1]
        found[f"model/{name}/V:0"] = rng.normal(size=shape).astype(np.float32)
        found[f"model/{name}/g:0"] = rng.normal(-0.5, 0.3, outputs).astype(np.float32)
        found[f"model/{name}/b:0"] = rng.normal(0.0, 0.1, outputs).astype(np.float32)
    found["model/h_top:0"] = rng.normal(size=WIDTH).astype(np.float32)
    found["model/dec_log_stdv:0"] = np.array(-3.5, dtype=np.float32)
    return found


@pytest.fixture(scope="module")
def file(variables: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hilloc") / "rvae.npy"
    np.save(path, variables, allow_pickle=True)  # type: ignore[arg-type]
    return path


def theirs(variables: dict[str, np.ndarray], name: str, x: Tensor, **settings: int) -> Tensor:
    """exp(g) V / ||V|| over (h, w, in), then the convolution."""
    kernel, gain, bias = (torch.from_numpy(np.asarray(variables[f"model/{name}/{part}:0"])) for part in "Vgb")
    weight = gain.exp() * kernel / kernel.square().sum((0, 1, 2), keepdim=True).sqrt()
    return F.conv2d(x, weight.permute(3, 2, 0, 1), bias, **settings)


def test_priors_posteriors_and_means_are_those_of_their_network(variables: dict[str, np.ndarray], file: Path) -> None:
    codec = load_codec(f"hilloc:{file}", LosslessCodec, lmbda=1.0, cache_dir=file.parent)
    assert isinstance(codec, LosslessCodec)
    model, x = codec.networks, (torch.rand(1, 3, 8, 6) * 255).round() / 255
    assert codec.hyperparameters == {
        "depth": DEPTH,
        "width": WIDTH,
        "latent_width": LATENTS,
        "likelihood": "shared_scale",
    }
    h = theirs(variables, "x_enc", F.pad((255 * x + 0.5) / 256 - 0.5, (1, 2, 1, 2)), stride=2)
    ups = []
    for layer in range(DEPTH):
        out = theirs(variables, f"IAF_0_{layer}/up_conv1", F.elu(h), padding=1)
        ups.append(out[:, : 2 * LATENTS])
        h = h + 0.1 * theirs(variables, f"IAF_0_{layer}/up_conv3", F.elu(out[:, 2 * LATENTS + WIDTH :]), padding=1)
    h = torch.from_numpy(variables["model/h_top:0"])[None, :, None, None].expand(1, WIDTH, 4, 3)
    expected = []
    for layer in reversed(range(DEPTH)):
        out = theirs(variables, f"IAF_0_{layer}/down_conv1", F.elu(h), padding=1)
        prior, shift, _, g = out.split([2 * LATENTS, 2 * LATENTS, WIDTH, WIDTH], dim=1)
        posterior = ups[layer] + shift
        z = posterior[:, :LATENTS]
        expected.append((prior, posterior))
        h = h + 0.1 * theirs(variables, f"IAF_0_{layer}/down_conv2", F.elu(torch.cat([z, g], 1)), padding=1)
    kernel, gain, bias = (torch.from_numpy(variables[f"model/x_dec/{part}:0"]) for part in "Vgb")
    weight = gain.exp()[None, None, :, None] * kernel / kernel.square().sum((0, 1, 2), keepdim=True).sqrt()
    mean = F.conv_transpose2d(F.elu(h), weight.permute(3, 2, 0, 1), bias, stride=2)[..., 1:-2, 1:-2]

    found: list[tuple[Tensor, Tensor]] = []
    features = model.infer(x)

    def draw(level: int, prior: Prior) -> Tensor:
        q_mean, q_spread = model.posterior_with(model.trained, level, features[level], prior)
        found.append((torch.cat([prior.mean, prior.spread], 1), torch.cat([q_mean, q_spread], 1)))
        return q_mean

    with torch.no_grad():
        output = model.output(model.trained, model.generate(model.trained, x, (8, 6), draw))[..., :8, :6]
    for ours, other in zip(found, expected, strict=True):
        assert torch.allclose(ours[0], other[0], atol=1e-5)
        assert torch.allclose(ours[1], other[1], atol=1e-5)
    assert torch.allclose(output, mean, atol=1e-5)
    assert float(codec.likelihood.state_dict()["log_scale"]) == -3.5


def test_files_of_something_else_are_refused(tmp_path: Path, variables: dict[str, np.ndarray]) -> None:
    cases = {"a.npy": np.arange(3.0), "b.npy": {"x": Path("evil")}, "c.npy": dict(list(variables.items())[3:])}
    for name, content in cases.items():
        np.save(tmp_path / name, content, allow_pickle=True)  # type: ignore[arg-type]
        with pytest.raises(CodingError, match=rf"{name}: not the weights of HiLLoC's ResNet VAE"):
            load_codec(f"hilloc:{tmp_path / name}", LosslessCodec, lmbda=1.0, cache_dir=tmp_path)
    with pytest.raises(CodingError, match="No such file"):
        load_codec(f"hilloc:{tmp_path / 'absent.npy'}", LosslessCodec, lmbda=1.0, cache_dir=tmp_path)


def test_their_file_is_recognised_without_being_told(file: Path) -> None:
    found = recognise(file, [LosslessCodec], lmbda=1.0)
    assert isinstance(found.codec, LosslessCodec)
    assert found.wrapping == ["a file of the format hilloc"]
    assert "rewritten: " in found.lines()[1]
    known = LosslessCodec.from_weights(hilloc_weights(file))
    assert all(torch.equal(one, known.state_dict()[name]) for name, one in found.codec.named_parameters())
