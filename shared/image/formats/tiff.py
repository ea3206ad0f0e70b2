"""Decides about TIFF: how large its first page is, which way up, and whether its directory is a bomb.

The format is TIFF 6.0 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2 for the directory).
Pillow copies the value of every entry, wherever its offset points, and warns of every one that it does not: thousands
of lines in the log. Valid values do not overlap, so together they are not larger than the file; and what is one number
is written as one, once, or Pillow would warn again and take another than libtiff.
"""

from __future__ import annotations

import struct
from math import ceil

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BYTE, _SHORT, _LONG, _UNDEFINED = 1, 3, 4, 7
_START_OF_SCAN = b"\xff\xda"
_REDUCED, _WIDTH, _HEIGHT, _BITS, _ORIENTATION = 254, 256, 257, 258, 274
_COMPRESSION, _PHOTOMETRIC, _SAMPLES, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 259, 262, 277, 278, 322, 323
_PROFILE, _DNG_VERSION = 34_675, 50_706
_SINGLE = {254, 256, 257, 259, 262, 266, 274, 277, 278, 282, 283, 284, 296, 322, 323}
"""Entries of one number each."""

_WHITE_IS_ZERO, _YCBCR = 0, 6
"""Kinds of pixels. Of YCbCr, libtiff makes 4 bytes each, whatever they had."""

_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32_773, 32_946}
"""None, CCITT's, LZW, JPEG in the old way and the new, deflate, PackBits, deflate by its old number."""

_JPEG_COMPRESSIONS = {6, 7}
_PIECES = {273: 279, 324: 325}
"""Offsets of strips and of tiles, and how many bytes each has."""

_METADATA = {270, 271, 272, 305, 306, 315, 316, 700, 33_432, 33_723, 34_377, 34_665, 34_853, 37_724}
_MAX_ENTRIES = 1_000
_TEXT_KINDS = {_BYTE, 2, 6, _UNDEFINED}
_TRANSFER_FUNCTION = 301
_MAX_VALUES = 70_000
"""Pillow makes an object of each, and a decoder for each strip that is not compressed: 5 us of CPU. Usual pictures have
a strip for each row at the most; a transfer function has more values, but is not read."""

_MAX_SCANS = 4
"""In one strip, one for each channel: more are a progressive JPEG, whose every scan walks over all of it."""

_MAX_SAMPLES = 6
"""Pillow reads no more, and writes a line into the log."""
_MAX_OVERHANG = 16_000_000
"""How many pixels tiles may have beyond the picture, at the right and at the bottom: half a second of CPU."""


def inspect(data: bytes) -> Inspection:
    """Read the first directory; refuse camera raws, which keep a thumbnail where a TIFF keeps its picture."""
    if data[8:10] == b"CR":
        raise _raw()
    order = "<" if data.startswith(b"II") else ">"
    try:
        values, has_next = _directory(data, order)
    except struct.error:
        raise _broken() from None
    if _DNG_VERSION in values:
        raise _raw()
    if values.get(_REDUCED, 0) & 1:
        raise UnsupportedFormat("The TIFF begins with a small preview, as cameras' raw files do. Export it to a JPEG.")
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    if not width or not height:
        raise CorruptImage("The TIFF is damaged: its directory describes no picture. Save it again.")
    across, down = values.get(_TILE_WIDTH, width), values.get(_TILE_HEIGHT, height)
    if ceil(width / across) * across * ceil(height / down) * down > width * height + _MAX_OVERHANG:
        raise UnsupportedFormat("The TIFF has tiles of an unusual size. Save it without tiles, or as a PNG.")
    if values.get(_COMPRESSION, 1) not in _COMPRESSIONS:
        raise UnsupportedFormat(
            f"The TIFF is compressed in a way that is not supported ({values[_COMPRESSION]}). "
            "Save it with LZW, or as a PNG."
        )
    if values.get(_COMPRESSION) in _JPEG_COMPRESSIONS:
        _refuse_many_scans(data, order)
    if values.get(_SAMPLES, 1) > _MAX_SAMPLES:
        raise UnsupportedFormat(f"The TIFF has {values[_SAMPLES]} channels; 4 are supported. Save it in RGB.")
    orientation = values.get(_ORIENTATION, 1)
    depth = values.get(_BITS, 1)
    samples = values.get(_SAMPLES, 1)
    is_plain = depth <= 8 and samples in {1, 3}  # noqa: PLR2004 - bits
    rows = down if _TILE_HEIGHT in values else min(height, values.get(_ROWS_PER_STRIP, height))
    return Inspection(
        data,
        ImageHeader("image/tiff", width, height),
        orientation=orientation if orientation in range(1, 9) else 1,
        has_metadata=has_next or not _METADATA.isdisjoint(values),
        depth=depth,
        is_negative=depth > 8 and values.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,  # noqa: PLR2004 - bits
        weight=1 if is_plain else 2,
        is_opaque=is_plain,
        buffer_bytes=ceil(across * rows * max(samples * depth / 8, 4 if values.get(_PHOTOMETRIC) == _YCBCR else 0)),
    )


