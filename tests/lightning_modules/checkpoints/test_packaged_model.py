"""Packaged models: exact, small, complete, and refused when they are not what they were."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lightning_modules.checkpoints.packaged_model import (
    is_packaged,
    load_model,
    read_metadata,
    round_for_storage,
    save_model,
)
from lightning_modules.coding.picture import model_fingerprint, pack, unpack
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior import codec as hyperprior
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import PixelFormat


def tiny_codec(seed: int = 0) -> HyperpriorCodec:
    """Sigmas, means and medians all differ, as in a trained model."""
    torch.manual_seed(seed)
    codec = HyperpriorCodec(N=8, M=12, lmbda=0.013).eval()
    weights = dict(codec.named_parameters())
    with torch.no_grad():
        weights["h_s.4.bias"].add_(torch.rand(24))
        weights["entropy_bottleneck.matrices.0"].add_(torch.randn(8, 3, 1))
        weights["entropy_bottleneck.biases.0"].add_(torch.randn(8, 3, 1))
    return codec


@pytest.fixture(scope="module")
def codec() -> HyperpriorCodec:
    """For tests that do not change it."""
    return tiny_codec()


@pytest.fixture(scope="module")
def content(codec: HyperpriorCodec, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Its packaged file."""
    path = tmp_path_factory.mktemp("packaged") / "model.safetensors"
    save_model(codec, path, {"note": "n" * 50})
    return path.read_bytes()


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(1, 3, 70, 90, generator=torch.Generator().manual_seed(1))


