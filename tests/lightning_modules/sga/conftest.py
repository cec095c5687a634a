"""Fixtures of the room's tests."""

from __future__ import annotations

import pytest
from torch import Tensor

from lightning_modules.hyperprior.codec import HyperpriorCodec
from tests.lightning_modules.sga.small_refinement import crop_of_photograph, packaged_codec


@pytest.fixture(scope="session")
def codec() -> HyperpriorCodec:
    """The packaged model of lmbda 0.005; not to be changed."""
    return packaged_codec()


@pytest.fixture(scope="session")
def x() -> Tensor:
    """(1, 3, 64, 96), part of a face."""
    return crop_of_photograph(80, 190, 64, 96)
