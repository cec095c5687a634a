"""Muon for convolutional codecs: momentum whose matrices are orthogonalised (Jordan et al. 2024).

Pixels are so correlated that a few directions of each filter bank carry nearly all of the gradient, and Adam
spends thousands of steps on them before the rest moves. Orthogonalising the update gives every direction the
same step. torch's own Muon takes matrices only; here every filter bank (four axes) is treated as the
matrix (first axis, all others), and what is smaller (biases, GDN, densities) is left to Adam's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Newton-Schulz coefficients of the Muon post: five rounds bring singular values to about 0.7 ... 1.2."""


def orthogonalize(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Compute nearly U V^T of a matrix (m, n) = U S V^T, by Newton-Schulz iteration.

    A round multiplies by a polynomial of the Gram matrix, and these commute: they are gathered in the smaller of the
    two dimensions, which is all that the rounds cost, and multiplied with the matrix once.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    a, b, c = QUINTIC
    value = wide / (wide.norm() + 1e-12)
    identity = torch.eye(len(value), dtype=value.dtype, device=value.device)
    gram, factor = value @ value.T, identity
    for _ in range(rounds):
        polynomial = a * identity + b * gram + c * gram @ gram
        factor = polynomial @ factor
        gram = polynomial @ gram @ polynomial
    value = factor @ value
    return value if matrix.shape[0] <= matrix.shape[1] else value.T


class Muon(Optimizer):
    """One optimizer, two rules by the number of axes of a parameter.

    axes: how many a parameter may have to be orthogonalised: filter banks have 4, linear layers 2.
    lr: step of these, as the root mean square of the change of one weight.
    adam_lr: Adam's rate for everything else; both are scaled by the same schedule.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float,
        adam_lr: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
        axes: Sequence[int] = (4,),
    ) -> None:
        parameters = list(params)
        banks = [parameter for parameter in parameters if parameter.ndim in axes]
        rest = [parameter for parameter in parameters if parameter.ndim not in axes]
        groups: list[dict[str, Any]] = [
            {"params": banks, "lr": lr, "momentum": momentum, "rule": "muon"},
            {"params": rest, "lr": adam_lr, "betas": tuple(betas), "eps": eps, "rule": "adam"},
        ]
        super().__init__([group for group in groups if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient. closure: computes the loss anew, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon if group["rule"] == "muon" else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    with torch.autocast(parameter.device.type, enabled=False):  # the iteration diverges in bfloat16
                        update(parameter, parameter.grad, group)
        return loss

    def _muon(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["average"] = torch.zeros_like(parameter)
        average = state["average"].lerp_(gradient, 1 - group["momentum"])
        nesterov = gradient.lerp(average, group["momentum"])
        matrix = orthogonalize(nesterov.flatten(1))
        rows, columns = matrix.shape
        # The entries of an orthogonal m x n matrix have root mean square max(m, n)^-1/2: undo that.
        parameter.add_(matrix.reshape(parameter.shape), alpha=-group["lr"] * max(rows, columns) ** 0.5)

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["average"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        average = state["average"].lerp_(gradient, 1 - first)
        square = state["square"].lerp_(gradient.square(), 1 - second)
        corrected = average / (1 - first ** state["step"])
        spread = (square / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        parameter.addcdiv_(corrected, spread, value=-group["lr"])
