"""Decides about JPEG: where its pieces lie, which of them leave, and whether it may pass.

The format is ITU-T T.81 (https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B for the markers); JFIF is T.871, Adobe's
marker is in T.872, the ICC segments are in ICC.1 annex B.

Whether the pixels between the markers are intact is decided in `jpeg_integrity`, while they are decoded.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.formats import exif
from shared.image.formats.text_mode import has_converted_line_ends
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOI, EOI, SOS, DHT, DQT, DRI, DNL, COM = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xDC, 0xFE
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
_FRAMES = {BASELINE, EXTENDED, PROGRESSIVE, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_RESTARTS = range(0xD0, 0xD8)
_APPLICATION = range(0xE0, 0xF0)
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_JFIF_BYTES, _ADOBE_BYTES = 14, 12
"""Of a segment that tells the colours and nothing else: no thumbnail, nothing hidden behind."""

_MAX_FILL_BYTES = 16
"""Before one marker, of those that stay: Pillow walks over them in Python. Encoders write one or two."""

_AC_TABLE = 0x10
"""Set in the number under which a Huffman table is announced, if it is for coefficients other than the first."""

_SUBSAMPLED = 2
"""Samples for each pixel; of several scans with more, a decoder keeps 6 bytes or 8 for each."""

_ANNEX_K_LUMA = bytes.fromhex(
    "100b0a101828333d0c0c0e131a3a3c370e0d1018283945380e11161d335750"
    "3e12162538446d674d182337405168715c31404e5767797865485c5f6270646763"
)
"""The luminance table of T.81 K.1, row by row, that IJG quality 50 stands for."""

_ANNEX_K_LUMA_SUM = sum(_ANNEX_K_LUMA)


@dataclass(frozen=True)
class Scan:
    """One pass over the picture: which components and coefficients it completes, and where its entropy data lie."""

    components: tuple[int, ...]
    first_coefficient: int
    last_coefficient: int
    high_bit: int
    low_bit: int
    start: int
    end: int
    restarts: int

    def markers(self, data: bytes) -> Iterator[int]:
        """Yield where its restart markers are."""
        return (match.start() for match in islice(_MARKER.finditer(data, self.start), self.restarts))


@dataclass(frozen=True)
class JpegInspection(Inspection):
    """What the markers say."""

    scans: tuple[Scan, ...] = ()
    luma_scale_percent: float = 100.0
    is_opaque: bool = True

    @property
    def end(self) -> int:
        """Where the picture ends, its end marker included."""
        return self.kept[-1][1]

    @property
    def entropy_bytes(self) -> int:
        """How many bytes describe pixels."""
        return sum(scan.end - scan.start for scan in self.scans)


def inspect(data: bytes) -> JpegInspection:
    """Walk the markers up to the first end marker; refuse what is cut short or malformed."""
    if has_converted_line_ends(data):
        raise CorruptImage(
            "The JPEG was changed by a transfer in text mode, which converts line ends. Transfer it in binary mode."
        )
    parser = _Parser(data)
    for marker, start, body, end in _segments(data, parser):
        if marker in _FRAMES:
            parser.frame(marker, body, end)
        elif marker == DQT:
            parser.quantization(body, end)
        elif marker == DHT:
            parser.huffman(body, end)
        elif marker == DRI:
            parser.restart_interval = int.from_bytes(data[body:end], "big")
        elif marker == DNL:
            raise UnsupportedFormat("The JPEG states its height only after its pixels. Save it again as a JPEG.")
        if marker in _APPLICATION or marker == COM:
            parser.application(marker, start, body, end)
        else:
            parser.keep(start, end)
    return parser.result()


def _segments(data: bytes, parser: _Parser) -> Iterator[tuple[int, int, int, int]]:
    """Yield each segment as marker, start, start of its body, end; the entropy data go to `parser` as scans."""
    position = 2
    parser.keep(0, position)
    while True:
        start = _next_marker(data, position, may_skip=not parser.has_scans)
        if start - position > _MAX_FILL_BYTES or data[position:start].strip(b"\xff"):
            parser.drop()
        else:
            parser.keep(position, start)
        marker, body = data[start + 1], start + 4
        if marker == EOI:
            parser.keep(start, start + 2)
            if start + 2 < len(data):
                parser.drop()
            return
        if marker in _RESTARTS or marker in {0x00, 0x01, SOI}:
            raise CorruptImage("The JPEG is damaged: a marker stands where none may be. Save it again.")
        end = start + 2 + int.from_bytes(data[start + 2 : body], "big")
        if end < body or end > len(data):
            raise _truncated()
        yield marker, start, body, end
        position = end
        if marker == SOS:
            position = parser.scan(body, end)
            parser.keep(end, position)


def _next_marker(data: bytes, position: int, *, may_skip: bool) -> int:
    """Return where the marker is that must come next: the format pads with 0xFF (B.1.1.2), some cameras with zeros.

    Before the first scan, some programs leave other bytes there as well, which every decoder skips.
    """
    padding = _PADDING.match(data, position)
    stop = padding.end() if padding else position
    if stop == len(data):
        raise _truncated()
    if stop > position and data[stop - 1] == _FILL and (data[stop] or not may_skip):
        return stop - 1
    skipped = _SEGMENT.search(data, position, position + _MAX_JUNK_BYTES) if may_skip else None
    if not skipped:
        raise CorruptImage("The JPEG is damaged: its parts do not follow one another. Save it again.")
    return skipped.end() - 2


class _Parser:
    """What has been learnt on the way through one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.restart_interval = 0
        self._kept: list[tuple[int, int]] = []
        self._dropped = False
        self._has_jfif = False
        self._has_adobe = False
        self._burdened: list[tuple[int, int]] = []
        self._orientation: int | None = None
        self._process = 0
        self._size = (0, 0)
        self._sampling: dict[int, tuple[int, int, int]] = {}
        self._tables: dict[int, int] = {}
        self._most_bits: dict[int, int] = {}
        self._scans: list[Scan] = []

    @property
    def has_scans(self) -> bool:
        return bool(self._scans)

    def keep(self, start: int, end: int) -> None:
        if self._kept and self._kept[-1][1] == start:
            start = self._kept.pop()[0]
        self._kept.append((start, end))

    def drop(self) -> None:
        self._dropped = True

    def application(self, marker: int, start: int, body: int, end: int) -> None:
        """Keep what a decoder needs to show the right colours: JFIF, Adobe, ICC."""
        content = self.data[body : min(end, body + 16)]
        is_jfif = marker == _APP0 and content.startswith(b"JFIF\0") and end - body >= _JFIF_BYTES
        is_adobe = marker == _APP14 and content.startswith(b"Adobe") and end - body >= _ADOBE_BYTES
        is_bare = end - body == (_JFIF_BYTES if is_jfif else _ADOBE_BYTES)
        self._has_adobe |= is_adobe
        self._has_jfif |= is_jfif and is_bare
        if (is_bare and (is_jfif or is_adobe)) or (marker == _APP2 and content.startswith(b"ICC_PROFILE\0")):
            self.keep(start, end)
            return
        if is_jfif or is_adobe:
            self._burdened.append((start, end))
        if marker == _APP1 and content.startswith(b"Exif\0") and self._orientation is None:
            self._orientation = exif.orientation(memoryview(self.data)[body + 6 : end])
        self.drop()

    def frame(self, marker: int, body: int, end: int) -> None:
        if self._process:
            raise CorruptImage("The JPEG is damaged: it begins a second picture. Save it again.")
        precision, height, width, count = (
            self.data[body],
            int.from_bytes(self.data[body + 1 : body + 3], "big"),
            int.from_bytes(self.data[body + 3 : body + 5], "big"),
            self.data[body + 5 : body + 6],
        )
        if not count or end - body != 6 + 3 * count[0]:
            raise _truncated()
        if marker not in {BASELINE, EXTENDED, PROGRESSIVE}:
            raise UnsupportedFormat(
                "The JPEG is arithmetic-coded, lossless or of another rare kind. Save it as an ordinary JPEG."
            )
        if precision != 8:  # noqa: PLR2004 - bits
            raise UnsupportedFormat(
                f"The JPEG has {precision} bits per channel; 8 are supported. Save it as an 8-bit JPEG."
            )
        if not width or not height:
            raise CorruptImage("The JPEG states no size. Save it again.")
        self._process, self._size = marker, (width, height)
        for offset in range(body + 6, end, 3):
            identifier, sampling, table = self.data[offset : offset + 3]
            self._sampling[identifier] = (sampling >> 4 or 1, sampling & 15 or 1, table)
        if count[0] not in {1, 3, 4}:
            raise UnsupportedFormat(f"The JPEG has {count[0]} channels; 1, 3 and 4 are supported. Save it in RGB.")
        if len(self._sampling) != count[0]:
            raise CorruptImage("The JPEG is damaged: its header describes a channel twice. Save it again.")

    def quantization(self, body: int, end: int) -> None:
        while body < end:
            kind, width = self.data[body] & 15, 2 if self.data[body] >> 4 else 1
            table = self.data[body + 1 : body + 1 + 64 * width]
            self._tables[kind] = sum(table[width - 1 :: width]) + 256 * sum(table[::width] if width == 2 else b"")  # noqa: PLR2004
            body += 1 + 64 * width

    def huffman(self, body: int, end: int) -> None:
        """Learn how many bits a coefficient may have at most by each table: the low half of a symbol (F.1.2.2.1)."""
        while body < end:
            symbols = body + 17
            after = symbols + sum(self.data[body + 1 : symbols])
            self._most_bits[self.data[body]] = max((symbol & 15 for symbol in self.data[symbols:after]), default=0)
            body = after

    def scan(self, body: int, end: int) -> int:
        """Take one scan in; return where its entropy data end, which is where the next marker begins."""
        if not self._process:
            raise CorruptImage("The JPEG is damaged: its pixels come before its size. Save it again.")
        count = self.data[body] if body < end else 0
        components = tuple(self.data[body + 1 : body + 1 + 2 * count : 2])
        if end - body != 4 + 2 * count or not count or not set(components) <= set(self._sampling):
            raise CorruptImage("The JPEG is damaged: a scan is malformed. Save it again.")
        first, last, bits = self.data[end - 3 : end]
        refines = self._process == PROGRESSIVE and first and bits >> 4
        if refines and self._most_bits.get(_AC_TABLE | self.data[body + 2] & 15, 0) > 1:
            # A coefficient that appears while others are refined has one bit (G.1.2.3); libjpeg takes more for one.
            raise CorruptImage("The JPEG is damaged: a table of its scans is malformed. Save it again.")
        stop, restarts, expected = self._entropy_end(end, components)
        last_byte = _without_fill(self.data, end, stop)
        if restarts > expected and self.data[last_byte - 2] == _FILL and self.data[last_byte - 1] in _RESTARTS:
            last_byte, restarts = last_byte - 2, expected  # a camera's last one, behind which nothing is left
        self._scans.append(Scan(components, first, last, bits >> 4, bits & 15, end, last_byte, restarts))
        return stop

    def _entropy_end(self, start: int, components: tuple[int, ...]) -> tuple[int, int, int]:
        """Find the next marker that is neither a stuffed zero (B.1.1.5) nor one of the expected restarts.

        Return where it is, how many restarts there are before it, and how many were expected.
        """
        expected = ceil(self._units(components) / self.restart_interval) - 1 if self.restart_interval else 0
        for restarts, match in enumerate(_MARKER.finditer(self.data, start)):
            code = self.data[match.end() - 1]
            if code not in _RESTARTS and restarts in {expected, expected + 1}:
                return match.start(), restarts, expected
            if code - 0xD0 != restarts % 8 or restarts > expected:
                raise CorruptImage("The JPEG is damaged: a part of its pixels is missing. Save it again.")
        raise _truncated()

    def _largest_unit(self) -> int:
        across = max(h for h, _, _ in self._sampling.values())
        return across * max(v for _, v, _ in self._sampling.values())

    def _units(self, components: tuple[int, ...]) -> int:
        """Count the units (MCU, A.2) of a scan."""
        across = max(h for h, _, _ in self._sampling.values())
        down = max(v for _, v, _ in self._sampling.values())
        width, height = self._size
        if len(components) > 1:
            return ceil(width / (8 * across)) * ceil(height / (8 * down))
        h, v, _ = self._sampling[components[0]]
        return ceil(ceil(width * h / across) / 8) * ceil(ceil(height * v / down) / 8)

    def _colours_depend_on_what_was_cut(self) -> bool:
        """Say whether a decoder would take other colours for granted without the thumbnail's segment and the like."""
        is_clear = self._has_jfif or not (self._has_adobe or bytes(self._sampling) == b"RGB")
        return bool(self._burdened) and not (is_clear and len(self._sampling) <= 3)  # noqa: PLR2004 - RGB, no CMYK

    def _coefficient_bytes(self, samples: float) -> int:
        """Count what a decoder has to keep of one scan until the last."""
        has_many_passes = len(self._scans) > 1 or self._process == PROGRESSIVE
        return ceil(2 * samples * self._size[0] * self._size[1]) if has_many_passes else 0

    def result(self) -> JpegInspection:
        if not self._scans:
            raise _truncated()
        _demand_every_component(self._scans, set(self._sampling), progressive=self._process == PROGRESSIVE)
        table = next(iter(self._sampling.values()))[2]
        table_sum = self._tables.get(table, _ANNEX_K_LUMA_SUM)
        # Of all components, for each pixel: 3, or 1.5 where colours have less.
        samples = sum(h * v for h, v, _ in self._sampling.values()) / self._largest_unit()
        depends = self._colours_depend_on_what_was_cut()
        colours = list(self._sampling.values())[1:2] or [(1, 1, 0)]
        luma = next(iter(self._sampling.values()))
        return JpegInspection(
            data=self.data,
            sampling=(ceil(luma[0] / colours[0][0]), ceil(luma[1] / colours[0][1])),
            header=ImageHeader("image/jpeg", *self._size),
            orientation=self._orientation or 1,
            has_metadata=self._dropped,
            fits_as_is=len(self._sampling) in {1, 3} and not depends,
            quality=_quality(table_sum),
            kept=tuple(sorted((*self._kept, *self._burdened)) if depends else self._kept),
            scans=tuple(self._scans),
            luma_scale_percent=max(1.0, 100 * table_sum / _ANNEX_K_LUMA_SUM),
            buffer_bytes=self._coefficient_bytes(samples),
            weight=2 if len(self._scans) > 1 and samples > _SUBSAMPLED else 1,
        )


