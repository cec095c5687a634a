"""A sampler and a rule that come from outside the repository, which is not edited: configurations name them.

Files do not name what chose their indices, so any receiver decodes them. Candidates and schedules are part of the
format: those from outside are refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException

from lightning_modules.coding.coder import pack_each
from lightning_modules.coding.pack import Named
from lightning_modules.coding.picture import unpack
from lightning_modules.launch.building import ComposedRun
from lightning_modules.launch.paths import CONF
from lightning_modules.rec.files.file_coder import FileCoder
from lightning_modules.records import PixelFormat
from tests.lightning_modules.rec.small_codecs import lossless_codec, picture

PARTS = '''
import torch

from lightning_modules.rec.samplers.candidate_noise import Mirrored


class OneCandidate:
    """A sampler that takes one candidate for all variables."""

    num_paths = 1

    def __init__(self, number):
        self.number = number

    def choose(self, batch):
        return torch.where(batch.variables.scales > 0, self.number, 0)


class LastOfBest:
    """A rule that takes the best candidate, without chance."""

    def select(self, task):
        return task.log_weights(range(task.num_candidates)).argmax(1)


class OtherNoise(Mirrored):
    """Candidates that no file can name."""
'''
CODERS = {
    "sampler": "defaults: [irec, _self_]\nsampler: {_target_: outside_samplers.OneCandidate, number: 3}\nname: mine\n",
    "rule": "defaults: [orc, _self_]\nsampler:\n  rule: {_target_: outside_samplers.LastOfBest}\nname: mine\n",
    "noise": "defaults: [irec, _self_]\nnoise: {_target_: outside_samplers.OtherNoise}\nname: mine\n",
}
WITHOUT = {"sampler": "~coder.sampler.num_beams", "rule": "~coder.sampler.rule.seed"}
"""Settings of what is replaced, which its replacement does not have."""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package of one file, and configurations of its own."""
    (tmp_path / "outside_samplers.py").write_text(PARTS)
    (tmp_path / "conf" / "coder").mkdir(parents=True)
    for name, text in CODERS.items():
        (tmp_path / "conf" / "coder" / f"my_{name}.yaml").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def configured(lab: Path, name: str) -> FileCoder:
    words = ["experiment=rec_lossless_small", f"coder=my_{name}", f"hydra.searchpath=[{lab / 'conf'}]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        run = ComposedRun(compose("config", words + ([WITHOUT[name]] if name in WITHOUT else [])))
    coder = run.build(run.cfg.coder)
    assert isinstance(coder, FileCoder)
    return coder


@pytest.mark.parametrize("name", ["sampler", "rule"])
def test_what_chooses_indices_may_come_from_outside(lab: Path, name: str) -> None:
    coder, codec, x = configured(lab, name), lossless_codec(), picture(16, 16)
    assert coder.key != configured(lab, {"sampler": "rule", "rule": "sampler"}[name]).key
    (packed,) = pack_each(coder, codec, [Named("a.png", codec.analyze(x), PixelFormat())])
    assert packed.accounts["indices"] > 0
    assert torch.equal(unpack(packed.data, codec).x_hat, x)


def test_candidates_that_no_file_can_name_are_refused_in_a_line(lab: Path) -> None:
    with pytest.raises(InstantiationException, match="files know no OtherNoise with SharedEqualKL"):
        configured(lab, "noise")
