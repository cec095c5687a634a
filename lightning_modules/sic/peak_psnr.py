"""PSNR as the evaluation script of SIC's authors has it, for comparing with their numbers."""

from __future__ import annotations

from torch import Tensor


def peak_psnr(x: Tensor, x_hat: Tensor) -> Tensor:
    """(x, x_hat), each (B, 3, H, W) in [0, 1] -> (B,) in dB: 10 log10(max(x_hat)^2 / mse).

    Their script gives torchmetrics no range, which then is that of the reconstruction: where it does not reach white,
    the number is below the usual PSNR, by 20 log10(max(x_hat)). Infinite for equal pictures.
    """
    mse = (x.double() - x_hat.double()).square().flatten(1).mean(dim=1)
    peak = x_hat.double().flatten(1).amax(dim=1)
    return (10.0 * (peak.square() / mse).log10()).float()
