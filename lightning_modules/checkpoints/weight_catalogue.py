"""The weights of others that metrics, trainings and `ckpt=` can need, fetched before they are: `task=fetch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_modules.checkpoints.checkpoint import ZOO, ZOO_FOLDER, zoo_file
from lightning_modules.errors import CodingError
from lightning_modules.metrics.lpips import PUBLISHED_AT as TORCHVISION
from lightning_modules.metrics.lpips import TRUNKS, cached_by_torch
from lightning_modules.metrics.patch_distance import INCEPTION
from lightning_modules.metrics.patch_distance import PUBLISHED_AT as FIDELITY
from lightning_modules.system.published_file import PublishedFile

USES = {
    "lpips_alex": "AlexNet, for metrics=[lpips_alex] and perceptual=lpips",
    "lpips_vgg": "VGG 16, for metrics=[lpips_vgg]",
    "lpips_squeeze": "SqueezeNet 1.1, for metrics=[lpips_squeeze]",
    "dists": "VGG 16, for metrics=[dists]",
    "inception": "Inception, for metrics=[fid_256,kid_256,fid_299,kid_299]",
}
"""By name: what the file is, and what asks for it."""


class WeightCatalogue:
    """Names of weights, and the files where the code looks for them.

    cache_dir: of models; the others lie in PyTorch's cache. architectures: of CompressAI's zoo that `ckpt=` can name.
    mirror: URL of a folder that holds all these files, in place of their publishers'; None: the publishers.
    """

    def __init__(self, cache_dir: str | Path, architectures: Sequence[str], mirror: str | None = None) -> None:
        self.cache_dir = Path(cache_dir)
        self.architectures = list(architectures)
        self.mirror = mirror

    def file(self, name: str) -> PublishedFile:
        """Return the file of a name. Raises `CodingError` for one that is not in the catalogue."""
        if name.startswith(ZOO):
            found = zoo_file(name.removeprefix(ZOO), self.cache_dir / ZOO_FOLDER)
        elif name == "inception":
            found = cached_by_torch(INCEPTION, FIDELITY)
        elif name in USES:
            found = cached_by_torch(TRUNKS["vgg" if name == "dists" else name.partition("_")[2]], TORCHVISION)
        else:
            raise CodingError(
                f"weights={name}: not in the catalogue; give {', '.join(USES)} or {ZOO}ARCHITECTURE/QUALITY"
            )
        return found if self.mirror is None else found._replace(url=f"{self.mirror.rstrip('/')}/{found.name}")

    def fetch(self, names: Sequence[str]) -> Iterator[str]:
        """Yield a line for each: its path, its length, whether it was there, its SHA-256.

        Raises `CodingError` after the last, when some could not be had: the lines of all of these in one.
        """
        files = {name: self.file(name) for name in names}
        faults = []
        for name, file in files.items():
            state = "already there" if file.path.is_file() else "fetched"
            try:
                path, digest = file.fetch(), file.sha256()
            except CodingError as error:
                faults.append(str(error))
                continue
            yield f"{name}: {path}, {path.stat().st_size:,} bytes, {state}, SHA-256 {digest}"
        if faults:
            raise CodingError("; ".join(faults))

    def listing(self) -> Iterator[str]:
        """Return a line for each name: what it is, its size, where it lies if it is in the cache.

        The size of a file that is not there is what its publisher declares, if anything.
        """
        declared = declared_sizes()
        for name, use in USES.items():
            file = self.file(name)
            here = file.path.is_file()
            size = file.path.stat().st_size / 1e6 if here else declared.get(file.name)
            yield f"{name:13} {_shown(size)}  {file.path if here else 'not in the cache'}; {use}"
        for name, qualities in self._ladders():
            files = [self.file(f"{name}/{quality}") for quality in qualities]
            here_too = [file.path for file in files if file.path.is_file()]
            size = sum(path.stat().st_size for path in here_too) / 1e6
            there = f"{len(here_too)} of {len(files)} in {self.cache_dir / ZOO_FOLDER}, {size:.1f} MB"
            what = f"{there}; CompressAI's zoo, for ckpt="
            yield f"{name}/{qualities[0]} ... {qualities[-1]}  {what}"

    def _ladders(self) -> Iterator[tuple[str, list[int]]]:
        """Return the zoo's models of each architecture and metric: name without quality, and the qualities."""
        from compressai.zoo.image import model_urls

        for architecture in self.architectures:
            for metric, urls in model_urls[architecture].items():
                yield f"{ZOO}{architecture}{'' if metric == 'mse' else f'/{metric}'}", sorted(urls)


def _shown(megabytes: float | None) -> str:
    return f"{'':8}" if megabytes is None else f"{megabytes:5.1f} MB"


def declared_sizes() -> dict[str, float]:
    """Return millions of bytes by file name, as torchvision declares them of its files in megabytes of 2^20 bytes."""
    from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

    published = (AlexNet_Weights.IMAGENET1K_V1, VGG16_Weights.IMAGENET1K_V1, SqueezeNet1_1_Weights.IMAGENET1K_V1)
    return {one.url.rpartition("/")[2]: one.meta["_file_size"] * 2**20 / 1e6 for one in published}
