"""Whatever else a TIFF holds and however its numbers are stored, its first page leaves as it is, or is named."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile

from shared.errors import UnsupportedFormat
from tests.matrix.judge import Pixels, as_integers, cells, colours_of, difference, lab_of, sent

RGB = as_integers(cells(3), 8)
GREY = cells(1)[..., 0]
PLAIN: dict[str, Any] = {"metadata": None, "software": False}


def tiff(pixels: Pixels, **how: Any) -> bytes:
    """Return a TIFF of one page."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, pixels, **{**PLAIN, **how})
    return buffer.getvalue()


def demand(data: bytes, values: Pixels, most: float = 1.0) -> None:
    """Demand that values from 0 to 1 are what leaves, wherever they can be told from their neighbours."""
    _, lab, _ = sent(data)
    inside = slice(4, None, 8)
    assert difference(lab, lab_of(colours_of(values)))[inside, inside].max() < most


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_one_bit(photometric: str, compression: str | None, order: str) -> None:
    """Black is 0 or 1."""
    bits = GREY > 0.5
    data = tiff(bits, photometric=photometric, compression=compression, byteorder=order)
    demand(data, (bits if photometric == "minisblack" else ~bits).astype(float))


@pytest.mark.parametrize("tile", [None, (32, 16), (48, 32)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_few_bits(photometric: str, bits: int, order: str, tile: tuple[int, int] | None) -> None:
    """Several pixels share a byte, and tiles may have more of them than the picture."""
    levels = np.round(GREY * (2**bits - 1))
    data = tiff(levels.astype(np.uint8), photometric=photometric, bitspersample=bits, byteorder=order, tile=tile)
    values = levels / (2**bits - 1)
    demand(data, values if photometric == "minisblack" else 1 - values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_a_palette(compression: str | None, order: str) -> None:
    """Of colours with 16 bits each."""
    palette = np.random.default_rng(1).integers(0, 65_536, (3, 256), np.uint16)
    indices = as_integers(GREY, 8)
    data = tiff(indices, photometric="palette", colormap=palette, compression=compression, byteorder=order)
    demand(data, palette.T[indices] / 65_535, 2)


@pytest.mark.parametrize("pieces", [{"rowsperstrip": 64}, {"tile": (64, 64)}, {"tile": (96, 160)}])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_jpegs_in_strips_and_tiles(subsampling: tuple[int, int], order: str, pieces: dict[str, Any]) -> None:
    """Pixels share colours, and share them with what lies beyond the picture."""
    picture = RGB.repeat(4, axis=0).repeat(4, axis=1)
    data = tiff(
        picture,
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 97},
        subsampling=subsampling,
        byteorder=order,
        **pieces,
    )
    _, lab, _ = sent(data)
    inside = slice(16, None, 32)
    assert difference(lab, lab_of(picture / 255))[inside, inside].max() < 4


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        ("zstd", "Zstandard"),
        ("webp", "WebP"),
        ("jpegxl", "JPEG XL"),
        ("lerc", "LERC"),
        ("lzma", "LZMA"),
        ("png", "PNG"),
    ],
)
def test_compressions_that_are_not_read_are_named(compression: str, name: str) -> None:
    """In the words of the programs that write them."""
    with pytest.raises(UnsupportedFormat, match=f"with {name}"):
        sent(tiff(RGB, photometric="rgb", compression=compression))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [1, 3])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_is_refused_by_name(channels: int, kind: Any, predictor: int, order: str) -> None:
    """Nobody knows which number is white."""
    pixels = np.squeeze(cells(channels)).astype(kind)
    photometric = "rgb" if channels == 3 else "minisblack"
    with pytest.raises(UnsupportedFormat, match=r"floating-point|32 bits"):
        sent(tiff(pixels, photometric=photometric, compression="zlib", predictor=predictor, byteorder=order))


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.uint32])
@pytest.mark.parametrize("channels", [1, 3])
def test_integers_of_other_kinds_are_refused_by_name(channels: int, kind: Any) -> None:
    """They were made to be measured."""
    pixels = (np.squeeze(cells(channels)) * np.iinfo(kind).max).astype(kind)
    with pytest.raises(UnsupportedFormat, match=r"signed integers|32-bit|32 bits|negative numbers"):
        sent(tiff(pixels, photometric="rgb" if channels == 3 else "minisblack"))


