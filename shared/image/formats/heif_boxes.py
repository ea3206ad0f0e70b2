"""Finds where the boxes of HEIC and AVIF begin and end (ISO/IEC 14496-12, 4.2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD_BYTES = _LARGE_SIZE_BYTES = 8
_SIZE_FOLLOWS, _TO_THE_END = 1, 0
VERSION_BYTES = 4
"""The start of a full box: its version and flags."""


class Box(NamedTuple):
    """A box: its type, and where its content starts and ends."""

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two offsets."""
    while start + _HEAD_BYTES <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + _HEAD_BYTES
        if size == _SIZE_FOLLOWS and body + _LARGE_SIZE_BYTES <= end:
            (size,) = struct.unpack_from(">Q", data, body)
            body += _LARGE_SIZE_BYTES
        stop = end if size == _TO_THE_END else start + size
        if stop < body or stop > end:
            return
        yield Box(kind, body, stop)
        start = stop


def boxes_of_meta(data: bytes, meta: Box) -> Iterator[Box]:
    """Yield the boxes inside `meta`, which is a full box (8.11.1)."""
    return boxes(data, meta.start + VERSION_BYTES, meta.end)


def nested(data: bytes, found: Iterator[Box], *path: bytes) -> Iterator[Box]:
    """Yield the boxes at a path of types."""
    for box in found:
        if not path:
            yield box
        elif box.kind == path[0]:
            yield from nested(data, boxes(data, box.start, box.end), *path[1:])


def written(kind: bytes, content: bytes) -> bytes:
    """Return the bytes of a box."""
    return struct.pack(">I4s", _HEAD_BYTES + len(content), kind) + content
