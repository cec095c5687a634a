"""Settings in the first bytes of a section: what a receiver needs to know, and nothing that no sender says."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from lightning_modules.errors import DamagedFile
from lightning_modules.rec.files.file_coder import FileCoder
from lightning_modules.rec.files.settings import SampleSettings, split
from lightning_modules.rec.samplers.candidate_noise import Independent, Mirrored, SignFlipped
from lightning_modules.rec.samplers.schedule import EqualKL, PowerLaw, SharedEqualKL
from tests.conftest import REPOSITORY

CODERS = {
    "irec": (Mirrored, SharedEqualKL, False, 32),
    "irec_lossy": (Mirrored, SharedEqualKL, False, 36),
    "irec_paper": (Independent, PowerLaw, False, 36),
    "orc": (SignFlipped, EqualKL, True, 403),
}


@pytest.fixture(scope="module")
def coders() -> dict[str, FileCoder]:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return {name: instantiate(compose(f"coder/{name}").coder) for name in CODERS}


@pytest.mark.parametrize("name", CODERS)
def test_a_configured_coder_is_told_in_5_bytes_or_13(coders: dict[str, FileCoder], name: str) -> None:
    noise, schedule, is_zipf, candidates = CODERS[name]
    settings = coders[name].settings
    data = settings.to_bytes()
    assert len(data) == (5 if name == "irec" else 13)
    assert split(data + b"words") == (settings, b"words")
    receiver = settings.receiver()
    assert type(receiver.noise) is noise
    assert type(receiver.schedule) is schedule
    assert (settings.is_zipf, settings.num_candidates, settings.seed) == (is_zipf, candidates, 42)
    assert receiver.kl_per_variable == pytest.approx(coders[name].index_coder.kl_per_variable, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "changes", "fault"),
    [
        ("irec", "coder.block_kl=70000", "block_kl must lie in 1 ... 65535 to be told by a file, got 70000"),
        ("irec", "coder.block_size=70000", "block_size must lie in 1 ... 65536 to be told by a file, got 70000"),
        ("irec", "coder.kl_per_variable=12", "num_candidates must lie in 1 ... 65536"),
        ("irec", "coder.noise.seed=4294967296", "seed must lie in 0 ... 4294967295"),
        ("irec_paper", "+coder.schedule.exponent=-0.5", "no exponent but -0.786.*, got -0.5"),
    ],
)
def test_what_a_file_has_no_room_for_is_refused_before_the_first_picture(name: str, changes: str, fault: str) -> None:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose(f"coder/{name}", overrides=[changes]).coder
    with pytest.raises(InstantiationException, match=fault):
        instantiate(cfg)


def test_ways_of_coding_have_keys_of_their_own(coders: dict[str, FileCoder]) -> None:
    assert len({coder.key for coder in coders.values()}) == len(coders)


@pytest.mark.parametrize("flag", [3, 3 << 2, 4 << 4])
def test_kinds_that_do_not_exist_are_refused(coders: dict[str, FileCoder], flag: int) -> None:
    data = bytearray(coders["irec"].settings.to_bytes())
    data[0] |= flag
    with pytest.raises(DamagedFile, match="asks for what none has"):
        split(bytes(data))


def test_a_cut_head_is_refused() -> None:
    for length in (0, 4, 12):
        with pytest.raises(DamagedFile, match="cut off"):
            split(bytes(length))


def test_gray_is_told_beside_everything_else() -> None:
    settings = SampleSettings(0, 1, False, 32, 3549, 100, 4096, 42)
    assert split(settings._replace(gray=True).to_bytes())[0] == settings._replace(gray=True)
