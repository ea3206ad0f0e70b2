"""A BMP's colours and transparency are where its masks say."""

from __future__ import annotations

import struct

import pytest

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import normalize_image
from tests.image.pictures import HEIGHT, WIDTH, Pixel, pattern_at, seen

Masks = tuple[int, int, int, int]
SHORT, VERSION_2, VERSION_3, OS2, VERSION_5 = 40, 52, 56, 64, 124


def alpha_at(x: int) -> int:
    """Return how opaque the columns are: every second one is, the others are not at all."""
    return 255 * (x % 2)


def bmp(masks: Masks, bits: int, header_bytes: int = VERSION_3, *, top_down: bool = False) -> bytes:
    """Return the pattern, of so many bits a pixel, as the masks say."""
    rows = range(HEIGHT) if top_down else reversed(range(HEIGHT))
    values = ((*pattern_at(x, y)[:3], alpha_at(x)) for y in rows for x in range(WIDTH))
    numbers = [sum(_placed(value, mask) for value, mask in zip(pixel, masks, strict=True)) for pixel in values]
    pixels = struct.pack(f"<{len(numbers)}{'H' if bits == 16 else 'I'}", *numbers)
    compression = 6 if header_bytes == SHORT and masks[3] else 3
    height = -HEIGHT if top_down else HEIGHT
    header = struct.pack("<IiiHHIIiiII", header_bytes, WIDTH, height, 1, bits, compression, 0, 0, 0, 0, 0)
    header = (header + struct.pack("<4I", *masks)).ljust(header_bytes, b"\0")
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


def _placed(value: int, mask: int) -> int:
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    return round(value * (mask >> shift) / 255) << shift


def expected(masks: Masks) -> list[Pixel]:
    """Return what is left of each pixel."""
    channels = [mask for mask in masks if mask]
    pixels = ((*pattern_at(x, y)[:3], alpha_at(x)) for y in range(HEIGHT) for x in range(WIDTH))
    return [tuple(_shown(value, mask) for value, mask in zip(pixel, channels, strict=False)) for pixel in pixels]


def _shown(value: int, mask: int) -> int:
    most = (1 << mask.bit_count()) - 1
    return round(255 * round(value * most / 255) / most)


LAYOUTS: dict[str, tuple[Masks, int]] = {
    "1555": ((0x7C00, 0x3E0, 0x1F, 0x8000), 16),
    "4444": ((0xF00, 0xF0, 0xF, 0xF000), 16),
    "444": ((0xF00, 0xF0, 0xF, 0), 16),
    "565, blue first": ((0x1F, 0x7E0, 0xF800, 0), 16),
    "8888, red first": ((0xFF, 0xFF00, 0xFF0000, 0), 32),
    "8888, alpha first": ((0xFF00, 0xFF0000, 0xFF000000, 0xFF), 32),
    "10 bits": ((0x3FF00000, 0xFFC00, 0x3FF, 0), 32),
    "11, 11 and 10 bits": ((0xFFE00000, 0x1FFC00, 0x3FF, 0), 32),
    "1010102": ((0xFFC00000, 0x3FF000, 0xFFC, 3), 32),
    "8888": ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), 32),
}


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("header_bytes", [SHORT, VERSION_3, VERSION_5])
@pytest.mark.parametrize(("masks", "bits"), LAYOUTS.values(), ids=LAYOUTS)
def test_the_bit_masks_of_a_bmp_locate_its_channels(
    masks: Masks, bits: int, header_bytes: int, *, top_down: bool
) -> None:
    """GIMP writes one-bit transparency, which was ignored; most other masks were refused."""
    _, _, pixels = seen(normalize_image(bmp(masks, bits, header_bytes, top_down=top_down)).data)
    shown = zip(pixels, expected(masks), strict=True)
    assert all(one == other or one[3:] == other[3:] == (0,) for one, other in shown)


@pytest.mark.parametrize("masks", [(0xFFFFE000, 0x1F00, 0xFF, 0), (0, 0xFF00, 0xFF, 0xFF000000)])
def test_a_mask_with_too_many_bits_or_none_is_refused_with_a_message_that_names_it(masks: Masks) -> None:
    """No program is known that writes them."""
    with pytest.raises(UnsupportedFormat, match="unusual bit masks"):
        normalize_image(bmp(masks, 32))


