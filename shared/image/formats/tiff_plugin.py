"""Pillow's TIFF plugin without what it does after loading, and with an ear for what libtiff says meanwhile.

After loading, the plugin reads EXIF and its sub-directories, which nobody has checked, and turns the picture; here that
is a step like for every other format.
"""

from __future__ import annotations

from typing import Any

from PIL import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import CorruptImage
from shared.image.formats import libtiff


class FirstPage(TiffImageFile):
    """The first page of a TIFF, as it is stored."""

    def _setup(self) -> None:
        """Tell pixels that Pillow has no name for from a damaged file."""
        try:
            super()._setup()
        except SyntaxError as error:
            raise UnknownPixels from error
        if self.mode == "YCbCr" and not self.use_load_libtiff:
            # Pillow's own reading knows no pixels that share their colour.
            self._mode, self.use_load_libtiff = "RGB", True
            self.tile = [ImageFile._Tile("libtiff", (0, 0, *self._tile_size), 0, ("RGBX", False, self.tag_v2.offset))]  # noqa: SLF001

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
