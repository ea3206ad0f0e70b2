"""Pillow's TIFF plugin without what it does after loading and without libtiff's voice.

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


class FirstPage(TiffImageFile):
    """The first page of a TIFF, as it is stored."""

    def _setup(self) -> None:
        """Tell pixels that Pillow has no name for from a damaged file."""
        try:
            super()._setup()
        except SyntaxError as error:
            raise UnknownPixels from error

    def load_end(self) -> None:
        """Leave the picture as it lies."""


class UnknownPixels(Exception):
    """Pillow has no name for the pixels."""


def _silence_libtiff() -> None:
    """Take libtiff's error handler away, in the copy that Pillow has already loaded."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        for library in set(re.findall(r"/\S*libtiff\S*\.so\S*", maps)):
            ctypes.CDLL(library).TIFFSetErrorHandler(None)
    except (OSError, AttributeError):
        return  # no Linux, or a Pillow that has libtiff inside: the log is louder, and nothing else


_silence_libtiff()