def test_a_model_comes_back_bit_for_bit(codec: HyperpriorCodec, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    save_model(codec, path)
    loaded = load_model(path)
    assert type(loaded) is HyperpriorCodec
    assert not loaded.training
    assert loaded.hyperparameters == {"N": 8, "M": 12, "lmbda": 0.013}
    expected, found = codec.decoder_state(), loaded.decoder_state()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for mine, theirs in zip(codec.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert model_fingerprint(loaded) == model_fingerprint(codec)


def test_nothing_but_the_model_is_left_in_the_folder(codec: HyperpriorCodec, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("an older one")
    save_model(codec, tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    load_model(tmp_path / "model.safetensors")


def test_a_fresh_process_decodes_what_this_one_coded(
    codec: HyperpriorCodec, x: torch.Tensor, tmp_path: Path, repository: Path
) -> None:
    model, coded, decoded = (tmp_path / name for name in ("m.safetensors", "x.lpc", "x_hat.pt"))
    save_model(codec, model)
    coded.write_bytes(pack(codec, codec.analyze(x), PixelFormat()).data)
    program = (
        "import sys, torch; from pathlib import Path; model, coded, decoded = map(Path, sys.argv[1:]);"
        "from lightning_modules.checkpoints.packaged_model import load_model;"
        "from lightning_modules.coding.picture import unpack;"
        "torch.save(unpack(coded.read_bytes(), load_model(model))[0], decoded)"
    )
    subprocess.run([sys.executable, "-c", program, model, coded, decoded], check=True, cwd=repository)
    expected, _ = unpack(coded.read_bytes(), codec)
    assert torch.equal(torch.load(decoded, weights_only=True), expected)


def test_tables_are_taken_from_the_file_and_never_recomputed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    for name in ("derive", "update_medians"):
        monkeypatch.setattr(hyperprior, name, lambda *_: pytest.fail("recomputed where it was loaded"))
    load_model(tmp_path / "model.safetensors").decoder_state()


@pytest.mark.parametrize(
    ("value", "halved"),
    [(1 / 3, False), (0.333251953125, True), (65504.0, True), (65505.0, False), (2.0**-24, True), (1e-9, False)],
)
def test_tensors_are_stored_in_half_precision_only_without_loss(
    value: float, halved: bool, codec: HyperpriorCodec, tmp_path: Path
) -> None:
    name, path = "h_a.0.bias", tmp_path / "model.safetensors"
    bias = dict(codec.named_parameters())[name]
    with torch.no_grad():
        bias.copy_(torch.tensor([value, -value, 0.0, -0.0] * 2))
    save_model(codec, path)
    with safe_open(path, framework="pt") as file:
        assert (file.get_tensor(name).dtype == torch.float16) is halved
    loaded = dict(load_model(path).named_parameters())[name]
    assert torch.equal(loaded.detach().view(torch.int32), bias.detach().view(torch.int32))


def test_rounding_for_storage_halves_the_file_which_codes_the_same_after_loading(
    x: torch.Tensor, tmp_path: Path
) -> None:
    codec = tiny_codec()
    save_model(codec, tmp_path / "float.safetensors")
    tables = sum(v.numel() * v.element_size() for n, v in codec.decoder_state().items() if "tables." in n)
    round_for_storage(codec)
    save_model(codec, tmp_path / "half.safetensors")
    whole, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("float", "half"))
    assert half - tables < 0.62 * (whole - tables)
    with safe_open(tmp_path / "half.safetensors", framework="pt") as file:
        assert not any(name.startswith("h_s.") for name in file.keys()), "its integers say what it is"  # noqa: SIM118
    loaded = load_model(tmp_path / "half.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(codec.parameters(), loaded.parameters(), strict=True))
    data = pack(codec, codec.analyze(x), PixelFormat()).data
    assert pack(loaded, loaded.analyze(x), PixelFormat()).data == data


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    codec = tiny_codec()
    codec.h_a[4].register_parameter("bias", codec.h_a[2].get_parameter("bias"))
    save_model(codec, tmp_path / "tied.safetensors")
    loaded = dict(load_model(tmp_path / "tied.safetensors").named_parameters())
    assert torch.equal(loaded["h_a.4.bias"], codec.h_a[2].get_parameter("bias"))


def test_a_layer_called_like_a_wrapper_is_saved_under_its_own_name(tmp_path: Path) -> None:
    class Wrapping(HyperpriorCodec):
        def state_dict(self, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"net.weight": torch.ones(1), "net.bias": torch.ones(1)}

        def decoder_state(self) -> dict[str, torch.Tensor]:
            return self.state_dict()

    save_model(Wrapping(N=8, M=12, lmbda=0.01), tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"net.weight", "net.bias"}


def test_notes_travel_in_the_header(codec: HyperpriorCodec, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(codec, path, {"data": "CLIC, é", "steps": "100000", "format": "mine"})
    metadata = read_metadata(path)
    assert metadata["data"] == "CLIC, é"
    assert metadata["fingerprint"] == model_fingerprint(codec).hex()
    assert json.loads(metadata["hyperparameters"])["N"] == 8
    load_model(path)


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    files = set()
    for _ in range(4):
        save_model(tiny_codec(), tmp_path / "model.safetensors", {"data": "CLIC", "steps": "9"})
        files.add((tmp_path / "model.safetensors").read_bytes())
    assert len(files) == 1


# ---- what is refused


@pytest.mark.fuzz
def test_no_flipped_bit_anywhere_in_the_file_goes_unnoticed(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header_end = 8 + int.from_bytes(content[:8], "little")
    generator = random.Random(0)
    positions = [*generator.sample(range(header_end), 60), *generator.sample(range(header_end, len(content)), 60)]
    for position in positions:
        altered = bytearray(content)
        altered[position] ^= 1 << generator.randrange(8)
        path.write_bytes(altered)
        _refusal(path)


@pytest.mark.parametrize(
    "name", ["g_a.2.weight", "h_a.0.bias", "g_s.6.weight", "tables.z.frequencies", "exact.h_s.2.weight"]
)
def test_a_flipped_byte_in_any_part_is_damage(name: str, content: bytes, tmp_path: Path) -> None:
    path, altered = tmp_path / "model.safetensors", bytearray(content)
    size = int.from_bytes(content[:8], "little")
    start, end = json.loads(content[8 : 8 + size])[name]["data_offsets"]
    altered[8 + size + (start + end) // 2] ^= 1
    path.write_bytes(altered)
    assert "damaged" in _refusal(path)


@pytest.mark.parametrize("keep", [0, 5, 100, 5000, -1])
def test_a_file_cut_short_is_refused(keep: int, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content[:keep])
    _refusal(path)
    assert not is_packaged(path)


def test_other_files_are_no_packaged_models(tmp_path: Path) -> None:
    text, foreign = tmp_path / "model.txt", tmp_path / "foreign.safetensors"
    text.write_text("weights")
    save_file({"w": torch.zeros(1)}, foreign)
    for path in (text, foreign, tmp_path, tmp_path / "missing.safetensors"):
        assert not is_packaged(path)
        _refusal(path)


def test_a_class_outside_latentpress_is_refused_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger.py").write_text("class Codec: pass")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "model.safetensors"
    save_model(_of_class("stranger", "Codec"), path)
    assert "stranger.Codec: a codec outside latentpress" in _refusal(path)
    assert "stranger" not in sys.modules


def test_a_package_that_the_users_own_file_trusts_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_file = tmp_path / "user.yaml"
    monkeypatch.setenv("LATENTPRESS_CONFIG", str(user_file))
    path = tmp_path / "model.safetensors"
    save_model(_of_class("laboratory_elsewhere.codec", "Codec"), path)
    assert f"write trust: [laboratory_elsewhere] into {user_file}" in _refusal(path)
    user_file.write_text("trust: [laboratory_elsewhere]\n")
    assert "install laboratory_elsewhere, or name its folder in PYTHONPATH" in _refusal(path)


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [
        ("lightning_modules_of_others.codec", "Codec", "outside latentpress"),
        ("lightning_modules.room_to_come.codec", "Codec", "upgrade"),
        ("lightning_modules.hyperprior.codec", "CodecToCome", "upgrade"),
        ("lightning_modules.coding.tables", "CodingTables", "is not a codec"),
        ("lightning_modules.codec", "LatentVariableCodec", "is not a codec"),
    ],
)
def test_a_class_that_is_no_codec_of_this_version_is_refused(
    module: str, name: str, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(_of_class(module, name), path)
    assert fault in _refusal(path)


def test_a_model_without_its_tables_is_refused(tmp_path: Path) -> None:
    class Untabled(HyperpriorCodec):
        def decoder_state(self) -> dict[str, torch.Tensor]:
            state = super().decoder_state()
            return {name: value for name, value in state.items() if "tables.y" not in name}

    Untabled.__module__, Untabled.__qualname__ = HyperpriorCodec.__module__, HyperpriorCodec.__qualname__
    path = tmp_path / "model.safetensors"
    save_model(Untabled(N=8, M=12, lmbda=0.01), path)
    assert "does not fit" in _refusal(path)


def test_a_decoder_that_this_version_computes_otherwise_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    decoder_state = HyperpriorCodec.decoder_state
    monkeypatch.setattr(HyperpriorCodec, "decoder_state", lambda self: decoder_state(self) | {"new": torch.ones(1)})
    assert "another version" in _refusal(path)


def test_a_folder_that_cannot_be_made_is_one_line(codec: HyperpriorCodec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "model.safetensors"
    with pytest.raises(CodingError, match="cannot be saved") as caught:
        save_model(codec, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def _of_class(module: str, name: str) -> HyperpriorCodec:
    """A codec that says it is of another class."""

    class Disguised(HyperpriorCodec):
        pass

    Disguised.__module__, Disguised.__qualname__ = module, name
    return Disguised(N=8, M=12, lmbda=0.01)


def _refusal(path: Path) -> str:
    with pytest.raises(CodingError) as caught:
        load_model(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line