def _without_fill(data: bytes, start: int, end: int) -> int:
    """Step back over the 0xFF bytes that may stand before a marker (B.1.1.2)."""
    while end > start and data[end - 1] == _FILL:
        piece = data[max(start, end - _PIECE_BYTES) : end]
        end -= len(piece) - len(piece.rstrip(b"\xff"))
    return end


_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_PADDING = re.compile(rb"\0*\xff*")
_SEGMENT = re.compile(rb"\xff+[\xc0-\xc7\xc9-\xcf\xda-\xdd\xe0-\xef\xfe]")
_FILL = 0xFF
_PIECE_BYTES = 65_536
_MAX_JUNK_BYTES = 65_536


def _quality(luma_sum: int) -> int:
    """Return the best IJG quality whose luminance table is nowhere near as fine as one of such a sum."""
    return max(1, bisect_right(range(1, 101), -luma_sum, key=lambda quality: -_luma_sum(quality)))


@cache
def _luma_sum(quality: int) -> int:
    """Sum up the luminance table that libjpeg writes for a quality: scaled, and cut at what fits into a byte."""
    scale = table_scale(quality)
    return sum(min(255, max(1, (value * scale + 50) // 100)) for value in _ANNEX_K_LUMA)


def table_scale(quality: int) -> int:
    """Return the per cent by which libjpeg scales its tables for a quality."""
    return 200 - 2 * quality if quality >= 50 else 5_000 // quality  # noqa: PLR2004 - where libjpeg's formula bends


def _demand_every_component(scans: Sequence[Scan], components: set[int], *, progressive: bool) -> None:
    """Refuse a file whose scans leave a component or one of its 64 coefficients unfinished, or refine none (G.1.1)."""
    missing_bits: dict[tuple[int, int], int] = {}
    for scan in scans:
        first, last, low_bit = (
            (scan.first_coefficient, scan.last_coefficient, scan.low_bit) if progressive else (0, 63, 0)
        )
        for component in scan.components:
            if first and (component, 0) not in missing_bits:
                raise _out_of_order()
            for coefficient in range(first, last + 1):
                if progressive and scan.high_bit != missing_bits.get((component, coefficient), 0):
                    raise _out_of_order()
                missing_bits[component, coefficient] = low_bit
    if len(missing_bits) < 64 * len(components) or any(missing_bits.values()):
        raise _truncated()


def _out_of_order() -> CorruptImage:
    return CorruptImage("The JPEG is damaged: its scans do not follow one another. Save it again.")


def _truncated() -> CorruptImage:
    return CorruptImage("The JPEG is cut short: its end is missing. Upload the whole file.")
