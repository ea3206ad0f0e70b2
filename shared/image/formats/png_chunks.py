"""Finds where the chunks of a PNG begin and end, and checks their order (https://www.w3.org/TR/png-3/, 5)."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import CorruptImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_HEAD_BYTES, _CHECKSUM_BYTES = 8, 4


class Chunk(NamedTuple):
    """A chunk: where it starts, where its content starts, and where it ends, including its checksum."""

    kind: bytes
    start: int
    body: int
    end: int

    @property
    def body_end(self) -> int:
        """Where its content ends."""
        return self.end - _CHECKSUM_BYTES

    @property
    def size(self) -> int:
        """The length of its content in bytes."""
        return self.body_end - self.body

    def content(self, data: bytes) -> bytes:
        """Return its content."""
        return data[self.body : self.body_end]


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield each chunk (5.3); stop after IEND."""
    start = len(SIGNATURE)
    while start + _HEAD_BYTES + _CHECKSUM_BYTES <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + _HEAD_BYTES
        end = body + size + _CHECKSUM_BYTES
        if not kind.isalpha() or (kind == b"IEND" and size):
            raise CorruptImage("The PNG is damaged: its chunks are not contiguous. Save it again.")
        if end > len(data):
            raise truncated()
        yield Chunk(kind, start, body, end)
        if kind == b"IEND":
            return
        start = end
    raise truncated()


def has_checksum(data: bytes, chunk: Chunk) -> bool:
    """Say whether a chunk's checksum matches (5.5)."""
    view = memoryview(data)
    checksum = zlib.crc32(view[chunk.start + 4 : chunk.body_end])
    return checksum == int.from_bytes(view[chunk.body_end : chunk.end], "big")


def demand_order(found: Sequence[Chunk]) -> None:
    """Refuse duplicates, interrupted pixel data, a palette after pixels and unknown critical chunks (5.6)."""
    kinds = [chunk.kind for chunk in found]
    first, last = kinds.index(b"IDAT"), len(kinds) - 1 - kinds[::-1].index(b"IDAT")
    once = [kind for kind in kinds if kind in CRITICAL - {b"IDAT"}]
    if len(set(once)) < len(once) or set(kinds[first : last + 1]) != {b"IDAT"}:
        raise CorruptImage("The PNG is damaged: its chunks are out of order. Save it again.")
    if b"PLTE" in kinds[last:]:
        raise CorruptImage("The PNG is damaged: its palette comes after its pixels. Save it again.")
    if any(kind[:1].isupper() and kind not in CRITICAL for kind in kinds):
        raise CorruptImage("The PNG holds a critical chunk of an unknown kind. Save it again.")


def truncated() -> CorruptImage:
    """Return the error for a file without an end."""
    return CorruptImage("The PNG is cut short: its end is missing. Upload the whole file.")
