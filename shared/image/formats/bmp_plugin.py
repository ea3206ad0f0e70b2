"""Pillow's BMP plugin, extended by bit masks that it does not support, such as transparency in 16 bits.

https://learn.microsoft.com/windows/win32/api/wingdi/ns-wingdi-bitmapv4header (bV4RedMask and the others)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from PIL import Image, ImageMath
from PIL.BmpImagePlugin import BmpImageFile

from shared.errors import UnsupportedFormat
from shared.image.depth import DEEP_VALUES
from shared.image.inspection import as_file

if TYPE_CHECKING:
    from shared.image.formats.bmp import BmpInspection

_SHORT_BITS = 16


def open_image(source: BmpInspection, _scale: int = 1) -> Image.Image:
    """Open the picture; extract its channels if Pillow does not support its masks."""
    if not source.masks:
        return BmpImageFile(as_file(source.data))
    if not all(source.masks[:3]) or max(mask.bit_count() for mask in source.masks) > _SHORT_BITS:
        raise UnsupportedFormat(
            "The BMP stores its colours with unusual bit masks, which are not supported. Save it with 24 bits."
        )
    stored = _pixels(source)
    return Image.merge("RGBA" if source.masks[3] else "RGB", [_channel(stored, mask) for mask in source.masks if mask])


def _pixels(source: BmpInspection) -> Image.Image:
    """Return the pixels as stored; rows are padded to 4 bytes, and the lowest row comes first."""
    width, height = source.header.width, source.header.height
    stride = (width * source.bits + 31) // 32 * 4
    stored = source.data[source.start : source.start + stride * height]
    mode = "I;16" if source.bits == _SHORT_BITS else "I"
    order = 1 if source.is_top_down else -1
    return Image.frombytes(mode, (width, height), stored, "raw", mode, stride, order).convert("I")


def _channel(stored: Image.Image, mask: int) -> Image.Image:
    """Return the values of a mask's bits, scaled to 255."""
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    numbers = ImageMath.lambda_eval(lambda images: (images["a"] >> shift) & most, a=stored)
    levels = [round(255 * min(number, most) / most) for number in range(DEEP_VALUES)]
    return cast("Image.Image", numbers.point(levels, "L"))
