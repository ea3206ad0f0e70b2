"""Decides what a PNG says of its picture (https://www.w3.org/TR/png-3/): its header (11.2.1) and palette (11.2.2)."""

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
    """How large a picture is, how many bits a channel has, and which channels there are."""

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
            raise CorruptImage("The PNG is damaged: its header describes no picture. Save it again.")
        if compression or filtering or interlace > 1:
            raise CorruptImage("The PNG is damaged: its header describes an unknown method. Save it again.")
        return cls(width, height, depth, colour_type, bool(interlace))

    @property
    def channels(self) -> int:
        """How many numbers a pixel has."""
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
        """Whether one of its channels says how transparent the others are."""
        return self.colour_type in {GREY_ALPHA, RGB_ALPHA}

    def demand_palette(self, length: int | None) -> None:
        """Refuse a palette of no colours, of a part of one, or of more than there are indices; or none if it is needed.

        Beside colours that are no indices it is only a proposal, of up to 256.
        """
        is_needed = self.colour_type == PALETTE
        if length is None and not is_needed:
            return
        if not length or length % 3 or length // 3 > (2**self.depth if is_needed else _MOST_COLOURS):
            raise CorruptImage("The PNG is damaged: its palette is missing or too long. Save it again.")
