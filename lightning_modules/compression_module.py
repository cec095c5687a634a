"""Training-independent half of every room's LightningModule: validate by estimate, test and predict by real files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import torch

from lightning_modules.checkpoints.model_library import ModelLibrary
from lightning_modules.codec import (
    Codec,
    CodedImage,
    CodingError,
    CompressedImage,
    DecodedImage,
    Failure,
    Inference,
    Latents,
    SourceImage,
)
from lightning_modules.coding.picture import pack, unpack, unpack_each
from lightning_modules.rate_distortion import mse_255


class CompressionModule(L.LightningModule):
    """A codec with an inference method, evaluated the same way whatever the paper.

    validation_step only estimates (fast); test_step and predict_step write the file and decode it again, so
    that what they report is what a receiver gets. Steps never raise for one bad picture: they return `Failure`.
    """

    def __init__(self, *, codec: Codec, inference: Inference, lmbda: float, seed: int) -> None:
        super().__init__()
        self.codec = codec
        self.inference = inference
        self.lmbda = lmbda
        self.seed = seed
        self.traces: dict[int, Any] = {}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Noise is a function of (seed, step, rank), so a resumed run draws what an unbroken one would have."""
        del batch, batch_idx
        seed = (self.seed * 1_000_003 + self.global_step) * 4096 + self.global_rank
        torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for every kind of device: 1 ms a step
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def is_logging_step(self) -> bool:
        """Whether the logger takes this step's values: `self.log` costs more than a small step does."""
        every: int = getattr(self.trainer, "log_every_n_steps")  # noqa: B009 (set by a connector, unknown to its type)
        return (self.global_step + 1) % max(1, every) == 0

    def validation_step(self, image: SourceImage | Failure, batch_idx: int) -> dict[str, Any] | None:
        """Estimated rate and unclamped distortion of one whole picture; logs `val/loss`, `val/bpp`, `val/mse`."""
        del batch_idx
        if isinstance(image, Failure):
            raise CodingError(image.error)
        estimate = self.codec.estimate(self.codec.analyze(image.x))
        num_pixels = image.x.shape[-2] * image.x.shape[-1]
        bpp = sum(float(bits.sum()) for bits in estimate.bits.values()) / num_pixels
        mse = float(mse_255(image.x, estimate.x_hat))
        terms = {"val/loss": self.lmbda * mse + bpp, "val/bpp": bpp, "val/mse": mse}
        self.log_dict(terms, batch_size=1, sync_dist=True, on_epoch=True)
        return {"name": image.name, "x": image.x, "x_hat": estimate.x_hat, "bpp": bpp}

    def test_step(self, images: list[SourceImage | Failure], batch_idx: int) -> list[CodedImage | Failure]:
        del batch_idx
        return self.compress(images)

    def predict_step(self, images: list[SourceImage | Failure], batch_idx: int) -> list[CodedImage | Failure]:
        del batch_idx
        return self.compress(images)

    def compress(self, images: Sequence[SourceImage | Failure]) -> list[CodedImage | Failure]:
        """Pictures -> their files and what those decode to, in order; latents of equally large ones found together.

        A fault of a picture is its `Failure`. `traces` has what the inference method tells of each, by position.
        """
        self.traces = {}
        done: dict[int, CodedImage | Failure] = {}
        by_size: dict[torch.Size, dict[int, SourceImage]] = {}
        for position, image in enumerate(images):
            if isinstance(image, Failure):
                done[position] = image
            else:
                by_size.setdefault(image.x.shape, {})[position] = image
        for group in by_size.values():
            done |= self._compress_together(group)
        return [done[position] for position in range(len(images))]

    def _compress_together(self, group: Mapping[int, SourceImage]) -> dict[int, CodedImage | Failure]:
        """Equally large pictures, by position. If finding their latents fails, each is tried alone."""
        start = time.perf_counter()
        try:
            latents = self.inference(self.codec, torch.cat([image.x for image in group.values()]))
        except CodingError as error:
            if len(group) > 1:
                alone = [self._compress_together({position: image}) for position, image in group.items()]
                return {position: result for one in alone for position, result in one.items()}
            return {position: Failure(image.name, f"{image.name}: {error}") for position, image in group.items()}
        seconds = (time.perf_counter() - start) / len(group)
        self.traces |= dict(zip(group, getattr(self.inference, "trace", ()), strict=False))
        shares = zip(group.items(), latents.split(), strict=True)
        return {position: self._write(image, share, seconds) for (position, image), share in shares}

    def _write(self, image: SourceImage, latents: Latents, seconds: float) -> CodedImage | Failure:
        """The file of one picture, and what it decodes to. seconds: taken to find its latents."""
        try:
            start = time.perf_counter()
            packed = pack(self.codec, latents, image.format)
            encoded = time.perf_counter()
            x_hat, _ = unpack(packed.data, self.codec)
            decoded = time.perf_counter()
        except CodingError as error:
            return Failure(image.name, f"{image.name}: {error}")
        return CodedImage(
            name=image.name,
            x=image.x,
            x_hat=x_hat,
            format=image.format,
            data=packed.data,
            estimated_bits=packed.estimated_bits,
            payload_bytes=packed.payload_bytes,
            encode_seconds=seconds + encoded - start,
            decode_seconds=decoded - encoded,
        )


class DecompressionModule(L.LightningModule):
    """Decodes files made by any model that the library holds; each file names its own by fingerprint."""

    def __init__(self, *, library: ModelLibrary) -> None:
        super().__init__()
        self.library = library

    def predict_step(self, files: list[CompressedImage | Failure], batch_idx: int) -> list[DecodedImage | Failure]:
        """Files of one model and picture size are decoded together; each shares their time equally."""
        del batch_idx
        decoded: dict[str, DecodedImage | Failure] = {}
        by_codec: dict[Codec, list[CompressedImage]] = {}
        for file in files:
            if isinstance(file, Failure):
                decoded[file.name] = file
                continue
            try:
                by_codec.setdefault(self.library.find(file.data).to(self.device), []).append(file)
            except CodingError as error:
                decoded[file.name] = Failure(file.name, f"{file.name}: {error}")
        for codec, group in by_codec.items():
            decoded |= {image.name: image for image in decode(codec, group)}
        return [decoded[file.name] for file in files]


def decode(codec: Codec, files: Sequence[CompressedImage]) -> Iterator[DecodedImage | Failure]:
    """What is in the files, in their order; a damaged one fails alone."""
    start = time.perf_counter()
    pictures = unpack_each([file.data for file in files], codec)
    seconds = (time.perf_counter() - start) / len(files)
    for file, picture in zip(files, pictures, strict=True):
        if isinstance(picture, CodingError):
            yield Failure(file.name, f"{file.name}: {picture}")
        else:
            yield DecodedImage(file.name, picture.x_hat, picture.format, len(file.data), seconds)
