"""Inspects a TIFF: the size of its picture, and its orientation.

The format is TIFF 6.0 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import colour
from shared.image.formats import exif, tiff_colours, tiff_words
from shared.image.formats import tiff_tags as tags
from shared.image.formats.tiff_directory import NOTHING, Directory, broken
from shared.image.formats.tiff_pages import main_page
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

_START_OF_SCAN = b"\xff\xda"
_SIGNED = 2
_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32_773, 32_946}
"""None, CCITT, LZW, old-style and new JPEG, deflate, PackBits, and deflate by its old number."""

_FAXES = {2, 3, 4}
"""The compressions that are for black on white alone."""

_CMYK = 1
"""The only set of inks whose colours are known (InkSet)."""

_JPEG_COMPRESSIONS = {tags.OLD_JPEG, 7}
_MAX_SCANS = 4
"""Scans in one strip, one per channel: more are a progressive JPEG, each scan of which covers the whole picture."""

MAX_SAMPLES = 6
"""Pillow supports no more, and logs a line."""

_PICKED = {tags.WHITE_IS_ZERO, tags.BLACK_IS_ZERO, tags.RGB, tags.CMYK, tags.LAB}
_PICKED_DEPTHS = {8, 16}
_PICKED_COMPRESSIONS = {1, 5, 8, 32_773, 32_946}
"""The pixels whose interleaved channels can be extracted: integers, one channel each, compressed without loss."""

_HIDDEN_BEHIND = {tags.CMYK: 4, tags.LAB: 3}
"""The number of colours of the pixels whose alpha channel Pillow ignores."""

_APART = 2
_DEPTHS = {1, 2, 4, 8, 16}
_DEEP_PLANES = 7
"""Memory per pixel in addition to the picture, while the last of four 16-bit planes is reduced to 8 bits."""

_ALPHA_BYTES = 2
"""The same while the colours beside a hidden alpha channel are converted to RGB."""


@dataclass(frozen=True)
class TiffInspection(Inspection):
    """What the directory of the picture's page says.

    `has_planes`: the channels are stored in separate planes; `has_separable_channels`: they are interleaved, and can be
    extracted all the same; `has_hidden_alpha`: they have an alpha channel that Pillow would ignore; `piece_count` is
    the number of strips or tiles that are needed, and `piece_bytes` the decoded size of each.
    """

    directory: Directory = NOTHING
    has_planes: bool = False
    has_separable_channels: bool = False
    has_hidden_alpha: bool = False
    piece_count: int = 0
    piece_bytes: int = 0


def inspect(data: bytes) -> TiffInspection:
    """Read the directory of the picture's page; a missing orientation or profile is taken from the first page.

    Refuse camera raw files, which have no such page.
    """
    refuse_canons_raw(data)
    first = Directory.read(data)
    directory = main_page(first)
    width, height = directory.size
    if not width or not height:
        raise CorruptImage("The TIFF is damaged: its directory does not describe a picture. Save it again.")
    if not directory.has_offsets and not directory.pieces():
        raise CorruptImage("The TIFF is damaged: its directory does not say where its pixels are. Save it again.")
    across, down = directory.first(tags.TILE_WIDTH, width), directory.first(tags.TILE_HEIGHT, height)
    _demand_supported(directory)
    compression = directory.first(tags.COMPRESSION, 1)
    is_apart = directory.first(tags.PLANES, 1) == _APART
    depth, samples, has_planes = directory.first(tags.BITS, 1), directory.first(tags.SAMPLES, 1), _has_planes(directory)
    is_separable = not has_planes and _has_separable_channels(directory)
    has_hidden_alpha = (has_planes or is_separable) and _has_hidden_alpha(directory)
    if samples > MAX_SAMPLES and not (has_planes or is_separable):
        raise UnsupportedFormat(f"The TIFF has {samples} channels; 4 are supported. Save it in RGB.")
    if depth == 8 and _SIGNED in directory.numbers(tags.SAMPLE_FORMAT):  # noqa: PLR2004 - bits
        raise directory.unsupported_pixels()
    orientation = directory.first(tags.ORIENTATION, first.first(tags.ORIENTATION, 1))
    is_deep = depth > 8  # noqa: PLR2004 - bits
    is_plain = not is_deep and samples in {1, 3}
    strip_rows = min(height, directory.first(tags.ROWS_PER_STRIP, height)) or height
    rows = down if tags.TILE_HEIGHT in directory.entries else strip_rows
    pieces = ceil(height / rows) * ceil(width / across)
    if compression != tags.OLD_JPEG and pieces * (samples if is_apart else 1) > sum(
        len(directory.numbers(where)) for where, _ in tags.PIECES
    ):
        raise CorruptImage("The TIFF is damaged: it has fewer parts than its picture needs. Save it again.")
    photometric = directory.first(tags.PHOTOMETRIC, tags.WHITE_IS_ZERO)
    pixel_bytes = depth / 8 if has_planes else max(samples * depth / 8, 4 if photometric == tags.YCBCR else 0)
    beside = (_DEEP_PLANES if is_deep else 4) if has_planes else 4 if is_separable and not is_plain else 0
    beside += _ALPHA_BYTES if has_hidden_alpha else 0
    return TiffInspection(
        data,
        ImageHeader("image/tiff", width, height),
        orientation=orientation if orientation in range(1, 9) else 1,
        has_metadata=directory is not first
        or bool(directory.next_start)
        or not tags.METADATA.isdisjoint(directory.entries),
        depth=depth,
        weight=1 if is_plain else 2,
        is_opaque=is_plain,
        buffer_bytes=ceil(across * rows * pixel_bytes) + beside * width * height,
        colours=colour.ADOBE_RGB if exif.states_adobe_rgb(data) else tiff_colours.stated(directory),
        is_lossless=compression not in _JPEG_COMPRESSIONS,
        profile=None if directory is first else first.bytes_of(tags.PROFILE),
        directory=directory,
        has_planes=has_planes,
        has_separable_channels=is_separable,
        has_hidden_alpha=has_hidden_alpha,
        piece_count=pieces * (min(samples, MAX_SAMPLES) if is_apart else 1),
        piece_bytes=rows * ceil(across * (1 if is_apart else samples) * depth / 8),
    )


def refuse_canons_raw(data: bytes) -> None:
    """Refuse a CR2, which has its signature before its first directory."""
    if data[8:10] == b"CR":
        raise UnsupportedFormat("The file is a camera's raw file, not a supported image. Export it as a JPEG.")


def _demand_supported(directory: Directory) -> None:
    """Refuse by name what no decoder here supports, and values that are not described."""
    if (0, 0) in directory.pieces():
        raise UnsupportedFormat(
            "The TIFF is sparse: parts of its picture are left out. Save the whole picture (GDAL: SPARSE_OK=FALSE)."
        )
    compression = directory.first(tags.COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        how = tiff_words.compression(compression)
        raise UnsupportedFormat(f"The TIFF is compressed {how}, which is not supported. Save it with LZW, or as a PNG.")
    if compression in _JPEG_COMPRESSIONS:
        _refuse_many_scans(directory)
    if tags.PHOTOMETRIC not in directory.entries and compression not in _FAXES:
        raise CorruptImage("The TIFF is damaged: its directory does not say what its values mean. Save it again.")
    if directory.first(tags.PHOTOMETRIC, 0) == tags.CMYK and directory.first(tags.INK_SET, _CMYK) != _CMYK:
        raise UnsupportedFormat("The TIFF holds inks other than CMYK, which are not supported. Save it in RGB.")


def _has_planes(directory: Directory) -> bool:
    """Say whether the channels are stored in planes; refuse planes that would be decoded as another picture.

    A single channel is a plane as well, and is treated as one if Pillow supports its pixels in only one byte order.
    """
    photometric, depth = directory.first(tags.PHOTOMETRIC, tags.WHITE_IS_ZERO), directory.first(tags.BITS, 1)
    shape = photometric, depth, directory.first(tags.SAMPLES, 1)
    if directory.first(tags.PLANES, 1) != _APART and shape != (tags.WHITE_IS_ZERO, 16, 1):
        return False
    if depth not in _DEPTHS or not directory.has_alike_integers():
        raise directory.unsupported_pixels()
    return True


def _has_separable_channels(directory: Directory) -> bool:
    return (
        directory.first(tags.PHOTOMETRIC, tags.WHITE_IS_ZERO) in _PICKED
        and directory.first(tags.BITS, 1) in _PICKED_DEPTHS
        and directory.first(tags.COMPRESSION, 1) in _PICKED_COMPRESSIONS
        and directory.has_alike_integers()
    )


def _has_hidden_alpha(directory: Directory) -> bool:
    colours = _HIDDEN_BEHIND.get(directory.first(tags.PHOTOMETRIC, tags.WHITE_IS_ZERO))
    return colours is not None and directory.alpha(colours) is not None


def _refuse_many_scans(directory: Directory) -> None:
    """Count the scans in each embedded JPEG; a decoder reads only bytes within the strip itself."""
    pieces, data = directory.pieces(), directory.data
    if not pieces or sum(size for _, size in pieces) > len(data):
        raise broken()
    if any(data.count(_START_OF_SCAN, at, at + size) > _MAX_SCANS for at, size in pieces):
        raise UnsupportedFormat(
            "The TIFF holds a progressive JPEG, which the format does not allow. Save it as a JPEG."
        )
