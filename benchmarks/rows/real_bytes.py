"""Row 3: bytes of our stream over CompressAI's real streams (y and z), same latents, same weights."""

from __future__ import annotations

import torch

from benchmarks.contenders import Contenders, coding_task, contenders, latents_of
from benchmarks.measurement import Goal, Measurement, Pair, Settings, relative_size
from lightning_modules.records import Latents

NUMBER = 3


def measure(settings: Settings) -> list[Measurement]:
    pair = contenders(settings.ckpt)
    sizes = [payloads(pair, latents) for latents in latents_of(settings)]
    return [relative_size(NUMBER, "real bytes over CompressAI's, same latents", sizes, Goal("<=", 0.998))]


@torch.no_grad()
def payloads(pair: Contenders, latents: Latents) -> Pair:
    """Both sides code what rounds to the same integers; each decodes its own stream back to them."""
    sections = pair.ours.encode(latents).sections
    pair.ours.decode(sections, latents.image_size)  # raises unless the integers come back
    z = latents.variables["z"]
    task = coding_task(pair.ours, latents)
    z_strings = pair.theirs.entropy_bottleneck.compress(z)
    indexes = pair.theirs.gaussian_conditional.build_indexes(task.scales)
    y_strings = pair.theirs.gaussian_conditional.compress(task.y, indexes, means=task.means)
    y_hat = pair.theirs.gaussian_conditional.decompress(y_strings, indexes, means=task.means)
    if not torch.equal(y_hat, torch.round(task.y - task.means) + task.means):
        raise AssertionError("CompressAI's stream does not decode to the latents both sides were given")
    ours = sum(len(section.payload) for section in sections)
    return Pair(ours, sum(map(len, [*y_strings, *z_strings])))