@pytest.mark.parametrize(
    ("header_bytes", "bits", "compression", "what"),
    [
        (SHORT, 2, 0, "2 bits"),
        (SHORT, 64, 0, "64 bits"),
        (SHORT, 0, 4, "a JPEG"),
        (SHORT, 0, 5, "a PNG"),
        (OS2, 1, 3, "Huffman-coded pixels"),
        (OS2, 24, 4, "run lengths of 24 bits"),
        (16, 8, 0, "a header of 16 bytes"),
    ],
)
def test_a_bmp_in_an_unsupported_encoding_is_refused_with_a_message_that_names_it(
    header_bytes: int, bits: int, compression: int, what: str
) -> None:
    """Printers and small devices have such, and OS/2 had."""
    header = struct.pack("<IiiHHIIiiII", header_bytes, 64, 64, 1, bits, compression, 0, 0, 0, 0, 0)
    with pytest.raises(UnsupportedFormat, match=what):
        normalize_image(b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + header + bytes(200))


def test_a_header_without_room_for_an_alpha_mask_has_none() -> None:
    """What follows a header of version 2 is a pixel: as a mask it made the others transparent."""
    masks = 0xFF0000, 0xFF00, 0xFF, 0
    header = struct.pack("<IiiHHIIiiII3I", VERSION_2, 8, 8, 1, 32, 3, 0, 0, 0, 0, 0, *masks[:3])
    pixels = bytes((50, 100, 200, 255)) * 64
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(header)) + header + pixels
    assert set(seen(normalize_image(data).data)[2]) == {(200, 100, 50)}


@pytest.mark.parametrize("masks", [(0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xF00, 0xF0, 0xF, 0xF000)])
def test_a_picture_that_is_transparent_everywhere_is_opaque(masks: Masks) -> None:
    """Some programs state an alpha channel and leave it empty; others show such a picture as well."""
    bits = 16 if masks[3] < 2**16 else 32
    data = bmp(masks, bits, VERSION_5)
    start = len(data) - WIDTH * HEIGHT * bits // 8
    kept = (masks[0] | masks[1] | masks[2]).to_bytes(bits // 8, "little") * (WIDTH * HEIGHT)
    emptied = bytes(value & mask for value, mask in zip(data[start:], kept, strict=True))
    _, _, pixels = seen(normalize_image(data[:start] + emptied).data)
    assert {pixel[3:] for pixel in pixels} <= {(), (255,)}


RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def run_lengths(bits: int, rows: int, *codes: tuple[int, ...]) -> bytes:
    """Return a BMP of 8 columns and of such codes; its palette begins with black."""
    palette = b"".join(bytes((*colour[::-1], 0)) for colour in (BLACK, RED, GREEN, BLUE))
    pixels = b"".join(map(bytes, codes))
    header = struct.pack("<IiiHHIIiiII", SHORT, 8, rows, 1, bits, 1 if bits == 8 else 2, len(pixels), 0, 0, 4, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


ROW_END, BITMAP_END = (0, 0), (0, 1)
SPARSE = {
    "after a row": run_lengths(8, 4, (8, 1), ROW_END, (8, 2), BITMAP_END),
    "within a row": run_lengths(8, 4, (8, 1), ROW_END, (4, 2), (0, 4, 2, 2, 2, 2), BITMAP_END),
    "after a jump": run_lengths(8, 4, (8, 1), (0, 2, 0, 0), (8, 2), BITMAP_END),
    "4 bits": run_lengths(4, 4, (8, 0x11), ROW_END, (8, 0x22), BITMAP_END),
}


@pytest.mark.parametrize("data", SPARSE.values(), ids=SPARSE)
def test_run_lengths_may_end_before_the_last_row(data: bytes) -> None:
    """The rest has the palette's first colour; rows are stored from the lowest one up."""
    _, _, pixels = seen(normalize_image(data).data)
    assert [pixel[:3] for pixel in pixels] == [BLACK] * 16 + [GREEN] * 8 + [RED] * 8


@pytest.mark.parametrize("data", SPARSE.values(), ids=SPARSE)
def test_run_lengths_without_their_end_are_cut_short(data: bytes) -> None:
    """Otherwise half of a picture would pass for all of it."""
    with pytest.raises(CorruptImage, match="ends too soon"):
        normalize_image(data[:-2])
