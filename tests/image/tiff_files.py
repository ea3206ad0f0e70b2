"""TIFFs that no encoder at hand writes: their directories, strips, tiles, planes and pages."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from tests.image.pictures import encoded, pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

Entries = dict[int, tuple[int, ...]]


def tiff(
    entries: Mapping[int, tuple[int, ...]],
    pixels: bytes,
    order: str = "<",
    kinds: dict[int, tuple[int, str]] | None = None,
) -> bytes:
    """Return a TIFF whose pixels stand at 8; entries are LONG where no other kind and letter of `struct` are given.

    A fraction (kind 5) is given as two numbers.
    """
    start, extra = 8 + len(pixels), b""
    directory = struct.pack(order + "H", len(entries))
    for tag, values in sorted(entries.items()):
        kind, letter = (kinds or {}).get(tag, (4, "I"))
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        at = struct.pack(order + "I", start + 6 + 12 * len(entries) + len(extra))
        directory += struct.pack(order + "HHI", tag, kind, len(values) // (2 if kind == 5 else 1)) + (
            at if len(packed) > 4 else packed.ljust(4, b"\0")
        )
        extra += packed if len(packed) > 4 else b""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", start) + pixels + directory + bytes(4) + extra


def tiff_of_one_tile(side: int) -> bytes:
    """Return a TIFF of one pixel of 16-bit RGBA, in a tile that is so large, and of runs of 128 zeros (PackBits)."""
    pixels = b"\x81\0" * (side * side // 16)
    shape = {256: (1,), 257: (1,), 258: (16,) * 4, 259: (32_773,), 262: (2,), 277: (4,), 338: (2,)}
    return tiff({**shape, 322: (side,), 323: (side,), 324: (8,), 325: (len(pixels),)}, pixels)


def tiff_of_planes(order: str, photometric: int, depth: int, planes: int, **more: tuple[int, ...]) -> bytes:
    """Return a TIFF of 16 x 16 whose n-th plane has nothing but the n-th of these values, in strips of 6 rows."""
    values = [(2**depth - 1) * level // 10 for level in (9, 5, 2, 1)][:planes]
    rows = [struct.pack(f"{order}16{'H' if depth == 16 else 'B'}", *[value] * 16) for value in values]
    lengths = [len(rows[0]) * count for count in (6, 6, 4)] * planes
    entries = {256: (16,), 257: (16,), 258: (depth,) * planes, 259: (1,), 262: (photometric,), 277: (planes,)}
    entries |= {273: tuple(8 + sum(lengths[:strip]) for strip in range(len(lengths))), 279: tuple(lengths)}
    entries |= {278: (6,), 284: (2,), **{int(tag): value for tag, value in more.items()}}
    short = dict.fromkeys((258, 259, 262, 277, 284, 338, 339), (3, "H"))
    return tiff(entries, b"".join(row * 16 for row in rows), order, short)


def fax(group: str, *, both: bool = False) -> bytes:
    """Return a TIFF of a written page as a fax machine makes it, of group 3 in one dimension or in both."""
    page = Image.new("1", (800, 600), 1)
    draw = ImageDraw.Draw(page)
    for row in range(20):
        draw.text((20 + row, 10 + 28 * row), "The quick brown fox jumps over the lazy dog. " * 3, fill=0)
    return encoded(page, "TIFF", compression=group, **({"tiffinfo": {292: 1}} if both else {}))


def shape(image: Image.Image, **more: tuple[int, ...]) -> Entries:
    """Return the entries of an RGB picture but for its pixels."""
    entries: Entries = {256: (image.width,), 257: (image.height,), 258: (8, 8, 8), 262: (2,), 277: (3,)}
    return {**entries, **{int(tag): values for tag, values in more.items()}}


def behind_a_thumbnail(page: bytes, kind: int = 1) -> bytes:
    """Return a TIFF of one page with a further page before it, of 8 x 8 pixels, that says what kind of page it is."""
    (start,) = struct.unpack_from("<I", page, 4)
    at = len(page) + len(page) % 2
    entries = {**shape(pattern()), 254: (kind,), 256: (8,), 257: (8,), 259: (1,), 273: (8,), 278: (8,), 279: (192,)}
    written = tiff(entries, bytes(at - 8), kinds=dict.fromkeys(entries, (4, "I")))
    directory = at + 2 + 12 * len(entries)
    assert written[directory : directory + 4] == bytes(4)
    behind = written[:directory] + struct.pack("<I", start) + written[directory + 4 :]
    return behind[:4] + struct.pack("<I", at) + page[8:].ljust(at - 8, b"\0") + behind[at:]
