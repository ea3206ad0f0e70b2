"""Reads the orientation and Adobe RGB from EXIF, without a parser that a hostile file could overload.

Orientation is tag 0x0112 of the first IFD, 1 to 8 (Exif 3.0, 4.6.5.1.6; TIFF 6.0, page 36). Adobe RGB, DCF's optional
colour space, is stated by two tags (DCF 2.0, CIPA DC-009, 3.3): ColorSpace has a value that EXIF does not define, and
InteroperabilityIndex is R03. Everything else in EXIF is cut off unread: a parser that follows every offset can be made
to copy gigabytes by a segment of 64 KB; Pillow stops before that, but warns of every entry: five thousand log lines.
"""

from __future__ import annotations

import struct

ORIENTATION_TAG = 0x0112
_EXIF_TAG, _COLOUR_SPACE_TAG, _RULES_TAG, _INDEX_TAG = 0x8769, 0xA001, 0xA005, 1
_OTHER_COLOURS = {2, 0xFFFF}
"""Not sRGB (1): 0xFFFF by the standard, and 2 in some cameras."""

_SHORT = 3
_LONG = 4
_UPRIGHT = 1
_START_AT = 4


def orientation(block: bytes | memoryview) -> int:
    """Return the orientation, 1 to 8, of a TIFF structure; 1 if it has no valid one."""
    value = _number(block, ORIENTATION_TAG)
    return value if value in range(1, 9) else _UPRIGHT


def states_adobe_rgb(block: bytes | memoryview) -> bool:
    """Say whether a TIFF structure states that the colours are Adobe RGB."""
    if _number(block, _COLOUR_SPACE_TAG, _EXIF_TAG) not in _OTHER_COLOURS:
        return False
    index = _entry(block, _INDEX_TAG, _EXIF_TAG, _RULES_TAG)
    return bytes(index[8:11]) == b"R03"


def _number(block: bytes | memoryview, tag: int, *parents: int) -> int:
    """Return the number of a tag, 0 if it is missing."""
    entry = _entry(block, tag, *parents)
    kind, value = struct.unpack_from(_order(block) + "2xH4xH", entry) if entry else (0, 0)
    if kind == _LONG:
        (value,) = struct.unpack_from(_order(block) + "I", entry, 8)
    return int(value) if kind in {_SHORT, _LONG} else 0


def _entry(block: bytes | memoryview, tag: int, *parents: int) -> bytes | memoryview:
    """Return the 12 bytes of a tag's entry, or nothing if it is missing: from the first IFD, or from a nested one."""
    order = _order(block)
    start = _number(block, parents[-1], *parents[:-1]) if parents else _START_AT
    try:
        if not parents:
            (start,) = struct.unpack_from(order + "I", block, _START_AT)
        (entries,) = struct.unpack_from(order + "H", block, start) if order and start else (0,)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            if struct.unpack_from(order + "H10x", block, at) == (tag,):
                return block[at : at + 12]
    except struct.error:
        pass
    return b""


def _order(block: bytes | memoryview) -> str:
    return {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]), "")
