"""Files that state their colours in unusual ways."""

from __future__ import annotations

import random
import re
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


def hevc_configuration(primaries: int, transfer: int, *, scaling: str = "", references: str = "10") -> bytes:
    """Return the content of `hvcC` whose sequence parameter set has such scaling lists and reference pictures.

    They are given in binary, as all of its fields here are (ITU-T H.265, 7.3.2.2 and E.2.1).
    """
    sizes = "".join(map(code, (0, 1, 64, 64))) + "0" + "".join(map(code, (0, 0, 4)))
    blocks = "1" + "".join(map(code, (4, 0, 0, 0, 3, 0, 3, 0, 0)))
    lists = "11" + scaling if scaling else "0"
    colours = "00" + "1" + "1010" + "1" + f"{primaries:08b}{transfer:08b}{1:08b}"
    profile = f"{0x01600000009000000000001E:096b}"
    bits = "00000001" + profile + sizes + blocks + lists + "000" + references + "00" + "1" + colours + "0" * 8 + "1"
    raw = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    unit = b"\x42\x01" + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", raw)
    return bytes(22) + b"\1\x21" + struct.pack(">HH", 1, len(unit)) + unit


def code(number: int) -> str:
    """Return a number in Exp-Golomb code (H.265, 9.2)."""
    return f"{number + 1:b}".zfill(2 * (number + 1).bit_length() - 1)


SCALING_LISTS = "".join(
    "0" + code(0) if number % 3 == 2 else "1" + "".join(code(value % 40) for value in range(count))
    for number, count in enumerate((16,) * 6 + (64,) * 6 + (65,) * 8)
)
"""Most lists have numbers of their own; every third is that of another one."""

_EXPLICIT = code(2) + code(1) + code(0) + "1" + code(1) + "1" + code(1) + "1"
_PREDICTED = "11" + code(0) + "1" + "01" + "00" + "1"
_THROUGH_ZERO = "10" + code(1) + "1111"
_AFTER_THAT = "10" + code(0) + "1111"
REFERENCE_SETS = (
    code(4) + _EXPLICIT + _PREDICTED + _THROUGH_ZERO + _AFTER_THAT + "1" + code(2) + "0" * 8 + "1" + "1" * 9
)
"""One set is explicit, and three are predicted from the previous one: of the third, one picture is left out, because it
would be the picture itself. Two long-term pictures follow."""
