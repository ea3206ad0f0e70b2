"""Valid files that cost far more than their headers say: each is made of what multiplies in its format."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.image.pictures import encoded
from tests.image.test_hostile import (
    box,
    heic_of_tiles,
    intact,
    many_references,
    png_header,
    smaller_than_it_is,
    tiff,
    with_item_boxes,
)
from tests.image.test_metadata import chunk, segment

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = Path(__file__).parent / "samples"
_SIDE = 64


def sample(name: str) -> bytes:
    """Return a file that no encoder at hand can make."""
    return gzip.decompress((SAMPLES / f"{name}.gz").read_bytes())


def bits_as_bytes(bits: str) -> bytes:
    """Return bits that are read from the least significant one of each byte on."""
    return int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


def number(value: int, width: int) -> str:
    """Return a number as such bits."""
    return f"{value:0{width}b}"[::-1]


def empty_blocks(size: int) -> bytes:
    """Return the beginning of a deflate stream: so many bytes of blocks that bring two codes each, and no data.

    RFC 1951, 3.2.7. In the code of lengths are 1, as 0, and 18, as 1: 138 and 118 zeros, then the end of the block and
    one distance, of one bit each.
    """
    lengths = {18: 1, 1: 1}
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
    header = number(0b100, 3) + number(0, 5) + number(0, 5) + number(len(order) - 4, 4)
    codes = "".join(number(lengths.get(symbol, 0), 3) for symbol in order)
    block = header + codes + "1" + number(138 - 11, 7) + "1" + number(118 - 11, 7) + "0" + "0" + "0"
    eight = bits_as_bytes(block * 8)
    return eight * (size // len(eight))


def deflated_slowly(data: bytes, size: int) -> bytes:
    """Return data as a stream of zlib's, with so many bytes of empty blocks before."""
    return b"\x78\x9c" + empty_blocks(size) + zlib.compress(data)[2:]


def png_of_empty_blocks(size: int) -> bytes:
    """Return a PNG whose pixels come after them."""
    rows = bytes(_SIDE * (1 + 3 * _SIDE))
    return png_header(_SIDE, _SIDE) + chunk(b"IDAT", deflated_slowly(rows, size)) + chunk(b"IEND", b"")


def png_with_a_profile_of_empty_blocks(size: int) -> bytes:
    """Return a PNG whose profile comes after them."""
    rows = zlib.compress(bytes(_SIDE * (1 + 3 * _SIDE)))
    profile = chunk(b"iCCP", b"p\0\0" + deflated_slowly(bytes(200), size))
    return png_header(_SIDE, _SIDE) + profile + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff_of_empty_blocks(size: int) -> bytes:
    """Return a TIFF of rows that each come after some of them; libtiff takes no strip of much more than a megabyte."""
    strip = deflated_slowly(bytes(_SIDE), 1_000_000)
    rows = size // 1_000_000
    places = tuple(8 + row * len(strip) for row in range(rows))
    shape = {256: (_SIDE,), 257: (rows,), 258: (8,), 259: (8,), 262: (1,), 277: (1,), 278: (1,)}
    short = dict.fromkeys((258, 259, 262, 277), (3, "H"))
    return tiff({**shape, 273: places, 279: (len(strip),) * rows}, strip * rows, "<", short)


