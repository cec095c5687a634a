"""Files of SIC: any size, any level, every cut; the estimate is the file; damage stays where it is."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from lightning_modules.checkpoints.packaged_model import load_model, round_for_storage, save_model
from lightning_modules.coding.container import read, section_ends
from lightning_modules.coding.picture import model_fingerprint, pack, unpack, unpack_each
from lightning_modules.errors import CodingError, DamagedFile
from lightning_modules.records import PixelFormat, Section
from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.decoding_options import Reading
from tests.lightning_modules.coding.mutations import MUTATIONS
from tests.lightning_modules.sic.small_networks import pictures, small_codec

SIZES = [(1, 1), (64, 64), (70, 130)]
MUTANTS_PER_KIND = 25
PER_SECTION, HEADER = 16, 48
"""Bytes that a section, and a file, take besides their symbols, at most."""


@pytest.fixture(scope="module")
def codec() -> SicCodec:
    return small_codec()


@pytest.fixture(autouse=True)
def _default_reading(codec: SicCodec) -> None:
    codec.reading = Reading()


def packed(codec: SicCodec, *size: int, seed: int = 1) -> bytes:
    return pack(codec, codec.analyze(pictures(1, 3, *size, seed=seed)), PixelFormat()).data


def decoded(codec: SicCodec, data: bytes, **reading: object) -> Tensor:
    codec.reading = Reading(**reading)  # type: ignore[arg-type]
    return unpack(data, codec).x_hat


@pytest.fixture(scope="module")
def data(codec: SicCodec) -> bytes:
    return packed(codec, 70, 130)


def test_the_example_depends_on_the_picture(codec: SicCodec) -> None:
    y, other = (codec.analyze(pictures(1, 3, 70, 130, seed=seed)).variables["y"].round() for seed in (1, 2))
    assert float((y != other).double().mean()) > 0.1
    assert float((y != y[..., :1, :1]).double().mean()) > 0.1


# ---- levels


@pytest.mark.parametrize("size", SIZES)
def test_every_level_of_a_file_decodes_to_the_picture_of_its_estimate(codec: SicCodec, size: tuple[int, int]) -> None:
    latents = codec.analyze(pictures(1, 3, *size))
    data = pack(codec, latents, PixelFormat()).data
    for level in range(1, codec.levels + 1):
        codec.reading = Reading()
        estimate = codec.estimate_at(level, latents)
        x_hat = decoded(codec, data, level=level)
        assert x_hat.shape == (1, 3, *size)
        assert torch.equal(x_hat, estimate.x_hat)
    assert torch.equal(decoded(codec, data), estimate.x_hat)


def test_the_top_level_is_the_picture_of_the_rounded_latents(codec: SicCodec, data: bytes) -> None:
    y_hat = codec.analyze(pictures(1, 3, 70, 130)).variables["y"].round()
    assert torch.equal(decoded(codec, data), codec.picture_of(y_hat, (70, 130)))


def test_levels_and_samples_differ(codec: SicCodec, data: bytes) -> None:
    found = [decoded(codec, data, level=level) for level in range(1, codec.levels + 1)]
    codec.reading = Reading(level=1, samples=3)
    picture = unpack(data, codec)
    found += picture.format.further
    assert torch.equal(picture.x_hat, found[0]), "the first sample is the one that is shown alone"
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(found) for b in found[:i])


def test_a_cut_file_is_read_as_the_level_that_it_still_has(codec: SicCodec, data: bytes) -> None:
    for level, end in enumerate(section_ends(data), 1):
        assert torch.equal(decoded(codec, data[:end]), decoded(codec, data, level=level))


def test_a_file_written_at_a_level_decodes_as_one_cut_to_it(codec: SicCodec, data: bytes) -> None:
    codec.reading = Reading(level=2)
    lower = packed(codec, 70, 130)
    assert len(read(lower).sections) == 2
    assert torch.equal(decoded(codec, lower), decoded(codec, data, level=2))


def test_a_preview_has_no_randomness(codec: SicCodec) -> None:
    files = []
    for seed in (1, 2):
        codec.reading = Reading(seed=seed)
        files.append(packed(codec, 64, 64))
    previews = [decoded(codec, file, level=1, detail="mean") for file in files]
    assert torch.equal(*previews)
    assert not torch.equal(*(decoded(codec, file, level=1) for file in files))


def test_levels_that_are_not_there_are_refused(codec: SicCodec, data: bytes) -> None:
    with pytest.raises(CodingError, match=r"no level above 2; give sic\.level=2 or less"):
        decoded(codec, data[: section_ends(data)[1]], level=3)
    codec.reading = Reading(level=5)
    with pytest.raises(CodingError, match=r"sic\.level=5: this model has levels 1 to 4"):
        packed(codec, 64, 64)


# ---- rates


@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_as_long_as_estimated_at_every_level(codec: SicCodec, size: tuple[int, int]) -> None:
    latents = codec.analyze(pictures(1, 3, *size))
    data = pack(codec, latents, PixelFormat()).data
    for level, end in enumerate(section_ends(data), 1):
        bits = sum(float(value) for value in codec.estimate_at(level, latents).bits.values())
        assert 0 < end - bits / 8 < 1.005 * bits / 8 - bits / 8 + HEADER + PER_SECTION * level


def test_the_estimate_is_nearly_the_rate_of_the_networks_densities(codec: SicCodec) -> None:
    from lightning_modules.sic.training_pass import code, group_bpp

    x = pictures(1, 3, 128, 192)
    coding = code(codec, x, torch.zeros(1, 6, 2, 3))
    expected = group_bpp(codec, coding, coding.y_hat).flatten() * 128 * 192
    bits = codec.estimate(codec.analyze(x)).bits
    for group, of_networks in enumerate(expected, 1):
        assert float(bits[f"y{group}"]) == pytest.approx(float(of_networks), rel=0.05)


def test_reports_have_the_rate_of_every_level(codec: SicCodec) -> None:
    coded = codec.encode(codec.analyze(pictures(1, 3, 64, 64)))
    lengths = [8 * len(section.payload) for section in coded.sections]
    assert coded.accounts == {f"level_{k + 1}": sum(lengths[: k + 1]) for k in range(4)}


# ---- the same everywhere


def test_files_do_not_depend_on_threads_or_batches(codec: SicCodec) -> None:
    threads = torch.get_num_threads()
    x = pictures(2, 3, 70, 130)
    try:
        torch.set_num_threads(2)
        files = [pack(codec, latents, PixelFormat()).data for latents in codec.analyze(x).split()]
        torch.set_num_threads(1)
        read_back = [codec.read_integers([read(file).sections], (70, 130))[0] for file in files]
    finally:
        torch.set_num_threads(threads)
    together = codec.read_integers([read(file).sections for file in files], (70, 130))
    for alone, other in zip(read_back, together, strict=True):
        assert not isinstance(alone, CodingError)
        assert not isinstance(other, CodingError)
        assert all((alone[name] == other[name]).all() for name in alone)


def test_a_stored_model_reads_the_files_of_the_one_it_was_stored_from(tmp_path: Path) -> None:
    codec = small_codec(seed=3)
    save_model(codec, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, SicCodec)
    data = packed(codec, 64, 64)
    assert packed(loaded, 64, 64) == data
    assert torch.equal(decoded(loaded, data), decoded(codec, data))


def test_a_model_rounded_for_storage_takes_less_room_and_keeps_its_integers(tmp_path: Path) -> None:
    codec = small_codec(seed=3)
    save_model(codec, tmp_path / "exact.safetensors")
    before = {name: value.clone() for name, value in codec.decoder_state().items() if name.startswith("exact.")}
    round_for_storage(codec)
    save_model(codec, tmp_path / "rounded.safetensors")
    assert all(not name.startswith(("hs.", "context_model.", "entropy_parameters.")) for name in _stored(tmp_path))
    loaded = load_model(tmp_path / "rounded.safetensors")
    assert model_fingerprint(loaded) == model_fingerprint(codec)
    assert before.keys() == {name for name in loaded.decoder_state() if name.startswith("exact.")}


def _stored(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "rounded.safetensors", framework="pt") as file:
        return list(file.keys())


def test_other_weights_have_another_fingerprint_and_files() -> None:
    codec = small_codec(seed=4)
    data, mark = packed(codec, 64, 64), model_fingerprint(codec)
    with torch.no_grad():
        codec.entropy_parameters.layer[4].get_parameter("bias").add_(0.5)
    assert model_fingerprint(codec) != mark
    with pytest.raises(CodingError, match="needs model"):
        unpack(data, codec)


# ---- damage


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_damage_leaves_the_levels_below_it(codec: SicCodec, data: bytes, level: int) -> None:
    damaged = bytearray(data)
    damaged[section_ends(data)[level - 1] - 12] ^= 4
    for lower in range(1, level):
        assert torch.equal(decoded(codec, bytes(damaged), level=lower), decoded(codec, data, level=lower))
    with pytest.raises(DamagedFile, match="disagrees with its checksum"):
        decoded(codec, bytes(damaged))


def test_another_pictures_section_is_refused_by_its_content(codec: SicCodec, data: bytes) -> None:
    bitstream, other = read(data), read(packed(codec, 70, 130, seed=2))
    sections = [*bitstream.sections]
    sections[2] = Section(other.sections[2].payload, sections[2].content_crc)
    with pytest.raises(DamagedFile):
        unpack(bitstream._replace(sections=tuple(sections)).to_bytes(), codec)


def test_more_levels_than_the_model_has_are_refused(codec: SicCodec, data: bytes) -> None:
    bitstream = read(data)
    with pytest.raises(DamagedFile, match="its model has 4 levels, the file 5"):
        unpack(bitstream._replace(sections=(*bitstream.sections, bitstream.sections[-1])).to_bytes(), codec)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", b"\0" * 4, b"\0" * 12, b"\xff" * 12, b"\xff" * 400])
def test_a_first_section_of_nonsense_is_refused(codec: SicCodec, data: bytes, payload: bytes) -> None:
    bitstream = read(data)
    with pytest.raises(DamagedFile):
        unpack(bitstream._replace(sections=(Section(payload, 0), *bitstream.sections[1:])).to_bytes(), codec)


@pytest.mark.fuzz
def test_a_small_file_that_claims_a_huge_picture_is_refused_before_anything_is_computed(
    codec: SicCodec, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = read(data)._replace(image_size=(16384, 16384)).to_bytes()
    monkeypatch.setattr(codec._derived.value.parameters, "hyper", None)
    with pytest.raises(DamagedFile, match="coded data end before the last symbol"):
        unpack(claim, codec)


@pytest.mark.fuzz
def test_mutants_are_refused_in_a_line_or_are_the_picture_at_some_level(codec: SicCodec) -> None:
    files = [packed(codec, 64, 64, seed=seed) for seed in (1, 2)]
    right = {file[:end]: decoded(codec, file[:end]) for file in files for end in section_ends(file)}
    refused = 0
    for mutation in MUTATIONS:
        for number in range(MUTANTS_PER_KIND):
            mutant = mutation(Random(number), files[0], files)
            (found,) = unpack_each([mutant], codec)
            if isinstance(found, CodingError):
                refused += 1
                assert str(found)
                assert "\n" not in str(found)
            else:
                assert torch.equal(found.x_hat, right[mutant])
    assert refused > 0.8 * MUTANTS_PER_KIND * len(MUTATIONS)


# ---- what the authors' evaluation gets wrong, by the numbers of the room's specification


def test_trap_19_samples_of_several_pictures_are_not_mixed(codec: SicCodec) -> None:
    files = [packed(codec, 64, 64, seed=seed) for seed in (1, 2)]
    codec.reading = Reading(level=1, samples=3)
    together = unpack_each(files, codec)
    for file, found in zip(files, together, strict=True):
        assert not isinstance(found, CodingError)
        alone = unpack(file, codec)
        for a, b in zip((alone.x_hat, *alone.format.further), (found.x_hat, *found.format.further), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_trap_20_decoding_encodes_nothing_again(codec: SicCodec, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("analysis while decoding")

    for network in (codec.ga, codec.ha):
        monkeypatch.setattr(network, "forward", fail)
    decoded(codec, data, level=2)


def test_trap_21_rates_and_pictures_are_of_the_size_that_was_given(codec: SicCodec, data: bytes) -> None:
    assert read(data).image_size == (70, 130)
    assert decoded(codec, data).shape == (1, 3, 70, 130)
    assert math.prod((70, 130)) < math.prod((128, 192))
