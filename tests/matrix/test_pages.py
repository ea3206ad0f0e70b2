"""Whatever else a TIFF holds and however its numbers are stored, its first page leaves as it is, or is named."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

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
    """Its colours have 16 bits each."""
    palette = np.random.default_rng(1).integers(0, 65_536, (3, 256), np.uint16)
    indices = as_integers(GREY, 8)
    data = tiff(indices, photometric="palette", colormap=palette, compression=compression, byteorder=order)
    demand(data, palette.T[indices] / 65_535, 2)


@pytest.mark.parametrize("pieces", [{"rowsperstrip": 64}, {"tile": (64, 64)}, {"tile": (96, 160)}])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_jpegs_in_strips_and_tiles(subsampling: tuple[int, int], order: str, pieces: dict[str, Any]) -> None:
    """Subsampled pixels share their colours, even with pixels beyond the edge of the picture."""
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
def test_unsupported_compressions_are_refused_by_their_names(compression: str, name: str) -> None:
    """In the terms of the programs that write them."""
    with pytest.raises(UnsupportedFormat, match=f"with {name}"):
        sent(tiff(RGB, photometric="rgb", compression=compression))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [1, 3])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_numbers_are_refused_with_a_message_that_names_them(
    channels: int, kind: Any, predictor: int, order: str
) -> None:
    """Which number means white is not known."""
    pixels = np.squeeze(cells(channels)).astype(kind)
    photometric = "rgb" if channels == 3 else "minisblack"
    with pytest.raises(UnsupportedFormat, match=r"floating-point|32 bits"):
        sent(tiff(pixels, photometric=photometric, compression="zlib", predictor=predictor, byteorder=order))


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.uint32])
@pytest.mark.parametrize("channels", [1, 3])
def test_unusual_integers_are_refused_with_a_message_that_names_them(channels: int, kind: Any) -> None:
    """They are measurements, not brightness."""
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
def test_the_first_page_is_sent(data: bytes) -> None:
    """Not its smaller copies, nor the pages that belong to it."""
    demand(data, RGB / 255)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_the_first_image_of_a_stack_is_sent(depth: int, count: int) -> None:
    """ImageJ writes stacks, and describes them in a comment in its own format."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.stack([as_integers(GREY, depth)] * count), imagej=True)
    demand(buffer.getvalue(), GREY)


def with_old_kinds(data: bytes) -> bytes:
    """Return a TIFF whose pages say what they are in the older way (SubFileType): 1 is whole and 2 is reduced."""
    for new, old in ((0, 1), (1, 2)):
        data = data.replace(struct.pack("<HHII", 254, 4, 1, new), struct.pack("<HHII", 255, 4, 1, old))
    return data


DOUBLED = RGB.repeat(2, axis=0).repeat(2, axis=1)
REDUCED = {"subfiletype": 1}
MASK = {"photometric": 4, "subfiletype": 4}
SMALL_FIRST = {
    "a thumbnail": pages((SMALL, REDUCED), (RGB, {})),
    "a thumbnail of another kind": pages(
        (SMALL, REDUCED), (RGB, {"compression": "lzw", "predictor": True, "tile": (16, 16)})
    ),
    "a thumbnail, in the older words": with_old_kinds(pages((SMALL, REDUCED), (RGB, {}))),
    "a thumbnail that does not say so": pages((SMALL, {}), (RGB, {})),
    "a thumbnail as wide as the picture": pages((RGB[:8], REDUCED), (RGB, {})),
    "two of them": pages((SMALL, REDUCED), (RGB[::2, ::2], REDUCED), (RGB, {})),
    "a mask": pages((SMALL, REDUCED), (np.ones(GREY.shape, bool), MASK), (RGB, {})),
    "a picture of its own": pages((SMALL, {**REDUCED, "subifds": 1}), (RGB, {})),
    "pictures of its own": pages(
        (SMALL, {**REDUCED, "subifds": 3}), (DOUBLED, REDUCED), (RGB[::2, ::2], {}), (RGB, {"compression": "zlib"})
    ),
    "a picture of its own, which does not say so": pages((SMALL, {"subifds": 1}), (RGB, {})),
    "a document": pages((SMALL, REDUCED), (RGB, {"subfiletype": 2}), (DOUBLED[::-1], {"subfiletype": 2})),
    "planes": pages((SMALL, REDUCED), (np.moveaxis(RGB, -1, 0), {"planarconfig": "separate", "compression": "lzw"})),
    "big-endian numbers": pages((SMALL, REDUCED), (RGB, {"compression": "packbits"}), byteorder=">"),
}


