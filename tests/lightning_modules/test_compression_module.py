"""A batch of pictures is no more than its pictures: order, sizes, faults and traces stay each one's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.codec import Codec
from lightning_modules.compression_module import CompressionModule
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import CodedImage, Failure, Latents, SourceImage

GENERATOR = torch.Generator().manual_seed(0)
SMALL = [SourceImage(f"small{k}.png", torch.rand(1, 3, 20, 30, generator=GENERATOR)) for k in range(3)]
LARGE = SourceImage("large.png", torch.rand(1, 3, 40, 30, generator=GENERATOR))


@dataclass
class Counted:
    """The encoder's answer; what was refused, and how many pictures came at once."""

    refused: float = -1.0
    sizes: list[int] = field(default_factory=list)
    trace: list[float] = field(default_factory=list)

    def __call__(self, codec: Codec, x: Tensor) -> Latents:
        self.sizes.append(len(x))
        means = [float(image.mean()) for image in x]
        if self.refused in means:
            raise CodingError("refused")
        self.trace = means
        return codec.analyze(x)


@pytest.fixture(scope="module")
def codec() -> HyperpriorCodec:
    torch.manual_seed(0)
    return HyperpriorCodec(N=4, M=6, lmbda=0.01).eval()


def module_with(codec: HyperpriorCodec, inference: Counted) -> CompressionModule:
    return CompressionModule(codec=codec, inference=inference, lmbda=0.01, seed=0)


def test_equally_large_pictures_go_together_and_results_keep_their_order(codec: HyperpriorCodec) -> None:
    inference = Counted()
    module = module_with(codec, inference)
    with torch.no_grad():
        results = module.predict_step([SMALL[0], LARGE, Failure("bad.png", "broken"), SMALL[1], SMALL[2]], 0)
    assert [result.name for result in results] == ["small0.png", "large.png", "bad.png", "small1.png", "small2.png"]
    assert inference.sizes == [3, 1]
    expected = {0: SMALL[0], 1: LARGE, 3: SMALL[1], 4: SMALL[2]}
    assert module.traces == {position: float(image.x.mean()) for position, image in expected.items()}
    for position, image in expected.items():
        result = results[position]
        assert isinstance(result, CodedImage)
        assert torch.equal(result.x, image.x)
        latents = codec.analyze(image.x)
        assert torch.equal(result.x_hat, codec.decode(codec.encode(latents).sections, latents.image_size))


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_a_trainer_whose_weights_are_not_float32_is_refused(codec: HyperpriorCodec, precision: Any) -> None:
    pictures: Any = SMALL  # a list, which DataLoader takes, whatever its annotation says
    trainer = L.Trainer(accelerator="cpu", precision=precision, logger=False, enable_progress_bar=False)
    with pytest.raises(CodingError, match=f"trainer.precision={precision}: .* give one of 32-true, bf16-mixed"):
        trainer.validate(module_with(codec, Counted()), DataLoader(pictures, batch_size=None), verbose=False)
    assert codec.g_a[0].weight.dtype == torch.float32


def test_a_picture_whose_latents_cannot_be_found_fails_alone(codec: HyperpriorCodec) -> None:
    module = module_with(codec, Counted(refused=float(SMALL[1].x.mean())))
    with torch.no_grad():
        first, second, third = module.test_step([*SMALL], 0)
    assert second == Failure("small1.png", "small1.png: refused")
    assert isinstance(first, CodedImage)
    assert isinstance(third, CodedImage)
    assert set(module.traces) == {0, 2}


def test_of_several_pictures_it_says_how_far_they_have_come(codec: HyperpriorCodec) -> None:
    said: list[str] = []

    class Listening(CompressionModule):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "progress_message":
                said.append(str(value))
            super().__setattr__(name, value)

    module = Listening(codec=codec, inference=Counted(), lmbda=0.01, seed=0)
    with torch.no_grad():
        module.predict_step([SMALL[0], LARGE], 0)
    assert said[:3] == ["", "finding latents of 1 of 2", "finding latents of 2 of 2"]
    assert said[-1] == ""