def _refuse_many_scans(data: bytes, order: str) -> None:
    """Count the scans in each JPEG inside; what a strip has not in its own bytes, no decoder reads."""
    found = 0
    for offsets, counts in _PIECES.items():
        pieces = list(zip(_values(data, order, offsets), _values(data, order, counts), strict=True))
        found += len(pieces)
        if sum(size for _, size in pieces) > len(data):
            raise _broken()
        if any(data.count(_START_OF_SCAN, at, at + size) > _MAX_SCANS for at, size in pieces):
            raise UnsupportedFormat("The TIFF holds a progressive JPEG, which it may not. Save it as a JPEG.")
    if not found:
        raise _broken()


def _values(data: bytes, order: str, wanted: int) -> tuple[int, ...]:
    """Return all values of an entry of numbers, none where there is no such entry."""
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
        if tag == wanted and kind not in {_SHORT, _LONG}:
            raise _broken()
        if tag == wanted:
            layout = f"{order}{number}{'H' if kind == _SHORT else 'I'}"
            at = entry + 8
            if struct.calcsize(layout) > 4:  # noqa: PLR2004 - what fits in the entry itself
                (at,) = struct.unpack_from(order + "I", data, at)
            return struct.unpack_from(layout, data, at)
    return ()


def _directory(data: bytes, order: str) -> tuple[dict[int, int], bool]:
    """Return the first value of every entry, and whether another directory follows."""
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    if count > _MAX_ENTRIES:
        raise CorruptImage(f"The TIFF is damaged: its directory has {count} entries. Save it again.")
    values: dict[int, int] = {}
    apart = 0
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
        if tag in values or (tag in _SINGLE and number != 1) or (tag == _PROFILE and kind not in {_BYTE, _UNDEFINED}):
            raise CorruptImage("The TIFF is damaged: its directory holds something twice. Save it again.")
        at, size = entry + 8, number * _BYTES.get(kind, 1)
        if size > 4:  # noqa: PLR2004 - what fits in the entry itself
            (at,) = struct.unpack_from(order + "I", data, at)
            apart += size
            if at + size > len(data) or apart > len(data):
                raise _broken()
        if number > _MAX_VALUES and kind not in _TEXT_KINDS and tag != _TRANSFER_FUNCTION:
            raise UnsupportedFormat("The TIFF is in far more pieces than a usual one. Save it in fewer, or as a PNG.")
        (values[tag],) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), data, at)
    (further,) = struct.unpack_from(order + "I", data, start + 2 + 12 * count)
    return values, bool(further)


def _raw() -> UnsupportedFormat:
    return UnsupportedFormat("The file is a camera's raw file, not a supported image. Develop it to a JPEG.")


def _broken() -> CorruptImage:
    return CorruptImage("The TIFF is damaged or cut short: its directory points outside it. Upload the whole file.")