def pages(*written: tuple[Pixels, dict[str, Any]], **how: Any) -> bytes:
    """Return a TIFF of several pages."""
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer, **how) as writer:
        for pixels, options in written:
            writer.write(pixels, **{"photometric": "rgb", "metadata": None, **options})
    return buffer.getvalue()


GEO = [
    (33_550, 12, 3, (1.0, 1.0, 0.0), True),
    (33_922, 12, 6, (0.0,) * 6, True),
    (34_735, 3, 4, (1, 1, 0, 0), True),
    (42_112, 2, 0, "<GDALMetadata></GDALMetadata>", True),
    (42_113, 2, 0, "0", True),
]
SMALL = RGB[::4, ::4]
PAGED = {
    "of a map, with a mask": pages(
        (RGB, {"extratags": GEO}), (np.ones(GREY.shape, bool), {"photometric": 4, "subfiletype": 4})
    ),
    "of a map, with overviews behind it": pages(
        (RGB, {"tile": (16, 16)}), (SMALL, {"subfiletype": 1, "tile": (16, 16)})
    ),
    "with smaller ones of its own": pages(
        (RGB, {"tile": (16, 16), "subifds": 2}), *[(RGB[::step, ::step], {"subfiletype": 1}) for step in (2, 4)]
    ),
    "of a document": pages(*[(RGB, {"subfiletype": 2})] * 3),
    "of a microscope": pages((RGB, {"metadata": {"axes": "YXS"}, "subifds": 1}), (SMALL, {"subfiletype": 1}), ome=True),
}


@pytest.mark.parametrize("data", PAGED.values(), ids=PAGED)
def test_the_first_page_leaves(data: bytes) -> None:
    """Beside what shows it smaller, or what belongs to it."""
    demand(data, RGB / 255)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_the_first_of_a_stack_leaves(depth: int, count: int) -> None:
    """ImageJ writes them, and says what they are in a note of its own."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.stack([as_integers(GREY, depth)] * count), imagej=True)
    demand(buffer.getvalue(), GREY)


def test_a_small_picture_before_the_large_one_is_named() -> None:
    """It is not taken for the picture."""
    with pytest.raises(UnsupportedFormat, match="begins with a small preview"):
        sent(pages((SMALL, {"subfiletype": 1}), (RGB, {"subfiletype": 0})))


def test_a_big_tiff_is_named() -> None:
    """Its numbers have 8 bytes."""
    with pytest.raises(UnsupportedFormat, match="BigTIFF"):
        sent(tiff(RGB, photometric="rgb", bigtiff=True))


TURNED = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.swapaxes(0, 1),
    6: np.rot90(RGB, -1),
    7: np.rot90(RGB, 2).swapaxes(0, 1),
    8: np.rot90(RGB),
}


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("orientation", TURNED)
def test_a_page_is_turned_as_it_asks(orientation: int, compression: str | None) -> None:
    """By the entry that EXIF has its numbers from."""
    tag = (274, 3, 1, orientation, True)
    demand(tiff(RGB, photometric="rgb", compression=compression, extratags=[tag]), TURNED[orientation] / 255)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_bits_in_reverse(compression: str | None, channels: int) -> None:
    """FillOrder 2 reverses those of each byte, before it is unpacked."""
    pixels = as_integers(np.squeeze(cells(channels)), 8)
    how: dict[str, Any] = {"photometric": "rgb" if channels > 1 else "minisblack", "compression": compression}
    if channels == 4:
        how["extrasamples"] = ["unassalpha"]
    written_as = tiff(pixels, extratags=[(263, 3, 1, 2, True)], rowsperstrip=16, **how)  # it writes no 266
    data = bytearray(written_as.replace(struct.pack("<HHIH", 263, 3, 1, 2), struct.pack("<HHIH", 266, 3, 1, 2)))
    reverse = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    with tifffile.TiffFile(BytesIO(data)) as written:
        page: Any = written.pages[0]
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            data[start : start + size] = data[start : start + size].translate(reverse)
    _, lab, _ = sent(bytes(data))
    shown = cells(channels)[..., 3] > 0.2 if channels == 4 else np.ones(GREY.shape, bool)
    assert difference(lab, lab_of(colours_of(cells(channels)[..., :3])))[shown].max() < 1
