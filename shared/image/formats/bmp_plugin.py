"""Pillow's BMP plugin, and pixels whose bits lie where it does not look, such as transparency in 16 bits.

https://learn.microsoft.com/windows/win32/api/wingdi/ns-wingdi-bitmapv4header (bV4RedMask and the others)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from shared.errors import UnsupportedFormat
from shared.image.depth import DEEP_VALUES
from shared.image.inspection import as_file

if TYPE_CHECKING:
    from shared.image.formats.bmp import BmpInspection

_SHORT_BITS, _LONG_BITS = 16, 32
_BYTES = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)


def open_image(source: BmpInspection, _scale: int = 1) -> Image.Image:
    """Open the picture; take its channels apart where the masks are unusual."""
    if not source.masks:
        return BmpImageFile(as_file(source.data))
    masks = [mask for mask in source.masks if mask]
    if source.bits == _SHORT_BITS and all(mask < DEEP_VALUES for mask in masks):
        deep = _pixels(source, "I;16").convert("I")
        channels = [deep.point(_levels(mask), "L") for mask in masks]
    elif source.bits == _LONG_BITS and set(masks) <= set(_BYTES):
        parts = _pixels(source, "RGBA").split()
        channels = [parts[_BYTES.index(mask)] for mask in masks]
    else:
        channels = []
    if not all(source.masks[:3]) or not channels:
        raise UnsupportedFormat("The BMP has colours of unusual bits, which is not supported. Save it with 24 bits.")
    return Image.merge("RGBA" if source.masks[3] else "RGB", channels)


def _pixels(source: BmpInspection, mode: str) -> Image.Image:
    """Return each pixel as it is stored; rows are padded to 4 bytes, and the lowest comes first."""
    width, height = source.header.width, source.header.height
    stride = (width * source.bits + 31) // 32 * 4
    stored = source.data[source.start : source.start + stride * height]
    return Image.frombytes(mode, (width, height), stored, "raw", mode, stride, 1 if source.is_top_down else -1)


def _levels(mask: int) -> list[int]:
    """Return, for each number of 16 bits, what those bits of it are of 255."""
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    return [round(255 * ((number & mask) >> shift) / most) for number in range(DEEP_VALUES)]
