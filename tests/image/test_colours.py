"""Colours survive: depth, palettes, transparency, CMYK and what is said to be a drawing."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from PIL import Image

from shared.errors import UnsupportedFormat
from shared.image import ImageLimits, normalize_image
from tests.image.pictures import encoded, pattern, photo, seen


def cmyk_profile() -> bytes:
    """Return a profile of strange inks: the magenta one is black, and all others cannot be seen.

    An ICC version 2 output profile with the one table that matters (ICC.1:2001-04, 6.5.8, `mft1`): two steps for each
    of four inks, and black or white for each of their sixteen corners.
    """
    identity = bytes(range(256))
    matrix = struct.pack(">9i", 65_536, 0, 0, 0, 65_536, 0, 0, 0, 65_536)
    corners = b"".join(bytes((0 if corner & 4 else 255, 128, 128)) for corner in range(16))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + identity * 4 + corners + identity * 3
    description = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63_190, 65_536, 54_061)
    tags = {b"A2B0": table, b"desc": description, b"wtpt": white, b"cprt": b"text" + bytes(4) + b"none\0"}
    offset, directory, bodies = 128 + 4 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        directory += name + struct.pack(">II", offset + len(bodies), len(body))
        bodies += padded
    content = struct.pack(">I", len(tags)) + directory + bodies
    header = struct.pack(">I4sI4s4s4s", 128 + len(content), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return header.ljust(128, b"\0") + content


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(kind: str) -> None:
    """A profile whose cyan cannot be seen and whose magenta is black shows just that."""
    picture = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    picture.paste((0, 255, 0, 0), (32, 0, 64, 64))
    normalized = normalize_image(encoded(picture, kind, icc_profile=cmyk_profile()))
    width, _, pixels = seen(normalized.data)
    assert normalized.changes[0] == "colours-converted"
    assert min(pixels[0]) > 250
    assert max(pixels[width - 1]) < 5


def test_a_profile_of_floating_steps_is_not_followed() -> None:
    """A megabyte holds thousands of them; the inks are mixed as paint instead."""
    profile = cmyk_profile().replace(b"cprt", b"D2B0", 1)
    normalized = normalize_image(encoded(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "JPEG", icc_profile=profile))
    red, green, blue = seen(normalized.data)[2][0][:3]
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_mixed_as_paint(kind: str) -> None:
    """Adobe's inverted inks and the TIFF's are both read the right way round."""
    normalized = normalize_image(encoded(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), kind))
    _, _, pixels = seen(normalized.data)
    red, green, blue = pixels[0][:3]
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})])
def test_16_bits_are_scaled_not_clipped(kind: str, options: dict[str, Any]) -> None:
    """A ramp through all values stays a ramp."""
    ramp = Image.new("I;16", (256, 64))
    ramp.putdata([x * 257 for _ in range(64) for x in range(256)])
    normalized = normalize_image(encoded(ramp, kind, **options))
    width, _, pixels = seen(normalized.data)
    assert "depth-reduced" in normalized.changes
    assert all(abs(pixels[x][0] - x) <= 3 for x in range(width))


def test_32_bits_are_refused_by_name() -> None:
    """No scale is known for them."""
    with pytest.raises(UnsupportedFormat, match="32 bits"):
        normalize_image(encoded(Image.new("F", (64, 64), 0.5), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_a_drawing_becomes_a_png_that_is_the_same(kind: str) -> None:
    """A logo is not smeared by a JPEG."""
    options = {"lossless": True} if kind == "WEBP" else {}
    normalized = normalize_image(encoded(pattern(), kind, **options))
    assert normalized.media_type == "image/png"
    assert [pixel[:3] for pixel in seen(normalized.data)[2]] == seen(encoded(pattern(), "PNG"))[2]


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP", "AVIF"])
def test_a_photo_becomes_a_jpeg(kind: str) -> None:
    """As a PNG it would be five times the size."""
    assert normalize_image(encoded(photo(), kind)).media_type == "image/jpeg"


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "AVIF"])
def test_transparency_stays_while_it_fits(kind: str) -> None:
    """It is seen on a page of another colour than white."""
    picture = photo(100, 100)
    picture.putalpha(Image.linear_gradient("L").resize((100, 100)))
    normalized = normalize_image(encoded(picture, kind))
    assert normalized.media_type == "image/png"
    alphas = [pixel[-1] for pixel in seen(normalized.data)[2]]
    assert min(alphas) < 10
    assert max(alphas) > 245


def test_transparency_that_does_not_fit_is_laid_on_white() -> None:
    """A JPEG has none."""
    picture = photo(400, 400)
    picture.putalpha(Image.new("L", (400, 400), 0))
    normalized = normalize_image(
        encoded(picture, "WEBP", lossless=True, exact=True), ImageLimits(max_output_bytes=60_000)
    )
    assert normalized.media_type == "image/jpeg"
    assert "flattened" in normalized.changes
    assert min(min(pixel) for pixel in seen(normalized.data)[2]) > 250


def test_an_alpha_channel_that_hides_nothing_does_not_make_a_png() -> None:
    """Many programs write one for every picture."""
    picture = photo()
    picture.putalpha(255)
    assert normalize_image(encoded(picture, "TIFF")).media_type == "image/jpeg"


def test_padding_is_transparent_where_the_picture_is() -> None:
    """White bars would stand out."""
    picture = pattern().resize((480, 32))
    picture.putalpha(128)
    _, height, pixels = seen(normalize_image(encoded(picture, "PNG")).data)
    assert height == 96
    assert pixels[0][-1] == 0


def test_padding_is_white_in_a_jpeg() -> None:
    """The ends of the short side are filled."""
    normalized = normalize_image(encoded(Image.new("RGB", (640, 64)), "JPEG"))
    _, height, pixels = seen(normalized.data)
    assert height == 128
    assert min(pixels[0]) > 250
    assert max(pixels[640 * 64]) < 5


def test_cropping_keeps_the_middle() -> None:
    """Policy `crop` cuts both ends alike."""
    picture = Image.new("RGB", (640, 64), "white")
    picture.paste((0, 0, 0), (160, 0, 480, 64))
    normalized = normalize_image(encoded(picture, "PNG"), ImageLimits(aspect_policy="crop"))
    width, height, pixels = seen(normalized.data)
    assert (width, height) == (320, 64)
    assert normalized.changes == ("cropped", "recompressed")
    assert set(pixels) <= {(0,), (0, 0, 0)}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 200), (33, 31)])
def test_every_mode_of_png_comes_out_legal_at_any_size(mode: str, size: tuple[int, int]) -> None:
    """Also the smallest and thinnest."""
    normalized = normalize_image(encoded(Image.new(mode, size), "PNG"))
    width, height, _ = seen(normalized.data)
    assert max(width, height) <= 5 * min(width, height)


def test_a_key_colour_of_a_16_bit_png_stays_transparent() -> None:
    """Its value is scaled like the pixels are."""
    picture = Image.new("I;16", (64, 64), 0x1234)
    normalized = normalize_image(encoded(picture, "PNG", transparency=0x1234))
    assert {pixel[-1] for pixel in seen(normalized.data)[2]} == {0}
