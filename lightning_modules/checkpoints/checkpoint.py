"""What `ckpt=` may name, and the codec it gives."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from lightning_modules.checkpoints.packaged_model import FORMAT, load_model, read_metadata
from lightning_modules.checkpoints.state_dict import normalize, read_state_dict
from lightning_modules.codec import Codec, CodingError

PACKAGED = Path(__file__).parent
"""Folder of the models that come with latentpress."""


def load_codec(ckpt: str, codec_class: type[Codec], *, lmbda: float, cache_dir: Path) -> Codec:
    """The codec that `ckpt` names, in evaluation mode.

    ckpt: `demo` (the packaged model whose lmbda is nearest), `compressai:ARCHITECTURE/QUALITY`, a packaged
    `.safetensors`, or any checkpoint whose weights `codec_class` knows by name.
    Raises `CodingError`, one line, when there is none or it belongs to another architecture.
    """
    if ckpt == "demo":
        return load_model(nearest_packaged("demo", lmbda))
    if ckpt.startswith("compressai:"):
        state, where = fetch_compressai(ckpt.removeprefix("compressai:"), cache_dir / "compressai"), ckpt
    else:
        path = Path(ckpt).expanduser()
        if path.suffix == ".safetensors" and path.is_file() and _is_packaged(path):
            return load_model(path)
        state, where = read_state_dict(path), str(path)
    try:
        return codec_class.from_weights(state, lmbda=lmbda).eval()
    except CodingError as error:
        raise CodingError(f"{where}: {error}; choose the experiment that this checkpoint was trained with") from error


def nearest_packaged(family: str, lmbda: float) -> Path:
    """The packaged file of `family` whose lmbda is nearest to the one asked for, in ratio."""
    paths = {float(path.stem.rpartition("-")[2]): path for path in PACKAGED.glob(f"{family}-*.safetensors")}
    if not paths:
        raise CodingError(f"no packaged model named {family} in {PACKAGED}; reinstall latentpress")
    return paths[min(paths, key=lambda known: abs(math.log(known / lmbda)))]


def fetch_compressai(name: str, cache_dir: Path) -> dict[str, Tensor]:
    """State dict of CompressAI's zoo, `mbt2018-mean/3` or `mbt2018-mean/ms-ssim/3`; hash-checked, kept in cache_dir."""
    from compressai.zoo.image import model_urls

    architecture, _, rest = name.partition("/")
    metric, _, quality = rest.rpartition("/")
    try:
        url = model_urls[architecture][metric or "mse"][int(quality)]
    except (KeyError, ValueError) as error:
        raise CodingError(
            f"compressai:{name}: not in CompressAI's zoo; write for example compressai:mbt2018-mean/3 (quality 1 to 8)"
        ) from error
    target = cache_dir / url.rpartition("/")[2]
    try:
        content = torch.hub.load_state_dict_from_url(
            url, model_dir=str(cache_dir), map_location="cpu", check_hash=True, weights_only=True, progress=True
        )
    except (URLError, OSError, TimeoutError) as error:
        raise CodingError(
            f"compressai:{name}: cannot download {url} ({_reason(error)}); "
            f"without a network, put that file at {target}"
        ) from error
    return normalize(content)


def _is_packaged(path: Path) -> bool:
    try:
        return read_metadata(path)["format"] == FORMAT
    except CodingError:
        return False


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__
