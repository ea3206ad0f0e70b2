"""Decides about TIFF: how large its first page is, which way up, and whether its directory is a bomb.

The format is TIFF 6.0 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2 for the directory).
Pillow copies the value of every entry, wherever its offset points, and warns of every one that it does not: thousands
of lines in the log. Sound values do not overlap, so together they are not larger than the file.
"""

from __future__ import annotations

import struct

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.model import ImageHeader
from shared.image.survey import Survey

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SHORT, _LONG = 3, 4
_START_OF_SCAN = b"\xff\xda"
_REDUCED, _WIDTH, _HEIGHT, _BITS, _ORIENTATION = 254, 256, 257, 258, 274
_SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _DNG_VERSION = 277, 322, 323, 50_706
_COMPRESSION, _JPEG_COMPRESSIONS = 259, {6, 7}
_PIECES = {273: 279, 324: 325}
"""Offsets of strips and of tiles, and how many bytes each has."""

_METADATA = {270, 271, 272, 305, 306, 315, 316, 700, 33_432, 33_723, 34_377, 34_665, 34_853, 37_724}
_MAX_ENTRIES = 1_000
_TEXT_KINDS = {1, 2, 6, 7}
_TRANSFER_FUNCTION = 301
_MAX_VALUES = 70_000
"""Pillow makes an object of each, and a decoder for each strip that is not compressed: 5 us of CPU. Sound pictures have
a strip for each row at the most; a transfer function has more values, but is not read."""

_MAX_SCANS = 4
"""In one strip, one for each channel: more are a progressive JPEG, whose every scan walks over all of it."""

_MAX_SAMPLES = 6
"""Pillow reads no more, and writes a line into the log."""
_MAX_TILE_SIDE = 8_192


def survey(data: bytes) -> Survey:
    """Read the first directory; refuse camera raws, which keep a thumbnail where a TIFF keeps its picture."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        values, has_next = _directory(data, order)
    except struct.error:
        raise _broken() from None
    if values.get(_REDUCED, 0) & 1 or _DNG_VERSION in values or data[8:10] == b"CR":
        raise UnsupportedFormat("The file is a camera's raw file, not an image that is read. Develop it to a JPEG.")
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    if not width or not height:
        raise CorruptImage("The TIFF is damaged: its directory describes no picture. Save it anew.")
    if max(values.get(_TILE_WIDTH, 0), values.get(_TILE_HEIGHT, 0)) > _MAX_TILE_SIDE:
        raise UnsupportedFormat("The TIFF has tiles of an unusual size. Save it without tiles, or as a PNG.")
    if values.get(_COMPRESSION) in _JPEG_COMPRESSIONS:
        _refuse_many_scans(data, order)
    if values.get(_SAMPLES, 1) > _MAX_SAMPLES:
        raise UnsupportedFormat(f"The TIFF has {values[_SAMPLES]} channels; 4 are read. Save it in RGB.")
    orientation = values.get(_ORIENTATION, 1)
    is_plain = values.get(_BITS, 8) <= 8 and values.get(_SAMPLES, 1) <= 3  # noqa: PLR2004 - bits, samples
    return Survey(
        data,
        ImageHeader("image/tiff", width, height),
        orientation=orientation if orientation in range(1, 9) else 1,
        has_metadata=has_next or not _METADATA.isdisjoint(values),
        depth=values.get(_BITS, 8),
        weight=1 if is_plain else 2,
        is_opaque=is_plain,
    )


def _refuse_many_scans(data: bytes, order: str) -> None:
    """Count the scans in each JPEG inside; what a strip has not in its own bytes, no decoder reads."""
    for offsets, counts in _PIECES.items():
        pieces = list(zip(_values(data, order, offsets), _values(data, order, counts), strict=False))
        if sum(size for _, size in pieces) > len(data):
            raise _broken()
        if any(data.count(_START_OF_SCAN, at, at + size) > _MAX_SCANS for at, size in pieces):
            raise UnsupportedFormat("The TIFF holds a progressive JPEG, which it may not. Save it as a JPEG.")


def _values(data: bytes, order: str, wanted: int) -> tuple[int, ...]:
    """Return all values of an entry of numbers."""
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
        if tag == wanted and kind in {_SHORT, _LONG}:
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
        raise CorruptImage(f"The TIFF is damaged: its directory has {count} entries. Save it anew.")
    values: dict[int, int] = {}
    apart = 0
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
        at, size = entry + 8, number * _BYTES.get(kind, 1)
        if size > 4:  # noqa: PLR2004 - what fits in the entry itself
            (at,) = struct.unpack_from(order + "I", data, at)
            apart += size
            if at + size > len(data) or apart > len(data):
                raise _broken()
        if number > _MAX_VALUES and kind not in _TEXT_KINDS and tag != _TRANSFER_FUNCTION:
            raise UnsupportedFormat("The TIFF is in far more pieces than a sound one. Save it in fewer, or as a PNG.")
        (values[tag],) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), data, at)
    (further,) = struct.unpack_from(order + "I", data, start + 2 + 12 * count)
    return values, bool(further)


def _broken() -> CorruptImage:
    return CorruptImage("The TIFF is damaged or cut short: its directory points outside it. Upload the whole file.")
