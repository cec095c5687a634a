"""How many bits a channel has in the file, which Pillow reduces to 8 without a word in most formats."""

from __future__ import annotations

from PIL import ImageFile

_BITS_PER_SAMPLE_TAG = 258  # TIFF 6.0, page 29


def bits_per_channel(image: ImageFile.ImageFile, head: bytes) -> int:
    """Return the depth of the deepest channel; 8 or less means that nothing was reduced.

    image: opened, not loaded. head: the file's first bytes (64 KiB reach the headers of every format).
    """
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE_TAG, (1,))))  # type: ignore[attr-defined]
    if image.format == "JPEG2000":
        return jpeg2000_depth(head)
    if image.format == "AVIF":
        return avif_depth(head)
    decoder_arguments = image.tile[0][3] if image.tile else ""
    if image.format == "PPM" and isinstance(decoder_arguments, tuple) and len(decoder_arguments) == 2:
        return int(decoder_arguments[1]).bit_length()  # (raw mode, greatest value)
    if image.format in ("PNG", "PPM") and ";16" in str(decoder_arguments):
        return 16
    return 32 if image.mode in ("I", "F") else 8


def jpeg2000_depth(head: bytes) -> int:
    """ISO/IEC 15444-1: the image header box (I.5.3.1), or the SIZ segment of a bare codestream (A.5.1)."""
    box = head.find(b"ihdr")
    if box >= 0 and len(head) > box + 14 and head[box + 14] != 255:  # 255: the channels differ
        return (head[box + 14] & 0x7F) + 1
    start = head.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(head) < start + 42:
        return 8
    num_components = int.from_bytes(head[start + 40 : start + 42], "big")
    depths = head[start + 42 : start + 42 + 3 * num_components : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=8)


def avif_depth(head: bytes) -> int:
    """Return 8, 10 or 12, from the AV1 codec configuration box (AV1 in ISOBMFF, section 2.3.3)."""
    box = head.find(b"av1C")
    if box < 0 or len(head) <= box + 6 or not head[box + 6] & 0x40:
        return 8
    return 12 if head[box + 6] & 0x20 else 10
