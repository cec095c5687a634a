"""Row 2: bytes of y under integer coding parameters over those of h_s in floating point, same tables; and the time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.contenders import coding_task, contenders, latents_of
from benchmarks.measurement import Goal, Measurement, Pair, Settings, interleave, relative_size, relative_time
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.tables import nearest_scale_index
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import Latents

NUMBER = 2


@torch.no_grad()
def measure(settings: Settings) -> list[Measurement]:
    codec = contenders(settings.ckpt).ours
    latents = latents_of(settings)
    sizes = [bytes_of_y(codec, image) for image in latents]
    z = torch.round(latents[0].variables["z"])
    parameters = codec._derived.value.parameters
    size = (latents[0].variables["y"].shape[-2], latents[0].variables["y"].shape[-1])
    times = interleave(lambda: parameters(z, size), lambda: codec.coding_parameters(z, size), rounds=settings.rounds)
    return [
        relative_size(NUMBER, "bytes of y, exact h_s over float h_s, same tables", sizes, Goal("<=", 1.001)),
        relative_time(NUMBER, "time of exact h_s over float h_s", times, Goal("<=", 4.5)),
    ]


def bytes_of_y(codec: HyperpriorCodec, latents: Latents) -> Pair:
    """Real streams of y alone."""
    integers = codec._integers(latents)
    task = coding_task(codec, latents)
    y = torch.round(task.y - task.means)
    return Pair(
        stream_bytes(codec, integers["y"], integers["index"]),
        stream_bytes(codec, _array(y), _array(nearest_scale_index(task.scales))),
    )


def stream_bytes(codec: HyperpriorCodec, symbols: np.ndarray, indices: np.ndarray) -> int:
    stack = AnsStack()
    stack.push(symbols.ravel(), indices.ravel(), codec._derived.value.y_tables)
    return len(stack.to_bytes())


def _array(values: Tensor) -> np.ndarray:
    return values.to(torch.int32).numpy()
