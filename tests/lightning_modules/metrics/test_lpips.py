"""LPIPS: a published example to four digits, and one line for each way in which weights can be missing or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightning_modules.errors import CodingError
from lightning_modules.metrics.lpips import TRUNKS, PerceptualDistance

SQUEEZENET = "data/lpips_squeezenet/squeezenet1_1_fp16.pth"


def pair(size: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """The pictures of torchmetrics' documentation of LPIPS, in [0, 1]."""
    generator = torch.Generator().manual_seed(42)
    first, second = (torch.rand(2, 3, size, size, generator=generator) for _ in range(2))
    return first, second


def test_it_equals_the_example_in_the_documentation_of_torchmetrics(shared: Path) -> None:
    distance = PerceptualDistance("squeeze", shared / SQUEEZENET)
    assert distance(*pair()).tolist() == pytest.approx([0.1024, 0.0938], abs=1e-4)


def test_it_is_differentiable_in_the_pictures_and_in_nothing_else(shared: Path) -> None:
    distance = PerceptualDistance("squeeze", shared / SQUEEZENET)
    x, x_hat = pair(32)
    x_hat.requires_grad_()
    distance(x, x_hat).sum().backward()
    assert x_hat.grad is not None
    assert float(x_hat.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in distance.network.parameters())


def test_weights_of_another_trunk_are_refused(shared: Path) -> None:
    with pytest.raises(CodingError, match="not the weights of trunk alex"):
        PerceptualDistance("alex", shared / SQUEEZENET)(*pair(32))


def test_an_unknown_trunk_is_refused_with_those_there_are() -> None:
    with pytest.raises(CodingError, match="resnet: no trunk of LPIPS; give one of alex, vgg, squeeze"):
        PerceptualDistance("resnet")


def test_weights_that_are_no_weights_are_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "trunk.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CodingError, match=r"trunk\.pth: not readable weights"):
        PerceptualDistance("alex", tmp_path / "trunk.pth")(*pair(32))


def test_weights_that_are_not_there_are_told_with_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(CodingError, match=r"trunk\.pth: no such file; name one with weights=, or let weights=null"):
        PerceptualDistance("squeeze", tmp_path / "trunk.pth")(*pair(32))


def test_published_weights_are_fetched_once_and_checked(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder in place of the network. Its file is real but for the rounding, so that its hash is another."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    published = tmp_path / "published"
    published.mkdir()
    with pytest.raises(CodingError, match=r"alexnet-owt-7be5be79\.pth: not in .* and not to be fetched"):
        PerceptualDistance("alex", source=published.as_uri())(*pair(32))
    (published / TRUNKS["squeeze"]).write_bytes((shared / SQUEEZENET).read_bytes())
    with pytest.raises(CodingError, match="invalid hash value"):
        PerceptualDistance("squeeze", source=published.as_uri())(*pair(32))
    cached = tmp_path / "hub" / "checkpoints" / TRUNKS["squeeze"]
    assert not cached.exists()
    cached.write_bytes((shared / SQUEEZENET).read_bytes())
    assert PerceptualDistance("squeeze", source="file:///nowhere")(*pair()).tolist() == pytest.approx(
        [0.1024, 0.0938], abs=1e-4
    )
