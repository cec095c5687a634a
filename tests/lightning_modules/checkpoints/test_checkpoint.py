"""What ckpt= may name: others' checkpoints that compute the same here, the zoo, packaged models, and faults."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import lightning as L
import pytest
import torch
from compressai.models import (
    FactorizedPrior,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from compressai.zoo import image as zoo
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_modules.capabilities import ReadingOthers
from lightning_modules.checkpoints import checkpoint
from lightning_modules.checkpoints.checkpoint import load_codec
from lightning_modules.checkpoints.packaged_model import load_model, save_model
from lightning_modules.checkpoints.state_dict import read_tensors
from lightning_modules.codec import Codec, amortized
from lightning_modules.densities import update_medians
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.module import HyperpriorModule
from lightning_modules.records import Estimate
from lightning_modules.training.learning_rate import constant

CACHE = Path("no cache is needed")


def load(ckpt: str | Path, cache_dir: Path = CACHE, lmbda: float = 0.01) -> HyperpriorCodec:
    codec = load_codec(str(ckpt), HyperpriorCodec, lmbda=lmbda, cache_dir=cache_dir)
    assert isinstance(codec, HyperpriorCodec)
    return codec


def compressai_model() -> MeanScaleHyperprior:
    """CompressAI's model with sigmas, means and densities that differ between channels; medians untrained."""
    torch.manual_seed(0)
    model = MeanScaleHyperprior(8, 12).eval()
    with torch.no_grad():
        model.g_a[6].weight.mul_(30)
        model.h_a[4].weight.mul_(30)
        model.h_s[4].bias.add_(torch.cat((torch.rand(12) * 2, torch.randn(12))))
        model.entropy_bottleneck.matrices[0].add_(2.0)
        model.entropy_bottleneck.biases[0].add_(3 * torch.randn(8, 1, 1))
    return model


def trained_model() -> MeanScaleHyperprior:
    """The same with the medians that CompressAI's auxiliary loss leads to, and its tables built."""
    model = compressai_model()
    update_medians(model.entropy_bottleneck)
    model.update(force=True)
    return model


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1))


WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "network": lambda state: {"network": state},
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_a_checkpoint_of_compressai_computes_what_it_does_there(
    wrap: Callable[[dict[str, Tensor]], Any], x: Tensor, tmp_path: Path
) -> None:
    theirs = trained_model()
    torch.save(wrap(theirs.state_dict()), tmp_path / "theirs.pth.tar")
    ours = load(tmp_path / "theirs.pth.tar")
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    assert torch.allclose(found["x_hat"], expected["x_hat"], rtol=0, atol=1e-6)
    for name in ("y", "z"):
        assert torch.allclose(found["likelihoods"][name], expected["likelihoods"][name], rtol=1e-4, atol=2e-7)
    assert float(expected["likelihoods"]["y"].std()) > 0.05, "the example is trivial"
    assert float(expected["likelihoods"]["z"].std()) > 0.01, "the example is trivial"
    assert ours.hyperparameters == {"N": 8, "M": 12, "lmbda": 0.01}


def test_medians_that_were_never_trained_are_solved_for(x: Tensor, tmp_path: Path) -> None:
    theirs = compressai_model()
    torch.save(theirs.state_dict(), tmp_path / "untrained.pt")
    assert torch.equal(theirs.entropy_bottleneck.quantiles[0, 0], torch.tensor([-10.0, 0.0, 10.0]))
    ours = load(tmp_path / "untrained.pt")
    medians = ours.entropy_bottleneck.quantiles[:, :, 1:2].detach()
    with torch.no_grad():
        probability = torch.sigmoid(theirs.entropy_bottleneck._logits_cumulative(medians, stop_gradient=True))
        before = ours(x)["x_hat"]
        estimate: Estimate = ours.estimate(ours.analyze(x))
    assert torch.allclose(probability, torch.full_like(probability, 0.5), atol=1e-6)
    assert float(medians.abs().max()) > 0.5
    difference = float((estimate.x_hat - before).abs().mean())
    assert difference < 1e-3, "coding rounds on another grid than evaluation"


