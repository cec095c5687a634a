"""The hyper networks against layers written out with the functions of torch, and their start."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.sic.hyper_networks import hyper_analysis, hyper_synthesis


def test_ha_is_three_convolutions_with_leaky_rectifiers_between() -> None:
    torch.manual_seed(0)
    ha = hyper_analysis(6, 4)
    w0, b0, w2, b2, w4, b4 = ha.parameters()
    y = torch.randn(2, 6, 8, 12)
    hidden = F.leaky_relu(F.conv2d(y, w0, b0, padding=1), 0.01)
    hidden = F.leaky_relu(F.conv2d(hidden, w2, b2, stride=2, padding=2), 0.01)
    assert torch.equal(ha(y), F.conv2d(hidden, w4, b4, stride=2, padding=2))
    assert ha(y).shape == (2, 4, 2, 3)


def test_hs_is_three_transposed_convolutions_with_rectifiers_between() -> None:
    torch.manual_seed(0)
    hs = hyper_synthesis(4, 6)
    w0, b0, w2, b2, w4, b4 = hs.parameters()
    z = torch.randn(2, 4, 2, 3)
    hidden = F.relu(F.conv_transpose2d(z, w0, b0, stride=2, padding=2, output_padding=1))
    hidden = F.relu(F.conv_transpose2d(hidden, w2, b2, stride=2, padding=2, output_padding=1))
    assert torch.equal(hs(z), F.conv_transpose2d(hidden, w4, b4, padding=1))
    assert hs(z).shape == (2, 12, 8, 12)


def test_hyper_networks_start_with_the_deviations_of_their_authors() -> None:
    """Kaiming, fan-out as PyTorch counts it: of a transposed layer from its first axis."""
    torch.manual_seed(0)
    ha, hs = hyper_analysis(64, 48), hyper_synthesis(48, 64)
    fans = {"0.weight": 48 * 9 / 2, "2.weight": 48 * 25 / 2, "4.weight": 48 * 25}
    for name, fan in fans.items():
        assert float(ha.get_parameter(name).detach().std()) == pytest.approx(fan**-0.5, rel=0.03)
    fans = {"0.weight": 48 * 25 / 2, "2.weight": 64 * 25 / 2, "4.weight": 96 * 9}
    for name, fan in fans.items():
        assert float(hs.get_parameter(name).detach().std()) == pytest.approx(fan**-0.5, rel=0.03)
