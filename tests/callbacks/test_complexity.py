"""Counts of multiplications: those that layers' shapes say, for sender and receiver, in inference mode, too."""

from __future__ import annotations

import pytest
import torch

from callbacks.complexity import count
from lightning_modules.hyperprior.codec import HyperpriorCodec
from tests.lightning_modules.rec.small_codecs import lossless_codec

N, M = 8, 12
TRANSFORM = (3 * N * 25 / 4 + N * N / 4) + (N * N * 25 / 16 + N * N / 16) + (N * N * 25 / 64 + N * N / 64)
"""Multiplications a pixel of three strided 5x5 convolutions, each with the N x N product of its GDN."""


def test_the_analysis_and_the_integer_networks_are_counted_as_they_run() -> None:
    codec = HyperpriorCodec(N=N, M=M, lmbda=0.01).eval()
    g_a = TRANSFORM + N * M * 25 / 256
    h_a = M * N * 9 / 256 + N * N * 25 / 1024 + N * N * 25 / 4096
    with torch.inference_mode():
        found = count(codec, 256, torch.device("cpu"))
    assert found is not None
    encoder, decoder = (1000 * found[f"{side}_kmac_per_pixel"] for side in ("encoder", "decoder"))
    # Encoder and decoder both run h_s, and g_s costs what g_a does: its layers are the same, turned round.
    assert encoder - decoder == pytest.approx(h_a, rel=1e-3)
    h_s = decoder - g_a
    assert 0.0 < h_s < 0.5 * g_a


def test_a_receiver_whose_state_begins_with_a_parameter_is_counted_and_left_as_it_was() -> None:
    codec = lossless_codec()
    asking = [parameter.requires_grad for parameter in codec.parameters()]
    found = count(codec, 64, torch.device("cpu"))
    assert found is not None
    assert min(found.values()) > 0
    assert [parameter.requires_grad for parameter in codec.parameters()] == asking


def test_a_codec_that_cannot_code_the_picture_has_no_count() -> None:
    from lightning_modules.errors import CodingError

    codec = HyperpriorCodec(N=N, M=M, lmbda=0.01).eval()

    def refuse(x: torch.Tensor) -> None:
        raise CodingError("not this one")

    codec.analyze = refuse  # type: ignore[assignment, method-assign]
    assert count(codec, 64, torch.device("cpu")) is None
