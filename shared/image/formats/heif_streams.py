"""Finds where items and the streams of an AVIF begin: a decoder reads that first, and it states the colours."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from shared.image.formats.heif_boxes import boxes, nested
from shared.image.formats.heif_items import extents, item_types, stored_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image.formats.heif_boxes import Box

_HEAD_BYTES = 65_536
"""A stream states its colours before its first picture (AV1, 7.5)."""


def stream_heads(data: bytes) -> Iterator[bytes]:
    """Yield the beginning of each stream in an AVIF: of its items, and of each track's first picture."""
    for box in boxes(data, 0, len(data)):
        if box.kind == b"meta":
            yield from item_heads(data, box, b"av01")
        elif box.kind == b"moov":
            for track in boxes(data, box.start, box.end):
                if track.kind == b"trak" and data.find(b"av01", track.start, track.end) >= 0:
                    yield _of_track(data, track)


def item_heads(data: bytes, meta: Box, kind: bytes) -> Iterator[bytes]:
    """Yield how the items of a kind begin."""
    types, (own, _) = item_types(data, meta), stored_within(data, meta)
    heads: dict[int, bytes] = {}
    for item, is_within, place, length in extents(data, meta):
        if types.get(item) == kind:
            head, at = heads.get(item, b""), place + own if is_within else place
            heads[item] = head + data[at : at + min(length or len(data), _HEAD_BYTES - len(head))]
    return iter(heads.values())


def _of_track(data: bytes, track: Box) -> bytes:
    """Return the beginning of a track's first sample (14496-12, 8.7.3 and 8.7.5)."""
    within = boxes(data, track.start, track.end)
    tables = {kind: body for kind, body, _ in nested(data, within, b"mdia", b"minf", b"stbl")}
    sizes = tables[b"stsz"] + 4
    (place,) = (
        struct.unpack_from(">I", data, tables[b"stco"] + 8)
        if b"stco" in tables
        else struct.unpack_from(">Q", data, tables[b"co64"] + 8)
    )
    size, _, first = struct.unpack_from(">III", data, sizes)
    return data[place : place + min(size or first, _HEAD_BYTES)]
