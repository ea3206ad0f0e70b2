"""Reads what a HEIC or AVIF says about its items: their types, properties and byte ranges.

All of it is in `meta` (ISO/IEC 14496-12, 8.11; ISO/IEC 23008-12, 6 and 9).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import CorruptImage
from shared.image import colour
from shared.image.formats.heif_boxes import boxes, boxes_of_meta, nested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image.colour import ColourSpace
    from shared.image.formats.heif_boxes import Box

_MAX_DEPTH = 4
_SHORT_ITEMS = 2
"""The last version of `infe` whose item numbers have two bytes."""


@dataclass(frozen=True)
class Items:
    """The pictures in a file: their properties, and which pictures they are derived from.

    `primary` is the item to show.
    """

    data: bytes
    properties: tuple[Box, ...]
    owned: dict[int, list[int]]
    parts: dict[int, tuple[int, ...]]
    primary: int

    @classmethod
    def read(cls, data: bytes, meta: Box) -> Items:
        """Read the items of a `meta` box."""
        primary = 0
        for kind, body, _ in boxes_of_meta(data, meta):
            if kind == b"pitm":
                primary = int.from_bytes(data[body + 4 : body + (8 if data[body] else 6)], "big")
        properties = tuple(nested(data, boxes_of_meta(data, meta), b"iprp", b"ipco"))
        owned = _owned(data, meta, len(properties))
        return cls(data, properties, owned, _parts(data, meta), primary)

    def size(self, number: int) -> tuple[int, int] | None:
        """Return the width and height of a property (`ispe`, 23008-12, 6.5.3)."""
        kind, body, stop = self.properties[number]
        if kind != b"ispe" or body + 12 > stop:
            return None
        width, height = struct.unpack_from(">II", self.data, body + 4)
        return width, height

    def largest_size(self) -> tuple[int, int] | None:
        """Return the size with the most pixels among the properties, or None if there is none."""
        sizes = filter(None, map(self.size, range(len(self.properties))))
        return max(sizes, key=lambda size: size[0] * size[1], default=None)

    def depth(self) -> int:
        """Return the largest number of bits per channel in the properties."""
        return max((_depth(self.data, box) for box in self.properties), default=8)

    def first_coded(self) -> int:
        """Return the first item that is decoded for the picture."""
        item = self.primary
        for _ in range(_MAX_DEPTH):
            item = next(iter(self.parts.get(item, ())), item)
        return item

    def colours(self) -> ColourSpace | None:
        """Return the colours (`colr` of type `nclx`) of the picture, or of the first item that it is derived from."""
        for item in (self.primary, *self.parts.get(self.primary, ())[:1]):
            for body, stop in self._of(item, b"colr"):
                if self.data[body : body + 4] == b"nclx" and body + 10 <= stop:
                    return colour.of_cicp(*struct.unpack_from(">HH", self.data, body + 4))
        return None

    def configuration(self, kind: bytes) -> bytes:
        """Return how the picture's decoder is configured (`hvcC`), or that of the first that it is put together of."""
        for item in (self.primary, *self.parts.get(self.primary, ())[:1]):
            for body, stop in self._of(item, kind):
                return self.data[body:stop]
        return b""

    def clean_aperture(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Return the visible part of the picture (`clap`, 14496-12, 12.1.4.1), or None for all of it."""
        for body, stop in self._of(self.primary, b"clap"):
            numbers = struct.unpack_from(">iIiIiIiI", self.data, body) if body + 32 <= stop else ()
            if numbers and all(numbers[1::2]):
                across, down, right, below = map(Fraction, numbers[::2], numbers[1::2])
                left, top = round((width - across) / 2 + right), round((height - down) / 2 + below)
                box = left, top, left + round(across), top + round(down)
                if 0 <= left < box[2] <= width and 0 <= top < box[3] <= height:
                    return box
        return None

    def alphas_without_size(self) -> list[int]:
        """Return the alpha items (`auxC`, 23008-12, 6.5.8) that do not state a size."""
        return [
            item
            for item, numbers in self.owned.items()
            if any(b":alpha" in self.data[body:stop] for body, stop in self._of(item, b"auxC"))
            and not any(map(self.size, numbers))
        ]

    def _of(self, item: int, wanted: bytes) -> Iterator[tuple[int, int]]:
        """Yield the content of an item's properties of one type."""
        for number in self.owned.get(item, []):
            kind, body, stop = self.properties[number]
            if kind == wanted:
                yield body, stop


def _depth(data: bytes, box: Box) -> int:
    """Return the bits per channel (av1C, AV1-ISOBMFF 2.3.3; hvcC, 14496-15, 8.3.3.1)."""
    if box.kind == b"av1C":
        flags = data[box.start : box.end][2]
        return 8 + 2 * (flags >> 6 & 1) + 2 * (flags >> 5 & 1)
    return 8 + (data[box.start : box.end][17] & 7) if box.kind == b"hvcC" else 8


def _owned(data: bytes, meta: Box, property_count: int) -> dict[int, list[int]]:
    """Return the properties of each item, by their index (`ipma`, 23008-12, 9.3)."""
    owned: dict[int, list[int]] = {}
    for kind, body, stop in nested(data, boxes_of_meta(data, meta), b"iprp"):
        if kind != b"ipma":
            continue
        version, flags, count = data[body], data[body + 3], int.from_bytes(data[body + 4 : body + 8], "big")
        at, item_bytes, index_bytes = body + 8, 4 if version else 2, 2 if flags & 1 else 1
        for _ in range(count):
            if at >= stop:
                break
            item, of = int.from_bytes(data[at : at + item_bytes], "big"), data[at + item_bytes]
            at += item_bytes + 1
            for _ in range(of):
                index = int.from_bytes(data[at : at + index_bytes], "big") & (0x7FFF if flags & 1 else 0x7F)
                at += index_bytes
                if 0 < index <= property_count:
                    owned.setdefault(item, []).append(index - 1)
    return owned


def _parts(data: bytes, meta: Box) -> dict[int, tuple[int, ...]]:
    """Return the items that each derived picture is made of (`dimg` in `iref`; 14496-12, 8.11.12, 23008-12, 6.4)."""
    parts: dict[int, tuple[int, ...]] = {}
    for kind, body, stop in boxes_of_meta(data, meta):
        if kind == b"iref":
            item = "I" if data[body] else "H"
            for reference, inside, until in boxes(data, body + 4, stop):
                named = inside + struct.calcsize(f">{item}H")
                if reference == b"dimg" and named <= until:
                    whole, count = struct.unpack_from(f">{item}H", data, inside)
                    if whole in parts:
                        raise CorruptImage(
                            "The image is damaged: one of its pictures is derived in two ways. Save it again."
                        )
                    parts[whole] = struct.unpack_from(f">{count}{item}", data, named)
    return parts


def item_types(data: bytes, meta: Box) -> dict[int, bytes]:
    """Return each item's type (`infe`, 14496-12, 8.11.6); refuse a type, name or media type that is not UTF-8.

    pi-heif decodes these for all items except the picture, without handling errors, and crashes.
    """
    types = {}
    for kind, body, stop in boxes_of_meta(data, meta):
        if kind == b"iinf":
            for _, inside, until in boxes(data, body + (8 if data[body] else 6), stop):
                at = inside + (10 if data[inside] > _SHORT_ITEMS else 8)
                str(data[at:until], "utf-8")
                types[int.from_bytes(data[inside + 4 : at - 2], "big")] = data[at : at + 4]
    return types


class Extent(NamedTuple):
    """A byte range of an item, in the file or within `idat`; a length of 0 means up to the end."""

    item: int
    is_within: bool
    place: int
    length: int


def extents(data: bytes, meta: Box) -> Iterator[Extent]:
    """Yield the byte ranges of each item (`iloc`, 14496-12, 8.11.3)."""
    for kind, body, _ in boxes_of_meta(data, meta):
        if kind != b"iloc":
            continue
        version, sizes = data[body], data[body + 4 : body + 6].hex()
        offset, length, base, index = (int(digit, 16) for digit in sizes)
        wide = 4 if version == 2 else 2  # noqa: PLR2004 - the version with longer numbers
        at = body + 6 + wide
        for _ in range(int.from_bytes(data[body + 6 : at], "big")):
            item = int.from_bytes(data[at : at + wide], "big")
            at += wide + (4 if version else 2) + base
            is_within = bool(version and data[at - base - 3] & 15)
            place = int.from_bytes(data[at - base : at], "big")
            count = int.from_bytes(data[at : at + 2], "big")
            at += 2
            if at > meta.end:
                break
            for _ in range(count):
                at += (index if version else 0) + offset + length
                here = int.from_bytes(data[at - length - offset : at - length], "big")
                yield Extent(item, is_within, place + here, int.from_bytes(data[at - length : at], "big"))


def stored_within(data: bytes, meta: Box) -> tuple[int, int]:
    """Return the start and the length of the item data within `meta` (`idat`, 8.11.11)."""
    return next(((body, stop - body) for kind, body, stop in boxes_of_meta(data, meta) if kind == b"idat"), (0, 0))
