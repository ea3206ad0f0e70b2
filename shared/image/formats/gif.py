"""Inspects a GIF: the size of its first frame, and whether anything follows it.

The format is https://www.w3.org/Graphics/GIF/spec-gif89a.txt.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from shared.errors import CorruptImage
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

_EXTENSION, _FRAME = 0x21, 0x2C
_CONTROL, _COMMENT, _APPLICATION = 0xF9, 0xFE, 0xFF
_NOTHING_MORE = {b"", b";"}


@dataclass(frozen=True)
class GifInspection(Inspection):
    """What precedes the pixels. `frame` is the first frame, as (left, top, right, bottom).

    `kept` is what a decoder needs: Pillow would join a comment block by block, copying all previous ones each time.
    """

    frame: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def is_partial(self) -> bool:
        """Whether parts of the canvas are outside the frame."""
        return self.frame != (0, 0, self.header.width, self.header.height)


def inspect(data: bytes) -> GifInspection:
    """Read to the end of the first frame, which may be larger than its logical screen (20)."""
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        position = 13 + _palette_bytes(flags)
        kept = [(0, position)]
        has_metadata = False
        while data[position] == _EXTENSION:
            start, label, position = position, data[position + 1], _after_blocks(data, position + 2)
            has_metadata |= label in {_COMMENT, _APPLICATION}
            if label == _CONTROL:
                kept.append((start, position))
        left, top, across, down, flags = struct.unpack_from("<HHHHB", data, position + 1)
        if data[position] != _FRAME:
            raise _broken()
        end = _after_blocks(data, position + 11 + _palette_bytes(flags))
    except (IndexError, struct.error):
        raise _broken() from None
    header = ImageHeader("image/gif", max(width, left + across), max(height, top + down))
    return GifInspection(
        data,
        header,
        has_metadata=has_metadata or data[end : end + 2] not in _NOTHING_MORE,
        kept=(*kept, (position, end)),
        is_lossless=True,
        frame=(left, top, left + across, top + down),
    )


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, position: int) -> int:
    """Return where a chain of data sub-blocks ends (15)."""
    while position < len(data) and (size := data[position]):
        position += 1 + size
    return position + 1


def _broken() -> CorruptImage:
    return CorruptImage(
        "The GIF is damaged or cut short: a picture is missing where one must begin. Upload the whole file."
    )
