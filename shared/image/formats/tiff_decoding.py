"""Decides who decodes a TIFF: Pillow, or Pillow plane by plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.image.formats import tiff_planes
from shared.image.formats.tiff_plugin import FirstPage, UnknownPixels
from shared.image.inspection import as_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.image.formats.tiff import TiffInspection


def open_image(source: TiffInspection, _scale: int = 1) -> Image:
    """Open the first page; refuse pixels of an unknown kind by name."""
    if source.has_planes:
        return tiff_planes.assemble(source)
    try:
        return FirstPage(as_file(source.data))
    except UnknownPixels as error:
        raise source.directory.unsupported_pixels() from error
