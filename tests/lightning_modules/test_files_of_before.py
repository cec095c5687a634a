"""Files and models that an earlier version wrote: they load, and decode to the same integers and pixels.

`files_of_before/` was made by commit 4a82812, of a crop of 33x47 pixels; tiny models lie beside their files, the others
are those that come with latentpress. A file whose packaged model has left goes with it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.model_library import ModelLibrary
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.checkpoints.state_dict import without_derived
from lightning_modules.coding.picture import unpack
from lightning_modules.doctor.self_test import digest, integers_of
from lightning_modules.sga.codec import IntegerGridCodec

FOLDER = Path(__file__).parent / "files_of_before"
INTEGERS = json.loads((FOLDER / "integers.json").read_text())


@pytest.fixture(scope="module")
def library() -> ModelLibrary:
    base = load_model(FOLDER / "hyperprior.safetensors")
    on_integers = IntegerGridCodec.from_weights(without_derived(base.state_dict()), **base.hyperparameters).eval()
    return ModelLibrary([FOLDER, PACKAGED], [on_integers])


@pytest.mark.parametrize("name", sorted(INTEGERS))
def test_a_file_of_before_decodes_to_the_same_integers_and_pixels(name: str, library: ModelLibrary) -> None:
    data = (FOLDER / f"{name}.bin").read_bytes()
    codec = library.find(data)
    (integers,) = integers_of(codec, [data])
    assert not isinstance(integers, Exception)
    assert digest(integers) == INTEGERS[name]
    pixels = unpack(data, codec).x_hat[0].mul(255).round().clamp(0, 255).permute(1, 2, 0).numpy()
    with Image.open(FOLDER / f"{name}.png") as picture:
        assert np.abs(pixels - np.asarray(picture, dtype=np.float32)).max() <= 1  # floats may round otherwise elsewhere
