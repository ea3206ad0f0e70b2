"""Reads a PNG's header (https://www.w3.org/TR/png-3/, 11.2.1) and the length of its palette (11.2.2)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from shared.errors import CorruptImage
from shared.image.formats.png_chunks import truncated

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types."""

_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_DEPTHS = {GREY: {1, 2, 4, 8, 16}, RGB: {8, 16}, PALETTE: {1, 2, 4, 8}, GREY_ALPHA: {8, 16}, RGB_ALPHA: {8, 16}}
_MOST_COLOURS = 256


class Header(NamedTuple):
    """A picture's size, bits per channel and channels."""

    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: bool

    @classmethod
    def read(cls, content: bytes) -> Header:
        """Read the content of IHDR."""
        try:
            width, height, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", content)
        except struct.error:
            raise truncated() from None
        if not width or not height or depth not in _DEPTHS.get(colour_type, ()):
            raise CorruptImage("The PNG is damaged: its header does not describe a picture. Save it again.")
        if compression or filtering or interlace > 1:
            raise CorruptImage("The PNG is damaged: its header names an unknown method. Save it again.")
        return cls(width, height, depth, colour_type, bool(interlace))

    @property
    def channels(self) -> int:
        """The number of values per pixel."""
        return _CHANNELS[self.colour_type]

    @property
    def is_deep(self) -> bool:
        """Whether its channels have 16 bits."""
        return self.depth > 8  # noqa: PLR2004 - bits

    @property
    def is_grey(self) -> bool:
        """Whether it has no colours but black, white and what is between."""
        return self.colour_type in {GREY, GREY_ALPHA}

    @property
    def has_alpha(self) -> bool:
        """Whether it has an alpha channel."""
        return self.colour_type in {GREY_ALPHA, RGB_ALPHA}

    def demand_palette(self, length: int | None) -> None:
        """Refuse a palette that is empty, incomplete, longer than the indices allow, or missing if it is needed.

        In a picture without indices it is only a suggestion, of up to 256 colours.
        """
        is_needed = self.colour_type == PALETTE
        if length is None and not is_needed:
            return
        if not length or length % 3 or length // 3 > (2**self.depth if is_needed else _MOST_COLOURS):
            raise CorruptImage("The PNG is damaged: its palette is missing or too long. Save it again.")
