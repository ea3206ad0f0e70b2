"""Decides about PNG: which of its chunks leave, whether it may pass, and whether it is sound.

The format is https://www.w3.org/TR/png-3/ (5 for the chunks, 9 for the filters, 8 for interlacing). APNG's frames and
every text, time and EXIF chunk are cut off; what a decoder needs to show the right colours stays.

Soundness is checked without a picture: every CRC, then the inflated stream against the exact number of bytes that the
header promises, its filter bytes and its end. Half of the cost of decoding, and 3 MB of memory whatever the size.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from shared.errors import CorruptImage
from shared.image import exif
from shared.image.model import ImageHeader
from shared.image.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.PngImagePlugin import PngImageFile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_MAX_PROFILE_BYTES = 4_000_000
_INFLATE_BYTES = 1_048_576


@dataclass(frozen=True)
class PngSurvey(Survey):
    """What the chunks say. `kept` are the (start, end) of the pieces that leave, `pixel_data` of the IDAT bodies."""

    depth: int = 8
    colour_type: int = 2
    interlaced: bool = False
    kept: tuple[tuple[int, int], ...] = ()
    pixel_data: tuple[tuple[int, int], ...] = ()


def survey(data: bytes) -> PngSurvey:
    """Walk the chunks up to IEND; refuse what is cut short or malformed. Looks at no pixel data."""
    kept: list[tuple[int, int]] = [(0, len(SIGNATURE))]
    pixel_data: list[tuple[int, int]] = []
    orientation, dropped = 1, False
    header: tuple[int, int, int, int, bool] | None = None
    for kind, start, body, end in _chunks(data):
        if (kind == b"IHDR") == (header is not None):
            raise CorruptImage("The PNG is damaged: its header is not where it must be. Save it anew.")
        if kind == b"IHDR":
            header = _header(data[body : end - 4])
        elif kind == b"IDAT":
            if pixel_data and kept[-1][1] != start:
                raise CorruptImage("The PNG is damaged: its pixel data are torn apart. Save it anew.")
            pixel_data.append((body, end - 4))
        elif kind == b"iCCP":
            _demand_sane_profile(data[body : end - 4])
        elif kind == b"eXIf":
            orientation = exif.orientation(memoryview(data)[body : end - 4])
        elif kind[0] & 0x20 == 0 and kind not in _KEPT:
            raise CorruptImage("The PNG holds a critical part that no decoder knows. Save it anew.")
        if kind in _KEPT:
            kept.append((kept.pop()[0], end) if kept[-1][1] == start else (start, end))
        else:
            dropped = True
    if header is None or not pixel_data:
        raise _truncated()
    width, height, depth, colour_type, interlaced = header
    return PngSurvey(
        data=data,
        header=ImageHeader("image/png", width, height),
        orientation=orientation,
        has_metadata=dropped or kept[-1][1] < len(data),
        fits_as_is=depth <= 8,  # noqa: PLR2004 - bits
        depth=depth,
        colour_type=colour_type,
        interlaced=interlaced,
        kept=tuple(kept),
        pixel_data=tuple(pixel_data),
    )


def lossless(source: PngSurvey) -> bytes:
    """Return the file without its metadata: the very same object where there was none."""
    if not source.has_metadata:
        return source.data
    return b"".join(memoryview(source.data)[start:end] for start, end in source.kept)


def verify(source: PngSurvey) -> None:
    """Inflate all of it and compare with what the header promises, then let a decoder open what will be sent."""
    open_image(source)
    inflater = zlib.decompressobj()
    rows = _Rows(source)
    view = memoryview(source.data)
    for start, end in source.pixel_data:
        feed: bytes | memoryview = view[start:end]
        while len(feed) and not inflater.eof:
            rows.take(inflater.decompress(feed, _INFLATE_BYTES))
            feed = inflater.unconsumed_tail
    if not inflater.eof or inflater.unused_data or rows.missing:
        raise CorruptImage("The PNG is damaged: its pixel data are not complete. Save it anew.")


def open_image(source: PngSurvey) -> PngImageFile:
    """Open it without its metadata, every checksum of the rest compared: Pillow skips those of the pixel data."""
    from io import BytesIO  # noqa: PLC0415 - beside Pillow, which is slow to import

    from PIL.PngImagePlugin import PngImageFile  # noqa: PLC0415 - slow to import, and a refusal does not need it

    sound = lossless(source)
    _demand_checksums(sound)
    return PngImageFile(BytesIO(sound))


def _demand_checksums(data: bytes) -> None:
    view = memoryview(data)
    for _, start, _, end in _chunks(data):
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise CorruptImage("The PNG is damaged: a checksum does not match. Upload the file again or save it anew.")


class _Rows:
    """Counts the bytes of the rows as they come and looks at the filter byte before each."""

    def __init__(self, source: PngSurvey) -> None:
        self._passes = list(_passes(source))[::-1]
        self._offset = 0

    @property
    def missing(self) -> bool:
        return bool(self._passes)

    def take(self, piece: bytes) -> None:
        taken = 0
        while taken < len(piece):
            if not self._passes:
                raise CorruptImage("The PNG is damaged: it holds more data than its picture needs. Save it anew.")
            stride, rows = self._passes[-1]
            here = min(len(piece) - taken, stride * rows - self._offset)
            filters = piece[taken + -self._offset % stride : taken + here : stride]
            if filters.strip(b"\0\1\2\3\4"):
                raise CorruptImage("The PNG is damaged: a row is filtered in no known way. Save it anew.")
            taken += here
            self._offset += here
            if self._offset == stride * rows:
                self._passes.pop()
                self._offset = 0


def _passes(source: PngSurvey) -> Iterator[tuple[int, int]]:
    """Yield the bytes of a row, with its filter byte, and the number of rows, of each pass that has any."""
    width, height = source.header.width, source.header.height
    bits = source.depth * _CHANNELS[source.colour_type]
    for left, top, across, down in _ADAM7 if source.interlaced else ((0, 0, 1, 1),):
        columns, rows = ceil((width - left) / across), ceil((height - top) / down)
        if columns > 0 and rows > 0:
            yield 1 + ceil(columns * bits / 8), rows


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield each chunk as type, start, start of its body, end; stop after IEND."""
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        body, end = start + 8, start + 12 + size
        if not kind.isalpha():
            raise CorruptImage("The PNG is damaged: its parts do not follow one another. Save it anew.")
        if end > len(data):
            raise _truncated()
        yield kind, start, body, end
        if kind == b"IEND":
            return
        start = end
    raise _truncated()


def _header(body: bytes) -> tuple[int, int, int, int, bool]:
    try:
        width, height, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    except struct.error:
        raise _truncated() from None
    if not width or not height or depth not in _DEPTHS.get(colour_type, ()):
        raise CorruptImage("The PNG is damaged: its header describes no picture. Save it anew.")
    if compression or filtering or interlace > 1:
        raise CorruptImage("The PNG is damaged: its header describes an unknown method. Save it anew.")
    return width, height, depth, colour_type, bool(interlace)


def _demand_sane_profile(body: bytes) -> None:
    """Refuse a colour profile that inflates without end: 4 KB of it can hold gigabytes."""
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(body[body.index(b"\0") + 2 :], _MAX_PROFILE_BYTES)
    except (ValueError, zlib.error):
        raise CorruptImage("The PNG is damaged: its colour profile cannot be read. Save it anew.") from None
    if not inflater.eof:
        raise CorruptImage("The PNG's colour profile is cut short or too large. Save it anew.")


def _truncated() -> CorruptImage:
    return CorruptImage("The PNG is cut short: its end is missing. Upload the whole file.")
