"""The hyperprior as a codec: what is coded comes back, at the length that was estimated, at every size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.errors import CodingError, DamagedFile
from lightning_modules.exact.network import ExactNetwork, Step
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.quantization import hard_round, straight_through, uniform_noise
from lightning_modules.records import Latents, Section

SIZES = [(1, 1), (3, 70), (65, 17), (64, 128)]


@pytest.fixture(autouse=True)
def no_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch.set_grad_enabled("training" in request.node.name):
        yield


@pytest.fixture
def codec() -> HyperpriorCodec:
    torch.manual_seed(0)
    codec = HyperpriorCodec(N=8, M=12, lmbda=0.01).eval()
    with torch.no_grad():
        last: Any = codec.h_s[-1]
        last.bias[12:] = torch.randn(12)  # means off the integers
        codec.entropy_bottleneck.biases[0].add_(torch.randn(8, 3, 1))  # medians off zero
    return codec


def _rebuilt(steps: Sequence[Step]) -> list[Step]:
    """The same layers with the integers that they hold now."""
    return [step.to(torch.device("cpu")) for step in steps]


def image(size: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES)
def test_decoding_gives_exactly_what_was_estimated(codec: HyperpriorCodec, size: tuple[int, int]) -> None:
    latents = codec.analyze(image(size))
    decoded = codec.decode(codec.encode(latents).sections, size)
    assert decoded.shape == (1, 3, *size)
    assert torch.equal(decoded, codec.estimate(latents).x_hat)
    in_floating_point = codec.generate(latents, hard_round).x_hat
    assert float((decoded - in_floating_point).abs().mean()) < 2e-3, "its means are those of the float network, nearly"


def test_refined_latents_survive_coding_exactly(codec: HyperpriorCodec) -> None:
    latents = codec.analyze(image((64, 64)))
    moved = {name: value + 3 * torch.randn_like(value) for name, value in latents.variables.items()}
    refined = Latents(moved, latents.image_size)
    assert torch.equal(codec.decode(codec.encode(refined).sections, (64, 64)), codec.estimate(refined).x_hat)


@pytest.mark.parametrize("size", [(64, 128), (256, 192)])
def test_the_coded_length_is_the_estimate(codec: HyperpriorCodec, size: tuple[int, int]) -> None:
    latents = codec.analyze(image(size))
    coded = codec.encode(latents)
    bits = sum(float(part) for part in codec.estimate(latents).bits.values())
    assert sum(coded.bits.values()) == pytest.approx(bits, rel=1e-6)
    length = 8 * len(coded.sections[0].payload)
    assert bits <= length <= bits * 1.0005 + 128


def test_the_tables_cost_what_the_density_says(codec: HyperpriorCodec) -> None:
    latents = codec.analyze(image((256, 256)))
    estimate, synthesis = codec.estimate(latents), codec.generate(latents, hard_round)
    for name, likelihood in synthesis.likelihoods.items():
        ideal = float(-likelihood.log2().sum())
        assert float(estimate.bits[name]) == pytest.approx(ideal, rel=0.01), name


def test_a_batch_is_estimated_as_its_images_one_by_one(codec: HyperpriorCodec) -> None:
    pictures = torch.cat([image((48, 80), seed) for seed in range(3)])
    together = codec.estimate(codec.analyze(pictures))
    for i in range(3):
        alone = codec.estimate(codec.analyze(pictures[i : i + 1]))
        assert torch.allclose(together.x_hat[i], alone.x_hat[0], atol=1e-4)
        assert float(together.bits["y"][i]) == pytest.approx(float(alone.bits["y"][0]), rel=1e-3)


def test_every_flipped_byte_of_the_payload_is_noticed(codec: HyperpriorCodec) -> None:
    section = codec.encode(codec.analyze(image((40, 40)))).sections[0]
    for position in range(len(section.payload)):
        broken = bytearray(section.payload)
        broken[position] ^= 0x10
        with pytest.raises(DamagedFile):
            codec.decode([Section(bytes(broken), section.content_crc)], (40, 40))


def test_a_wrong_image_size_is_noticed(codec: HyperpriorCodec) -> None:
    sections = codec.encode(codec.analyze(image((64, 64)))).sections
    for size in ((64, 128), (1, 1), (128, 128)):
        with pytest.raises(DamagedFile):
            codec.decode(sections, size)


def test_files_of_one_batch_decode_as_each_alone_and_a_damaged_one_fails_alone(codec: HyperpriorCodec) -> None:
    files = [codec.encode(codec.analyze(image((70, 90), seed))).sections for seed in range(4)]
    alone = [codec.read_integers([file], (70, 90))[0] for file in files]
    broken = Section(files[1][0].payload[:-4], files[1][0].content_crc)
    first, fault, third, last = codec.read_integers([files[0], [broken], files[2], files[3]], (70, 90))
    assert isinstance(fault, DamagedFile)
    for together, separate in ((first, alone[0]), (third, alone[2]), (last, alone[3])):
        assert not isinstance(together, CodingError)
        assert not isinstance(separate, CodingError)
        assert all((together[name] == value).all() for name, value in separate.items())


def test_a_content_checksum_of_other_means_is_noticed(codec: HyperpriorCodec) -> None:
    """A receiver whose h_s gives another mean, but the same table, reads the same symbols."""
    sections = codec.encode(codec.analyze(image((40, 40)))).sections
    derived = codec._derived.value
    bias = derived.parameters.network.steps[-1].state()["bias"]
    bias[-1] += 1 << 20
    network = ExactNetwork(_rebuilt(derived.parameters.network.steps), derived.parameters.network.fractions)
    other = derived._replace(parameters=derived.parameters._replace(network=network))
    codec._derived.adopt(other, codec._sources())
    with pytest.raises(DamagedFile, match="other coding parameters"):
        codec.decode(sections, (40, 40))


def test_a_file_of_two_sections_is_not_ours(codec: HyperpriorCodec) -> None:
    sections = codec.encode(codec.analyze(image((16, 16)))).sections
    with pytest.raises(DamagedFile, match="1 section"):
        codec.decode(sections * 2, (16, 16))


def test_noise_straight_through_and_rounding_run_through_one_path(codec: HyperpriorCodec) -> None:
    latents = codec.analyze(image((64, 64)))
    hard, soft = codec.generate(latents, hard_round), codec.generate(latents, straight_through)
    assert torch.allclose(hard.x_hat, soft.x_hat, atol=1e-4)
    noisy = codec.generate(latents, uniform_noise)
    assert noisy.likelihoods["y"].shape == hard.likelihoods["y"].shape
    assert not torch.allclose(noisy.x_hat, hard.x_hat, atol=1e-4)


def test_forward_has_compressai_s_signature(codec: HyperpriorCodec) -> None:
    out = codec(image((64, 64)))
    assert out["x_hat"].shape == (1, 3, 64, 64)
    assert set(out["likelihoods"]) == {"y", "z"}
    assert codec.aux_loss().ndim == 0


def test_derived_state_follows_its_weights_and_nothing_else() -> None:
    codec = HyperpriorCodec(N=4, M=6, lmbda=0.01).eval()
    assert codec.update() is True
    assert codec.update() is False
    with torch.no_grad():
        next(codec.g_a.parameters()).add_(1)
    assert codec.update() is False, "the encoder has no part in it"
    for source in (codec.entropy_bottleneck.biases[0], codec.h_s[2].get_parameter("bias")):
        with torch.no_grad():
            source.add_(1)
        assert codec.update() is True
        assert codec.update() is False


def test_training_leaves_the_medians_to_bisection() -> None:
    codec = HyperpriorCodec(N=4, M=6, lmbda=0.01).train()
    synthesis = codec.generate(codec.analyze(image((64, 64))), uniform_noise)
    loss = synthesis.x_hat.square().mean() - sum(p.log().mean() for p in synthesis.likelihoods.values())
    loss.backward()
    assert codec.entropy_bottleneck.quantiles.grad is None
    others = {name for name, p in codec.named_parameters() if p.grad is None}
    assert others == {"entropy_bottleneck.quantiles"}


def test_weights_of_another_architecture_are_refused_in_one_line() -> None:
    with pytest.raises(CodingError, match=r"g_a\.6\.weight") as error:
        HyperpriorCodec.from_weights({"features.0.weight": torch.zeros(1)}, lmbda=0.01)
    assert "\n" not in str(error.value)


def test_mixed_precision_changes_neither_the_file_nor_what_it_decodes_to(codec: HyperpriorCodec) -> None:
    latents = codec.analyze(image((64, 96)))
    sections = codec.encode(latents).sections
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert codec.encode(latents).sections == sections
        assert torch.equal(codec.decode(sections, (64, 96)), codec.estimate(latents).x_hat)
    assert torch.equal(codec.decode(sections, (64, 96)), codec.estimate(latents).x_hat)


def test_likelihoods_are_float32_under_mixed_precision(codec: HyperpriorCodec) -> None:
    latents = codec.analyze(image((64, 96)))
    exact = codec.generate(latents, hard_round).likelihoods["z"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(codec.generate(latents, hard_round).likelihoods["z"], exact, rtol=1e-5)
