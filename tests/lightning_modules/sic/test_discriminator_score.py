"""The judge of tables says what the discriminator of the training says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.errors import CodingError
from lightning_modules.sic.discriminator_score import Judge
from lightning_modules.sic.gan_module import GanModule
from tests.lightning_modules.sic.small_networks import pictures
from tests.lightning_modules.sic.small_training import gan_module


@pytest.fixture
def module() -> GanModule:
    return gan_module().eval()


def saved(module: torch.nn.Module, path: Path) -> Path:
    torch.save({"state_dict": module.state_dict()}, path)
    return path


def test_each_picture_is_judged_as_in_training_beside_the_latents_of_its_original(
    module: GanModule, tmp_path: Path
) -> None:
    x, x_hat = pictures(2, 3, 64, 128), pictures(2, 3, 64, 128, seed=2)
    judge = Judge(saved(module, tmp_path / "last.ckpt"), level=1)
    with torch.no_grad():
        y_hat = module.codec.y_of(x).round()
        for k, value in enumerate(judge(x, x_hat)):
            logits = module.discriminator(x_hat[k : k + 1], y_hat[k : k + 1], 1)
            assert float(value) == pytest.approx(float(F.softplus(-logits).mean()), rel=1e-5)


def test_one_that_cannot_tell_says_ln_2_of_pictures_of_any_size(module: GanModule, tmp_path: Path) -> None:
    last = module.discriminator.get_submodule(module.discriminator.last)
    for parameter in last.parameters():
        parameter.data.zero_()
    judge = Judge(saved(module, tmp_path / "last.ckpt"))
    assert judge(pictures(1, 3, 50, 70), pictures(1, 3, 50, 70, seed=2)).tolist() == pytest.approx([math.log(2)])


def test_what_has_no_discriminator_or_no_such_level_is_refused_in_a_line(module: GanModule, tmp_path: Path) -> None:
    x = pictures(1, 3, 64, 64)
    with pytest.raises(CodingError, match="no discriminator; give RUN"):
        Judge(saved(module.codec, tmp_path / "codec.ckpt"))(x, x)
    with pytest.raises(CodingError, match=r"has levels 1 to \d+, no 99"):
        Judge(saved(module, tmp_path / "last.ckpt"), level=99)(x, x)
