"""Decides about BMP: how large it is, and whether its pixels are all there.

https://learn.microsoft.com/windows/win32/gdi/bitmap-header-types
"""

from __future__ import annotations

import struct
from math import ceil

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

_OS2_HEADER_BYTES = 12
_COLOUR_BITS = 24
_RUN_LENGTHS = {1, 2}
_MAX_RUN_LENGTH_BYTES = 2_000_000
"""Pillow decodes run lengths in Python: 1 s of CPU for 1 MB of them."""


def inspect(data: bytes) -> Inspection:
    """Read the header."""
    try:
        (offset, header_bytes) = struct.unpack_from("<II", data, 10)
        if header_bytes == _OS2_HEADER_BYTES:
            (width, height, _, bits), compression = struct.unpack_from("<HHHH", data, 18), 0
        else:
            width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    except struct.error:
        raise _broken() from None
    if width <= 0 or not height:
        raise CorruptImage("The BMP is damaged: its header describes no picture. Save it again.")
    if compression in _RUN_LENGTHS:
        if len(data) > _MAX_RUN_LENGTH_BYTES:
            raise UnsupportedFormat("The BMP is large and run-length compressed. Save it as a PNG.")
    elif offset + ceil(width * bits / 32) * 4 * abs(height) > len(data):
        raise _broken()
    is_opaque = bits <= _COLOUR_BITS
    return Inspection(
        data,
        ImageHeader("image/bmp", width, abs(height)),
        weight=1 if is_opaque else 2,
        is_opaque=is_opaque,
        is_lossless=True,
    )


def _broken() -> CorruptImage:
    return CorruptImage("The BMP is cut short: a part of its pixels is missing. Upload the whole file.")
