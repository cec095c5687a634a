"""Find the codec that `ckpt=` names."""

from __future__ import annotations

import math
import os
from pathlib import Path

from lightning_modules.capabilities import checkpoint_formats, codes_weights_of
from lightning_modules.checkpoints.packaged_model import is_packaged, load_model
from lightning_modules.checkpoints.state_dict import read_state_dict, without_derived
from lightning_modules.codec import Codec
from lightning_modules.coding.picture import require_finite
from lightning_modules.errors import CodingError
from lightning_modules.system.published_file import PublishedFile

PACKAGED = Path(__file__).parent
"""Folder of the models that come with latentpress."""

ZOO = "compressai:"
ZOO_FOLDER = "compressai"
"""Of its files, in the cache."""


def load_codec(ckpt: str, codec_class: type[Codec], *, lmbda: float, cache_dir: Path) -> Codec:
    """Return the codec that `ckpt` names, in evaluation mode, its medians and tables up to date.

    ckpt: `demo` (the packaged model whose lmbda is nearest), `compressai:ARCHITECTURE/QUALITY`, `FORMAT:PATH` for a
    format of others that `codec_class` reads, a packaged `.safetensors`, or any checkpoint whose weights
    `codec_class` knows by name.
    Raises `CodingError`, one line, when there is none or it belongs to another architecture.
    """
    path = locate(ckpt, codec_class, lmbda=lmbda, cache_dir=cache_dir)
    where = ckpt if ckpt.startswith(ZOO) else str(path)
    remedy = "choose the experiment that it was trained with"
    reader = checkpoint_formats(codec_class).get(format_of(ckpt))
    if reader is None and is_packaged(path):
        codec = load_model(path)
        if type(codec) is codes_weights_of(codec_class):
            codec = codec_class.from_weights(without_derived(codec.state_dict()), **codec.hyperparameters).eval()
            codec.update()
        if not isinstance(codec, codec_class):
            raise CodingError(f"{where}: holds a {type(codec).__name__}, not a {codec_class.__name__}; {remedy}")
        return codec
    state = read_state_dict(path) if reader is None else reader(path)
    try:
        codec = codec_class.from_weights(state, lmbda=lmbda)
    except CodingError as error:
        raise CodingError(f"{where}: {error}; {remedy}") from error
    try:
        require_finite(dict(codec.named_parameters()))
    except CodingError as error:
        raise CodingError(f"{where}: {error}") from error
    codec.update()
    return codec.eval()


def locate(ckpt: str, codec_class: type[Codec], *, lmbda: float, cache_dir: Path) -> Path:
    """Return the file that `ckpt` names, which need not exist; a model of CompressAI's zoo is downloaded."""
    if ckpt == "demo":
        return nearest_packaged(codec_class.packaged_family, lmbda)
    if ckpt.startswith(ZOO):
        return fetch_compressai(ckpt.removeprefix(ZOO), cache_dir / ZOO_FOLDER)
    path, known = Path(os.path.expanduser(ckpt)), checkpoint_formats(codec_class)
    inner = Path(os.path.expanduser(ckpt.removeprefix(f"{format_of(ckpt)}:")))
    if format_of(ckpt) in known:
        return inner
    if not path.exists() and inner.exists():
        raise CodingError(
            f"{ckpt}: {codec_class.__name__} reads no files of a format {format_of(ckpt)}, only "
            f"{', '.join(['its own', *known])}; choose the experiment that does, or give the path alone"
        )
    return path


def format_of(ckpt: str) -> str:
    """Return FORMAT of `FORMAT:PATH`; empty without one."""
    return ckpt.partition(":")[0] if ":" in ckpt else ""


def nearest_packaged(family: str, lmbda: float) -> Path:
    """Return the file FAMILY-LMBDA.safetensors of `PACKAGED` whose lmbda is nearest in ratio."""
    if not 0 < lmbda < math.inf:
        raise CodingError(f"lmbda={lmbda}: a packaged model is chosen by lmbda, so give one above 0")
    if not family:
        raise CodingError("ckpt=demo: no packaged model comes with this codec; train one, and give its file with ckpt=")
    paths = {float(path.stem.rpartition("-")[2]): path for path in PACKAGED.glob(f"{family}-*.safetensors")}
    if not paths:
        raise CodingError(
            f"ckpt=demo: no packaged model named {family} is here; train one, and give its file with ckpt="
        )
    return paths[min(paths, key=lambda known: abs(math.log(known / lmbda)))]


def fetch_compressai(name: str, cache_dir: Path) -> Path:
    """Return a checkpoint of CompressAI's zoo as a local file.

    It is downloaded once, and checked by the hash in its name.
    """
    file = zoo_file(name, cache_dir)
    if file.path.is_file():
        file.sha256()
    try:
        return file.fetch()
    except CodingError as error:
        raise CodingError(f"{ZOO}{name}: {error}") from error


def zoo_file(name: str, cache_dir: Path) -> PublishedFile:
    """Return the file of a model of CompressAI's zoo.

    name: `mbt2018-mean/3`, or `mbt2018-mean/ms-ssim/3` for the model trained for that metric.
    """
    return PublishedFile(_zoo_url(name), cache_dir)


def _zoo_url(name: str) -> str:
    from compressai.zoo.image import model_urls

    architecture, _, rest = name.partition("/")
    metric, _, quality = rest.rpartition("/")
    try:
        return str(model_urls[architecture][metric or "mse"][int(quality)])
    except (KeyError, ValueError) as error:
        raise CodingError(
            f"{ZOO}{name}: not in CompressAI's zoo; write for example {ZOO}mbt2018-mean/3, quality 1 to 8"
        ) from error
