"""Pillow's TIFF plugin without what it does after loading, and with an ear for what libtiff says meanwhile.

After loading, the plugin reads EXIF and its sub-directories, which nobody has checked, and turns the picture; here that
is a step like for every other format.
"""

from __future__ import annotations

from typing import Any

from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import CorruptImage
from shared.image.formats import libtiff
from shared.image.formats import tiff_tags as tags

_PACKBITS = 32_773


class FirstPage(TiffImageFile):
    """The first page of a TIFF, as it is stored."""

    def _setup(self) -> None:
        """Tell pixels that Pillow has no name for from a damaged file.

        Of what is not compressed, Pillow reads no pixels that share their colour, and few whose bits are in reverse.
        libtiff reads all of them; it is used for what is compressed, and believes the file alone.
        """
        is_reversed = self.tag_v2.get(tags.FILL_ORDER, 1) != 1
        self.tag_v2[tags.FILL_ORDER] = 1
        if self.tag_v2.get(tags.COMPRESSION, 1) == 1 and (
            is_reversed or self.tag_v2.get(tags.PHOTOMETRIC) == tags.YCBCR
        ):
            self.tag_v2[tags.COMPRESSION] = _PACKBITS
        try:
            super()._setup()
        except SyntaxError as error:
            raise UnknownPixels from error

    def load(self) -> Any:
        """Refuse what libtiff had to repair: it is damaged, and Pillow takes it for good."""
        with libtiff.listening() as errors:
            loaded = super().load()
        if errors():
            raise CorruptImage("The TIFF is damaged: its decoder found errors among its pixels. Save it again.")
        return loaded

    def load_end(self) -> None:
        """Leave the picture as it lies."""


class UnknownPixels(Exception):
    """Pillow has no name for the pixels."""
