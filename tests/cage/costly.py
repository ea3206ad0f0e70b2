"""Valid files that cost far more than their headers say: each is made of what multiplies in its format."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.image.bombs import heic_of_tiles, many_references, smaller_than_it_is
from tests.image.corpus import intact
from tests.image.pictures import encoded, photo
from tests.image.structures import box, chunk, png_header, segment, with_item_boxes
from tests.image.tiff_files import tiff, tiff_of_one_tile

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


def jpeg_of_segments(segments: bytes) -> bytes:
    """Return a JPEG that has further segments before its first."""
    data = encoded(photo(_SIDE, _SIDE), "JPEG")
    return data[:2] + segments + data[2:]


def jpeg_of_codes(symbols: tuple[int, int], frame: int, side: int, *scans: bytes) -> bytes:
    """Return a grey JPEG of two codes, for first coefficients and for others, of one symbol each, written as 0."""
    size = segment(frame, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0))
    codes = b"".join(
        segment(0xC4, bytes((kind, 1)) + bytes(15) + bytes((symbol,)))
        for kind, symbol in zip((0x00, 0x10), symbols, strict=True)
    )
    return b"\xff\xd8" + segment(0xDB, b"\0" + bytes((1,)) * 64) + size + codes + b"".join(scans) + b"\xff\xd9"


def jpeg_of_restarts(side: int) -> bytes:
    """Return a JPEG with a restart marker after every block (T.81, B.2.1)."""
    rounds, rest = divmod((side // 8) ** 2, 8)
    assert not rest
    blocks = b"".join(b"\x3f\xff" + bytes((0xD0 + number,)) for number in range(8)) * rounds
    scan = segment(0xDA, b"\1\1\0\0\x3f\0") + blocks[:-2]
    return jpeg_of_codes((0, 0), 0xC0, side, segment(0xDD, b"\0\1"), scan)


def jpeg_of_scans(side: int) -> bytes:
    """Return a progressive JPEG of 883 scans, one for every bit of every coefficient (T.81, G.1.1.1).

    Of all but the first coefficient there is nothing: a code stands for the end of 16,384 blocks.
    """
    blocks = (side // 8) ** 2
    ends = bytes((blocks // 16_384 * 15 + 7) // 8)

    def scan(coefficient: int, bits: int, content: bytes) -> bytes:
        return segment(0xDA, bytes((1, 1, 0, coefficient, coefficient, bits))) + content

    scans = [scan(0, 0, bytes(blocks // 8))]
    for coefficient in range(1, 64):
        scans += [scan(coefficient, bit + 1 << 4 & 0xF0 | bit if bit < 13 else bit, ends) for bit in range(13, -1, -1)]
    return jpeg_of_codes((0, 0xE0), 0xC2, side, *scans)


def png_of_chunks(side: int, size: int, extra: bytes = b"") -> bytes:
    """Return a PNG of noise whose pixels come in so many bytes at a time, and whose other chunks come before."""
    rows = zlib.compress(b"".join(b"\0" + random.Random(row).randbytes(3 * side) for row in range(side)))  # noqa: S311 - noise
    pixels = b"".join(chunk(b"IDAT", rows[at : at + size]) for at in range(0, len(rows), size))
    return png_header(side, side) + extra + pixels + chunk(b"IEND", b"")


def gif_of(extension: bytes = b"", frames: int = 1, blocks: int = 255) -> bytes:
    """Return a GIF that has an extension, a number of frames that are alike, and blocks of a length."""
    data = encoded(photo(_SIDE, _SIDE).quantize(), "GIF")
    start = 13 + 3 * 256
    pixels = data.index(b",", start) + 11
    stream, at = b"", pixels
    while size := data[at]:
        stream, at = stream + data[at + 1 : at + 1 + size], at + 1 + size
    parts = (stream[at : at + blocks] for at in range(0, len(stream), blocks))
    frame = data[start:pixels] + b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
    return data[:start] + extension + frame * frames + b";"


def gif_extension(label: int, head: bytes, content: bytes, size: int) -> bytes:
    """Return an extension in blocks of a length."""
    blocks = b"".join(
        bytes((min(size, len(content) - at),)) + content[at : at + size] for at in range(0, len(content), size)
    )
    return bytes((0x21, label)) + (bytes((len(head),)) + head if head else b"") + blocks + b"\0"


def tiff_of_strips(rows: int) -> bytes:
    """Return a TIFF of which every row is a strip."""
    shape = {256: (_SIDE,), 257: (rows,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (1,)}
    return tiff({**shape, 273: (8,) * rows, 279: (_SIDE,) * rows}, bytes(_SIDE))


def tiff_of_tiles(side: int, tile: int, compression: int, pixels: bytes) -> bytes:
    """Return a TIFF of tiles that all lie in the same place."""
    count = ceil(side / tile) ** 2
    shape = {
        256: (side,),
        257: (side,),
        258: (8,),
        259: (compression,),
        262: (1,),
        277: (1,),
        322: (tile,),
        323: (tile,),
    }
    return tiff({**shape, 324: (8,) * count, 325: (len(pixels),) * count}, pixels)


def tiff_of_pages(count: int, *, last: int = 0) -> bytes:
    """Return a TIFF of pages that all have the same pixels; the last one names as the next where the first begins."""
    one = tiff(
        {
            256: (_SIDE,),
            257: (_SIDE,),
            258: (8,),
            259: (1,),
            262: (1,),
            273: (8,),
            277: (1,),
            278: (_SIDE,),
            279: (4_096,),
        },
        bytes(_SIDE * _SIDE),
    )
    start = 8 + _SIDE * _SIDE
    page = one[start:-4]
    pages = b"".join(
        page + struct.pack("<I", start + number * (len(page) + 4) if number < count else last)
        for number in range(1, count + 1)
    )
    return one[:start] + pages


def tiff_with(entry: int, value: bytes) -> bytes:
    """Return a TIFF with an entry of bytes."""
    shape = {256: (_SIDE,), 257: (_SIDE,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (_SIDE,), 279: (4_096,)}
    return tiff({**shape, 273: (8,), entry: tuple(value)}, bytes(_SIDE * _SIDE), kinds={entry: (1, "B")})


def bmp_of_runs(side: int) -> bytes:
    """Return a BMP in which every pixel is a run of its own."""
    row = b"\1\x80" * side + b"\0\0"
    header = struct.pack("<IIIIiiHHIIIIII", 0, 0, 1_078, 40, side, side, 1, 8, 1, len(row) * side, 0, 0, 256, 0)
    return b"BM" + header + bytes(1_024) + row * side + b"\0\1"


def bmp_with_profile(size: int) -> bytes:
    """Return a BMP whose header, of version 5, has a profile of so many bytes behind its pixels."""
    pixels, header_bytes = bytes(3 * _SIDE * _SIDE), 124
    start = 14 + header_bytes
    header = struct.pack("<IiiHHIIIIII", header_bytes, _SIDE, _SIDE, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(16) + b"DEBM"
    header += bytes(36 + 12) + struct.pack("<IIII", 0, header_bytes + len(pixels), size, 0)
    return b"BM" + struct.pack("<III", start + len(pixels) + size, 0, start) + header + pixels + bytes(size)


def webp_of_frames(count: int, after: bytes = b"") -> bytes:
    """Return an animated WebP whose frames are alike, and what stands behind them."""
    picture = Image.merge("RGBA", [*photo(_SIDE, _SIDE).split(), photo(_SIDE, _SIDE, "L")])
    data = encoded(picture, "WEBP", save_all=True, append_images=[picture.transpose(Image.Transpose.ROTATE_90)])
    assert b"ALPH" in data
    start = data.index(b"ANMF")
    end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
    body = data[12:start] + data[start:end] * count + after
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a WebP."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def avif_of_units(units: bytes) -> bytes:
    """Return an AVIF whose picture has further units of a stream behind it (AV1, 5.3), at the end of the file."""
    data = encoded(photo(_SIDE, _SIDE), "AVIF")
    at = data.index(b"iloc") + 4
    numbers = struct.unpack_from(">4x2sHHHHII", data, at)
    assert numbers[:3] == (b"\x44\0", 1, 1)
    place, length = numbers[-2:]
    whole = data[place : place + length] + units
    changed = struct.pack(">II", len(data) + 8, len(whole))
    return data[: at + 14] + changed + data[at + 22 :] + box(b"mdat", whole)


def exif_of_loops(count: int) -> bytes:
    """Return a TIFF structure whose every entry points to a directory, which is this one, as the next one is."""
    entries = b"".join(struct.pack("<HHII", 0x8769, 4, 1, 8) for _ in range(count))
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 8)


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
    "a jpeg of a hundred thousand comments": lambda: jpeg_of_segments(segment(0xFE, b"") * 100_000),
    "a jpeg of two million comments": lambda: jpeg_of_segments(segment(0xFE, b"") * 2_000_000),
    "a jpeg of a hundred thousand tables of divisors": lambda: jpeg_of_segments(
        segment(0xDB, (b"\0" + b"\x10" * 64) * 1_000) * 100
    ),
    "a jpeg of a hundred thousand tables of codes": lambda: jpeg_of_segments(segment(0xC4, bytes(17) * 1_000) * 100),
    "a jpeg of a million restarts": lambda: jpeg_of_restarts(8_192),
    "a jpeg of hundreds of scans": lambda: jpeg_of_scans(2_048),
    "a jpeg with a profile in 255 pieces": lambda: jpeg_of_segments(
        b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((number, 255)) + bytes(65_519)) for number in range(1, 256))
    ),
    "a jpeg with ninety megabytes of xmp": lambda: jpeg_of_segments(
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_498)) * 1_370
    ),
    "a jpeg whose exif leads back to itself": lambda: jpeg_of_segments(
        segment(0xE1, b"Exif\0\0" + exif_of_loops(5_400)) * 100
    ),
    "a png of a hundred thousand pieces of pixels": lambda: png_of_chunks(320, 3),
    "a png of a hundred thousand empty pieces of pixels": lambda: png_of_chunks(64, 64, chunk(b"IDAT", b"") * 100_000),
    "a png of a million pieces of pixels": lambda: png_of_chunks(64, 64, chunk(b"IDAT", b"") * 1_000_000),
    "a png of a hundred thousand texts": lambda: png_of_chunks(
        64,
        65_536,
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000))) * 50_000 + chunk(b"tEXt", b"Comment\0") * 50_000,
    ),
    "a png with a thousand profiles": lambda: png_of_chunks(
        64, 65_536, chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(900_000), 9)) * 1_000
    ),
    "a png with ninety megabytes of xmp": lambda: png_of_chunks(
        64, 65_536, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(90_000_000))
    ),
    "a gif of ten thousand frames": lambda: gif_of(frames=10_000),
    "a gif whose comment comes byte by byte": lambda: gif_of(gif_extension(0xFE, b"", b"x" * 2_000_000, 1)),
    "a gif with twenty megabytes of xmp": lambda: gif_of(gif_extension(0xFF, b"XMP DataXMP", bytes(20_000_000), 255)),
    "a gif whose pixels come byte by byte": lambda: gif_of(blocks=1),
    "a tiff of a hundred thousand strips": lambda: tiff_of_strips(100_000),
    "a tiff of a hundred thousand tiles": lambda: tiff_of_tiles(5_000, 16, 1, bytes(256)),
    "a tiff of one tile of four billion pixels": lambda: tiff_of_tiles(64, 65_520, 32_773, b"\x81\0" * 33_600),
    "a tiff of one tile of 67 million pixels": lambda: tiff_of_one_tile(8_192),
    "a tiff of ten thousand pages": lambda: tiff_of_pages(10_000),
    "a tiff whose last page leads back to the first": lambda: tiff_of_pages(3, last=8 + _SIDE * _SIDE),
    "a tiff with ten megabytes of xmp": lambda: tiff_with(700, bytes(10_000_000)),
    "a bmp of four million runs": lambda: bmp_of_runs(2_000),
    "a bmp with a profile of ninety megabytes": lambda: bmp_with_profile(90_000_000),
    "a webp of ten thousand frames": lambda: webp_of_frames(10_000),
    "a webp with ninety megabytes of xmp": lambda: webp_of_frames(1, riff_chunk(b"XMP ", bytes(90_000_000))),
    "a webp with ninety megabytes that nobody knows": lambda: webp_of_frames(1, riff_chunk(b"JUNK", bytes(90_000_000))),
    "an avif of noise": lambda: encoded(photo(2_000, 1_500), "AVIF", quality=100, speed=10),
    "an avif of a hundred thousand units": lambda: avif_of_units(bytes((15 << 3 | 2, 0)) * 100_000),
    "an avif with ninety megabytes of padding": lambda: avif_of_units(bytes((15 << 3,)) + bytes(90_000_000)),
    "a heic with ninety megabytes beside its picture": lambda: intact()["heic"] + box(b"free", bytes(90_000_000)),
}

IS_DEMANDING = {"TooDemanding"}
MAY_BE = {"image", *IS_DEMANDING}
ENDS: dict[str, set[str]] = {
    "a png with a profile of empty blocks": {"UnsupportedFormat"},
    "a tiff of empty blocks": MAY_BE,
    "a webp of groups of codes": MAY_BE,
    "a heic of hidden pictures": MAY_BE,
    "an avif of hidden pictures in many slots": IS_DEMANDING,
    "a heic of boxes of boxes": IS_DEMANDING,
    "a heic of tiles that it does not show": {"CorruptImage"},
    "an avif that is put together of ten million": {"CorruptImage"},
    "an avif whose picture lies in a million places": {"CorruptImage"},
    "an avif whose items have a million properties": {"CorruptImage"},
    "an avif of a million empty boxes": {"CorruptImage"},
    "a jpeg of two million comments": MAY_BE,
    "a jpeg of hundreds of scans": MAY_BE,
    "a jpeg with a profile in 255 pieces": {"UnsupportedFormat"},
    "a png of a million pieces of pixels": IS_DEMANDING,
    "a tiff of a hundred thousand tiles": MAY_BE,
    "a tiff of one tile of four billion pixels": {"CorruptImage"},
    "a bmp of four million runs": MAY_BE,
    "a bmp with a profile of ninety megabytes": {"UnsupportedFormat"},
}
"""What becomes of a file that does not become an image on every machine: those that are refused as corrupt are that."""
