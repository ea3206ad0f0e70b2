"""Decides which way up an image is: the one EXIF tag that matters, read without a parser that could be bombed.

Orientation is tag 0x0112 of the first IFD, 1 to 8 (Exif 3.0, 4.6.5.1.6; TIFF 6.0, page 36). Everything else in EXIF is
cut off unread: a parser that follows every offset can be made to copy gigabytes by a segment of 64 KB, and Pillow,
which stops before that, warns of every entry: five thousand lines in the log.
"""

from __future__ import annotations

import struct

ORIENTATION_TAG = 0x0112
_SHORT = 3
_LONG = 4
_UPRIGHT = 1


def orientation(block: bytes | memoryview) -> int:
    """Return the orientation, 1 to 8, that a TIFF structure asks for; 1 where it asks for nothing that is sane."""
    if block[:4] == b"II*\0":
        order = "<"
    elif block[:4] == b"MM\0*":
        order = ">"
    else:
        return _UPRIGHT
    try:
        (ifd,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, ifd)
        for entry in range(entries):
            tag, kind, _, value, long_value = _entry(order, block, ifd + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                value = {_SHORT: value, _LONG: long_value}.get(kind, _UPRIGHT)
                return value if value in range(1, 9) else _UPRIGHT
    except struct.error:
        pass
    return _UPRIGHT


def _entry(order: str, block: bytes | memoryview, offset: int) -> tuple[int, int, int, int, int]:
    tag, kind, count, value = struct.unpack_from(order + "HHIH", block, offset)
    (long_value,) = struct.unpack_from(order + "I", block, offset + 8)
    return tag, kind, count, value, long_value
