"""Files that state their colours in unusual ways."""

from __future__ import annotations

import random
import struct

from PIL import Image

from shared.image import colour
from tests.image.pictures import encoded
from tests.image.structures import chunk, with_chunk


def png_of(value: int, *chunks: bytes, mode: str = "L") -> bytes:
    """Return a PNG of one grey, so long that it has to be padded, that says something of its colours."""
    return with_chunk(encoded(Image.new(mode, (640, 64), (value,) * len(mode)), "PNG"), b"".join(chunks))


def cicp(primaries: int, transfer: int) -> bytes:
    """Return the chunk of a PNG that states its colours by numbers of H.273."""
    return chunk(b"cICP", bytes((primaries, transfer, 0, 1)))


LINEAR = chunk(b"gAMA", struct.pack(">I", 100_000))


def big_profile(size: int = 1_500_000) -> bytes:
    """Return a profile of a strange red, with so much in it that nobody reads."""
    red, green, blue = (0.2, 0.4), (0.3, 0.6), (0.15, 0.06)
    profile = colour.ColourSpace(colour.Primaries((0.3127, 0.329), red, green, blue)).profile(is_grey=False)
    whole = profile + random.Random(1).randbytes(size)  # noqa: S311 - no secret
    return struct.pack(">I", len(whole)) + whole[4:]


def numbered(primaries: int, transfer: int) -> bytes:
    """Return an AVIF of mid-grey that states its colours by numbers of H.273."""
    data = encoded(Image.new("RGB", (64, 64), (128, 128, 128)), "AVIF", quality=100)
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]