def jpeg_of_refinements(side: int) -> bytes:
    """Return a progressive JPEG that refines every coefficient six times (T.81, G.1.2.3).

    By its codes of one symbol each, all of its entropy-coded data are zeros: every coefficient is -1 at first, and is
    made no smaller.
    """
    blocks = (side // 8) ** 2
    size = struct.pack(">BHHB", 8, side, side, 3)
    frame = segment(0xC2, size + b"".join(bytes((component, 0x11, 0)) for component in (1, 2, 3)))

    def code(kind: int, symbol: int) -> bytes:
        return segment(0xC4, bytes((kind, 1)) + bytes(15) + bytes((symbol,)))

    def scan(components: bytes, first: int, last: int, bits: int, length: int) -> bytes:
        named = b"".join(bytes((component, 0)) for component in components)
        header = segment(0xDA, bytes((len(components),)) + named + bytes((first, last, bits)))
        return header + bytes((length + 7) // 8)

    scans = [code(0x00, 0), scan(b"\1\2\3", 0, 0, 0x00, 3 * blocks), code(0x10, 0x01)]
    scans += [scan(bytes((component,)), 1, 63, 0x06, 126 * blocks) for component in (1, 2, 3)]
    scans += [code(0x10, 0x00)]
    for bit in range(6, 0, -1):
        scans += [scan(bytes((component,)), 1, 63, bit << 4 | bit - 1, 64 * blocks) for component in (1, 2, 3)]
    return b"\xff\xd8" + segment(0xDB, b"\0" + bytes((1,)) * 64) + frame + b"".join(scans) + b"\xff\xd9"


def webp_of_groups(side: int) -> bytes:
    """Return a lossless WebP in which every 4 x 4 pixels have codes of their own, of 256 symbols for each channel.

    https://developers.google.com/speed/webp/docs/webp_lossless_bitstream_specification, 5 and 6.
    """
    across = side // 4
    one_symbol = number(1, 1) + number(0, 1) + number(0, 1) + number(0, 1)
    order = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8)

    def of_8_bits(more: int) -> str:
        """Describe a code of 256 symbols of 8 bits each, and some of none: 8 is written as 0, 16 as 10 and 18 as 11."""
        lengths = {8: 1, 16: 2, 18: 2}
        described = "0" + number(len(order) - 4, 4) + "".join(number(lengths.get(symbol, 0), 3) for symbol in order)
        all_of_them = "0" + ("10" + number(3, 2)) * 42 + ("10" + number(0, 2))
        return described + "0" + all_of_them + ("11" + number(more - 11, 7) if more else "")

    numbered = of_8_bits(24) + of_8_bits(0) + one_symbol * 3
    group = of_8_bits(24) + of_8_bits(0) * 2 + one_symbol * 2
    which = "".join(f"{block & 255:08b}{block >> 8:08b}" for block in range(across * across))
    bits = number(side - 1, 14) + number(side - 1, 14) + "0" + "000" + "0" + "0" + "1" + number(0, 3)
    bits += "0" + numbered + which + group * (across * across) + "0" * 24 * side * side
    body = b"\x2f" + bits_as_bytes(bits)
    body += bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def heic_of_boxes(count: int) -> bytes:
    """Return a HEIC whose properties are in boxes of boxes of boxes."""
    size = box(b"ispe", struct.pack(">III", 0, _SIDE, _SIDE))
    inner = box(b"ipco", size * 2)
    return box(b"ftyp", b"heic\0\0\0\0heic") + box(b"meta", bytes(4) + box(b"iprp", inner * count) * count)


COSTLY: dict[str, Callable[[], bytes]] = {
    "a png of empty blocks": lambda: png_of_empty_blocks(20_000_000),
    "a png with a profile of empty blocks": lambda: png_with_a_profile_of_empty_blocks(20_000_000),
    "a tiff of empty blocks": lambda: tiff_of_empty_blocks(20_000_000),
    "a jpeg of refinements": lambda: jpeg_of_refinements(2_048),
    "a webp of groups of codes": lambda: webp_of_groups(1_024),
    "a heic of hidden pictures": lambda: sample("hidden-pictures.heic"),
    "an avif of hidden pictures in many slots": lambda: sample("reference-slots.avif"),
    "a heic of boxes of boxes": lambda: heic_of_boxes(500),
    "a heic of tiles that it does not show": lambda: heic_of_tiles([*range(1, 65)], 8, (4096, 4096), (4096, 4096)),
    "an avif that is larger than it says": lambda: smaller_than_it_is(animated=False),
    "an animated avif that is larger than it says": lambda: smaller_than_it_is(animated=True),
    "an avif that is put together of ten million": lambda: with_item_boxes(intact()["avif"], iref=many_references(150)),
    "an avif whose picture lies in a million places": lambda: with_item_boxes(
        intact()["avif"], iloc=b"\0\0\0\0\x11\0\0\x20" + struct.pack(">HHH", 1, 0, 65_535) * 32 + b"\1" * 2_000_000
    ),
    "an avif whose items have a million properties": lambda: with_item_boxes(
        intact()["avif"], iprp=box(b"ipma", bytes(4), struct.pack(">I", 4_000), (b"\0\1\xff" + b"\1" * 255) * 4_000)
    ),
    "an avif of a million empty boxes": lambda: with_item_boxes(
        intact()["avif"], iref=bytes(4) + box(b"free") * 1_000_000
    ),
    "a gif of a hundred million pixels": lambda: encoded(Image.new("P", (6_000, 6_000)), "GIF"),
    "a tiff of fax": lambda: encoded(Image.new("1", (9_000, 9_000)), "TIFF", compression="group4"),
}
