"""Decides about TIFF: how large its first page is, which way up, and whether its directory is a bomb.

The format is TIFF 6.0 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2 for the directory).
Pillow copies the value of every entry, wherever its offset points, and warns of every one that it does not: thousands
of lines in the log. Valid values do not overlap, so together they are not larger than the file; and what is one number
is written as one, once, or Pillow would warn again and take another than libtiff.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate
from math import ceil

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.formats import tiff_words
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BYTE, _SHORT, _LONG, _UNDEFINED, _IFD = 1, 3, 4, 7, 13
_START_OF_SCAN = b"\xff\xda"
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES = 256, 257, 258, 259, 262, 266, 277
ROWS_PER_STRIP, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, JPEG_TABLES = 278, 317, 320, 322, 323, 347
SUBSAMPLING, PROFILE = 530, 34_675
SUB_FILE_TYPE, ORIENTATION, SUB_PAGES = 254, 274, 330
_PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 338, 339
DNG_VERSION = 50_706
_SINGLE = {254, 256, 257, 259, 262, 266, 274, 277, 278, 282, 283, 284, 296, 322, 323}
"""Entries of one number each."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
"""Kinds of pixels. Of YCbCr, libtiff makes 4 bytes each, whatever they had."""

_SIGNED = 2
_ASSOCIATED, _UNASSOCIATED, _OF_COREL = 1, 2, 999
"""Kinds of alpha channels: 1 where the colours are multiplied by it, 2 where not; and one program's own word for 2."""

_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32_773, 32_946}
"""None, CCITT's, LZW, JPEG in the old way and the new, deflate, PackBits, deflate by its old number."""

_OLD_JPEG = 6
_JPEG_COMPRESSIONS = {_OLD_JPEG, 7}
STRIPS, TILES = (273, 279), (324, 325)
PIECES = STRIPS, TILES
"""Offsets of strips and of tiles, and how many bytes each has."""

_METADATA = {270, 271, 272, 305, 306, 315, 316, 700, 33_432, 33_723, 34_377, 34_665, 34_853, 37_724}
_MAX_SCANS = 4
"""In one strip, one for each channel: more are a progressive JPEG, whose every scan walks over all of it."""

_MAX_SAMPLES = 6
"""Pillow reads no more, and writes a line into the log."""

_APART = 2
_DEPTHS = {1, 2, 4, 8, 16}
_DEEP_PLANES = 7
"""Bytes for each pixel beside the picture, while the last of four planes of 16 bits is reduced to 8."""


Entry = tuple[int, int, bytes]
"""Its kind, how many values it has, and these as they are stored."""


