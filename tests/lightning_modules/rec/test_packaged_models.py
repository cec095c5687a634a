"""The packaged models of relative entropy coding on real pictures: exact, and near what theory allows."""

from __future__ import annotations

from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import Tensor

from callbacks.image_quality import psnr
from datamodules.cifar10 import Cifar10
from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.codec import Codec
from lightning_modules.coding.coder import pack_each
from lightning_modules.coding.pack import Named, unpack_pack
from lightning_modules.coding.picture import unpack
from lightning_modules.metrics.pixels import pixels
from lightning_modules.rec.codec import RecCodec
from lightning_modules.rec.files.file_coder import FileCoder
from lightning_modules.rec.lossless_codec import LosslessCodec
from lightning_modules.rec.lossy_codec import LossyCodec
from lightning_modules.records import PixelFormat

CONF = Path(__file__).resolve().parents[3] / "conf"
FORMAT = PixelFormat()


def packaged(codec_class: type[RecCodec]) -> RecCodec:
    (path,) = PACKAGED.glob(f"{codec_class.packaged_family}-*.safetensors")
    codec = load_model(path)
    assert isinstance(codec, codec_class)
    return codec.requires_grad_(False)


def configured(*overrides: str) -> FileCoder:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[*overrides])
    coder = hydra.utils.instantiate(cfg.coder, _convert_="all")
    assert isinstance(coder, FileCoder)
    return coder


def opened(path: Path, side: int | None = None) -> Tensor:
    """(1, 3, H, W) in [0, 1], or a square from its middle."""
    with Image.open(path) as picture:
        x = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None] / 255.0
    if side is None:
        return x
    top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
    return x[..., top : top + side, left : left + side]


def cifar(shared: Path, count: int) -> dict[str, Tensor]:
    module = Cifar10(
        root=shared / "data" / "cifar10", limit=count, batch_size=1, steps_per_epoch=1, num_workers=0, seed=0
    )
    module.prepare_data()
    return {image.name: image.x for (image,) in module.test_dataloader()}


def named(codec: Codec, pictures: dict[str, Tensor]) -> list[Named]:
    return [Named(name, codec.analyze(x), FORMAT) for name, x in pictures.items()]


@pytest.mark.parametrize("count", [16, pytest.param(1000, marks=pytest.mark.slow)])
def test_packs_of_cifar_10_are_exact_and_at_most_a_tenth_over_the_evidence_bound(shared: Path, count: int) -> None:
    codec = packaged(LosslessCodec)
    coder = configured("experiment=rec_lossless_small", "coder.pack=100")
    pictures = cifar(shared, count)
    names = list(pictures)
    total = bound = 0.0
    for start in range(0, count, 100):
        batch = {name: pictures[name] for name in names[start : start + 100]}
        data = pack_each(coder, codec, named(codec, batch))[0].data
        found = unpack_pack(data, codec)
        for name, x in batch.items():
            assert torch.equal(pixels(found[name].x_hat, FORMAT), pixels(x, FORMAT)), name
        total += 8 * len(data)
        bound += sum(codec.bound(codec.analyze(x)) for x in batch.values())
    assert bound < total <= 1.10 * bound


@pytest.mark.parametrize(
    ("number", "side"), [(20, 96), *(pytest.param(k, None, marks=pytest.mark.slow) for k in (3, 20))]
)
def test_kodak_is_exact_at_most_8_percent_over_the_bound_and_smaller_than_png(
    kodak: list[Path], number: int, side: int | None, tmp_path: Path
) -> None:
    codec, coder = packaged(LosslessCodec), configured("experiment=rec_lossless_small")
    x = opened(kodak[number - 1], side)
    data = pack_each(coder, codec, named(codec, {"a.png": x}))[0].data
    decoded = pixels(unpack(data, codec).x_hat, FORMAT)
    assert torch.equal(decoded, pixels(x, FORMAT))
    Image.fromarray(decoded.permute(1, 2, 0).numpy()).save(tmp_path / "a.png", optimize=True)
    assert len(data) < (tmp_path / "a.png").stat().st_size
    if side is None:
        assert 8 * len(data) <= 1.08 * codec.bound(codec.analyze(x))


@pytest.mark.parametrize(
    ("number", "side"), [(20, 192), *(pytest.param(k, None, marks=pytest.mark.slow) for k in (3, 20))]
)
def test_lossy_files_take_little_more_than_relative_entropy_and_look_as_samples_do(
    kodak: list[Path], number: int, side: int | None
) -> None:
    codec, coder = packaged(LossyCodec), configured("experiment=rec_lossy_small")
    x = opened(kodak[number - 1], side)
    latents = codec.analyze(x)
    sample = codec.estimate(latents).x_hat
    data = pack_each(coder, codec, named(codec, {"a.png": x}))[0].data
    loss = psnr(pixels(x, FORMAT), pixels(sample, FORMAT)) - psnr(
        pixels(x, FORMAT), pixels(unpack(data, codec).x_hat, FORMAT)
    )
    assert loss <= 0.3
    if side is None:
        assert 8 * len(data) <= 1.04 * codec.bound(latents)
