"""The picture of a comparison: enlarged crops side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lightning_modules.classical.measuring import OURS, Measured, Version, printable, read_upright
from lightning_modules.errors import CodingError
from lightning_modules.records import ImageSize
from lightning_modules.system.atomic_file import describe_fault, write_atomically

_PAPER, _INK, _FAINT, _ACCENT = "#fbfaf7", "#1d1d1f", "#6b6b70", "#0b5cad"


_MARGIN, _GAP = 44, 18


_ZOOM = 2


_EDGE_SCALE = 9  # pixels over which an edge keeps its direction


# ---- the picture


def draw_comparison(rows: Sequence[Measured], crop_size: ImageSize, num_pictures: int) -> Image.Image:
    """Enlarged crops of every version side by side, of the pictures whose crop has the clearest edges.

    Pictures and crops are chosen by the originals alone.
    """
    places = [(*clearest_window(read_upright(row.original), crop_size), row) for row in rows]
    chosen = sorted(places, key=lambda place: -place[0])[:num_pictures]
    strips = [_panels(row, window) for _, window, row in chosen]
    width = max(panel.width for strip in strips for panel in strip)
    blocks = [
        _text("The same bytes, spent by each codec", 34),
        _text(f"Crops enlarged {_ZOOM}x. PSNR is of the whole picture.", 20, _FAINT),
    ]
    for (_, _, row), strip in zip(chosen, strips, strict=True):
        heading = f"{row.name}   {row.image_size[1]} x {row.image_size[0]}   {row.bpp:.3f} bpp"
        blocks.append(_stack([_blank(1, _GAP), _text(heading, 24), _beside(strip, width)], _GAP // 2))
    if any(v is not None and not v.fits for _, _, row in chosen for v in row.classical.values()):
        blocks.append(_text("* its lowest quality, and still more bytes than ours", 20, _FAINT))
    return ImageOps.expand(_stack(blocks, _GAP // 2), _MARGIN, _PAPER)


def clearest_window(image: Image.Image, size: ImageSize) -> tuple[float, tuple[int, int, int, int]]:
    """Return (score, (left, top, right, bottom)) of the crop, `size` or the whole picture, with the clearest edges.

    Score: mean over the crop of gradient times squared coherence, low in noise and grass. With the structure
    tensor's eigenvalues (Bigun and Granlund 1987): gradient sqrt(a + b), coherence (a - b) / (a + b).
    """
    gray = np.asarray(image.convert("L"), dtype=np.float64)
    height, width = min(size[0], image.height), min(size[1], image.width)
    framed = np.pad(gray, 1, mode="edge")
    dy, dx = framed[2:, 1:-1] - framed[:-2, 1:-1], framed[1:-1, 2:] - framed[1:-1, :-2]
    scale = min(_EDGE_SCALE, height, width)
    xx, yy, xy = (_box_sum(product, scale, scale) for product in (dx * dx, dy * dy, dx * dy))
    clarity = ((xx - yy) ** 2 + 4 * xy**2) / np.maximum(xx + yy, 1) ** 1.5 / scale
    inner = height - scale + 1, width - scale + 1
    scores = _box_sum(clarity, *inner) / (inner[0] * inner[1])  # (H - height + 1, W - width + 1)
    top, left = (int(place) for place in np.unravel_index(np.argmax(scores), scores.shape))
    return float(scores[top, left]), (left, top, left + width, top + height)


def _box_sum(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sums over all windows of this size that lie inside, by an integral image."""
    integral = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows = integral[height:] - integral[:-height]
    return rows[:, width:] - rows[:, :-width]


def _panels(row: Measured, window: tuple[int, int, int, int]) -> list[Image.Image]:
    """The crop as it was, and as each codec gives it back, each above its caption."""
    versions: Mapping[str, Version | None] = {OURS: row.ours, **row.classical}
    original = _panel(read_upright(row.original), window, "original", f"{row.original.stat().st_size:,} bytes", _INK)
    return [original] + [
        _panel(version.open(), window, name, _caption(version), _ACCENT if name == OURS else _INK)
        for name, version in versions.items()
        if version is not None
    ]


def _caption(version: Version) -> str:
    return f"{version.num_bytes:,} bytes{'' if version.fits else '*'}   {version.psnr:.2f} dB"


def _panel(image: Image.Image, window: tuple[int, int, int, int], name: str, caption: str, color: str) -> Image.Image:
    crop = image.convert("RGB").crop(window)
    enlarged = crop.resize((crop.width * _ZOOM, crop.height * _ZOOM), Image.Resampling.NEAREST)
    return _stack([enlarged, _stack([_text(name, 22, color), _text(caption, 20, _FAINT)], 2)], 8)


def _text(text: str, size: int, color: str = _INK) -> Image.Image:
    """One line on an area that just holds it."""
    font, line = ImageFont.load_default(size), printable(text)
    _, _, right, _ = font.getbbox(line)
    area = _blank(math.ceil(right) + 1, math.ceil(size * 1.3))
    ImageDraw.Draw(area).text((0, 0), line, fill=color, font=font)
    return area


def _stack(blocks: Sequence[Image.Image], gap: int) -> Image.Image:
    """Blocks below each other, at the left."""
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    area, y = _blank(max(block.width for block in blocks), height), 0
    for block in blocks:
        area.paste(block, (0, y))
        y += block.height + gap
    return area


def _beside(blocks: Sequence[Image.Image], width: int) -> Image.Image:
    """Blocks next to each other, in columns of `width`."""
    height = max(block.height for block in blocks)
    area = _blank(len(blocks) * (width + _GAP) - _GAP, height)
    for column, block in enumerate(blocks):
        area.paste(block, (column * (width + _GAP), 0))
    return area


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), _PAPER)


def write_png(path: Path, image: Image.Image) -> None:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, file.getvalue())
    except OSError as error:
        raise CodingError(f"{printable(str(path))}: cannot be written: {describe_fault(error)}") from None
