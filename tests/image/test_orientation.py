"""Every output is upright: all eight orientations of every format, pixel by pixel."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.image import normalize_image
from tests.image.pictures import HEIGHT, WIDTH, Pixel, encoded, exif, pattern, pattern_at, photo, seen
from tests.image.structures import chunk, with_chunk

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = Path(__file__).parent / "samples"

STORED_AT: dict[int, Callable[[int, int], tuple[int, int]]] = {
    1: lambda x, y: (x, y),
    2: lambda x, y: (WIDTH - 1 - x, y),
    3: lambda x, y: (WIDTH - 1 - x, HEIGHT - 1 - y),
    4: lambda x, y: (x, HEIGHT - 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (y, HEIGHT - 1 - x),
    7: lambda x, y: (WIDTH - 1 - y, HEIGHT - 1 - x),
    8: lambda x, y: (WIDTH - 1 - y, x),
}
"""Where the pixel that is shown at (x, y) is stored: Exif 3.0, 4.6.5.1.6, written out."""


def assert_upright(data: bytes, orientation: int, *, tolerance: int) -> None:
    """Check that every pixel is where the orientation puts it."""
    normalized = normalize_image(data)
    width, height, pixels = seen(normalized.data)
    assert (width, height) == ((HEIGHT, WIDTH) if orientation > 4 else (WIDTH, HEIGHT))
    assert (normalized.width, normalized.height) == (width, height)
    for at, pixel in enumerate(pixels):
        expected = pattern_at(*STORED_AT[orientation](at % width, at // width))
        assert distance(pixel, expected) <= tolerance, (at % width, at // width)


def distance(pixel: Pixel, other: Pixel) -> int:
    """Return the largest difference between two pixels in any channel."""
    return max(abs(a - b) for a, b in zip(pixel[:3], other, strict=True))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_a_lossless_image_is_rotated_exactly(kind: str, options: dict[str, object], orientation: int) -> None:
    """A drawing stays a PNG, so that no pixel may differ."""
    asked = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif(orientation)}
    assert_upright(encoded(pattern(), kind, **asked, **options), orientation, tolerance=0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
    ],
)
def test_a_lossy_image_is_rotated_too(kind: str, options: dict[str, object], orientation: int) -> None:
    """A lossy picture is rotated before it is encoded again; its colours may bleed a little at edges."""
    data = encoded(pattern(), kind, exif=exif(orientation), **options)
    assert_upright(data, orientation, tolerance=90)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_rotated_as_its_container_states(orientation: int) -> None:
    """Phones write the rotation into the container; an encoder created the samples from the same pattern."""
    assert_upright((SAMPLES / f"orientation-{orientation}.heic").read_bytes(), orientation, tolerance=10)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_rotation_is_reported(orientation: int) -> None:
    """The result document shows that the image was rotated, and that its EXIF orientation is gone."""
    normalized = normalize_image(encoded(pattern(), "JPEG", exif=exif(orientation)))
    assert normalized.changes == ("oriented", "recompressed", "metadata-removed")


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_invalid_orientation_means_upright(value: int) -> None:
    """Some programs write 0."""
    assert normalize_image(encoded(pattern(), "JPEG", exif=exif(value))).changes == ("metadata-removed",)


@pytest.mark.parametrize(("start", "others"), [(8, 5_000), (100_000, 0)])
def test_an_orientation_is_found_wherever_its_directory_is(start: int, others: int) -> None:
    """After thousands of entries, and after padding that some writers put before their directory."""
    entries = struct.pack("<HHIHH", 0x0100, 3, 1, 1, 0) * others + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    block = (b"II*\0" + struct.pack("<I", start)).ljust(start, b"\0") + struct.pack("<H", others + 1) + entries
    assert_upright(with_chunk(encoded(pattern(), "PNG"), chunk(b"eXIf", block + bytes(4))), 6, tolerance=0)


def test_an_animation_of_a_thousand_frames_is_rotated() -> None:
    """Its EXIF block follows the last of them."""
    data = encoded(pattern(), "WEBP", lossless=True, save_all=True, append_images=[photo(WIDTH, HEIGHT)], exif=exif(6))
    start = data.index(b"ANMF")
    end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
    more = data[12:end] + data[start:end] * 1_000 + data[end:]
    assert_upright(b"RIFF" + struct.pack("<I", 4 + len(more)) + b"WEBP" + more, 6, tolerance=0)
