"""SIC's hyper networks, plain convolutions: y --ha--> z, z_hat --hs--> features of y.

Layer order and names equal the authors'; z is 4 times smaller than y.
"""

from __future__ import annotations

from torch import nn

STRIDE = 4


def hyper_analysis(channels: int, width: int) -> nn.Sequential:
    """Build ha: y (B, channels, h, w) -> z (B, width, h/4, w/4)."""
    return _with_kaiming_weights(
        nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, width, 5, 2, padding=2),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, width, 5, 2, padding=2),
        )
    )


def hyper_synthesis(width: int, channels: int) -> nn.Sequential:
    """Build hs: z_hat (B, width, h/4, w/4) -> (B, 2 channels, h, w), hyper-scales, then hyper-means, raw features."""
    wide = channels * 3 // 2
    return _with_kaiming_weights(
        nn.Sequential(
            nn.ConvTranspose2d(width, channels, 5, 2, padding=2, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, wide, 5, 2, padding=2, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(wide, 2 * channels, 3, padding=1),
        )
    )


def _with_kaiming_weights(network: nn.Sequential) -> nn.Sequential:
    """Draw normal weights by PyTorch's fan-out (a transposed layer's is of its inputs); gain 1 in the last."""
    layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    for layer in layers[:-1]:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.kaiming_normal_(layers[-1].weight, mode="fan_out", nonlinearity="linear")
    return network
