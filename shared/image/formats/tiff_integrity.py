"""Decides whether all pixels of a TIFF are present, before they are decoded.

libtiff repairs what it can, and does not look at bytes that it does not need. So each strip or tile is checked by
itself: an embedded JPEG like a standalone one, deflated data by its checksum, faxes by libtiff's warnings, LZW and
PackBits by their length, as damaged data hardly ever yields the exact number of bytes. Data that yields too few bytes
is reported by libtiff during decoding.

Damage that changes no length stays undetected: in uncompressed data, in the literal bytes of PackBits, and in a JPEG
that yields the same number of blocks.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.formats import jpeg, jpeg_integrity, libtiff
from shared.image.formats import tiff_tags as tags
from shared.image.formats.tiff_writing import file_of, longs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image.formats.tiff import TiffInspection
    from shared.image.formats.tiff_directory import Directory

_FAXES = {2, 3, 4}
"""Run-length-encoded rows, and fax groups 3 and 4."""

_LZW, _JPEG, _PACKBITS = 5, 7, 32_773
_DEFLATED = {8, 32_946}
_INFLATE_BYTES = 1_048_576
_START = b"\xff\xd8"
_MAX_CHECKED = 1_024
_SURPLUS = {_LZW: 1, _PACKBITS: 4}
"""How many surplus bytes are damage: LZW marks its end, PackBits may be padded."""

_LOWEST_BIT_FIRST = 2
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def demand_intact(source: TiffInspection) -> None:
    """Refuse a page whose strips or tiles are damaged."""
    directory = source.directory
    compression = directory.first(tags.COMPRESSION, 1)
    if compression in _FAXES and libtiff.fax_complaints(source.data):
        raise CorruptImage("The TIFF is damaged: rows of its fax are missing, too long or too short. Scan it again.")
    if compression == _JPEG:
        _demand_intact_jpegs(directory)
    if compression in _DEFLATED:
        _demand_checksums(directory)
    is_regular = directory.first(tags.PHOTOMETRIC, 0) != tags.YCBCR and len(set(directory.numbers(tags.BITS))) <= 1
    if compression in _SURPLUS and is_regular:
        _demand_lengths(source, _SURPLUS[compression])


def _demand_intact_jpegs(directory: Directory) -> None:
    """Check each JPEG of a page like a standalone one (TIFF Technical Note 2)."""
    tables = directory.bytes_of(tags.JPEG_TABLES)[:-2] or _START
    for start, end in _checked(directory):
        try:
            inspection = jpeg.inspect(tables + directory.data[start + 2 : end])
        except UnsupportedFormat:
            return  # libtiff may still decode it
        jpeg_integrity.pass_on(inspection)


def _demand_checksums(directory: Directory) -> None:
    """Compare the checksum at the end of each deflated piece, which libtiff ignores."""
    view = memoryview(directory.data)
    is_reversed = directory.first(tags.FILL_ORDER, 1) == _LOWEST_BIT_FIRST
    for start, end in _checked(directory):
        inflater = zlib.decompressobj()
        feed: bytes | memoryview = bytes(view[start:end]).translate(_REVERSED) if is_reversed else view[start:end]
        try:
            while feed and not inflater.eof:
                inflater.decompress(feed, _INFLATE_BYTES)
                feed = inflater.unconsumed_tail
        except zlib.error:
            raise CorruptImage("The TIFF is damaged: a checksum of its pixels does not match. Save it again.") from None
        if not inflater.eof:
            raise CorruptImage("The TIFF is damaged: a part of its pixels is missing. Upload the whole file.")


def _demand_lengths(source: TiffInspection, surplus: int) -> None:
    """Have libtiff decode each piece as rows of one byte, more of them than it should contain."""
    directory = source.directory
    places, sizes = zip(*directory.pieces()[: source.piece_count], strict=True)
    most = source.piece_bytes + surplus
    described = {
        tags.WIDTH: longs(directory.order, 1),
        tags.HEIGHT: longs(directory.order, most * len(places)),
        tags.ROWS_PER_STRIP: longs(directory.order, most),
        tags.BITS: longs(directory.order, 8),
        tags.SAMPLES: longs(directory.order, 1),
        tags.PHOTOMETRIC: longs(directory.order, tags.BLACK_IS_ZERO),
        tags.COMPRESSION: directory.entry(tags.COMPRESSION),
        tags.FILL_ORDER: longs(directory.order, directory.first(tags.FILL_ORDER, 1)),
        tags.STRIPS[0]: longs(directory.order, *places),
        tags.STRIPS[1]: longs(directory.order, *sizes),
    }
    if libtiff.whole_pieces(file_of(directory.order, memoryview(directory.data)[8:], described)):
        raise CorruptImage("The TIFF is damaged: it holds more data than its picture needs. Save it again.")


def _checked(directory: Directory) -> Iterator[tuple[int, int]]:
    """Yield the ranges of the strips or tiles to check: all, or every n-th if there are many."""
    pieces = directory.pieces()
    yield from ((start, start + size) for start, size in pieces[:: 1 + len(pieces) // _MAX_CHECKED])
