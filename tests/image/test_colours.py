"""Colours survive: depth, palettes, transparency, CMYK and what is said to be a drawing."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import ImageLimits, normalize_image
from tests.image.pictures import encoded, exif, pattern, photo, seen
from tests.image.test_hostile import png_header, tiff
from tests.image.test_metadata import chunk, segment


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


@pytest.mark.parametrize("value", [0x0000, 0x00FF, 0x1234, 0x12F0, 0xFF00, 0xFFFF])
def test_a_key_colour_of_16_bits_is_transparent_and_its_neighbours_are_not(value: int) -> None:
    """Pixels are rounded on their way to 8 bits, and many become the same."""
    picture = Image.new("I;16", (64, 64), value)
    picture.paste(value ^ 1, (32, 0, 64, 64))
    data = encoded(picture, "PNG", transparency=value)
    alphas = [pixel[-1] for pixel in seen(normalize_image(data).data)[2]]
    assert (alphas[0], alphas[63]) == (0, 255)


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 1), (2, 2), (4, 7), (4, 15), (8, 200)])
def test_a_key_colour_of_few_bits_is_transparent_and_its_neighbours_are_not(depth: int, key: int) -> None:
    """Pillow stretches such pixels over 8 bits, but not the key."""
    rows = bytes((0, *(int(f"{key:0{depth}b}" * (8 // depth), 2),) * 8 * depth)) * 32
    rows += bytes((0, *(int(f"{key ^ 1:0{depth}b}" * (8 // depth), 2),) * 8 * depth)) * 32
    pieces = chunk(b"tRNS", struct.pack(">H", key)) + chunk(b"eXIf", exif(3)[6:]) + chunk(b"IDAT", zlib.compress(rows))
    normalized = normalize_image(png_header(64, 64, depth, 0) + pieces + chunk(b"IEND", b""))
    assert normalized.changes == ("oriented", "recompressed", "metadata-removed")
    alphas = [pixel[-1] for pixel in seen(normalized.data)[2]]
    assert (alphas[-1], alphas[0]) == (0, 255)


def test_a_key_colour_of_16_bit_rgb_is_transparent() -> None:
    """Of such pixels Pillow keeps the upper half alone."""
    row = b"\0" + struct.pack(">3H", 0x12F0, 0xFF00, 0x00FF) * 64
    pieces = chunk(b"tRNS", struct.pack(">3H", 0x12F0, 0xFF00, 0x00FF)) + chunk(b"IDAT", zlib.compress(row * 64))
    normalized = normalize_image(png_header(64, 64, 16, 2) + pieces + chunk(b"IEND", b""))
    assert {pixel[-1] for pixel in seen(normalized.data)[2]} == {0}


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["dithered", "hatched"])
def test_a_drawing_of_few_colours_stays_as_sharp_as_it_is(kind: str, mode: str) -> None:
    """No two neighbours are alike, and yet it is none for a JPEG."""
    hatching = Image.new("1", (320, 240))
    hatching.putdata([(x + y) % 2 for y in range(240) for x in range(320)])
    picture = photo(mode="1") if kind == "dithered" else hatching
    normalized = normalize_image(encoded(picture.convert(mode), "TIFF"))
    assert normalized.media_type == "image/png"


def test_a_grey_photo_is_not_one_of_few_colours() -> None:
    """It has 256 at the most."""
    assert normalize_image(encoded(photo(mode="L").convert("RGB"), "TIFF")).media_type == "image/jpeg"


def grey_tiff(order: str, photometric: int, depth: int, kind: int = 1, extra: int = 0) -> bytes:
    """Return a TIFF of 16 x 16 grey values: black, white, half and a tenth again and again; more channels are black."""
    white = 2**depth - 1
    channels = [value for level in (0, white, white // 2, white // 10) for value in (level, *(0,) * extra)] * 64
    bits = "".join(f"{value:0{depth}b}" for value in channels)
    pixels = int(bits, 2).to_bytes(len(bits) // 8, "big")
    if depth == 16 and order == "<":
        pixels = struct.pack(f"<{len(channels)}H", *channels)
    entries = {256: (16,), 257: (16,), 258: (depth,) * (1 + extra), 259: (1,), 262: (photometric,), 273: (8,)}
    more = {338: (2,) * extra} if extra else {}
    shape = {277: (1 + extra,), 278: (16,), 279: (len(pixels),), 339: (kind,)}
    short = dict.fromkeys((258, 259, 262, 277, 338, 339), (3, "H"))
    return tiff({**entries, **shape, **more}, pixels, order, short)


@pytest.mark.parametrize(
    ("order", "photometric", "depth"), [("<", 1, 16), (">", 1, 16), ("<", 0, 16), (">", 0, 16), ("<", 1, 12)]
)
def test_deep_grey_is_as_bright_as_it_was(order: str, photometric: int, depth: int) -> None:
    """Whatever stands for white, and however many bits it has."""
    normalized = normalize_image(grey_tiff(order, photometric, depth))
    expected = [value if photometric else 255 - value for value in (0, 255, 127, 25)]
    assert all(abs(pixel[0] - value) <= 1 for pixel, value in zip(seen(normalized.data)[2], expected * 64, strict=True))
    assert normalized.changes == ("depth-reduced", "converted")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (grey_tiff(">", 1, 12), "grey as 12-bit big-endian integers"),
        (grey_tiff("<", 1, 16, extra=1), "grey and further channels as 16-bit"),
        (grey_tiff("<", 5, 8, extra=4), "CMYK and further channels as 8-bit"),
        (grey_tiff("<", 5, 16, extra=4), "CMYK and further channels as 16-bit"),
        (grey_tiff("<", 1, 16, kind=3), "grey as 16-bit little-endian floating-point numbers"),
        (grey_tiff("<", 1, 16, kind=2), "negative numbers"),
        (grey_tiff("<", 1, 8, kind=2), "grey as 8-bit little-endian signed integers"),
    ],
)
def test_a_tiff_whose_pixels_are_not_read_is_refused_by_name(data: bytes, what: str) -> None:
    """It is not damaged, and whoever made it can save it otherwise."""
    with pytest.raises(UnsupportedFormat, match=what):
        normalize_image(data)


def tiff_of_planes(order: str, photometric: int, depth: int, planes: int, **more: tuple[int, ...]) -> bytes:
    """Return a TIFF of 16 x 16 whose n-th plane has nothing but the n-th of these values, in strips of 6 rows."""
    values = [(2**depth - 1) * level // 10 for level in (9, 5, 2, 1)][:planes]
    rows = [struct.pack(f"{order}16{'H' if depth == 16 else 'B'}", *[value] * 16) for value in values]
    lengths = [len(rows[0]) * count for count in (6, 6, 4)] * planes
    entries = {256: (16,), 257: (16,), 258: (depth,) * planes, 259: (1,), 262: (photometric,), 277: (planes,)}
    entries |= {273: tuple(8 + sum(lengths[:strip]) for strip in range(len(lengths))), 279: tuple(lengths)}
    entries |= {278: (6,), 284: (2,), **{int(tag): value for tag, value in more.items()}}
    short = dict.fromkeys((258, 259, 262, 277, 284, 338, 339), (3, "H"))
    return tiff(entries, b"".join(row * 16 for row in rows), order, short)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("photometric", "planes", "extra", "shown"),
    [
        (1, 1, (), (230,)),
        (0, 1, (), (25,)),
        (1, 2, (2,), (230, 128)),
        (1, 2, (0,), (230,)),
        (2, 3, (), (230, 128, 51)),
        (2, 4, (2,), (230, 128, 51, 25)),
        (2, 4, (0,), (230, 128, 51)),
        (5, 4, (), (23, 114, 184)),
    ],
)
def test_channels_that_lie_apart_are_put_together(
    order: str, depth: int, photometric: int, planes: int, *, extra: tuple[int, ...], shown: tuple[int, ...]
) -> None:
    """As grey, as colours, with their transparency and without what is neither."""
    more = {"338": extra} if extra else {}
    _, _, pixels = seen(normalize_image(tiff_of_planes(order, photometric, depth, planes, **more)).data)
    assert len(set(pixels)) == 1
    seen_at = pixels[0] if len(pixels[0]) in {len(shown), 3} else pixels[0][:1]
    expected = shown if len(seen_at) == len(shown) else shown * 3
    assert all(abs(value - level) <= 1 for value, level in zip(seen_at, expected, strict=True))


@pytest.mark.parametrize("kind", [2, 3])
def test_planes_of_other_numbers_are_refused_by_name(kind: int) -> None:
    """They are not damaged."""
    with pytest.raises(UnsupportedFormat, match="RGB as 16-bit little-endian"):
        normalize_image(tiff_of_planes("<", 2, 16, 3, **{"339": (kind,) * 3}))


def test_planes_that_are_not_all_there_are_damaged() -> None:
    """A strip too few."""
    whole = {"273": tuple(range(8, 16)), "279": (1,) * 8}
    with pytest.raises(CorruptImage, match="planes"):
        normalize_image(tiff_of_planes("<", 2, 8, 3, **whole))


def with_burdened(data: bytes, jfif: bytes) -> bytes:
    """Return a JPEG with another JFIF segment than its own, which stands first."""
    start = data.index(b"JFIF") - 4 if b"JFIF" in data[:20] else 2
    return data[:start] + segment(0xE0, jfif) + data[start + (18 if b"JFIF" in data[:20] else 0) :]


THUMBNAIL = b"JFIF\0\1\2\0\0\1\0\1\1\1" + b"red"


@pytest.mark.parametrize("adobe", [b"", segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")])
def test_a_jpegs_colours_do_not_depend_on_its_thumbnail(adobe: bytes) -> None:
    """Without its segment, decoders would take YCbCr for RGB: by Adobe's word, or by the names R, G, B."""
    plain = encoded(pattern(), "JPEG", quality=95)
    data = with_burdened(plain, THUMBNAIL)
    frame = data.index(b"\xff\xc0")
    data = data[:frame] + adobe + data[frame:] if adobe else renamed(data, b"RGB")
    normalized = normalize_image(data)
    assert normalized.changes == ("recompressed", "metadata-removed")
    assert b"red" not in normalized.data
    for pixel, other in zip(seen(normalized.data)[2], seen(plain)[2], strict=True):
        assert max(abs(a - b) for a, b in zip(pixel, other, strict=True)) < 40


def renamed(data: bytes, names: bytes) -> bytes:
    """Return a baseline JPEG whose components have other names than 1, 2, 3."""
    changed = bytearray(data)
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for number, name in enumerate(names):
        changed[frame + 10 + 3 * number] = changed[scan + 5 + 2 * number] = name
    return bytes(changed)