def test_a_checkpoint_of_our_own_training_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = HyperpriorModule(
        codec=HyperpriorCodec(N=8, M=12, lmbda=0.01),
        inference=amortized,
        lmbda=0.01,
        seed=0,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
        schedule=constant(warmup=0),
    )
    module.distractor = nn.Linear(2, 2)
    untrained = dict(module.codec.named_parameters())["g_a.0.weight"].detach().clone()
    trainer = L.Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    crops: Any = torch.rand(4, 3, 64, 64)
    trainer.fit(module, DataLoader(crops, batch_size=2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load(tmp_path / "last.ckpt")
    trained = dict(module.codec.named_parameters())
    for name, parameter in loaded.named_parameters():
        if name != "entropy_bottleneck.quantiles":
            assert torch.equal(parameter, trained[name]), name
    assert not torch.equal(dict(loaded.named_parameters())["g_a.0.weight"], untrained)
    assert not loaded.training


# ---- formats of others


class CodecOfAnotherFormat(ReadingOthers, HyperpriorCodec):
    """Reads files in which names are capitals."""

    checkpoint_formats = {"capitals": lambda path: {n.lower(): w for n, w in read_tensors(path).items()}}  # noqa: RUF012


@pytest.fixture
def capitals(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    codec = HyperpriorCodec(N=8, M=12, lmbda=0.01)
    weights: dict[str, Tensor] = dict(codec.named_parameters())
    torch.save({name.upper(): value for name, value in weights.items()}, tmp_path / "capitals.pth")
    return tmp_path / "capitals.pth", weights


def test_a_codec_reads_the_formats_that_it_knows(capitals: tuple[Path, dict[str, Tensor]]) -> None:
    path, weights = capitals
    codec = load_codec(f"capitals:{path}", CodecOfAnotherFormat, lmbda=0.02, cache_dir=CACHE)
    found = dict(codec.named_parameters())
    assert all(torch.equal(found[name], weights[name]) for name in weights if "quantiles" not in name)
    assert not codec.training


def test_a_codec_of_another_room_says_that_it_does_not_read_a_format(capitals: tuple[Path, dict[str, Tensor]]) -> None:
    path, _ = capitals
    with pytest.raises(CodingError, match=r"HyperpriorCodec reads no files of a format capitals, only its own; choose"):
        load(f"capitals:{path}")
    with pytest.raises(CodingError, match=r"no such checkpoint"):
        load_codec(f"capitals:{path}x", CodecOfAnotherFormat, lmbda=0.02, cache_dir=CACHE)


def test_a_file_with_a_colon_in_its_name_is_a_file(tmp_path: Path) -> None:
    torch.save(dict(HyperpriorCodec(N=8, M=12, lmbda=0.01).named_parameters()), tmp_path / "epoch:3.pth")
    assert load(tmp_path / "epoch:3.pth").hyperparameters["N"] == 8


# ---- other architectures, and weights that are no use


@pytest.mark.parametrize(
    "model",
    [
        ScaleHyperprior(8, 12),
        FactorizedPrior(8, 12),
        JointAutoregressiveHierarchicalPriors(8, 12),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_another_architecture_is_named_with_its_file(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "other.pth.tar"
    torch.save({"state_dict": model.state_dict()}, path)
    line = _refusal(path)
    assert "not a mean-scale hyperprior" in line
    assert "experiment" in line


def test_a_training_that_diverged_is_no_checkpoint(tmp_path: Path) -> None:
    model = compressai_model()
    with torch.no_grad():
        model.g_s[2].weight[0, 0] = float("nan")
    torch.save(model.state_dict(), tmp_path / "nan.pt")
    assert "g_s.2.weight is not finite" in _refusal(tmp_path / "nan.pt")


def test_faults_of_the_file_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "empty.ckpt").touch()
    assert "damaged" in _refusal(tmp_path / "empty.ckpt")
    assert "no such checkpoint" in _refusal(tmp_path / "missing.ckpt")
    assert "is a folder" in _refusal(tmp_path)


# ---- packaged models


@pytest.fixture(scope="module")
def demo_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of demo models with lmbda 0.0025, 0.005 and 0.02, and another family, which is not asked for."""
    folder = tmp_path_factory.mktemp("packaged")
    for lmbda in (0.0025, 0.005, 0.02):
        save_model(HyperpriorCodec(N=8, M=12, lmbda=lmbda), folder / f"demo-{lmbda}.safetensors")
    shutil.copy(folder / "demo-0.02.safetensors", folder / "other-0.01.safetensors")
    return folder


@pytest.fixture
def packaged(demo_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that stands for the folder of models that come with latentpress."""
    folder = tmp_path / "packaged"
    shutil.copytree(demo_models, folder)
    monkeypatch.setattr(checkpoint, "PACKAGED", folder)
    return folder


@pytest.mark.parametrize(
    ("lmbda", "nearest"),
    [(1e-6, 0.0025), (0.0035, 0.0025), (0.0036, 0.005), (0.005, 0.005), (0.0099, 0.005), (0.011, 0.02), (9, 0.02)],
)
@pytest.mark.usefixtures("packaged")
def test_demo_is_the_packaged_model_whose_lmbda_is_nearest_in_ratio(lmbda: float, nearest: float) -> None:
    assert load("demo", lmbda=lmbda).hyperparameters["lmbda"] == nearest


@pytest.mark.parametrize("lmbda", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.usefixtures("packaged")
def test_demo_needs_a_lmbda_that_has_a_ratio(lmbda: float) -> None:
    with pytest.raises(CodingError, match="above 0"):
        load("demo", lmbda=lmbda)


def test_without_packaged_models_demo_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PACKAGED", tmp_path)
    with pytest.raises(CodingError, match="no packaged model named demo"):
        load("demo")


def test_a_packaged_file_is_loaded_as_it_was_saved(packaged: Path, x: Tensor) -> None:
    path = packaged / "demo-0.005.safetensors"
    renamed = packaged / "model.bin"
    shutil.copy(path, renamed)
    with torch.no_grad():
        expected = load_model(path).estimate(load_model(path).analyze(x)).x_hat
        for given in (path, renamed):
            codec = load(given, lmbda=0.3)
            assert codec.hyperparameters["lmbda"] == 0.005
            assert torch.equal(codec.estimate(codec.analyze(x)).x_hat, expected)


def test_a_packaged_model_of_another_class_is_named(packaged: Path) -> None:
    class SwinCodec(HyperpriorCodec):
        pass

    path = packaged / "demo-0.005.safetensors"
    assert "holds a HyperpriorCodec, not a SwinCodec" in _refusal(path, SwinCodec)


def test_a_damaged_packaged_file_is_not_taken_for_bare_weights(packaged: Path) -> None:
    path = packaged / "demo-0.005.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "damaged" in _refusal(path)


# ---- CompressAI's zoo


@pytest.fixture
def zoo_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint where the zoo now says that mbt2018-mean/3 is, named by its hash as there."""
    folder = tmp_path / "server"
    folder.mkdir()
    torch.save(trained_model().state_dict(), folder / "checkpoint")
    digest = hashlib.sha256((folder / "checkpoint").read_bytes()).hexdigest()
    path = (folder / "checkpoint").rename(folder / f"mbt2018-mean-3-{digest[:8]}.pth.tar")
    monkeypatch.setattr(zoo, "model_urls", {"mbt2018-mean": {"mse": {3: path.as_uri()}}})
    return path


def test_a_model_of_the_zoo_is_downloaded_once(zoo_file: Path, x: Tensor, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with torch.no_grad():
        expected = trained_model()(x)["x_hat"]
        assert torch.allclose(load("compressai:mbt2018-mean/3", cache)(x)["x_hat"], expected, atol=1e-6)
        zoo_file.unlink()
        assert torch.allclose(load("compressai:mbt2018-mean/3", cache)(x)["x_hat"], expected, atol=1e-6)
    assert [path.name for path in (cache / "compressai").iterdir()] == [zoo_file.name]


def test_a_download_with_another_hash_is_refused_and_not_kept(zoo_file: Path, tmp_path: Path) -> None:
    zoo_file.write_bytes(zoo_file.read_bytes() + b"\0")
    line = _zoo_refusal("mbt2018-mean/3", tmp_path)
    assert "invalid hash" in line
    assert list((tmp_path / "compressai").iterdir()) == []


def test_a_file_put_there_by_hand_is_checked_by_its_hash(zoo_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "compressai" / zoo_file.name
    target.parent.mkdir()
    target.write_bytes(zoo_file.read_bytes()[:-1])
    line = _zoo_refusal("mbt2018-mean/3", tmp_path)
    assert line.startswith(f"{target}: damaged")
    assert "delete it" in line


def test_without_a_network_the_line_says_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_args: object, **_kwargs: object) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    line = _zoo_refusal("mbt2018-mean/3", tmp_path)
    url = zoo.model_urls["mbt2018-mean"]["mse"][3]
    assert "compressai:mbt2018-mean/3" in line
    assert "Temporary failure in name resolution" in line
    assert url in line
    assert str(tmp_path / "compressai" / url.rpartition("/")[2]) in line


def test_a_cache_that_cannot_be_made_is_one_line(zoo_file: Path, tmp_path: Path) -> None:
    (tmp_path / "compressai").write_text("in the way")
    assert zoo_file.name in _zoo_refusal("mbt2018-mean/3", tmp_path)


@pytest.mark.parametrize(
    "name",
    ["nonsense/9", "mbt2018-mean/9", "mbt2018-mean", "mbt2018-mean/x", "mbt2018-mean/lpips/3", "", "/", "a/b/c/d"],
)
def test_what_the_zoo_does_not_have_is_one_line(name: str, tmp_path: Path) -> None:
    line = _zoo_refusal(name, tmp_path)
    assert line.startswith(f"compressai:{name}: not in CompressAI's zoo")


def test_the_metric_may_be_named(zoo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "model_urls", {"mbt2018-mean": {"ms-ssim": {3: zoo_file.as_uri()}}})
    assert load("compressai:mbt2018-mean/ms-ssim/3", tmp_path).hyperparameters["M"] == 12


def test_another_architecture_of_the_zoo_is_named_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(FactorizedPrior(8, 12).state_dict(), tmp_path / "factorized.pth.tar")
    url = (tmp_path / "factorized.pth.tar").as_uri()
    monkeypatch.setattr(zoo, "model_urls", {"bmshj2018-factorized": {"mse": {1: url}}})
    line = _zoo_refusal("bmshj2018-factorized/1", tmp_path)
    assert line.startswith("compressai:bmshj2018-factorized/1: not a mean-scale hyperprior")


def _refusal(path: Path, codec_class: type[Codec] = HyperpriorCodec) -> str:
    """The one line, beginning with the file's name, that says why it gives no codec."""
    with pytest.raises(CodingError) as caught:
        load_codec(str(path), codec_class, lmbda=0.01, cache_dir=CACHE)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def _zoo_refusal(name: str, cache_dir: Path) -> str:
    with pytest.raises(CodingError) as caught:
        load(f"compressai:{name}", cache_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)
