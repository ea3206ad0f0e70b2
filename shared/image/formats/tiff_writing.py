"""Writes a TIFF of one page from parts of another one, for a decoder that would misinterpret the whole file."""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING

from shared.image.formats import tiff_tags as tags
from shared.image.formats.tiff_directory import broken

if TYPE_CHECKING:
    from shared.image.formats.tiff_directory import Directory, Entry


def longs(order: str, *numbers: int) -> Entry:
    """Return an entry of numbers."""
    return tags.LONG, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)


def file_of(order: str, pixels: bytes | memoryview, entries: dict[int, Entry]) -> bytes:
    """Write a TIFF of one directory, whose pixels begin at offset 8."""
    start = 8 + len(pixels) + len(pixels) % 2
    at = start + 6 + 12 * len(entries)
    head, values = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, count, value) in sorted(entries.items()):
        apart = len(value) > 4  # noqa: PLR2004 - what fits in the entry itself
        head += struct.pack(order + "HHI", tag, kind, count)
        head += struct.pack(order + "I", at + len(values)) if apart else value.ljust(4, b"\0")
        values += value + bytes(len(value) % 2) if apart else b""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return b"".join((magic, struct.pack(order + "I", start), pixels, bytes(len(pixels) % 2), head, bytes(4), values))


def file_of_pieces(directory: Directory, pieces: list[tuple[int, int]], entries: dict[int, Entry]) -> bytes:
    """Write a TIFF with some of a page's strips or tiles, and with the given entries."""
    where, sizes = next(pair for pair in tags.PIECES if directory.numbers(pair[0]))
    if sum(size for _, size in pieces) > len(directory.data):
        raise broken()
    view = memoryview(directory.data)
    pixels = b"".join(view[at : at + size] for at, size in pieces)
    starts = list(accumulate((size for _, size in pieces[:-1]), initial=8))
    places = {
        where: longs(directory.order, *starts),
        sizes: longs(directory.order, *(size for _, size in pieces)),
    }
    return file_of(directory.order, pixels, {**entries, **places})
