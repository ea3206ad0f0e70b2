"""Small files that would cost far more to decode than their size suggests."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image

from tests.image.corpus import SAMPLES
from tests.image.pictures import encoded, photo
from tests.image.structures import box, boxes, chunk, png_header
from tests.kept import made_once

if TYPE_CHECKING:
    from collections.abc import Callable


@cache
def deflated_zeros() -> bytes:
    """Return 200 MB of zeros as a stream of zlib's, which is a thousandth of that."""
    deflater = zlib.compressobj(9)
    return b"".join(deflater.compress(bytes(1_000_000)) for _ in range(200)) + deflater.flush()


def jpeg_of_many_scans(count: int) -> bytes:
    """Return a progressive JPEG that repeats its first scan."""
    data = encoded(Image.new("RGB", (1024, 1024)), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    scan = data[first : data.index(b"\xff\xc4", first)]
    return data[:first] + scan * count + data[first:]


def tiff_of_overlapping_values(count: int) -> bytes:
    """Return a TIFF whose every entry points to the same half of it."""
    size = 14 + 12 * count
    entries = b"".join(struct.pack("<HHII", 1000 + tag, 1, size // 2, 0) for tag in range(count))
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)


def avif_of(width: int, height: int) -> bytes:
    """Return an AVIF that says it is so large."""
    return encoded(Image.new("RGB", (64, 64)), "AVIF").replace(
        struct.pack(">II", 64, 64), struct.pack(">II", width, height)
    )


def many_references(count: int) -> bytes:
    """Return the content of an `iref` in which one picture is put together again and again of 65,535 others."""
    parts = struct.pack(">HH65535H", 1, 65_535, *range(65_535))
    return bytes(4) + box(b"dimg", parts) * count


def webp_of_one_colour(width: int, height: int) -> bytes:
    """Return a valid lossless WebP whose pixels take no bits at all: five codes of one symbol each, and the end."""
    body = (
        b"\x2f"
        + struct.pack("<I", width - 1 | height - 1 << 14)
        + (0b0001_0001_0001_0001_0001_000).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


BOMBS: dict[str, Callable[[], bytes]] = {
    "a webp of 28 bytes and 164 million pixels": lambda: webp_of_one_colour(12_800, 12_800),
    "an extended webp of 268 million pixels": lambda: (
        b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(26)
    ),
    "a png of 64 x 64 with 200 megabytes of pixels": lambda: (
        png_header(64, 64) + chunk(b"IDAT", deflated_zeros()) + chunk(b"IEND", b"")
    ),
    "a png of 60,000 x 60,000": lambda: png_header(60_000, 60_000) + chunk(b"IDAT", b"x") + chunk(b"IEND", b""),
    "a png with a profile of 200 megabytes": lambda: (
        png_header(64, 64)
        + chunk(b"iCCP", b"p\0\0" + deflated_zeros())
        + chunk(b"IDAT", zlib.compress(bytes(64 * 193)))
        + chunk(b"IEND", b"")
    ),
    "a jpeg of 65,500 x 65,500": lambda: encoded(photo(64, 64), "JPEG").replace(
        b"\x08\x00\x40\x00\x40\x03", b"\x08\xff\xdc\xff\xdc\x03"
    ),
    "a jpeg of 2,000 scans": lambda: jpeg_of_many_scans(2_000),
    "a gif of 65,535 x 65,535": lambda: encoded(photo(64, 64), "GIF").replace(b"\x40\0\x40\0", b"\xff\xff\xff\xff"),
    "a bmp of 30,000 x 30,000": lambda: (
        b"BM" + struct.pack("<IIIIiiHHI", 54, 0, 54, 40, 30_000, 30_000, 1, 24, 0) + bytes(20)
    ),
    "a tiff of 200,000 x 200,000": lambda: (
        encoded(photo(64, 64), "TIFF")
        .replace(struct.pack("<HHII", 256, 4, 1, 64), struct.pack("<HHII", 256, 4, 1, 200_000))
        .replace(struct.pack("<HHII", 257, 4, 1, 64), struct.pack("<HHII", 257, 4, 1, 200_000))
    ),
    "a tiff whose entries all point to the same half of it": lambda: tiff_of_overlapping_values(60_000),
    "an avif of 65,535 x 65,535": lambda: avif_of(65_535, 65_535),
    "a bmp of 1 x 60,000,000, of few run lengths": lambda: (
        b"BM"
        + struct.pack("<IIIIiiHHI", 0, 0, 1_078, 40, 1, 60_000_000, 1, 8, 1)
        + bytes(1_044)
        + b"\0\2\0\xff" * 400_000
    ),
    "a postscript that is named .png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n{} loop\n",
}


@made_once
def bomb(name: str) -> bytes:
    """Return one of the bombs, which take longer to make than to refuse."""
    return BOMBS[name]()


_PICTURE_BYTES = 407
"""Of the sample; its EXIF follows."""


def heic_of_tiles(
    tiles: list[int],
    columns: int,
    tile: tuple[int, int],
    shown: tuple[int, int],
    *,
    shared: bool = False,
    offsets: tuple[int, ...] = (),
) -> bytes:
    """Return a HEIC that shows tiles beside and under one another; each is the sample, under a number of its own.

    With offsets, across and down for each tile, they are laid on a canvas instead.
    """
    sample = (SAMPLES / "orientation-1.heic").read_bytes()
    outer = boxes(sample)
    properties = boxes(boxes(boxes(outer[b"meta"], 4)[b"iprp"])[b"ipco"])
    items, whole, picture = sorted(set(tiles)), 9_999, outer[b"mdat"][:_PICTURE_BYTES]
    entries = [
        *(box(b"infe", b"\2\0\0\1", struct.pack(">HH4sx", item, 0, b"hvc1")) for item in items),
        box(b"infe", bytes((2, 0, 0, 0)), struct.pack(">HH4sx", whole, 0, b"iovl" if offsets else b"grid")),
    ]
    grid = struct.pack(">BBBBHH", 0, 0, len(tiles) // columns - 1, columns - 1, *shown)
    if offsets:
        grid = struct.pack(f">BB4HHH{len(offsets)}h", 0, 0, *(65_535,) * 4, *shown, *offsets)
    owned = [struct.pack(">HBBB", item, 2, 0x81, 2) for item in items] + [struct.pack(">HBB", whole, 1, 3)]

    def meta(start: int) -> bytes:
        places = [
            struct.pack(">HHHHII", item, 0, 0, 1, start + number * len(picture) * (not shared), len(picture))
            for number, item in enumerate(items)
        ]
        places.append(struct.pack(">HHHHII", whole, 1, 0, 1, 0, len(grid)))
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), struct.pack(">H", whole)),
            box(b"iloc", b"\1\0\0\0\x44\0", struct.pack(">H", len(places)), *places),
            box(b"iinf", bytes(4), struct.pack(">H", len(entries)), *entries),
            box(b"iref", bytes(4), box(b"dimg", struct.pack(f">HH{len(tiles)}H", whole, len(tiles), *tiles))),
            box(
                b"iprp",
                box(
                    b"ipco",
                    box(b"hvcC", properties[b"hvcC"]),
                    box(b"ispe", bytes(4), struct.pack(">II", *tile)),
                    box(b"ispe", bytes(4), struct.pack(">II", *shown)),
                ),
                box(b"ipma", bytes(4), struct.pack(">I", len(owned)), *owned),
            ),
            box(b"idat", grid),
        )

    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", picture * (1 if shared else len(items)))


def smaller_than_it_is(*, animated: bool) -> bytes:
    """Return an AVIF of 3 million pixels that says it is 64 x 64; of an animated one, only the track is a picture."""
    picture = Image.new("RGB", (2_000, 1_500))
    data = encoded(picture, "AVIF", save_all=animated, append_images=[picture] * animated, speed=10)
    data = data.replace(struct.pack(">II", 2_000, 1_500), struct.pack(">II", 64, 64))
    return data.replace(b"av01", b"none", 1) if animated else data
