"""Pillow's TIFF plugin without what it does after loading, without libtiff's voice, and with words for what it cannot.

After loading, the plugin reads EXIF and its sub-directories, which nobody has checked, and turns the picture; here that
is a step like for every other format. libtiff prints every error that it finds to stderr, which would flood the log. It
has one handler for a whole process; this module takes it away once, when it is imported, which Python's import lock
makes safe among threads. Redirecting file descriptor 2 around each decode would not be.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import UnsupportedFormat

_BITS, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 338, 339
_COLOURS = {0: "grey with white at 0", 1: "grey", 2: "RGB", 3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
_NUMBERS = {1: "integers", 2: "signed integers", 3: "floating-point numbers"}


class FirstPage(TiffImageFile):
    """The first page of a TIFF, as it is stored."""

    def _setup(self) -> None:
        """Say what pixels it has where Pillow has no name for them."""
        try:
            super()._setup()
        except SyntaxError as error:
            tags, order = self.tag_v2, "little" if self.tag_v2.prefix == b"II" else "big"
            colours = _COLOURS.get(tags.get(_PHOTOMETRIC, 0), "pixels of a rare kind")
            further = " and further channels" if _EXTRA_SAMPLES in tags else ""
            bits, numbers = tags.get(_BITS, (1,)), _NUMBERS.get(max(tags.get(_SAMPLE_FORMAT, (1,))), "numbers")
            raise UnsupportedFormat(
                f"The TIFF holds {colours}{further} as {max(bits)}-bit {order}-endian {numbers}, "
                "which is not supported. Save it in RGB with 8 bits a channel, or as a JPEG or PNG."
            ) from error

    def load_end(self) -> None:
        """Leave the picture as it lies."""


def _silence_libtiff() -> None:
    """Take libtiff's error handler away, in the copy that Pillow has already loaded."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        for library in set(re.findall(r"/\S*libtiff\S*\.so\S*", maps)):
            ctypes.CDLL(library).TIFFSetErrorHandler(None)
    except (OSError, AttributeError):
        return  # no Linux, or a Pillow that has libtiff inside: the log is louder, and nothing else


_silence_libtiff()
