"""Decides which picture of a DNG is used: the sensor's data is not a finished picture, but most files hold a preview.

A DNG is a TIFF (https://helpx.adobe.com/camera-raw/digital-negative.html, chapters 2 and 4). Its previews are pages of
their own, marked as such (NewSubFileType). The largest JPEG among them is used; sensor data, masks and depth maps may
be JPEGs as well, and are never used.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.errors import ImageRefused, UnsupportedFormat
from shared.image import colour
from shared.image.formats import jpeg, tiff, tiff_pages
from shared.image.formats import tiff_tags as tags
from shared.image.formats.tiff_directory import Directory
from shared.image.formats.tiff_writing import file_of_pieces
from shared.image.inspection import NOTHING

if TYPE_CHECKING:
    from shared.image.inspection import Inspection

LEAST_SIDE = 1_024
"""The minimum length of a preview's longer side in pixels: smaller previews are made for lists of files."""

_PREVIEWS = {1, 0x1_0001}
"""Kinds of pages: a preview, and an alternative one."""

_JPEG = 7
_STATES_COLOURS = re.compile(rb"\xff\xd8\xff(?:\xe0..JFIF|\xee..Adobe)", re.DOTALL)
_COPIED = (
    tags.WIDTH,
    tags.HEIGHT,
    tags.BITS,
    tags.COMPRESSION,
    tags.PHOTOMETRIC,
    tags.SAMPLES,
    tags.ROWS_PER_STRIP,
    tags.TILE_WIDTH,
    tags.TILE_HEIGHT,
    tags.JPEG_TABLES,
    tags.SUBSAMPLING,
)
"""The tags that say how a page's JPEGs are put together."""

_PREVIEW_COLOUR_SPACE = 50_970
_PROPHOTO_RGB = colour.Primaries((0.3457, 0.3585), (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
_COLOUR_SPACES = {
    1: colour.ColourSpace(gamma=2.2),
    3: colour.ADOBE_RGB,
    4: colour.ColourSpace(_PROPHOTO_RGB, 1.8),
}
"""By PreviewColorSpace; 0 is unknown and 2 is sRGB."""


def inspect(data: bytes) -> Inspection:
    """Inspect a TIFF, or the preview of a DNG; refuse a DNG without a usable preview."""
    tiff.refuse_canons_raw(data)
    first = Directory.read(data)
    if tags.DNG_VERSION not in first.entries:
        return tiff.inspect(data)
    previews = [page for page, _ in tiff_pages.pages(first) if _is_preview(page)]
    for page in sorted(previews, key=_longest_side, reverse=True):
        inspection = _inspected(page)
        if inspection and max(inspection.header.width, inspection.header.height) >= LEAST_SIDE:
            return _as_shown(inspection, page, first)
    raise UnsupportedFormat(
        f"The file is a camera's raw file (DNG) without a JPEG preview of at least {LEAST_SIDE:,} pixels. Export it "
        "as a JPEG."
    )


def _is_preview(page: Directory) -> bool:
    return (
        page.first(tags.SUB_FILE_TYPE, 0) in _PREVIEWS
        and page.first(tags.PHOTOMETRIC, -1) in {tags.YCBCR, tags.RGB}
        and page.first(tags.COMPRESSION, 1) == _JPEG
        and _longest_side(page) >= LEAST_SIDE
    )


def _longest_side(page: Directory) -> int:
    return max(page.size)


def _inspected(page: Directory) -> Inspection | None:
    """Return the inspection of a page's JPEG, or None if it is damaged.

    A standalone JPEG is inspected as a JPEG if it states its own colours or has a JPEG's default ones; others as a
    TIFF.
    """
    pieces = page.pieces()
    try:
        if len(pieces) == 1 and tags.JPEG_TABLES not in page.entries:
            ((start, size),) = pieces
            preview = page.data[start : start + size]
            if page.first(tags.PHOTOMETRIC, -1) == tags.YCBCR or _STATES_COLOURS.match(preview):
                return jpeg.inspect(preview)
        return tiff.inspect(
            file_of_pieces(page, pieces, {tag: page.entry(tag) for tag in _COPIED if tag in page.entries})
        )
    except ImageRefused:
        return None


def _as_shown(inspection: Inspection, page: Directory, first: Directory) -> Inspection:
    """Apply the orientation of the raw picture, and the colours that the page states, if any."""
    orientation = page.first(tags.ORIENTATION, first.first(tags.ORIENTATION, 1))
    if space := page.first(_PREVIEW_COLOUR_SPACE, 0):
        colours = _COLOUR_SPACES.get(space)
        fits_as_is = inspection.fits_as_is and not colours
        inspection = replace(inspection, colours=colours, fits_as_is=fits_as_is, inserted=NOTHING)
    return replace(
        inspection,
        header=replace(inspection.header, media_type="image/x-adobe-dng"),
        orientation=orientation if orientation in range(1, 9) else 1,
        has_metadata=True,
        is_preview=True,
    )
