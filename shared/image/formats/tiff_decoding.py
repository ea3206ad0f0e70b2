"""Decides how a TIFF is decoded: by Pillow at once, channel by channel, or, for a DNG's preview, as a JPEG."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.image.formats import jpeg_integrity, tiff_integrity, tiff_planes
from shared.image.formats import tiff_tags as tags
from shared.image.formats.jpeg import JpegInspection
from shared.image.formats.tiff import MAX_SAMPLES
from shared.image.formats.tiff_plugin import FirstPage, UnknownPixels
from shared.image.inspection import as_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.image.formats.tiff import TiffInspection


def pass_on(source: JpegInspection) -> bytes:
    """Return the preview of a DNG without its metadata, once it is found to be intact."""
    return jpeg_integrity.pass_on(source)


def open_image(source: TiffInspection | JpegInspection, scale: int = 1) -> Image:
    """Open the picture's page, or the preview of a DNG; refuse pixels of an unsupported kind by name."""
    if isinstance(source, JpegInspection):
        return jpeg_integrity.decode(source, scale)
    source = _with_its_page_first(source)
    tiff_integrity.demand_intact(source)
    is_beyond_pillow = source.has_hidden_alpha or source.directory.first(tags.SAMPLES, 1) > MAX_SAMPLES
    if source.has_planes or is_beyond_pillow:
        return tiff_planes.assemble(source)
    try:
        return FirstPage(as_file(source.data))
    except UnknownPixels as error:
        if source.has_separable_channels:
            return tiff_planes.assemble(source)
        raise source.directory.unsupported_pixels() from error


def _with_its_page_first(source: TiffInspection) -> TiffInspection:
    """Make the file begin with the picture's page: decoders use the first one."""
    directory = source.directory
    start = struct.pack(directory.order + "I", directory.start)
    if source.data[4:8] == start:
        return source
    return replace(source, data=b"".join((source.data[:4], start, memoryview(source.data)[8:])))
