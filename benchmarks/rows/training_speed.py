"""Row 27: a training step as `trainer=cpu` takes it, over CompressAI's own loop on its own model of the same sizes.

CPU time, one thread. Ours: bf16 where the processor has it, channels last, one optimizer. Theirs: the loop of
CompressAI's `examples/train.py`, two optimizers, float32. Both: the same crops, Adam, gradients clipped at norm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from compressai.losses import RateDistortionLoss
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from benchmarks.measurement import Goal, Measurement, Settings, interleave, speed_up
from callbacks.training_precision import multiplies_bfloat16
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.quantization import uniform_noise
from lightning_modules.training.rate_distortion import rate_distortion

NUMBER = 27
N, M = 64, 96
BATCH, CROP = 4, 128
LMBDA = 0.005
CLIP = 1.0
LEARNING_RATE, AUXILIARY_LEARNING_RATE = 1e-4, 1e-3


def measure(settings: Settings) -> list[Measurement]:
    x = torch.rand(BATCH, 3, CROP, CROP, generator=torch.Generator().manual_seed(0))
    native = multiplies_bfloat16("cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = interleave(our_step(x, bfloat16=native), their_step(x), rounds=settings.rounds)
    finally:
        torch.set_num_threads(threads)
    what = f"training step over CompressAI's, N={N}, M={M}, {BATCH} crops of {CROP}x{CROP}"
    return [speed_up(NUMBER, what, pairs, Goal(">=", 2.0) if native else None)]


def our_step(x: Tensor, *, bfloat16: bool) -> Callable[[], None]:
    """Do what `HyperpriorModule` does in a step with the precision `auto` and the memory format `channels_last`."""
    torch.manual_seed(0)
    codec = HyperpriorCodec(N=N, M=M, lmbda=LMBDA).train()
    codec.to(memory_format=torch.channels_last)
    parameters = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else nullcontext():
            synthesis = codec.generate(codec.analyze(x), uniform_noise)
        loss = rate_distortion(x, synthesis.x_hat, synthesis.likelihoods, LMBDA).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()

    return step


def their_step(x: Tensor) -> Callable[[], None]:
    """Do the body of the loop in CompressAI's `examples/train.py`."""
    torch.manual_seed(0)
    model = MeanScaleHyperprior(N, M).train()
    criterion = RateDistortionLoss(lmbda=LMBDA)
    quantiles = [value for name, value in model.named_parameters() if name.endswith(".quantiles")]
    rest = [value for name, value in model.named_parameters() if not name.endswith(".quantiles")]
    optimizer = torch.optim.Adam(rest, lr=LEARNING_RATE)
    auxiliary = torch.optim.Adam(quantiles, lr=AUXILIARY_LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        auxiliary.zero_grad()
        found = criterion(model(x), x)
        found["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        model.aux_loss().backward()
        auxiliary.step()

    return step
