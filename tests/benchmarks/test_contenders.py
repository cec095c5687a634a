"""Both sides of a ratio do the same work: same latents, same symbols, and each reads its own stream."""

from __future__ import annotations

import pytest
import torch

from benchmarks.contenders import Contenders, coding_task, twin
from benchmarks.rows.coding_speed import decode_ours, decode_theirs, drawn_task, encode_ours, encode_theirs
from benchmarks.rows.real_bytes import payloads
from lightning_modules.hyperprior.codec import HyperpriorCodec


@pytest.fixture(scope="module")
def pair() -> Contenders:
    """Untrained, but y has a standard deviation of 2 and h_s says so."""
    torch.manual_seed(0)
    ours = HyperpriorCodec(N=8, M=12, lmbda=0.01).eval()
    with torch.no_grad():
        spread = ours.g_a(torch.rand(1, 3, 128, 128)).std()
        for parameter in ours.g_a[-1].parameters():
            parameter.mul_(2.0 / spread)
        bias = ours.h_s[-1].bias
        assert isinstance(bias, torch.Tensor)
        bias[:12] = 2.0
    ours.update()
    return Contenders(ours, twin(ours.state_dict(), N=8, M=12))


@torch.no_grad()
def test_the_twin_computes_the_same_latents_and_means(pair: Contenders) -> None:
    x = torch.rand(1, 3, 64, 128)
    latents = pair.ours.analyze(x)
    y = pair.theirs.g_a(x)
    torch.testing.assert_close(y, latents.variables["y"])
    torch.testing.assert_close(pair.theirs.h_a(y), latents.variables["z"])
    z_hat = pair.theirs.entropy_bottleneck.quantize(
        latents.variables["z"],
        "dequantize",
        pair.theirs.entropy_bottleneck._get_medians().reshape(1, -1, 1, 1),
    )
    _, means = pair.theirs.h_s(z_hat).chunk(2, 1)
    torch.testing.assert_close(coding_task(pair.ours, latents).means, means)


def test_both_sides_code_the_same_integers_in_about_the_same_bytes(pair: Contenders) -> None:
    ours, theirs = payloads(pair, pair.ours.analyze(torch.rand(1, 3, 128, 128)))
    assert 0.8 * theirs < ours < 1.05 * theirs + 16


def test_each_coder_returns_the_symbols_it_was_given() -> None:
    task = drawn_task()
    y_hat = torch.round(task.y - task.means) + task.means
    assert torch.equal(decode_ours(encode_ours(task), task), y_hat)
    assert torch.equal(decode_theirs(encode_theirs(task), task), y_hat)


def test_the_drawn_symbols_cost_the_bits_a_picture_costs() -> None:
    task = drawn_task()
    assert task.y.numel() == 294_912
    assert 0.5 < 8 * len(encode_ours(task)) / task.y.numel() < 1.2
