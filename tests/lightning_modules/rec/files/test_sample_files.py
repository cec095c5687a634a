"""Packs: several pictures in one file come back by name, for less than files of their own take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from lightning_modules.coding.coder import Coder, PerPictureCoder, pack_each
from lightning_modules.coding.pack import Named, unpack_pack
from lightning_modules.coding.picture import PackedPicture, unpack
from lightning_modules.errors import CodingError, DamagedFile, WrongModel
from lightning_modules.rec.codec import RecCodec
from lightning_modules.rec.files import sample_files
from lightning_modules.rec.files.bits_back_coder import BitsBackCoder
from lightning_modules.rec.files.file_coder import FileCoder, default_coder
from lightning_modules.rec.files.sample_files import runs
from lightning_modules.rec.lossless_codec import LosslessCodec
from lightning_modules.records import ImageSize, PixelFormat
from tests.lightning_modules.rec.small_codecs import lossless_codec, lossy_codec, picture

SIZES = [(16, 16), (9, 14), (16, 16), (1, 1), (16, 16), (9, 14), (16, 16), (12, 16)]
ALPHA = torch.arange(9 * 14, dtype=torch.uint8).reshape(9, 14)


def packing(number: int = 64) -> FileCoder:
    coder = default_coder()
    coder.pack = coder.batch_size = number
    return coder


def back_packing() -> Coder:
    return BitsBackCoder(mode="single", cell_bits=6, batch_size=64, pack=64)


def pictures(sizes: Sequence[ImageSize]) -> dict[str, Tensor]:
    return {f"sub/{k}.png": picture(*size, seed=k) for k, size in enumerate(sizes)}


def named(codec: RecCodec, images: dict[str, Tensor]) -> list[Named]:
    return [Named(name, codec.analyze(x), PixelFormat()) for name, x in images.items()]


@pytest.fixture(scope="module")
def codec() -> LosslessCodec:
    return lossless_codec()


@pytest.fixture(scope="module")
def packed(codec: LosslessCodec) -> list[PackedPicture]:
    return pack_each(packing(), codec, named(codec, pictures(SIZES)))


@pytest.mark.parametrize("coder", [packing(), back_packing()], ids=["irec", "bits_back"])
def test_eight_pictures_of_several_sizes_come_back_exactly(codec: LosslessCodec, coder: Coder) -> None:
    images = pictures(SIZES)
    images["sub/3.png"] = images["sub/3.png"].mean(1, keepdim=True).mul(255).round().div(255).expand(1, 3, 1, 1)
    data = pack_each(coder, codec, named(codec, images))[0].data
    found = unpack_pack(data, codec)
    assert sorted(found) == sorted(images)
    assert all(torch.equal(found[name].x_hat, x) for name, x in images.items())


def test_a_lossy_pack_decodes_to_the_latents_that_its_sender_coded() -> None:
    codec = lossy_codec()
    images = pictures([(64, 64), (40, 70), (64, 64)])
    data = pack_each(packing(), codec, named(codec, images))[0].data
    again = lossy_codec()
    found = unpack_pack(data, again)
    for name, x in images.items():
        error = float((found[name].x_hat - x).square().mean())
        alone = float((unpack(_alone(codec, name, x), codec).x_hat - x).square().mean())
        assert found[name].x_hat.shape == x.shape
        assert error == pytest.approx(alone, rel=0.5)


def _alone(codec: RecCodec, name: str, x: Tensor) -> bytes:
    return pack_each(default_coder(), codec, [Named(name, codec.analyze(x), PixelFormat())])[0].data


def test_shares_sum_to_the_file_and_are_near_what_each_picture_holds(packed: list[PackedPicture]) -> None:
    data = packed[0].data
    assert all(one.data is data for one in packed)
    shares = [one.share.num_bytes for one in packed if one.share is not None]
    assert sum(shares) == len(data)
    rest = (8 * len(data) - sum(one.estimated_bits for one in packed)) / len(packed)
    for one, share in zip(packed, shares, strict=True):
        assert 8 * share == pytest.approx(one.estimated_bits + rest, abs=8)
        parts = ("indices", "counts", "schedules", "pixels")
        assert one.estimated_bits == pytest.approx(sum(one.accounts[name] for name in parts))


def test_indices_are_shared_out_by_relative_entropy(codec: LosslessCodec) -> None:
    flat, rich = torch.full((1, 3, 16, 16), 0.5), picture(16, 16)
    two = pack_each(packing(), codec, named(codec, {"flat": flat, "rich": rich}))
    assert two[0].accounts["kl"] < two[1].accounts["kl"]
    assert two[0].accounts["indices"] / two[1].accounts["indices"] == pytest.approx(
        two[0].accounts["kl"] / two[1].accounts["kl"], rel=0.2
    )


def test_a_pack_saves_the_headers_and_more(codec: LosslessCodec, packed: list[PackedPicture]) -> None:
    alone = sum(len(_alone(codec, name, x)) for name, x in pictures(SIZES).items())
    header = 36
    assert len(packed[0].data) < alone - (len(SIZES) - 1) * header


def test_a_pack_of_one_costs_its_directory_more_than_a_file(codec: LosslessCodec) -> None:
    x = picture(16, 16)
    (one,) = pack_each(packing(), codec, named(codec, {"a.png": x}))
    assert 0 < len(one.data) - len(_alone(codec, "a.png", x)) < 40
    assert torch.equal(unpack_pack(one.data, codec)["a.png"].x_hat, x)


def test_runs_hold_pictures_of_one_size_within_bounds(monkeypatch: pytest.MonkeyPatch, codec: LosslessCodec) -> None:
    monkeypatch.setattr(sample_files, "RUN_PIXELS", 40)
    sizes = [(4, 4)] * 5 + [(9, 9)] * 2
    assert [(run.start, run.stop) for run in runs(sizes, 2)] == [(0, 2), (2, 4), (4, 5), (5, 6), (6, 7)]
    assert [run.padded for run in runs(sizes, 2)][-1] == (10, 10)
    images = pictures(sizes)
    found = unpack_pack(pack_each(packing(), codec, named(codec, images))[0].data, codec)
    assert all(torch.equal(found[name].x_hat, x) for name, x in images.items())


def test_alpha_profiles_and_gray_come_back_equal_ones_are_kept_once(codec: LosslessCodec) -> None:
    profile = bytes(range(256)) * 8
    formats = [PixelFormat(alpha=ALPHA, icc_profile=profile), PixelFormat(gray=True, icc_profile=profile)]
    given = [
        Named(name, codec.analyze(picture(9, 14)), pixel_format)
        for name, pixel_format in zip(("a", "b"), formats, strict=True)
    ]
    data = pack_each(packing(), codec, given)[0].data
    found = unpack_pack(data, codec)
    assert found["a"].format.alpha is not None
    assert torch.equal(found["a"].format.alpha, ALPHA)
    assert (found["a"].format.icc_profile, found["b"].format.icc_profile) == (profile, profile)
    assert (found["a"].format.gray, found["b"].format.gray) == (False, True)
    alone = [*pack_each(packing(), codec, given[:1]), *pack_each(packing(), codec, given[1:])]
    assert len(data) < sum(len(one.data) for one in alone) - 250


def test_two_threads_read_what_one_has_written(codec: LosslessCodec, packed: list[PackedPicture]) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = unpack_pack(packed[0].data, codec)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[name].x_hat, x) for name, x in pictures(SIZES).items())


def test_another_model_s_pack_and_a_pack_given_as_a_picture_are_refused(
    codec: LosslessCodec, packed: list[PackedPicture]
) -> None:
    with pytest.raises(WrongModel, match=r"needs model [0-9a-f]{16}, have "):
        unpack_pack(packed[0].data, lossy_codec())
    with pytest.raises(CodingError, match="holds several pictures"):
        unpack(packed[0].data, codec)


@pytest.mark.fuzz
@pytest.mark.parametrize("coder", [packing(), back_packing()], ids=["irec", "bits_back"])
def test_no_damage_to_a_pack_goes_unnoticed(codec: LosslessCodec, coder: Coder) -> None:
    """Behind right checksums, too: the section is what a codec is given when the container has nothing to say."""
    data = pack_each(coder, codec, named(codec, pictures([(6, 6), (6, 6), (3, 5)])))[0].data
    for k in range(0, len(data), 5):
        mutant = bytearray(data)
        mutant[k] ^= 1 << k % 8
        with pytest.raises(CodingError) as refusal:
            unpack_pack(bytes(mutant), codec)
        assert "\n" not in str(refusal.value)
        with pytest.raises(CodingError):
            unpack_pack(data[:k], codec)


@pytest.mark.fuzz
@pytest.mark.parametrize("coder", [packing(), back_packing()], ids=["irec", "bits_back"])
def test_damage_that_checksums_do_not_see_is_refused_by_the_codec(codec: LosslessCodec, coder: Coder) -> None:
    sizes = [(3, 5), (6, 6), (6, 6)]
    images = pictures(sizes)
    section, _ = coder.encode_pack(codec, [codec.analyze(x) for x in images.values()])
    wrong = 0
    positions = range(0, len(section.payload), 7)
    for k in positions:
        payload = bytearray(section.payload)
        payload[k] ^= 1 << k % 8
        try:
            found = codec.read_pack(section._replace(payload=bytes(payload)), sizes)
        except DamagedFile:
            wrong += 1
            continue
        for integers, size, x in zip(found, sizes, images.values(), strict=True):
            assert torch.equal(codec.synthesize([integers], size), x)
    assert wrong > 0.9 * len(positions)


def test_a_codec_without_packs_says_so(codec: LosslessCodec) -> None:
    with pytest.raises(CodingError, match="LossyCodec has nothing to get bits back for with coder=rec_bits_back"):
        back_packing().encode_pack(lossy_codec(), [])
    with pytest.raises(CodingError, match=r"LosslessCodec has no files of several pictures; leave coder\.pack at 1"):
        pack_each(PerPictureCoder(pack=2), codec, named(codec, pictures([(4, 4)])))


@pytest.mark.parametrize("name", ["irec", "irec_lossy", "irec_paper", "orc", "rec_bits_back"])
def test_every_coder_s_configuration_takes_a_number_of_pictures(name: str, repository: Path) -> None:
    from hydra import compose, initialize_config_dir

    import run  # noqa: F401 (the resolvers)

    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        chosen = ["experiment=rec_lossless_small", f"coder={name}"]
        many, one = (compose("config", [*chosen, f"coder.pack={pack}"]) for pack in (7, 1))
    coder, single = (instantiate(cfg.coder, _convert_="all") for cfg in (many, one))
    assert (coder.pack, coder.batch_size, many.datamodule.eval_batch_size) == (7, 7, 7)
    assert (single.pack, single.batch_size, one.datamodule.eval_batch_size) == (1, 1, 1)
    assert coder.key != single.key, "files of other contents are made again"
