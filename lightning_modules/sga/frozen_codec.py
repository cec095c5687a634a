"""A frozen copy of a codec for the steps of a refinement: the same `generate`, three to four times as fast.

Weights need no gradients, so what depends on them alone is computed once; GDN keeps two tensors for its backward pass
instead of five; layers run in the memory order and, where the processor multiplies it natively, in the precision
(bfloat16) that suit it. Latents, likelihoods and the pictures stay in float32, and the codec itself is not touched:
what is coded, and the true loss, are always its own.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from compressai.layers import GDN
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.codec import LatentVariableCodec
from lightning_modules.derived_value import WeightSnapshot
from lightning_modules.quantization import straight_through
from lightning_modules.records import Latents
from lightning_modules.training.rate_distortion import bits

MakeStepCodec = Callable[[LatentVariableCodec], LatentVariableCodec]
"""(codec) -> the codec that evaluates `generate` in the steps of a refinement."""

TRIAL_SIDE = 192
TRIAL_STEPS = 4
MARGIN = 1.3
"""How many times faster bfloat16 must be: not a close call that another process of the job might decide otherwise."""


def float32(codec: LatentVariableCodec) -> LatentVariableCodec:
    """Return a frozen copy in full precision."""
    return frozen(codec, torch.float32)


def bfloat16(codec: LatentVariableCodec) -> LatentVariableCodec:
    """Return a copy with networks in bfloat16: three times as fast where processors have it, far slower elsewhere."""
    return frozen(codec, torch.bfloat16)


class Fastest:
    """bfloat16 if a few steps in it, tried once on one thread, take much less time than in float32; else float32."""

    def __init__(self) -> None:
        self._choices: dict[tuple[str, ...], MakeStepCodec] = {}

    def __call__(self, codec: LatentVariableCodec) -> LatentVariableCodec:
        device = next(codec.parameters()).device
        key = (type(codec).__name__, json.dumps(codec.hyperparameters), str(device))
        if key not in self._choices:
            latents = codec.analyze(torch.full((1, 3, TRIAL_SIDE, TRIAL_SIDE), 0.5, device=device))
            with one_thread():
                slow, fast = (trial_seconds(make(codec), latents) for make in (float32, bfloat16))
            self._choices[key] = bfloat16 if fast * MARGIN < slow else float32
        return self._choices[key](codec)


class Compiled:
    """The copy that `inside` makes, compiled by torch: a sixth less time a step, after a minute of compiling.

    The copy is kept for the next picture while the codec's weights stay as they are; another size compiles again.
    """

    def __init__(self, inside: MakeStepCodec) -> None:
        self.inside = inside
        self._twin: LatentVariableCodec | None = None
        self._made_of = WeightSnapshot({})

    def __call__(self, codec: LatentVariableCodec) -> LatentVariableCodec:
        if self._twin is None or not self._made_of.equals(codec.state_dict()):
            self._twin, self._made_of = self.inside(codec), WeightSnapshot(codec.state_dict())
            for network in self._twin.children():
                if isinstance(network, nn.Sequential):
                    network.compile(dynamic=False)
        return self._twin


@contextmanager
def one_thread() -> Iterator[None]:
    """Run a trial on one thread: threads that wait for others on a busy machine would make its times meaningless."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def trial_seconds(codec: LatentVariableCodec, latents: Latents) -> float:
    """Measure the quickest of a few steps after the first, which warms up: processor time, on a GPU real time."""
    clock = time.perf_counter if next(iter(latents.variables.values())).is_cuda else time.process_time
    durations = []
    for _ in range(TRIAL_STEPS):
        leaves = {name: value.detach().clone().requires_grad_() for name, value in latents.variables.items()}
        start = clock()
        synthesis = codec.generate(Latents(leaves, latents.image_size), straight_through)
        rate = torch.stack([bits(likelihood).sum() for likelihood in synthesis.likelihoods.values()]).sum()
        gradients = torch.autograd.grad(synthesis.x_hat.square().sum() + rate, list(leaves.values()))
        float(gradients[0].flatten()[0])  # waits for a GPU
        durations.append(clock() - start)
    return min(durations[1:])


def frozen(codec: LatentVariableCodec, dtype: torch.dtype) -> LatentVariableCodec:
    """Copy a codec without weight gradients, its layers computing in `dtype`; only its `generate` is of use."""
    codec.update()  # its tables travel with the copy
    copied = copy.deepcopy(codec).requires_grad_(False).eval()
    for name, network in list(copied.named_children()):
        if isinstance(network, nn.Sequential):
            setattr(copied, name, _in_precision(network, dtype))
    return copied


def _in_precision(network: nn.Sequential, dtype: torch.dtype) -> nn.Sequential:
    layers = [FrozenGDN(layer) if isinstance(layer, GDN) else layer for layer in network]
    inside = nn.Sequential(*layers).to(dtype).to(memory_format=torch.channels_last)
    return nn.Sequential(_Into(dtype), *inside, _Into(torch.float32))


class _Into(nn.Module):
    """A conversion to a precision, with channels last in memory."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, value: Tensor) -> Tensor:
        return value.to(self.dtype, memory_format=torch.channels_last)


class FrozenGDN(nn.Module):
    """`compressai.layers.GDN` of weights that do not change: gamma and beta are worked out once."""

    gamma: Tensor
    beta: Tensor

    def __init__(self, layer: GDN) -> None:
        super().__init__()
        channels = len(layer.beta)
        self.normalize = _InverseNormalization if layer.inverse else _Normalization
        with torch.no_grad():
            self.register_buffer("gamma", layer.gamma_reparam(layer.gamma).reshape(channels, channels, 1, 1).clone())
            self.register_buffer("beta", layer.beta_reparam(layer.beta).clone())

    def forward(self, value: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        return cast(Tensor, self.normalize.apply(value, self.gamma, self.beta))


class _InverseNormalization(torch.autograd.Function):
    """v n, n = sqrt(beta + gamma v^2). Gradient: n g + v gamma^T(g v / n)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        norm = F.conv2d(value * value, gamma, beta).sqrt_()
        ctx.save_for_backward(value, norm, gamma)
        return value * norm

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        value, norm, gamma = ctx.saved_tensors
        through_norm = F.conv2d((gradient * value).div_(norm), gamma.transpose(0, 1))
        return through_norm.mul_(value).addcmul_(gradient, norm), None, None


class _Normalization(torch.autograd.Function):
    """v / n, n as above. Gradient: g / n - v gamma^T(g v / n^3)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        inverse = F.conv2d(value * value, gamma, beta).rsqrt_()
        ctx.save_for_backward(value, inverse, gamma)
        return value * inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        value, inverse, gamma = ctx.saved_tensors
        scaled = gradient * inverse
        through_norm = F.conv2d(scaled * value * inverse * inverse, gamma.transpose(0, 1))
        return scaled.addcmul_(through_norm, value, value=-1), None, None
