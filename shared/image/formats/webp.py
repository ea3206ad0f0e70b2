"""Inspects a WebP: its size and orientation. https://developers.google.com/speed/webp/docs/riff_container.

Pillow's decoder allocates the whole canvas when it opens a file: a file of 38 bytes can ask for 2.5 GB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from shared.errors import CorruptImage
from shared.image import colour
from shared.image.formats import exif
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

_LISTED = {b"EXIF": slice(0, None), b"ANMF": slice(0, 20), b"XMP ": slice(0), b"VP8L": slice(0)}
"""The chunks to look for, and how much of them to read."""


@dataclass(frozen=True)
class WebpInspection(Inspection):
    """What the chunks say; `is_partial`: parts of the canvas are outside an animation's first frame."""

    is_partial: bool = False


def inspect(data: bytes) -> WebpInspection:
    """Read the size from the first chunk, the orientation from the EXIF chunk, and the size of an animation's frame."""
    try:
        width, height = _size(data)
        chunks = _chunks(data)
    except struct.error:
        raise _broken() from None
    if (
        int.from_bytes(data[4:8], "little") + 8 > len(data) + 1
    ):  # some writers leave out the last byte, which is padding
        raise CorruptImage("The WebP is cut short: it has fewer bytes than it states. Upload the whole file.")
    block = chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0")
    frame = chunks.get(b"ANMF", b"")
    return WebpInspection(
        data,
        ImageHeader("image/webp", width, height),
        orientation=exif.orientation(block),
        colours=colour.ADOBE_RGB if exif.states_adobe_rgb(block) else None,
        is_lossless=b"VP8L" in {*chunks, frame[16:20]},
        is_partial=bool(frame) and frame[:12] != b"".join((bytes(6), *map(_less_one, (width, height)))),
        has_metadata=not chunks.keys().isdisjoint({b"EXIF", b"XMP ", b"ANMF"}),
    )


def _size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] == b"VP8X":
        (width, high, height, higher) = struct.unpack_from("<HBHB", data, 24)
        return width + (high << 16) + 1, height + (higher << 16) + 1
    raise _broken()


def _less_one(side: int) -> bytes:
    """Return the length of a frame's side as stored."""
    return (side - 1).to_bytes(3, "little")


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the first chunk of each kind to look for: the EXIF block, and an animation's frame."""
    found: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        if kind in _LISTED and kind not in found:
            found[kind] = bytes(memoryview(data)[position + 8 : position + 8 + size][_LISTED[kind]])
        position += 8 + size + size % 2
    return found


def _broken() -> CorruptImage:
    return CorruptImage("The WebP is cut short or damaged. Upload the whole file.")