@dataclass(frozen=True)
class Directory:
    """What is said of one page: each entry as its kind, how many values it has, and where they stand.

    `next_start` is where the next page's directory begins, 0 where there is none.
    """

    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]
    next_start: int

    @classmethod
    def read(cls, data: bytes, start: int | None = None) -> Directory:
        """Read the first directory, or the one that begins at `start`; refuse one that is a bomb."""
        order = "<" if data.startswith(b"II") else ">"
        try:
            if start is None:
                (start,) = struct.unpack_from(order + "I", data, 4)
            return cls._read(data, order, start)
        except struct.error:
            raise _broken() from None

    @classmethod
    def _read(cls, data: bytes, order: str, start: int) -> Directory:
        (count,) = struct.unpack_from(order + "H", data, start)
        entries: dict[int, tuple[int, int, int]] = {}
        apart = 0
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
            if not tag:  # some writers leave room for more
                continue
            is_twice = tag in entries or (tag in _SINGLE and number != 1)
            if is_twice or (tag == PROFILE and kind not in {_BYTE, _UNDEFINED}):
                raise CorruptImage("The TIFF is damaged: its directory holds something twice. Save it again.")
            at, size = entry + 8, number * _BYTES.get(kind, 1)
            if size > 4:  # noqa: PLR2004 - what fits in the entry itself
                (at,) = struct.unpack_from(order + "I", data, at)
                apart += size
                if at + size > len(data) or apart > len(data):
                    raise _broken()
            entries[tag] = kind, number, at
        (further,) = struct.unpack_from(order + "I", data, start + 2 + 12 * count)
        return cls(data, order, entries, further)

    def first(self, tag: int, default: int) -> int:
        """Return the first value of an entry."""
        if tag not in self.entries:
            return default
        kind, _, at = self.entries[tag]
        (value,) = struct.unpack_from(self.order + ("H" if kind == _SHORT else "I"), self.data, at)
        return int(value)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return all values of an entry of numbers, none where there is no such entry."""
        kind, count, at = self.entries.get(tag, (_SHORT, 0, 0))
        if kind not in {_SHORT, _LONG, _IFD}:
            raise _broken()
        return struct.unpack_from(f"{self.order}{count}{'H' if kind == _SHORT else 'I'}", self.data, at)

    def pieces(self) -> list[tuple[int, int]]:
        """Return where the strips and tiles begin, and how many bytes each has."""
        return [piece for tags in PIECES for piece in zip(*map(self.numbers, tags), strict=False)]

    def bytes_of(self, tag: int) -> bytes:
        """Return the values of an entry as they are stored, none where there is no such entry."""
        kind, count, at = self.entries.get(tag, (_BYTE, 0, 0))
        return self.data[at : at + count * _BYTES.get(kind, 1)]

    def entry(self, tag: int) -> Entry:
        """Return an entry as `file_of` takes it."""
        kind, count, _ = self.entries.get(tag, (_BYTE, 0, 0))
        return kind, count, self.bytes_of(tag)

    def alpha(self, colours: int) -> tuple[int, int] | None:
        """Return which channel says how transparent the others are, and of which kind it is (ExtraSamples)."""
        extra = self.numbers(_EXTRA_SAMPLES)
        if not extra and self.first(PHOTOMETRIC, 0) == RGB and self.first(SAMPLES, 1) == colours + 1:
            return colours, _UNASSOCIATED
        for number, kind in enumerate(extra, colours):
            if kind in {_ASSOCIATED, _UNASSOCIATED, _OF_COREL}:
                return number, _ASSOCIATED if kind == _ASSOCIATED else _UNASSOCIATED
        return None

    def unsupported_pixels(self) -> UnsupportedFormat:
        """Say what pixels it has."""
        colours = tiff_words.COLOURS.get(self.first(PHOTOMETRIC, 0), "pixels of a rare kind")
        further = " and further channels" if _EXTRA_SAMPLES in self.entries else ""
        bits = max(self.numbers(BITS) or (1,))
        order = "little" if self.order == "<" else "big"
        numbers = tiff_words.NUMBERS.get(max(self.numbers(_SAMPLE_FORMAT) or (1,)), "numbers")
        return UnsupportedFormat(
            f"The TIFF holds {colours}{further} as {bits}-bit {order}-endian {numbers}, which is not supported. "
            "Save it in RGB with 8 bits per channel, or as a JPEG or PNG."
        )

    def has_alike_integers(self) -> bool:
        """Say whether all channels hold numbers of as many bits, from 0 on."""
        return len(set(self.numbers(BITS))) <= 1 and set(self.numbers(_SAMPLE_FORMAT)) <= {1}


@dataclass(frozen=True)
class TiffInspection(Inspection):
    """What the first directory says.

    `has_planes` where the channels lie one after another; `piece_count` is how many strips or tiles there are of what
    may be shown, and `piece_bytes` how many bytes each has once it is decoded.
    """

    directory: Directory = Directory(b"", "<", {}, 0)
    has_planes: bool = False
    piece_count: int = 0
    piece_bytes: int = 0


def inspect(data: bytes) -> TiffInspection:
    """Read the first directory; refuse camera raws, which keep a thumbnail where a TIFF keeps its picture."""
    refuse_canons_raw(data)
    directory = Directory.read(data)
    if directory.first(SUB_FILE_TYPE, 0) & 1:
        raise UnsupportedFormat("The TIFF begins with a small preview, as cameras' raw files do. Export it to a JPEG.")
    width, height = directory.first(WIDTH, 0), directory.first(HEIGHT, 0)
    if not width or not height:
        raise CorruptImage("The TIFF is damaged: its directory describes no picture. Save it again.")
    if not any(directory.entries.get(offsets, (0, 0, 0))[1] for offsets, _ in PIECES):
        raise CorruptImage("The TIFF is damaged: its directory does not say where its pixels are. Save it again.")
    across, down = directory.first(TILE_WIDTH, width), directory.first(TILE_HEIGHT, height)
    if (0, 0) in directory.pieces():
        raise UnsupportedFormat(
            "The TIFF leaves out parts of its picture: it is sparse. Save all of it (GDAL: SPARSE_OK=FALSE)."
        )
    compression = directory.first(COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        how = tiff_words.compression(compression)
        raise UnsupportedFormat(f"The TIFF is compressed {how}, which is not supported. Save it with LZW, or as a PNG.")
    if compression in _JPEG_COMPRESSIONS:
        _refuse_many_scans(directory)
    is_apart = directory.first(_PLANES, 1) == _APART
    depth, samples, has_planes = directory.first(BITS, 1), directory.first(SAMPLES, 1), _has_planes(directory)
    if samples > _MAX_SAMPLES and not has_planes:
        raise UnsupportedFormat(f"The TIFF has {samples} channels; 4 are supported. Save it in RGB.")
    if depth == 8 and _SIGNED in directory.numbers(_SAMPLE_FORMAT):  # noqa: PLR2004 - bits
        raise directory.unsupported_pixels()
    orientation = directory.first(ORIENTATION, 1)
    is_deep = depth > 8  # noqa: PLR2004 - bits
    is_plain = not is_deep and samples in {1, 3}
    rows = down if TILE_HEIGHT in directory.entries else min(height, directory.first(ROWS_PER_STRIP, height)) or height
    pieces = ceil(height / rows) * ceil(width / across)
    if compression != _OLD_JPEG and pieces * (samples if is_apart else 1) > sum(
        len(directory.numbers(where)) for where, _ in PIECES
    ):
        raise CorruptImage("The TIFF is damaged: it has fewer parts than its picture needs. Save it again.")
    photometric = directory.first(PHOTOMETRIC, WHITE_IS_ZERO)
    pixel_bytes = depth / 8 if has_planes else max(samples * depth / 8, 4 if photometric == YCBCR else 0)
    return TiffInspection(
        data,
        ImageHeader("image/tiff", width, height),
        orientation=orientation if orientation in range(1, 9) else 1,
        has_metadata=bool(directory.next_start) or not _METADATA.isdisjoint(directory.entries),
        depth=depth,
        weight=1 if is_plain else 2,
        is_opaque=is_plain,
        buffer_bytes=ceil(across * rows * pixel_bytes) + has_planes * (_DEEP_PLANES if is_deep else 4) * width * height,
        is_lossless=compression not in _JPEG_COMPRESSIONS,
        directory=directory,
        has_planes=has_planes,
        piece_count=pieces * (min(samples, _MAX_SAMPLES) if is_apart else 1),
        piece_bytes=rows * ceil(across * (1 if is_apart else samples) * depth / 8),
    )


def refuse_canons_raw(data: bytes) -> None:
    """Refuse a CR2, which says what it is before its first directory."""
    if data[8:10] == b"CR":
        raise UnsupportedFormat("The file is a camera's raw file, not a supported image. Develop it to a JPEG.")


def _has_planes(directory: Directory) -> bool:
    """Say whether channels lie one after another; refuse what would be taken for another picture then.

    One channel is a plane as well, and is taken for one where Pillow would read it in one order of bytes alone.
    """
    shape = directory.first(PHOTOMETRIC, WHITE_IS_ZERO), directory.first(BITS, 1), directory.first(SAMPLES, 1)
    if directory.first(_PLANES, 1) != _APART and shape != (WHITE_IS_ZERO, 16, 1):
        return False
    if directory.first(BITS, 1) not in _DEPTHS or not directory.has_alike_integers():
        raise directory.unsupported_pixels()
    return True


def _refuse_many_scans(directory: Directory) -> None:
    """Count the scans in each JPEG inside; what a strip has not in its own bytes, no decoder reads."""
    pieces, data = directory.pieces(), directory.data
    if not pieces or sum(size for _, size in pieces) > len(data):
        raise _broken()
    if any(data.count(_START_OF_SCAN, at, at + size) > _MAX_SCANS for at, size in pieces):
        raise UnsupportedFormat("The TIFF holds a progressive JPEG, which it may not. Save it as a JPEG.")


def longs(order: str, *numbers: int) -> Entry:
    """Return an entry of numbers."""
    return _LONG, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)


def file_of(order: str, pixels: bytes | memoryview, entries: dict[int, Entry]) -> bytes:
    """Write a TIFF of one directory, whose pixels stand at 8."""
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
    """Write a TIFF that holds some of the strips or tiles of a page, and of its entries those that are given."""
    where, sizes = next(tags for tags in PIECES if directory.numbers(tags[0]))
    if sum(size for _, size in pieces) > len(directory.data):
        raise _broken()
    view = memoryview(directory.data)
    pixels = b"".join(view[at : at + size] for at, size in pieces)
    starts = list(accumulate((size for _, size in pieces[:-1]), initial=8))
    places = {
        where: longs(directory.order, *starts),
        sizes: longs(directory.order, *(size for _, size in pieces)),
    }
    return file_of(directory.order, pixels, {**entries, **places})


def _broken() -> CorruptImage:
    return CorruptImage("The TIFF is damaged or cut short: its directory points outside it. Upload the whole file.")
