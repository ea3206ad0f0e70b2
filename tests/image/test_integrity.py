"""A visibly damaged picture is refused, although its file still decodes."""

from __future__ import annotations

import random
import re
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
import pyvips
from PIL import Image

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import normalize_image
from shared.image.formats.text_mode import has_converted_line_ends
from tests.image.pictures import encoded, exif, is_accepted, photo, scenery, seen, shows_damage
from tests.image.tiff_files import fax, tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS: dict[str, dict[str, Any]] = {
    "baseline": {"quality": 85},
    "optimized": {"quality": 75, "optimize": True},
    "not subsampled": {"quality": 93, "subsampling": 0},
    "restarts": {"quality": 85, "restart_marker_rows": 2},
    "progressive": {"quality": 80, "progressive": True},
}


def corruptions(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield what disks, networks and interrupted uploads do to the pixels of a JPEG."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    first, end = data.index(b"\xff\xda") + 14, len(data) - 2
    for _ in range(5):
        cut = dice.randrange(first, end)
        yield data[:cut]
        yield data[:cut] + b"\xff\xd9"
        at, length = dice.randrange(first, end - 512), dice.randrange(4, 512)
        to = dice.randrange(first, end - 512)
        yield data[:at] + bytes((data[at] ^ 1 << dice.randrange(8),)) + data[at + 1 :]
        yield data[:at] + bytes(length) + data[at + length :]
        yield data[:at] + dice.randbytes(length) + data[at + length :]
        yield data[:at] + data[at + length :]
        yield data[: at + length] + data[at:]
        yield data[:at] + data[to : to + length] + data[at + length :]
        yield data[: at // 512 * 512] + bytes(512) + data[at // 512 * 512 + 512 :]


def test_nine_of_ten_harmful_corruptions_are_refused() -> None:
    """Of a corpus of more than 250 files; Pillow alone refuses one in six, as the second figure shows."""
    harmful = accepted = accepted_by_pillow = 0
    for seed, options in enumerate((*KINDS.values(), *KINDS.values())):
        original = encoded(scenery(), "JPEG", **options)
        assert normalize_image(original).data is original
        whole = pyvips.Image.new_from_buffer(original, "").copy_memory()
        for data in corruptions(original, seed):
            if not shows_damage(data, whole):
                continue
            harmful += 1
            accepted += is_accepted(data)
            accepted_by_pillow += is_accepted_by_pillow(data)
    assert harmful >= 250
    assert accepted <= 0.10 * harmful
    assert accepted_by_pillow >= 0.60 * harmful


def is_accepted_by_pillow(data: bytes) -> bool:
    """Say whether Pillow decodes it without an error."""
    try:
        Image.open(BytesIO(data)).load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("quality", [5, 50, 95, 100])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 9), (300, 200)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_no_intact_jpeg_is_refused(options: dict[str, Any], quality: int, size: tuple[int, int], mode: str) -> None:
    """Flat and busy, tiny and large: the very same bytes are passed through."""
    for picture in (photo(*size, mode), Image.new(mode, size), Image.linear_gradient("L").resize(size).convert(mode)):
        ratio = max(size) / min(size)
        data = encoded(picture, "JPEG", **{**options, "quality": quality})
        assert ratio > 5 or normalize_image(data).data is data


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_a_restart_marker_after_every_block_is_intact(blocks: int) -> None:
    """More runs than are checked one by one."""
    data = encoded(photo(400, 300), "JPEG", restart_marker_blocks=blocks)
    assert normalize_image(data).data is data


def test_fill_bytes_before_a_marker_are_intact() -> None:
    """The format allows any number of 0xFF bytes there, and some cameras' zeros do no harm."""
    data = encoded(photo(), "JPEG")
    normalized = normalize_image(data[:-2] + b"\xff\xff\xff" + data[-2:])
    assert normalized.changes == ()
    padded = data[:20] + b"\0\0" + data[20:]
    assert normalize_image(padded).data == data


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_restart_marker_directly_before_the_end_is_intact(rows: int) -> None:
    """Cameras write one after the last block, whatever number is next."""
    data = encoded(photo(), "JPEG", **({"restart_marker_rows": rows} if rows else {}))
    written = len(re.findall(rb"\xff[\xd0-\xd7]", data))
    padded = data[:-2] + bytes((0xFF, 0xD0 + written % 8)) + data[-2:]
    assert normalize_image(padded).data is padded
    assert "oriented" in normalize_image(with_orientation(padded)).changes


def with_orientation(data: bytes) -> bytes:
    """Return a JPEG on its side."""
    block = exif(6)
    return data[:20] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[20:]


@pytest.mark.parametrize("junk", [b"\0\1", b"ab", b"\xff\0x", b"\xff\0\xff\0", bytes(range(200)) * 20])
@pytest.mark.parametrize("place", ["first", "second", "last"])
def test_bytes_between_the_segments_of_a_jpegs_header_are_left_out(place: str, junk: bytes) -> None:
    """Some programs leave such bytes there, and every decoder skips them."""
    data = encoded(photo(), "JPEG")
    at = {"first": 20, "second": data.index(b"\xff\xc0"), "last": data.index(b"\xff\xda")}[place]
    normalized = normalize_image(data[:at] + junk + data[at:])
    assert (normalized.data, normalized.changes) == (data, ("metadata-removed",))


def test_bytes_between_the_scans_of_a_jpeg_are_damage() -> None:
    """There, they mean that something is missing."""
    data = encoded(photo(), "JPEG", progressive=True)
    at = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    with pytest.raises(CorruptImage):
        normalize_image(data[:at] + b"\xff\xc4\0\x02ab" + data[at:])


CONVERSIONS: dict[str, Callable[[bytes], bytes]] = {
    "line feeds to both": lambda data: data.replace(b"\n", b"\r\n"),
    "both to line feeds": lambda data: data.replace(b"\r\n", b"\n"),
    "no carriage returns": lambda data: data.replace(b"\r", b""),
    "carriage returns to line feeds": lambda data: data.replace(b"\r", b"\n"),
    "line feeds to carriage returns": lambda data: data.replace(b"\n", b"\r"),
}


@pytest.mark.parametrize(
    ("conversion", "size"),
    [
        ("line feeds to both", (8, 8)),
        ("line feeds to both", (40, 30)),
        ("line feeds to carriage returns", (8, 8)),
        ("no carriage returns", (200, 150)),
        ("carriage returns to line feeds", (200, 150)),
        ("both to line feeds", (2_400, 1_800)),
        *((conversion, (320, 240)) for conversion in CONVERSIONS if conversion != "both to line feeds"),
    ],
)
def test_a_jpeg_that_was_transferred_in_text_mode_is_recognized(conversion: str, size: tuple[int, int]) -> None:
    """By its remaining line ends."""
    data = encoded(photo(*size), "JPEG", quality=95)
    with pytest.raises(CorruptImage, match="text mode"):
        normalize_image(CONVERSIONS[conversion](data))


def test_the_absence_of_line_ending_pairs_is_noticed_in_a_large_file() -> None:
    """In small pictures, the missing byte may be absent anyway."""
    data = random.Random(3).randbytes(2_000_000)  # noqa: S311 - no secret
    assert not has_converted_line_ends(data)
    assert has_converted_line_ends(CONVERSIONS["both to line feeds"](data))
    assert not has_converted_line_ends(CONVERSIONS["both to line feeds"](data)[:400_000])


def test_bytes_pushed_out_of_a_segment_by_line_endings_are_not_junk() -> None:
    """The bytes that seem to follow it were its last ones, and have shifted."""
    tables = [[*range(1, 65)], [20] * 64]
    made = (encoded(photo(16, 12), "JPEG", optimize=True, qtables=tables) for _ in range(99))
    data = next(data for data in made if data.count(b"\n") == 1)
    with pytest.raises(CorruptImage, match="text mode"):
        normalize_image(data.replace(b"\n", b"\r\n"))


def test_a_comment_of_many_lines_does_not_look_like_a_transfer_in_text_mode() -> None:
    """A small picture may have no line feed except those in its comment."""
    note = b"one\r\ntwo\r\nthree\r\nfour\r\n"
    made = (
        encoded(Image.new("L", (8, 8)), "JPEG", optimize=True, comment=note, quality=quality) for quality in range(99)
    )
    data = next(data for data in made if data.count(b"\n") == note.count(b"\n"))
    assert normalize_image(data).changes == ("metadata-removed",)


def test_no_intact_jpeg_looks_like_a_transfer_in_text_mode() -> None:
    """Nor is a picture that is flat, tiny or repetitive."""
    for seed in range(60):
        picture = photo(8 * (seed % 20) + 8, 8 * (seed % 7) + 8)
        for image in (picture, Image.new("RGB", picture.size, (seed, 10, 13)), picture.quantize(4).convert("RGB")):
            data = encoded(image, "JPEG", quality=50 + seed % 50, optimize=bool(seed % 2))
            assert not has_converted_line_ends(data)
    flat = Image.new("RGB", (6_000, 6_000), (200, 13, 10))
    assert not has_converted_line_ends(encoded(flat, "JPEG", quality=100))


def test_a_png_that_was_transferred_in_text_mode_is_refused_with_that_reason() -> None:
    """Its signature was designed for that."""
    data = encoded(photo(), "PNG")
    for conversion in CONVERSIONS.values():
        with pytest.raises(UnsupportedFormat, match="text mode"):
            normalize_image(conversion(data))


def test_a_damaged_jpeg_that_must_be_re_encoded_is_refused_as_well() -> None:
    """Otherwise grey rubbish would become part of a legal picture."""
    data = encoded(photo(1000, 100), "JPEG")
    body = data.index(b"\xff\xda") + 14
    middle = (body + len(data)) // 2
    with pytest.raises(CorruptImage):
        normalize_image(data[:middle] + data[middle + 300 :])


@pytest.mark.parametrize("at", [50, 1_000, -14])
def test_a_png_with_one_wrong_bit_is_refused(at: int) -> None:
    """Its checksums ensure that, even if it must be re-encoded."""
    for picture in (photo(), photo(1000, 100)):
        data = bytearray(encoded(picture, "PNG"))
        data[at] ^= 1
        with pytest.raises(CorruptImage):
            normalize_image(bytes(data))


PAGES = {
    "group 4": lambda: fax("group4"),
    "group 3": lambda: fax("group3"),
    "group 3 in both dimensions": lambda: fax("group3", both=True),
    "run lengths": lambda: fax("tiff_ccitt"),
    "jpeg": lambda: encoded(scenery(), "TIFF", compression="jpeg", quality=85),
    "deflate": lambda: encoded(scenery(), "TIFF", compression="tiff_adobe_deflate"),
    "lzw": lambda: encoded(scenery(), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", PAGES)
def test_a_tiff_whose_pixels_are_damaged_is_refused(kind: str) -> None:
    """Pillow accepts all of them except the LZW ones: libtiff repairs what it can, and reports it only to its handlers.

    In the small JPEGs of strips, damage in the middle may pass for pixels, as in any other JPEG.
    """
    data = PAGES[kind]()
    assert normalize_image(data).width
    dice = random.Random(len(data))  # noqa: S311 - no secret
    first, end = 8 + len(data) // 20, len(data) * 19 // 20
    refused = 0
    for _ in range(20):
        at = dice.randrange(first, end - 60)
        refused += not is_accepted(data[:at] + dice.randbytes(60) + data[at + 60 :])
    assert refused >= (10 if kind == "jpeg" else 18)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (1, 2), (4, 2)])
def test_a_tiff_may_share_colours_among_pixels_without_compression(subsampling: tuple[int, int]) -> None:
    """Scanners write it; Pillow decodes it as if it were not subsampled."""
    across, down = subsampling
    unit = bytes([150] * (across * down) + [90, 160])
    pixels = unit * (64 // across * (32 // down))
    shape = {256: (64,), 257: (32,), 258: (8, 8, 8), 259: (1,), 262: (6,), 273: (8,), 277: (3,), 278: (32,)}
    kinds = dict.fromkeys((258, 259, 262, 277, 530), (3, "H"))
    data = tiff({**shape, 279: (len(pixels),), 530: subsampling}, pixels, kinds=kinds)
    red, green, blue = 150 + 1.402 * 32, 150 - 0.344 * -38 - 0.714 * 32, 150 + 1.772 * -38
    for pixel in seen(normalize_image(data).data)[2]:
        assert all(abs(value - same) <= 3 for value, same in zip(pixel, (red, green, blue), strict=True))
