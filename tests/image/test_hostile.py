"""A hostile file costs its own result and nothing else: a generated corpus, and the most that each file may cost."""

from __future__ import annotations

import random
import re
import struct
import warnings
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pyvips
from PIL import Image

from shared.errors import CorruptImage, DropError, ImageRefused, TooManyPixels, UnsupportedFormat
from shared.image import normalize_image
from shared.image.damage import as_corrupt_image
from shared.image.formats import av1
from tests.costs import cost, cost_in_photos, decode, memory_bytes
from tests.image.pictures import decodable, encoded, exif, legal, pattern, photo
from tests.image.test_metadata import chunk, segment
from tests.kept import Intact, made_once, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SAMPLES = Path(__file__).parent / "samples"
MAX_REFUSAL_BYTES = 10_000_000


@cache
def intact(*, small: bool = False) -> dict[str, bytes]:
    """Return one intact file of every supported kind."""
    size, side = ((48, 36), 16) if small else ((160, 120), 64)
    picture, grey = photo(*size), photo(*size, "L")
    deep = Image.new("I;16", (side, side))
    deep.putdata(range(0, 65_536, 65_536 // side**2))
    files = {
        "baseline": encoded(picture, "JPEG", exif=exif(6)),
        "progressive": encoded(picture, "JPEG", progressive=True),
        "restarts": encoded(picture, "JPEG", restart_marker_rows=1),
        "grey": encoded(grey, "JPEG"),
        "cmyk": encoded(picture.convert("CMYK"), "JPEG"),
        "mpo": encoded(picture, "MPO", save_all=True, append_images=[picture]),
        "png": encoded(picture, "PNG", exif=exif(3)),
        "png of 16 bits": encoded(deep, "PNG"),
        "png with a palette": encoded(pattern().quantize(), "PNG", transparency=0),
        "apng": encoded(picture, "PNG", save_all=True, append_images=[grey.convert("RGB")]),
        "gif": encoded(picture, "GIF", comment=b"hello"),
        "bmp": encoded(picture, "BMP"),
        "tiff": encoded(picture, "TIFF"),
        "tiff lzw": encoded(picture, "TIFF", compression="tiff_lzw"),
        "tiff deflate": encoded(picture, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": encoded(picture, "TIFF", compression="jpeg"),
        "tiff of 16 bits": encoded(deep, "TIFF"),
        "webp": encoded(picture, "WEBP", exif=exif(6)),
        "webp lossless": encoded(picture, "WEBP", lossless=True),
        "avif": encoded(picture, "AVIF", exif=exif(6)),
        "heic": (SAMPLES / "orientation-6.heic").read_bytes(),
    }
    return Intact(files)


KINDS = tuple(intact(small=True))  # which is sooner made


def damaged(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield a file truncated, with flipped bits, overwritten, split, doubled, and with every size in it swapped."""
    yield from map(noted, _damaged(data, seed))


def _damaged(data: bytes, seed: int) -> Iterator[bytes]:
    dice = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(6):
        yield data[: dice.randrange(len(data))]
    for reach in (64, 256, len(data)):
        for _ in range(8):
            at = dice.randrange(min(reach, len(data)))
            yield data[:at] + bytes((data[at] ^ 1 << dice.randrange(8),)) + data[at + 1 :]
            yield data[:at] + dice.choice((b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff")) + data[at + 4 :]
    for _ in range(4):
        at, to = sorted(dice.sample(range(len(data)), 2))
        yield data[:at] + data[to:]
        yield data[:to] + data[at:]
        yield data[:at] + dice.randbytes(to - at) + data[to:]
    width, height = (160).to_bytes(2, "big"), (120).to_bytes(2, "big")
    for order in (slice(None), slice(None, None, -1)):
        yield data.replace(width[order], height[order])
        yield data.replace(height[order], b"\xff\xff")


@pytest.mark.parametrize("kind", KINDS)
def test_an_intact_file_of_every_kind_comes_out_legal(kind: str) -> None:
    """The corpus proves nothing if its seeds are refused."""
    normalized = normalize_image(intact()[kind])
    assert legal(normalized.data) == (normalized.width, normalized.height)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_done_to_a_file_it_is_refused_or_comes_out_legal(kind: str) -> None:
    """No other exception, and no output that another decoder rejects."""
    for data in damaged(intact()[kind], seed=len(kind)):
        with suppress(ImageRefused):
            normalized = normalize_image(data)
            assert decodable(normalized.data) == (normalized.width, normalized.height)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_done_to_a_file_it_costs_little(kind: str) -> None:
    """All damaged files together cost less than sixty photos, so no single one occupies a worker for long."""
    files = list(damaged(intact()[kind], seed=len(kind)))
    noted(intact()[kind])

    def normalize_all() -> None:
        for data in files:
            with suppress(ImageRefused):
                normalize_image(data)

    assert cost_in_photos(normalize_all) < 60


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("image file is truncated (12 bytes not processed)", CorruptImage, "ends too soon"),
        ("Decoder plugin generated an error: Unexpected end of file", CorruptImage, "ends too soon"),
        (
            "Unsupported feature: Unsupported data version",
            UnsupportedFormat,
            "uses a feature that its decoder does not",
        ),
        ("Invalid input: 'pitm' box references an unsupported item", CorruptImage, "could not be decoded[.] Save"),
        ("decoder error -2", CorruptImage, "could not be decoded[.] Save"),
    ],
)
def test_a_refusal_says_what_the_decoder_said_and_nothing_more(
    said: str, error: type[ImageRefused], words: str
) -> None:
    """The message names no cause that is not established."""
    with pytest.raises(error, match=words) as refused, as_corrupt_image("TIFF"):
        raise OSError(said)
    assert str(refused.value).startswith("The TIFF ")
    assert not re.search("damaged|cut short", str(refused.value))


@pytest.mark.parametrize("name", [b"mif2", b"mif3", b"unif", b"avci", b"vvic", b"j2ki"])
def test_an_image_of_another_brand_is_no_video(name: bytes) -> None:
    """Its container is that of videos; its brand says what it is."""
    with pytest.raises(UnsupportedFormat, match=f"image.*{name.decode()}"):
        normalize_image(box(b"ftyp", name, bytes(4), name, b"miaf") + box(b"meta", bytes(60)))


@pytest.mark.parametrize(
    ("kind", "words"), [(b"unci", "uncompressed pixels"), (b"avc1", "AVC"), (b"j2k1", "JPEG 2000")]
)
def test_a_heif_whose_pixels_no_decoder_here_knows_is_refused_by_name(kind: bytes, words: str) -> None:
    """It is intact, and states its kind."""
    data = intact()["heic"]
    at = data.index(b"iinf")
    with pytest.raises(UnsupportedFormat, match=words):
        normalize_image(data[:at] + data[at:].replace(b"hvc1", kind, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_in_half_is_refused(kind: str) -> None:
    """Half an upload is not an image."""
    if kind == "mpo":
        return  # its first picture is its first half
    data = intact()[kind]
    with pytest.raises(CorruptImage):
        normalize_image(data[: len(data) // 2])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "magic", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF____WEBPVP8 "]
)
def test_a_wrong_magic_is_refused(magic: bytes, name: str) -> None:
    """A file's signature decides which single decoder gets to see it."""
    data = intact()[name]
    if data.startswith(magic[:2]):
        data = b"\0" * 16 + data
    with pytest.raises(ImageRefused):
        normalize_image(magic + data[len(magic) :])


def png_header(width: int, height: int, depth: int = 8, colour_type: int = 2) -> bytes:
    """Return the signature and header of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))


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


def with_item_boxes(data: bytes, **contents: bytes) -> bytes:
    """Return a HEIF whose items are described, at the end of its `meta`, by further boxes."""
    at = data.index(b"meta") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    more = b"".join(box(kind.encode(), content) for kind, content in contents.items())
    return data[:at] + struct.pack(">I", size + len(more)) + data[at + 4 : at + size] + more + data[at + size :]


def many_references(count: int) -> bytes:
    """Return the content of an `iref` in which one picture is put together again and again of 65,535 others."""
    parts = struct.pack(">HH65535H", 1, 65_535, *range(65_535))
    return bytes(4) + box(b"dimg", parts) * count


def tiff_of_one_tile(side: int) -> bytes:
    """Return a TIFF of one pixel of 16-bit RGBA, in a tile that is so large, and of runs of 128 zeros (PackBits)."""
    pixels = b"\x81\0" * (side * side // 16)
    shape = {256: (1,), 257: (1,), 258: (16,) * 4, 259: (32_773,), 262: (2,), 277: (4,), 338: (2,)}
    return tiff({**shape, 322: (side,), 323: (side,), 324: (8,), 325: (len(pixels),)}, pixels)


def png_with(repeated: bytes, count: int) -> bytes:
    """Return a PNG that holds a chunk so many times."""
    data = encoded(photo(64, 64), "PNG")
    return data[:33] + repeated * count + data[33:]


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


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_from_its_header(name: str) -> None:
    """It costs less than the decoding of five photos, and no memory to speak of."""
    data = bomb(name)
    assert memory_bytes(lambda: refuse(data)) < MAX_REFUSAL_BYTES
    assert cost_in_photos(lambda: refuse(data)) < 5


def refuse(data: bytes) -> None:
    """Demand that an image is refused."""
    with pytest.raises((TooManyPixels, CorruptImage, UnsupportedFormat)):
        normalize_image(data)


@pytest.mark.parametrize(
    "repeated",
    [
        chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(900_000), 9)) * 300,
        chunk(b"eXIf", b"II*\0" + struct.pack("<IH", 8, 1_000) + struct.pack("<HHII", 1, 3, 1, 1) * 1_000) * 3_000,
    ],
    ids=["300 profiles of 1 MB", "3,000 orientations"],
)
def test_of_what_a_png_repeats_one_is_read(repeated: bytes) -> None:
    """The others are cut out unread."""
    data = png_with(repeated, 1)
    normalized = normalize_image(data)
    assert (normalized.changes, len(normalized.data)) == (("metadata-removed",), len(data) - len(repeated))
    assert cost_in_photos(lambda: normalize_image(data)) < 1


def test_a_jpeg_with_a_hundred_thousand_restarts_costs_no_more_than_a_decode() -> None:
    """Each run takes several calls to check, so not every one is checked if there are too many."""
    data = encoded(photo(2400, 2400), "JPEG", restart_marker_blocks=1)
    assert normalize_image(data).data is data
    assert cost(lambda: normalize_image(data), lambda: decode(data)) < 8


def test_a_png_without_the_palette_that_it_needs_is_refused() -> None:
    """Pillow opens it."""
    data = encoded(pattern().quantize(), "PNG")
    start = data.index(b"PLTE") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    with pytest.raises(CorruptImage, match="palette"):
        normalize_image(data[:start] + data[start + 12 + length :])


def test_an_avif_whose_exif_points_everywhere_costs_nothing() -> None:
    """Pillow's plugin would read it, and warn of every entry."""
    block = tiff_of_overlapping_values(5_000)
    empty = (b"II*\0" + struct.pack("<IHI", 8, 0, 0)).ljust(len(block), b"\0")
    data = encoded(photo(), "AVIF", exif=empty).replace(empty, block)
    assert block in data
    assert memory_bytes(lambda: normalize_image(data)) < 20_000_000


def test_a_webp_of_28_bytes_is_intact_while_it_is_small() -> None:
    """The bomb above is refused because of its size, not because of damage."""
    assert normalize_image(webp_of_one_colour(64, 64)).width == 64


def test_a_text_that_inflates_without_end_is_cut_off_unread() -> None:
    """Compressed text in a PNG is metadata: it is never inflated."""
    data = encoded(photo(), "PNG")
    normalized = normalize_image(data[:33] + chunk(b"zTXt", b"Comment\0\0" + deflated_zeros()) + data[33:])
    assert normalized.data == data


def test_an_exif_that_points_everywhere_is_cut_off_unread() -> None:
    """Pillow would warn of every entry, which is an error in these tests and thousands of lines in a log."""
    block = b"Exif\0\0" + tiff_of_overlapping_values(5_000)
    data = encoded(photo(), "JPEG")
    hostile = data[:20] + segment(0xE1, block) + data[20:]
    assert memory_bytes(lambda: normalize_image(hostile)) < 20_000_000
    assert normalize_image(hostile).data == data


@pytest.mark.parametrize("first", ["baseline", "png"])
@pytest.mark.parametrize("second", [b"<script>alert(1)</script>", b"PK\3\4", b"%PDF-1.7"])
def test_a_polyglot_leaves_as_an_image_and_nothing_else(first: str, second: bytes) -> None:
    """A file that is valid in two formats is sent as one only."""
    normalized = normalize_image(intact()[first] + second)
    assert second not in normalized.data
    legal(normalized.data)


@pytest.mark.parametrize("kind", ["tiff lzw", "tiff jpeg", "tiff deflate", "heic", "avif", "progressive"])
def test_native_libraries_do_not_flood_the_log(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Libtiff prints every error that it finds, Pillow warns, and log lines cost money."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for data in damaged(intact()[kind], seed=1):
            with suppress(DropError):
                normalize_image(data)
    assert not heard
    assert capfd.readouterr() == ("", "")


def boxes(data: bytes, at: int = 0) -> dict[bytes, bytes]:
    """Return the boxes of an ISO container from a place on, by their type; the last of each."""
    found = {}
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found[kind] = data[at + 8 : at + size]
        at += size
    return found


def box(kind: bytes, *content: bytes) -> bytes:
    """Return one box of an ISO container."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


_PICTURE_BYTES = 407
"""Of the sample; its EXIF follows."""


def heic_of_tiles(
    tiles: list[int], columns: int, tile: tuple[int, int], shown: tuple[int, int], *, shared: bool = False
) -> bytes:
    """Return a HEIC that shows tiles beside and under one another; each is the sample, under a number of its own."""
    sample = (SAMPLES / "orientation-1.heic").read_bytes()
    outer = boxes(sample)
    properties = boxes(boxes(boxes(outer[b"meta"], 4)[b"iprp"])[b"ipco"])
    items, whole, picture = sorted(set(tiles)), 9_999, outer[b"mdat"][:_PICTURE_BYTES]
    entries = [
        *(box(b"infe", b"\2\0\0\1", struct.pack(">HH4sx", item, 0, b"hvc1")) for item in items),
        box(b"infe", bytes((2, 0, 0, 0)), struct.pack(">HH4sx", whole, 0, b"grid")),
    ]
    grid = struct.pack(">BBBBHH", 0, 0, len(tiles) // columns - 1, columns - 1, *shown)
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


def test_a_heic_may_be_put_together_of_tiles() -> None:
    """Phones write them like that."""
    normalized = normalize_image(heic_of_tiles([1, 2, 3, 4], 2, (64, 64), (96, 64)))
    assert (normalized.width, normalized.height) == (96, 64)


def test_a_heic_whose_items_share_their_bytes_is_read() -> None:
    """Encoders store tiles once that are alike, and what several pictures have in common."""
    normalized = normalize_image(heic_of_tiles([1, 2, 3, 4], 2, (64, 64), (96, 64), shared=True))
    assert (normalized.width, normalized.height) == (96, 64)


def test_a_heic_whose_items_lie_beyond_its_end_is_cut_short() -> None:
    """It refers to bytes that do not exist."""
    data = heic_of_tiles([1, 2, 3, 4], 2, (64, 64), (96, 64))
    with pytest.raises(CorruptImage, match="more bytes than it has"):
        normalize_image(data[: -3 * len(data) // 5])


def tiff(
    entries: Mapping[int, tuple[int, ...]],
    pixels: bytes,
    order: str = "<",
    kinds: dict[int, tuple[int, str]] | None = None,
) -> bytes:
    """Return a TIFF whose pixels stand at 8; entries are LONG where no other kind and letter of `struct` are given."""
    start, extra = 8 + len(pixels), b""
    directory = struct.pack(order + "H", len(entries))
    for tag, values in sorted(entries.items()):
        kind, letter = (kinds or {}).get(tag, (4, "I"))
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        at = struct.pack(order + "I", start + 6 + 12 * len(entries) + len(extra))
        directory += struct.pack(order + "HHI", tag, kind, len(values)) + (
            at if len(packed) > 4 else packed.ljust(4, b"\0")
        )
        extra += packed if len(packed) > 4 else b""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", start) + pixels + directory + bytes(4) + extra


def test_a_tiff_that_holds_a_jpeg_of_many_scans_is_refused() -> None:
    """A progressive one of 88 million pixels takes 2 s and more before libtiff gives up."""
    pixels = encoded(photo(64, 64, "L"), "JPEG", progressive=True)
    entries = {256: (64,), 257: (64,), 258: (8,), 259: (7,), 262: (1,), 273: (8,), 277: (1,), 278: (64,)}
    with pytest.raises(UnsupportedFormat, match="progressive"):
        normalize_image(tiff({**entries, 279: (len(pixels),)}, pixels))


def test_a_jpeg_with_more_restarts_than_it_announces_is_refused_at_the_first() -> None:
    """25 million of them would take 6 s to read."""
    data = encoded(photo(64, 64), "JPEG")
    bomb = data[:-2] + b"".join(b"\xff" + bytes((0xD0 + turn % 8,)) for turn in range(8)) * 1_000_000 + data[-2:]
    assert cost_in_photos(lambda: refuse(bomb)) < 1


def test_a_progressive_jpeg_that_repeats_a_scan_is_refused() -> None:
    """Other decoders object to it, and repetition is what makes one slow."""
    with pytest.raises(CorruptImage, match="scans"):
        normalize_image(jpeg_of_many_scans(1))


def test_a_progressive_jpeg_that_refines_by_more_than_a_bit_is_refused() -> None:
    """Pillow reads one bit all the same, and so nothing is missing in the end; other decoders object."""
    data = bytearray(encoded(photo(160, 120), "JPEG", progressive=True))
    symbols = data.rindex(b"\xff\xc4") + 4 + 17
    data[data.index(b"\x01", symbols)] = 0x03
    with pytest.raises(pyvips.Error, match="bad Huffman code"):
        decodable(bytes(data))
    with pytest.raises(CorruptImage, match="table"):
        normalize_image(bytes(data))


@pytest.mark.parametrize("size", [(60_000, 3), (3, 30_000)])
def test_a_thread_is_padded_within_the_pixels_that_may_leave(size: tuple[int, int]) -> None:
    """60,000 x 3 pixels would become 720 million."""
    normalized = normalize_image(encoded(Image.new("RGB", size), "PNG"))
    assert normalized.width * normalized.height <= 16_100_000
    assert max(legal(normalized.data)) <= 5 * min(legal(normalized.data))


@pytest.mark.parametrize("was", [b"Exif", b"hvc1"])
def test_a_heic_whose_items_are_of_no_kind_is_refused(was: bytes) -> None:
    """The decoder's binding would end the process: found by the fuzzer."""
    data = intact()["heic"]
    at = data.index(b"iinf")
    with pytest.raises(CorruptImage):
        normalize_image(data[:at] + data[at:].replace(was, b"E\xff\xd0f", 1))


@pytest.mark.parametrize("side", [16, 256, 1_024, 8_192])
def test_tiles_may_stick_out_of_a_tiff(side: int) -> None:
    """Programs write them of one size, however small the picture is."""
    assert normalize_image(tiff_of_one_tile(side)).width == 1


def progressive_in_tiff(kind: tuple[int, str] | None, *missing: int) -> bytes:
    """Return a TIFF that holds a progressive JPEG, whose offsets and counts are of a kind, or are missing."""
    pixels = encoded(photo(64, 64, "L"), "JPEG", progressive=True)
    entries = {
        256: (64,),
        257: (64,),
        258: (8,),
        259: (7,),
        262: (1,),
        273: (8,),
        277: (1,),
        278: (64,),
        279: (len(pixels),),
    }
    kinds = {273: kind, 279: kind} if kind else {}
    return tiff({tag: values for tag, values in entries.items() if tag not in missing}, pixels, kinds=kinds)


@pytest.mark.parametrize("hidden", [((9, "i"),), ((16, "Q"),), (None, 279), (None, 273, 279)])
def test_a_progressive_jpeg_cannot_hide_in_a_tiff(hidden: tuple[tuple[int, str] | None, int]) -> None:
    """The library reads more kinds of numbers than an intact file has, and guesses a length that is missing."""
    with pytest.raises(CorruptImage):
        normalize_image(progressive_in_tiff(*hidden))


def test_a_progressive_jpeg_is_named_where_it_lies_at_offsets_of_directories() -> None:
    """A kind of number that only offsets of directories should have, and that is read wherever it is."""
    with pytest.raises(UnsupportedFormat, match="progressive"):
        normalize_image(progressive_in_tiff((13, "I")))


@pytest.mark.parametrize("pieces", [{}, {273: (), 279: ()}])
def test_a_tiff_that_does_not_say_where_its_pixels_are_is_damaged(pieces: dict[int, tuple[int, ...]]) -> None:
    """The message does not claim that its pixels are of an unusual kind."""
    entries = {256: (64,), 257: (64,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (64,)}
    with pytest.raises(CorruptImage, match="where its pixels are"):
        normalize_image(tiff({**entries, **pieces}, bytes(4_096)))


@pytest.mark.parametrize("twice", [{256: (64, 64)}, {259: (1, 1)}, {34_675: (1, 2, 3)}])
def test_a_tiff_that_says_twice_what_is_one_is_refused(twice: dict[int, tuple[int, ...]]) -> None:
    """Pillow would warn of it: an error in these tests, and a line in the log of an app that read on."""
    entries = {256: (64,), 257: (64,), 258: (8,), 259: (1,), 262: (1,), 273: (8,), 277: (1,), 278: (64,), 279: (4_096,)}
    assert normalize_image(tiff(entries, bytes(4_096))).width == 64
    with pytest.raises(CorruptImage, match="twice"):
        normalize_image(tiff({**entries, **twice}, bytes(4_096)))


def test_a_tiff_with_two_widths_is_refused() -> None:
    """Otherwise the inspected page would not be the one that is decoded."""
    entries = {256: (64,), 257: (64,), 258: (8,), 259: (1,), 262: (1,), 273: (8,), 277: (1,), 278: (64,), 279: (4_096,)}
    data = tiff(entries, bytes(4_096)).replace(struct.pack("<HHI", 257, 4, 1), struct.pack("<HHI", 256, 4, 1))
    with pytest.raises(CorruptImage, match="twice"):
        normalize_image(data)


@pytest.mark.parametrize("number", [32_771, 34_925, 50_000, 50_001])
def test_a_tiff_of_a_rare_compression_is_refused_unread(number: int) -> None:
    """Each would be one more decoder that hostile bytes could reach."""
    entries = {256: (1,), 257: (1,), 258: (8,), 259: (number,), 262: (1,), 273: (8,), 277: (1,), 278: (1,), 279: (1,)}
    with pytest.raises(UnsupportedFormat, match=f"compressed.*{number}"):
        normalize_image(tiff(entries, b"x"))


@pytest.mark.parametrize("place", [20, -2])
@pytest.mark.parametrize("padding", [b"\xff", b"\0"])
def test_megabytes_of_padding_in_a_jpeg_cost_nothing(place: int, padding: bytes) -> None:
    """The format allows any number of 0xFF before a marker; Pillow walks over them in Python."""
    data = encoded(photo(64, 64), "JPEG")
    padded = data[:place] + padding * 4_000_000 + data[place:]
    if padding == b"\xff" or place > 0:
        assert normalize_image(padded).width == 64
        assert cost_in_photos(lambda: normalize_image(padded)) < 5
    else:
        assert cost_in_photos(lambda: refuse(padded)) < 5


@pytest.mark.parametrize("length", [0, 7, 51, 800])
def test_a_png_whose_palette_is_none_is_refused(length: int) -> None:
    """Pillow opens it, others do not: no colours, an incomplete one, or more than 4 bits can index."""
    rows = zlib.compress(bytes(64 * 33))
    data = png_header(64, 64, 4, 3) + chunk(b"PLTE", bytes(length)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(CorruptImage, match="palette"):
        normalize_image(data)


def test_a_png_that_understates_its_window_is_refused() -> None:
    """Python inflates it all the same; other decoders keep no more of what was than the stream says."""
    far = random.Random(2).randbytes(20_000) * 4  # noqa: S311 - no secret
    rows = b"".join(b"\0" + far[at : at + 300] for at in range(0, 60_000, 300))
    stream = zlib.compress(rows, 9)
    data = png_header(100, 200) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    assert normalize_image(data).data is data
    with pytest.raises(CorruptImage):
        normalize_image(data.replace(chunk(b"IDAT", stream), chunk(b"IDAT", b"\x08\x1d" + stream[2:])))


def test_a_png_with_a_profile_beyond_all_measure_is_refused_by_name() -> None:
    """It is not damaged, although Pillow would say so."""
    profile = bytes(36) + b"acsp" + random.Random(1).randbytes(5_000_000)  # noqa: S311 - no secret
    with pytest.raises(UnsupportedFormat, match="profile has more than 4 MB"):
        normalize_image(png_with(chunk(b"iCCP", b"p\0\0" + zlib.compress(profile)), 1))


def smaller_than_it_is(*, animated: bool) -> bytes:
    """Return an AVIF of 3 million pixels that says it is 64 x 64; of an animated one, only the track is a picture."""
    picture = Image.new("RGB", (2_000, 1_500))
    data = encoded(picture, "AVIF", save_all=animated, append_images=[picture] * animated, speed=10)
    data = data.replace(struct.pack(">II", 2_000, 1_500), struct.pack(">II", 64, 64))
    return data.replace(b"av01", b"none", 1) if animated else data


@pytest.mark.parametrize("delay", ["0", "1"])
@pytest.mark.parametrize(
    ("timing", "model"),
    [
        ("0", ""),
        ("1" + "0" * 64 + "0" + "0", ""),
        ("1" + "0" * 64 + "1" + "00101" + "1" + "00011" + "0" * 42, "1" + "0" * 9),
    ],
)
def test_the_colours_of_a_stream_are_read_behind_whatever_stands_before_them(
    timing: str, model: str, delay: str
) -> None:
    """Times and points of operation, of which there may be none or many."""
    points = ("0" * 12 + "01000" + "1" + model + ("10000" if delay == "1" else "")) * 2
    size = "1011" + "1010" + f"{3_999:012b}" + f"{1_999:011b}"
    tools = "0" + "000" + "0000" + "0" + "1" + "1" + "000"
    colours = "0" + "0" + "1" + f"{9:08b}" + f"{16:08b}"
    bits = "00000" + timing + delay + "00001" + points + size + tools + colours
    body = int(bits.ljust(320, "0"), 2).to_bytes(40, "big")
    assert av1.cicp(b"\x12\0\x0a" + bytes((len(body),)) + body) == (9, 16)


def test_a_drawing_that_hardly_compresses_is_encoded_soon() -> None:
    """Of 16 greys by chance, deflate looks for long repetitions in vain, as Pillow on its own lets it."""
    greys = Image.effect_noise((1_000, 1_000), 200).point([16 * (value // 16) for value in range(256)])
    data = encoded(greys, "TIFF")
    assert normalize_image(data).media_type == "image/png"
    assert cost(lambda: normalize_image(data), lambda: encoded(greys, "PNG")) < 0.7
