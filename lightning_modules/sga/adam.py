"""Adam in the form of TensorFlow, whose epsilon is added before the bias correction and not after it.

Gradients of the objective are around 1e-7 an element, not far above epsilon, so the two forms take different steps:
after 6 steps at rate 0.005 a constant gradient of 1e-9 has moved a latent by 0.0027 in PyTorch's form, and by
0.00017 in TensorFlow's. The first authors used TensorFlow, those of SGA+ PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class TensorFlowAdam(torch.optim.Adam):
    """lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps): PyTorch's, with eps / sqrt(1 - beta2^t) for eps."""

    def __init__(self, params: Iterable[Tensor], lr: float, eps: float = 1e-8) -> None:
        super().__init__(params, lr=lr, eps=eps)
        self.epsilon = eps
        self.steps_taken = 0

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        self.steps_taken += 1
        for group in self.param_groups:
            group["eps"] = self.epsilon / math.sqrt(1 - group["betas"][1] ** self.steps_taken)
        return super().step(closure)
