"""Reads the directory of a page (TIFF 6.0, section 2), and refuses one that would overload a decoder.

Pillow copies the value of every entry, wherever its offset points, and warns of every entry that it cannot copy:
thousands of log lines. Valid values do not overlap, so together they are no larger than the file. A tag with one number
must be stored as one number, once: otherwise Pillow would warn as well, and use another value than libtiff.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.formats import tiff_tags as tags
from shared.image.formats import tiff_words

ASSOCIATED, _UNASSOCIATED, _OF_COREL = 1, 2, 999
"""Kinds of alpha channels: 1 if the colours are premultiplied, 2 if not; 999 is Corel's number for 2."""

_UNDECLARED = 4
"""A sample format: the numbers are of an unknown kind, which libtiff reads as unsigned integers."""

Entry = tuple[int, int, bytes]
"""An entry's type, its number of values, and its values as stored."""


@dataclass(frozen=True)
class Directory:
    """The entries of one page, by tag.

    `start` is the directory's offset, and `next_start` that of the next page's directory, 0 for none.
    """

    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]
    next_start: int
    start: int = 0

    @classmethod
    def read(cls, data: bytes, start: int | None = None) -> Directory:
        """Read the first directory, or the one at `start`; refuse one that would overload a decoder."""
        order = "<" if data.startswith(b"II") else ">"
        try:
            if start is None:
                (start,) = struct.unpack_from(order + "I", data, 4)
            return cls._read(data, order, start)
        except struct.error:
            raise broken() from None

    @classmethod
    def _read(cls, data: bytes, order: str, start: int) -> Directory:
        (count,) = struct.unpack_from(order + "H", data, start)
        entries: dict[int, tuple[int, int, int]] = {}
        apart = 0
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
            if not tag:  # some writers reserve more
                continue
            is_twice = tag in entries or (tag in tags.SINGLE and number != 1)
            if is_twice or (tag == tags.PROFILE and kind not in {tags.BYTE, tags.UNDEFINED}):
                raise CorruptImage("The TIFF is damaged: an entry occurs twice in its directory. Save it again.")
            at, size = entry + 8, number * tags.NUMBER_BYTES.get(kind, 1)
            if size > 4:  # noqa: PLR2004 - what fits in the entry itself
                (at,) = struct.unpack_from(order + "I", data, at)
                apart += size
                if at + size > len(data) or apart > len(data):
                    raise broken()
            entries[tag] = kind, number, at
        (further,) = struct.unpack_from(order + "I", data, start + 2 + 12 * count)
        return cls(data, order, entries, further, start)

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels, 0 if they are not stated."""
        return self.first(tags.WIDTH, 0), self.first(tags.HEIGHT, 0)

    def first(self, tag: int, default: int) -> int:
        """Return the first value of an entry."""
        if tag not in self.entries:
            return default
        kind, _, at = self.entries[tag]
        (value,) = struct.unpack_from(self.order + ("H" if kind == tags.SHORT else "I"), self.data, at)
        return int(value)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return all numbers of an entry, or none if the entry is missing."""
        kind, count, at = self.entries.get(tag, (tags.SHORT, 0, 0))
        if kind not in {tags.SHORT, tags.LONG, tags.IFD}:
            raise broken()
        return struct.unpack_from(f"{self.order}{count}{'H' if kind == tags.SHORT else 'I'}", self.data, at)

    @property
    def has_offsets(self) -> bool:
        """Whether it says where its strips or tiles are."""
        return any(self.entries.get(offsets, (0, 0, 0))[1] for offsets, _ in tags.PIECES)

    def pieces(self) -> list[tuple[int, int]]:
        """Return the offset of each strip or tile, and its length in bytes."""
        pairs = tags.PIECES
        if self.first(tags.COMPRESSION, 1) == tags.OLD_JPEG and not self.has_offsets:
            pairs = (tags.OLD_JPEG_STREAM,)
        return [piece for pair in pairs for piece in zip(*map(self.numbers, pair), strict=False)]

    def bytes_of(self, tag: int) -> bytes:
        """Return the values of an entry as stored, or nothing if the entry is missing."""
        kind, count, at = self.entries.get(tag, (tags.BYTE, 0, 0))
        return self.data[at : at + count * tags.NUMBER_BYTES.get(kind, 1)]

    def entry(self, tag: int) -> Entry:
        """Return an entry as `file_of` expects it."""
        kind, count, _ = self.entries.get(tag, (tags.BYTE, 0, 0))
        return kind, count, self.bytes_of(tag)

    def alpha(self, colours: int) -> tuple[int, int] | None:
        """Return the index of the alpha channel and its kind (ExtraSamples)."""
        extra = self.numbers(tags.EXTRA_SAMPLES)
        if not extra and self.first(tags.PHOTOMETRIC, 0) == tags.RGB and self.first(tags.SAMPLES, 1) == colours + 1:
            return colours, _UNASSOCIATED
        for number, kind in enumerate(extra, colours):
            if kind in {ASSOCIATED, _UNASSOCIATED, _OF_COREL}:
                return number, ASSOCIATED if kind == ASSOCIATED else _UNASSOCIATED
        return None

    def unsupported_pixels(self) -> UnsupportedFormat:
        """Return an error that names the kind of pixels."""
        colours = tiff_words.COLOURS.get(self.first(tags.PHOTOMETRIC, 0), "pixels of an unknown kind")
        further = " and additional channels" if tags.EXTRA_SAMPLES in self.entries else ""
        bits = max(self.numbers(tags.BITS) or (1,))
        order = "little" if self.order == "<" else "big"
        numbers = tiff_words.NUMBERS.get(max(self.numbers(tags.SAMPLE_FORMAT) or (1,)), "numbers")
        return UnsupportedFormat(
            f"The TIFF holds {colours}{further} as {bits}-bit {order}-endian {numbers}, which is not supported. "
            "Save it in RGB with 8 bits per channel, or as a JPEG or PNG."
        )

    def has_alike_integers(self) -> bool:
        """Say whether all channels hold unsigned (or undeclared) integers with the same number of bits."""
        return len(set(self.numbers(tags.BITS))) <= 1 and set(self.numbers(tags.SAMPLE_FORMAT)) <= {1, _UNDECLARED}


NOTHING = Directory(b"", "<", {}, 0)
"""A directory without entries."""


def broken() -> CorruptImage:
    """Return the error for an offset outside the file."""
    return CorruptImage(
        "The TIFF is damaged or cut short: its directory points outside the file. Upload the whole file."
    )
