"""Pillow's TIFF plugin without its steps after loading, and with libtiff's errors taken into account.

After loading, the plugin would read EXIF and its sub-directories, which were not checked, and rotate the picture; here,
rotation is a step, as for every other format.
"""

from __future__ import annotations

from typing import Any

from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import CorruptImage
from shared.image.formats import libtiff
from shared.image.formats import tiff_tags as tags

_PACKBITS = 32_773
_MOST_OF_8_BITS, _DEEPER = 255, 257


class FirstPage(TiffImageFile):
    """The first page of a TIFF, as stored."""

    def _setup(self) -> None:
        """Tell pixels that Pillow does not support from a damaged file.

        Of uncompressed data, Pillow supports no subsampled pixels, and few with reversed bit order. libtiff supports
        all of them; it decodes compressed data, and takes the layout from the file itself. Some programs write palettes
        with 8 bits per value instead of 16 (libtiff recognizes them in the same way).
        """
        is_reversed = self.tag_v2.get(tags.FILL_ORDER, 1) != 1
        self.tag_v2[tags.FILL_ORDER] = 1
        if self.tag_v2.get(tags.COMPRESSION, 1) == 1 and (
            is_reversed or self.tag_v2.get(tags.PHOTOMETRIC) == tags.YCBCR
        ):
            self.tag_v2[tags.COMPRESSION] = _PACKBITS
        palette = self.tag_v2.get(tags.COLOUR_MAP)
        if palette and max(palette) <= _MOST_OF_8_BITS:
            self.tag_v2[tags.COLOUR_MAP] = tuple(_DEEPER * level for level in palette)
        try:
            super()._setup()
        except SyntaxError as error:
            raise UnknownPixels from error

    def load(self) -> Any:
        """Refuse a picture that libtiff had to repair: it is damaged, and Pillow would accept it."""
        with libtiff.listening() as errors:
            loaded = super().load()
        if errors():
            raise CorruptImage("The TIFF is damaged: its decoder found errors among its pixels. Save it again.")
        return loaded

    def load_end(self) -> None:
        """Do not rotate the picture."""


class UnknownPixels(Exception):
    """Pillow does not support the pixels."""
