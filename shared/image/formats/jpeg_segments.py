"""Finds where the segments of a JPEG begin and end (ITU-T T.81, B.1.1)."""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.errors import CorruptImage
from shared.image.formats.text_mode import converted

SOI, EOI, SOS, DHT, DQT, DRI, DNL, COM = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xDC, 0xFE
"""Markers (table B.1)."""

RESTARTS = range(0xD0, 0xD8)
APPLICATION = range(0xE0, 0xF0)
FILL = 0xFF
_STUFFED, _TEMPORARY = 0x00, 0x01

_PADDING = re.compile(rb"\0*\xff*")
_SEGMENT = re.compile(rb"\xff+[\xc0-\xc7\xc9-\xcf\xda-\xdd\xe0-\xef\xfe]")
_MAX_JUNK_BYTES = 65_536
_MAX_FILL_BYTES = 16
"""The most fill bytes to keep before a marker: Pillow skips them in Python. Encoders write one or two."""


class Segment(NamedTuple):
    """A marker and its parameters: the start, including fill bytes to keep, and the range of the parameters."""

    marker: int
    start: int
    body: int
    end: int

    @property
    def size(self) -> int:
        """The length of its parameters in bytes."""
        return self.end - self.body


def next_segment(data: bytes, position: int, *, may_skip: bool) -> Segment:
    """Return the segment that must come next; if `may_skip`, other bytes may precede it."""
    at = _next_marker(data, position, may_skip=may_skip)
    is_filled = at - position <= _MAX_FILL_BYTES and not data[position:at].strip(b"\xff")
    marker, start, body = data[at + 1], position if is_filled else at, at + 4
    if marker == EOI:
        return Segment(marker, start, at + 2, at + 2)
    if marker in RESTARTS or marker in {_STUFFED, _TEMPORARY, SOI}:
        raise CorruptImage("The JPEG is damaged: a marker is in an illegal place. Save it again.")
    end = at + 2 + int.from_bytes(data[at + 2 : body], "big")
    if end < body or end > len(data):
        raise truncated()
    return Segment(marker, start, body, end)


def is_junk(data: bytes, start: int, end: int) -> bool:
    """Say whether there is more than padding; refuse it if added line ends have pushed it out of its segment.

    The whole file is searched for them, so this is to be called only for the first place with such bytes.
    """
    if start == end or not data[start:end].strip(b"\0\xff"):
        return False
    if 0 < data.count(b"\n") == data.count(b"\r\n"):
        raise converted()
    return True


def _next_marker(data: bytes, position: int, *, may_skip: bool) -> int:
    """Return the offset of the next marker: the format pads with 0xFF (B.1.1.2), some cameras with zeros.

    Before the first scan, some programs leave other bytes there as well, which every decoder skips.
    """
    padding = _PADDING.match(data, position)
    stop = padding.end() if padding else position
    if stop == len(data):
        raise truncated()
    if stop > position and data[stop - 1] == FILL and (data[stop] or not may_skip):
        return stop - 1
    skipped = _SEGMENT.search(data, position, position + _MAX_JUNK_BYTES) if may_skip else None
    if not skipped:
        raise CorruptImage("The JPEG is damaged: its segments are not contiguous. Save it again.")
    return skipped.end() - 2


def truncated() -> CorruptImage:
    """Return the error for a file without an end."""
    return CorruptImage("The JPEG is cut short: its end is missing. Upload the whole file.")
