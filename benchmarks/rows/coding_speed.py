"""Row 6: entropy coding with every conversion, float tensors to bytes and back, over CompressAI's call.

CPU time. Two sources: the model's own latents of one picture, and symbols drawn from Gaussians whose scales
spread over the lower half of the table (294,912 of them, a 512x768 picture with 192 latent channels).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from compressai.entropy_models import GaussianConditional
from torch import Tensor

from benchmarks.contenders import CodingTask, coding_task, contenders, latents_of
from benchmarks.measurement import Goal, Measurement, Settings, interleave, speed_up
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import content_crc
from lightning_modules.coding.tables import SCALES, CodingTables, gaussian_tables, nearest_scale_index

NUMBER = 6
GOAL = Goal(">=", 2.5)


@torch.no_grad()
def measure(settings: Settings) -> list[Measurement]:
    codec = contenders(settings.ckpt).ours
    picture = coding_task(codec, latents_of(settings._replace(images=1))[0])
    lines = []
    for source, task in (("model's latents", picture), ("294,912 drawn symbols", drawn_task())):
        lines += _both_ways(source, task, settings.rounds)
    return lines


def _both_ways(source: str, task: CodingTask, rounds: int) -> list[Measurement]:
    stack, strings = encode_ours(task), encode_theirs(task)
    symbols = torch.round(task.y - task.means)
    for y_hat in (decode_ours(stack, task), decode_theirs(strings, task)):
        if not torch.equal(y_hat, symbols + task.means):
            raise AssertionError("a coder did not return the symbols it was given")
    encoding = interleave(lambda: encode_ours(task), lambda: encode_theirs(task), rounds=rounds)
    decoding = interleave(lambda: decode_ours(stack, task), lambda: decode_theirs(strings, task), rounds=rounds)
    return [
        speed_up(NUMBER, f"entropy encoding speed, {source}", encoding, GOAL),
        speed_up(NUMBER, f"entropy decoding speed, {source}", decoding, GOAL),
    ]


@cache
def _tables() -> CodingTables:
    return gaussian_tables(SCALES)


@cache
def _conditional() -> GaussianConditional:
    conditional = GaussianConditional(None)
    conditional.update_scale_table([float(scale) for scale in SCALES])
    return conditional.eval()


def encode_ours(task: CodingTask) -> bytes:
    """Return the bytes of y, scales and means, with the checksum of the integers that a file needs."""
    symbols = _integers(torch.round(task.y - task.means))
    stack = AnsStack()
    stack.push(symbols, _integers(nearest_scale_index(task.scales)), _tables())
    content_crc(symbols)
    return stack.to_bytes()


def decode_ours(data: bytes, task: CodingTask) -> Tensor:
    """Return y_hat of bytes, scales and means."""
    stack = AnsStack.from_bytes(data)
    symbols = stack.pop(_integers(nearest_scale_index(task.scales)), _tables())
    stack.expect_empty()
    content_crc(symbols)
    return torch.from_numpy(symbols).reshape(task.means.shape) + task.means


def encode_theirs(task: CodingTask) -> list[bytes]:
    conditional = _conditional()
    indexes = conditional.build_indexes(task.scales)
    strings: list[bytes] = conditional.compress(task.y, indexes, means=task.means)
    return strings


def decode_theirs(strings: list[bytes], task: CodingTask) -> Tensor:
    conditional = _conditional()
    y_hat: Tensor = conditional.decompress(strings, conditional.build_indexes(task.scales), means=task.means)
    return y_hat


def _integers(values: Tensor) -> np.ndarray:
    return values.to(torch.int32).reshape(-1).numpy()


def drawn_task(seed: int = 0) -> CodingTask:
    """Scales log-uniform over 0.03 ... 3 (0.6 to 0.7 bit a symbol), y drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 192, 32, 48)
    scales = 0.03 * 100 ** torch.rand(shape, generator=generator)
    means = torch.randn(shape, generator=generator)
    y = means + scales.clamp_min(0.11) * torch.randn(shape, generator=generator)
    return CodingTask(y, scales, means)
