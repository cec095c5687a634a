"""The LightningModule of all papers: validates by estimates, tests and predicts by real files, sets up training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.codec import Codec, Inference
from lightning_modules.coding.coder import Coder, PerPictureCoder, pack_each, unpack_again
from lightning_modules.coding.pack import Named
from lightning_modules.coding.picture import PackedPicture, UnpackedPicture
from lightning_modules.errors import CodingError
from lightning_modules.records import CodedImage, Failure, Latents, SourceImage
from lightning_modules.training.rate_distortion import mse_255

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Lightning's names of those that leave the weights in float32."""


class Found(NamedTuple):
    """A picture's latents, and the seconds that they took."""

    source: SourceImage
    latents: Latents
    seconds: float


class CompressionModule(L.LightningModule):
    """A codec with an inference method, evaluated the same way whatever the paper.

    validation_step only estimates (fast); test_step and predict_step write the file and decode it again, so
    that what they report is what a receiver gets. Steps never raise for one bad picture: they return `Failure`.
    """

    def __init__(
        self, *, codec: Codec, inference: Inference, lmbda: float, seed: int, coder: Coder | None = None
    ) -> None:
        super().__init__()
        self.coder: Coder = coder or PerPictureCoder()
        self.codec = codec
        self.inference = inference
        self.lmbda = lmbda
        self.seed = seed
        self.traces: dict[int, Any] = {}
        self.progress_message = ""

    def setup(self, stage: str) -> None:
        """Refuse a trainer that would keep the weights themselves in another precision than files are made with."""
        del stage
        precision = str(self.trainer.precision)
        if precision not in PRECISIONS:
            raise CodingError(
                f"trainer.precision={precision}: files are made with weights in float32; give one of "
                f"{', '.join(PRECISIONS)}"
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed noise by (seed, step, rank), so that a resumed run draws what an unbroken one would have."""
        del batch, batch_idx
        seed = (self.seed * 1_000_003 + self.global_step) * 4096 + self.global_rank
        torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for every kind of device: 1 ms a step
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def is_logging_step(self) -> bool:
        """Return whether the logger takes this step's values: `self.log` costs more than a small step does."""
        every: int = getattr(self.trainer, "log_every_n_steps")  # noqa: B009 (set by a connector, unknown to its type)
        return (self.global_step + 1) % max(1, every) == 0

    def validation_step(self, image: SourceImage | Failure, batch_idx: int) -> dict[str, Any] | None:
        """Estimate rate and unclamped distortion of one whole picture; log `val/loss`, `val/bpp`, `val/mse`."""
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

    def unfinished(self) -> list[CodedImage | Failure]:
        """Return what steps have taken in and not given out."""
        return []

    def compress(self, images: Sequence[SourceImage | Failure]) -> list[CodedImage | Failure]:
        """Return the files of pictures and what those decode to, in order.

        A fault of a picture is its `Failure`, one of a stream that pictures share a failure of all. `traces` has what
        the inference method tells of each, by position. `progress_message` says meanwhile how far several have come.
        """
        self.traces = {}
        done: dict[int, CodedImage | Failure] = {}
        groups: dict[Any, dict[int, SourceImage]] = {}
        for position, image in enumerate(images):
            if isinstance(image, Failure):
                done[position] = image
            else:  # latents of equally large ones are found together, unless it is the coder that wants several
                alike = image.x.shape if self.coder.batch_size == 1 else position
                groups.setdefault(alike, {})[position] = image
        found: dict[int, Found] = {}
        for group in groups.values():
            self._progress(f"finding latents of {len(found) + 1} of {len(images)}", len(images))
            for position, result in self._latents_of(group).items():
                if isinstance(result, Failure):
                    done[position] = result
                else:
                    found[position] = result
        positions = sorted(found)
        for first in range(0, len(positions), self.coder.batch_size):
            chunk = positions[first : first + self.coder.batch_size]
            done |= zip(chunk, self._code([found[position] for position in chunk]), strict=True)
        self.progress_message = ""
        return [done[position] for position in range(len(images))]

    def _progress(self, what: str, pictures: int) -> None:
        self.progress_message = what if pictures > 1 else ""

    def _latents_of(self, group: Mapping[int, SourceImage]) -> dict[int, Found | Failure]:
        """Find the latents of equally large pictures, by position. If that fails, try each picture alone."""
        start = time.perf_counter()
        try:
            latents = self.inference(self.codec, torch.cat([image.x for image in group.values()]))
        except CodingError as error:
            if len(group) > 1:
                alone = [self._latents_of({position: image}) for position, image in group.items()]
                return {position: result for one in alone for position, result in one.items()}
            return {position: Failure(image.name, f"{image.name}: {error}") for position, image in group.items()}
        seconds = (time.perf_counter() - start) / len(group)
        self.traces |= dict(zip(group, getattr(self.inference, "trace", ()), strict=False))
        shares = zip(group.items(), latents.split(), strict=True)
        return {position: Found(image, share, seconds) for (position, image), share in shares}

    def _code(self, found: Sequence[Found]) -> Iterator[CodedImage | Failure]:
        """Code pictures, which share the times of coding equally."""
        if not found:
            return
        start = time.perf_counter()
        self._progress(f"coding {len(found)}", len(found))
        pictures = [Named(one.source.name, one.latents, one.source.format) for one in found]
        try:
            packed = pack_each(self.coder, self.codec, pictures)
            encoded = time.perf_counter()
            self._progress(f"decoding {len(found)} again", len(found))
            unpacked = unpack_again(self.codec, pictures, packed)
        except CodingError as error:
            yield from (Failure(one.source.name, f"{one.source.name}: {error}") for one in found)
            return
        decode_seconds = (time.perf_counter() - encoded) / len(found)
        encode_seconds = (encoded - start) / len(found)
        for (source, _, seconds), file, picture in zip(found, packed, unpacked, strict=True):
            if isinstance(picture, CodingError):
                yield Failure(source.name, f"{source.name}: {picture}")
            else:
                yield _coded_image(source, file, picture, seconds + encode_seconds, decode_seconds)


def _coded_image(
    source: SourceImage, file: PackedPicture, picture: UnpackedPicture, encode_seconds: float, decode_seconds: float
) -> CodedImage:
    return CodedImage(
        name=source.name,
        x=source.x,
        x_hat=picture.x_hat,
        format=source.format,
        data=file.data,
        estimated_bits=file.estimated_bits,
        payload_bytes=file.payload_bytes,
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
        accounts=file.accounts,
        chain=file.chain,
        share=file.share,
    )


class TrainedModule(CompressionModule):
    """A compression module with what every paper's training has: an optimizer of the codec, and crops that are bytes.

    optimizer: from parameters to an optimizer. schedule: from step to the factor on its learning rate.
    """

    def __init__(
        self,
        *,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        schedule: Callable[[int], float],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.make_optimizer = optimizer
        self.schedule = schedule

    def configure_optimizers(self) -> Any:
        trained = (parameter for parameter in self.codec.parameters() if parameter.requires_grad)
        return self.scheduled(self.make_optimizer(trained))

    def scheduled(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimizer with its schedule, as Lightning wants them."""
        scheduler = LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Make floats of crops, which travel as bytes, where they are used: (B, 3, H, W) uint8 -> [0, 1]."""
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return batch.float() / 255.0 if isinstance(batch, Tensor) and batch.dtype == torch.uint8 else batch
