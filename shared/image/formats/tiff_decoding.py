"""Decides who decodes a TIFF: Pillow, Pillow plane by plane, or who decodes a JPEG, where that is a DNG's preview."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.formats import jpeg, jpeg_integrity, libtiff, tiff, tiff_planes
from shared.image.formats.jpeg import JpegInspection
from shared.image.formats.tiff_plugin import FirstPage, UnknownPixels
from shared.image.inspection import as_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

    from shared.image.formats.tiff import TiffInspection

_FAXES = {2, 3, 4}
"""Rows as run lengths, and fax's groups 3 and 4."""

_JPEG = 7
_DEFLATED = {8, 32_946}
_INFLATE_BYTES = 1_048_576
_START = b"\xff\xd8"
_MAX_CHECKED = 1_024


def pass_on(source: JpegInspection) -> bytes:
    """Return the preview of a DNG without its metadata, once it is found intact."""
    return jpeg_integrity.pass_on(source)


def open_image(source: TiffInspection | JpegInspection, scale: int = 1) -> Image:
    """Open the first page, or the preview of a DNG; refuse pixels of an unknown kind by name."""
    if isinstance(source, JpegInspection):
        return jpeg_integrity.decode(source, scale)
    directory = source.directory
    compression = directory.first(tiff.COMPRESSION, 1)
    if compression in _FAXES and libtiff.fax_complaints(source.data):
        raise CorruptImage("The TIFF is damaged: rows of its fax are missing, or too long or too short. Scan it again.")
    if compression == _JPEG:
        _demand_intact_jpegs(directory)
    if compression in _DEFLATED:
        _demand_checksums(directory)
    if source.has_planes:
        return tiff_planes.assemble(source)
    try:
        return FirstPage(as_file(source.data))
    except UnknownPixels as error:
        raise directory.unsupported_pixels() from error


def _demand_intact_jpegs(directory: tiff.Directory) -> None:
    """Check each JPEG of a page as one that comes alone (TIFF Technical Note 2)."""
    tables = directory.bytes_of(tiff.JPEG_TABLES)[:-2] or _START
    for start, end in _checked(directory):
        try:
            inspection = jpeg.inspect(tables + directory.data[start + 2 : end])
        except UnsupportedFormat:
            return  # which libtiff may read all the same
        jpeg_integrity.pass_on(inspection)


def _demand_checksums(directory: tiff.Directory) -> None:
    """Compare the checksum at the end of each deflated piece, at which libtiff does not look."""
    view = memoryview(directory.data)
    for start, end in _checked(directory):
        inflater = zlib.decompressobj()
        feed: bytes | memoryview = view[start:end]
        try:
            while feed and not inflater.eof:
                inflater.decompress(feed, _INFLATE_BYTES)
                feed = inflater.unconsumed_tail
        except zlib.error:
            raise CorruptImage("The TIFF is damaged: a checksum of its pixels does not match. Save it again.") from None


def _checked(directory: tiff.Directory) -> Iterator[tuple[int, int]]:
    """Yield where the strips or tiles are that are checked one by one: all, or every n-th where they are many."""
    for offsets, counts in tiff.PIECES:
        pieces = list(zip(directory.numbers(offsets), directory.numbers(counts), strict=False))
        yield from ((start, start + size) for start, size in pieces[:: 1 + len(pieces) // _MAX_CHECKED])
