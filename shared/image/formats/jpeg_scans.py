"""Decides whether the scans of a JPEG are complete: headers, restart markers, and all coefficients together.

A scan is a header (ITU-T T.81, B.2.3) and entropy-coded data up to the next marker that is not a restart marker; annex
G defines the order of a progressive picture's scans.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

from shared.errors import CorruptImage
from shared.image.formats.jpeg_segments import FILL, RESTARTS, truncated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.image.formats.jpeg_frame import Frame, Tables
    from shared.image.formats.jpeg_segments import Segment

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_AC_TABLE = 0x10
"""Set in the number of a Huffman table in its segment, if it is for coefficients other than the first."""

_COEFFICIENTS = 64
_PIECE_BYTES = 65_536


@dataclass(frozen=True)
class Scan:
    """One scan: the components and coefficients that it completes, and the range of its entropy-coded data."""

    components: tuple[int, ...]
    first_coefficient: int
    last_coefficient: int
    high_bit: int
    low_bit: int
    start: int
    end: int
    restarts: int

    def markers(self, data: bytes) -> Iterator[int]:
        """Yield the offsets of its restart markers."""
        return (match.start() for match in islice(_MARKER.finditer(data, self.start), self.restarts))


def read_scan(data: bytes, segment: Segment, frame: Frame | None, tables: Tables) -> tuple[Scan, int]:
    """Read the scan whose header a segment is; return it and the offset of the next marker."""
    if not frame:
        raise CorruptImage("The JPEG is damaged: its pixels come before its size. Save it again.")
    body, end = segment.body, segment.end
    count = data[body] if body < end else 0
    components = tuple(data[body + 1 : body + 1 + 2 * count : 2])
    if segment.size != 4 + 2 * count or not count or not frame.identifiers.issuperset(components):
        raise CorruptImage("The JPEG is damaged: a scan is malformed. Save it again.")
    first, last, bits = data[end - 3 : end]
    high, low = bits >> 4, bits & 15
    if frame.is_progressive and first and high and tables.most_bits.get(_AC_TABLE | data[body + 2] & 15, 0) > 1:
        # A coefficient that appears in a refinement scan has one bit (G.1.2.3); libjpeg accepts more for one.
        raise CorruptImage("The JPEG is damaged: one of its Huffman tables is malformed. Save it again.")
    interval = tables.restart_interval
    expected = ceil(frame.units(components) / interval) - 1 if interval else 0
    stop, restarts = _entropy_end(data, end, expected)
    last_byte = _without_fill(data, end, stop)
    if restarts > expected and data[last_byte - 2] == FILL and data[last_byte - 1] in RESTARTS:
        last_byte, restarts = last_byte - 2, expected  # a camera's last scan, with nothing after it
    return Scan(components, first, last, high, low, end, last_byte, restarts), stop


def _entropy_end(data: bytes, start: int, expected: int) -> tuple[int, int]:
    """Find the next marker that is neither a stuffed zero (B.1.1.5) nor one of the expected restarts (B.2.1).

    Return its offset, and how many restarts precede it.
    """
    for restarts, match in enumerate(_MARKER.finditer(data, start)):
        code = data[match.end() - 1]
        if code not in RESTARTS and restarts in {expected, expected + 1}:
            return match.start(), restarts
        if code - RESTARTS.start != restarts % 8 or restarts > expected:
            raise CorruptImage("The JPEG is damaged: a part of its pixels is missing. Save it again.")
    raise truncated()


def _without_fill(data: bytes, start: int, end: int) -> int:
    """Step back over the 0xFF bytes that may precede a marker (B.1.1.2)."""
    while end > start and data[end - 1] == FILL:
        piece = data[max(start, end - _PIECE_BYTES) : end]
        end -= len(piece) - len(piece.rstrip(b"\xff"))
    return end


def demand_every_component(scans: Sequence[Scan], frame: Frame) -> None:
    """Refuse scans that leave a component or one of its 64 coefficients unfinished, or refine a missing one (G.1.1)."""
    if not scans:
        raise truncated()
    is_progressive = frame.is_progressive
    missing_bits: dict[tuple[int, int], int] = {}
    for scan in scans:
        first, last, low_bit = (
            (scan.first_coefficient, scan.last_coefficient, scan.low_bit)
            if is_progressive
            else (0, _COEFFICIENTS - 1, 0)
        )
        for component in scan.components:
            if first and (component, 0) not in missing_bits:
                raise _out_of_order()
            for coefficient in range(first, last + 1):
                if is_progressive and scan.high_bit != missing_bits.get((component, coefficient), 0):
                    raise _out_of_order()
                missing_bits[component, coefficient] = low_bit
    if len(missing_bits) < _COEFFICIENTS * len(frame.components) or any(missing_bits.values()):
        raise truncated()


def _out_of_order() -> CorruptImage:
    return CorruptImage("The JPEG is damaged: its scans are incomplete or out of order. Save it again.")