@pytest.mark.parametrize("data", SMALL_FIRST.values(), ids=SMALL_FIRST)
def test_a_thumbnail_before_the_picture_is_not_sent(data: bytes) -> None:
    """It may be marked by a new tag or an old one; its picture follows, or is a separate page."""
    normalized, _, _ = sent(data)
    assert (normalized.source.width, normalized.source.height) == RGB.shape[1::-1]
    assert "metadata-removed" in normalized.changes
    demand(data, RGB / 255)


FIRST_OF_SEVERAL = {
    "of another shape": pages((RGB, {}), (DOUBLED[:, :96], {})),
    "hardly smaller": pages((RGB, {}), (np.pad(RGB[::-1], ((0, 24), (0, 32), (0, 0))), {})),
    "of a document": pages((RGB, {"subfiletype": 2}), (DOUBLED[::-1], {"subfiletype": 2})),
    "with a number": pages((RGB, {"extratags": [(297, 3, 2, (0, 2), True)]}), (DOUBLED[::-1], {})),
    "before a larger one that is reduced": pages((RGB, {}), (DOUBLED[::-1], REDUCED)),
    "before a mask": pages((RGB, {}), (np.ones((96, 128), bool), MASK)),
}


@pytest.mark.parametrize("data", FIRST_OF_SEVERAL.values(), ids=FIRST_OF_SEVERAL)
def test_the_first_of_several_full_pages_is_sent(data: bytes) -> None:
    """The pages of a document may differ in size."""
    demand(data, RGB / 255)


@pytest.mark.parametrize("kind", [32_803, 34_892])
def test_a_raw_file_with_only_a_thumbnail_is_refused_with_that_reason(kind: int) -> None:
    """Sensor data is not yet a picture."""
    with pytest.raises(UnsupportedFormat, match="not the picture itself, as cameras' raw files do"):
        sent(pages((SMALL, {**REDUCED, "subifds": 1}), (as_integers(GREY, 16), {"photometric": kind})))


def test_a_file_with_only_a_thumbnail_is_refused_with_that_reason() -> None:
    """Its picture is in another file."""
    with pytest.raises(UnsupportedFormat, match="holds a small preview, but not the picture"):
        sent(pages((SMALL, REDUCED), (RGB, REDUCED)))


def test_a_picture_after_its_thumbnail_takes_orientation_and_profile_from_the_first_page() -> None:
    """By TIFF/EP, what the first page states applies to all pages."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    said = [(274, 3, 1, 6, True), (34_675, 7, len(profile), profile, True)]
    data = pages((SMALL, {**REDUCED, "subifds": 1, "extratags": said}), (RGB, {}))
    normalized, _, _ = sent(data)
    assert Image.open(BytesIO(normalized.data)).info["icc_profile"] == profile
    demand(data, TURNED[6] / 255)


def test_a_bigtiff_is_refused_with_a_message_that_names_it() -> None:
    """Its offsets have 8 bytes."""
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
def test_a_page_is_rotated_as_it_states(orientation: int, compression: str | None) -> None:
    """By the tag from which EXIF takes its numbers."""
    tag = (274, 3, 1, orientation, True)
    demand(tiff(RGB, photometric="rgb", compression=compression, extratags=[tag]), TURNED[orientation] / 255)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_reversed_bits(compression: str | None, channels: int) -> None:
    """FillOrder 2 reverses the bits of each byte before it is decompressed."""
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
