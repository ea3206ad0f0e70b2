"""Inspects a BMP: its size, and whether all of its pixels are present.

https://learn.microsoft.com/windows/win32/gdi/bitmap-header-types
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import colour
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

if TYPE_CHECKING:
    from shared.image.colour import ColourSpace

_OS2_HEADER_BYTES = 12
_COLOUR_BITS = 24
_HEADER = 14
"""The offset of the header, which begins with its own length."""

_VERSION_4_BYTES, _VERSION_5_BYTES = 108, 124
_CALIBRATED, _EMBEDDED = 0, 0x4D42_4544
_RUN_LENGTHS = {1, 2}
_MASKED, _MASKED_WITH_ALPHA = 3, 6
_INSIDE = {4: "a JPEG", 5: "a PNG"}
_INSIDE_OS2 = {3: "Huffman-coded pixels", 4: "run lengths of 24 bits"}
"""Codings that are not supported, by their number; OS/2 has its own numbers."""

_PIXEL_BITS = {1, 4, 8, 16, 24, 32}
_SHORT_HEADER_BYTES, _MASKED_HEADER_BYTES, _LONGER_OS2_HEADER_BYTES = 40, 52, 64
_HEADER_BYTES = {12, 40, 52, 56, 64, 108, 124}
_PLAIN_MASKS = {
    (0xF800, 0x7E0, 0x1F, 0),
    (0x7C00, 0x3E0, 0x1F, 0),
    (0xFF0000, 0xFF00, 0xFF, 0),
    (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (0xFF000000, 0xFF0000, 0xFF00, 0),
    (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
}
"""The bit masks of red, green, blue and alpha that Pillow supports."""

_MASKING_BYTES = 12
"""Memory per pixel in addition to the picture, while the channels of other masks are extracted."""


@dataclass(frozen=True)
class BmpInspection(Inspection):
    """What the header says; `masks` is set if Pillow does not support them; `bits` is per pixel."""

    masks: tuple[int, int, int, int] | None = None
    bits: int = 24
    start: int = 0
    is_top_down: bool = False


def inspect(data: bytes) -> BmpInspection:
    """Read the header."""
    try:
        (offset, header_bytes) = struct.unpack_from("<II", data, 10)
        if header_bytes == _OS2_HEADER_BYTES:
            (width, height, _, bits), compression = struct.unpack_from("<HHHH", data, 18), 0
        else:
            width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    except struct.error:
        raise _broken() from None
    if header_bytes not in _HEADER_BYTES:
        raise UnsupportedFormat(
            f"The BMP has a header of {header_bytes:,} bytes, which is not supported. Save it as a PNG."
        )
    if width <= 0 or not height:
        raise CorruptImage("The BMP is damaged: its header does not describe a picture. Save it again.")
    inside = _INSIDE_OS2 if header_bytes == _LONGER_OS2_HEADER_BYTES else _INSIDE
    known = {0, *_RUN_LENGTHS, _MASKED, _MASKED_WITH_ALPHA} - inside.keys()
    if bits not in _PIXEL_BITS or compression not in known:
        what = inside.get(compression, f"pixels of {bits} bits, compression {compression}")
        raise UnsupportedFormat(f"The BMP holds {what}, which is not supported. Save it with 24 bits, or as a PNG.")
    if compression not in _RUN_LENGTHS and offset + ceil(width * bits / 32) * 4 * abs(height) > len(data):
        raise _broken()
    masks = _masks(data, header_bytes, compression)
    is_opaque = bits <= _COLOUR_BITS and not (masks and masks[-1])
    profile, colours = _colours(data, header_bytes)
    return BmpInspection(
        data,
        ImageHeader("image/bmp", width, abs(height)),
        masks=masks,
        bits=bits,
        start=offset,
        is_top_down=height < 0,
        buffer_bytes=_MASKING_BYTES * width * abs(height) if masks else 0,
        weight=1 if is_opaque else 2,
        is_opaque=is_opaque,
        is_lossless=True,
        profile=profile,
        colours=colours,
    )


def _masks(data: bytes, header_bytes: int, compression: int) -> tuple[int, int, int, int] | None:
    """Return the channels' bit masks, or None if Pillow supports them; old headers cannot have an alpha mask."""
    if compression not in {_MASKED, _MASKED_WITH_ALPHA}:
        return None
    red, green, blue, alpha = struct.unpack_from("<4I", data, _HEADER + _SHORT_HEADER_BYTES)
    if header_bytes == _MASKED_HEADER_BYTES or (header_bytes == _SHORT_HEADER_BYTES and compression == _MASKED):
        alpha = 0
    masks = red, green, blue, alpha
    is_known = compression == _MASKED and (masks in _PLAIN_MASKS or not any(masks))
    return None if is_known else masks


def _colours(data: bytes, header_bytes: int) -> tuple[bytes | None, ColourSpace | None]:
    """Return the profile of a version 5 header, or the colours that a version 4 header states."""
    if header_bytes < _VERSION_4_BYTES:
        return None, None
    try:
        (kind,) = struct.unpack_from("<I", data, _HEADER + 56)
        if kind == _EMBEDDED and header_bytes >= _VERSION_5_BYTES:
            start, size = struct.unpack_from("<II", data, _HEADER + 112)
            return data[_HEADER + start : _HEADER + start + min(size, colour.MAX_PROFILE_BYTES + 1)], None
        if kind != _CALIBRATED:
            return None, None
        endpoints = [number / 2**30 for number in struct.unpack_from("<9i", data, _HEADER + 60)]
        gammas = [number / 2**16 for number in struct.unpack_from("<3I", data, _HEADER + 96)]
    except struct.error:
        raise _broken() from None
    columns = [endpoints[at : at + 3] for at in (0, 3, 6)]
    white = [sum(parts) for parts in zip(*columns, strict=True)]
    points = [(x / (x + y + z), y / (x + y + z)) for x, y, z in (white, *columns) if x + y + z > 0]
    return None, colour.of_gamma(colour.Primaries(*points) if len(points) == 4 else None, gammas[1] or None)  # noqa: PLR2004


def _broken() -> CorruptImage:
    return CorruptImage("The BMP is cut short: a part of its pixels is missing. Upload the whole file.")
