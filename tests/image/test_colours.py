"""Colours survive: depth, palettes, transparency, CMYK and what is said to be a drawing."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image, ImageCms

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import ImageLimits, colour, normalize_image
from shared.image.formats import hevc
from tests.image.colour_files import (
    LINEAR,
    REFERENCE_SETS,
    SCALING_LISTS,
    big_profile,
    cicp,
    code,
    hevc_configuration,
    numbered,
    png_of,
)
from tests.image.pictures import encoded, exif, pattern, pattern_at, photo, seen
from tests.image.structures import box, chunk, png_header, segment, with_chunk
from tests.image.tiff_files import tiff, tiff_of_planes


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
    """A profile whose cyan is invisible and whose magenta is black shows just that."""
    picture = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    picture.paste((0, 255, 0, 0), (32, 0, 64, 64))
    normalized = normalize_image(encoded(picture, kind, icc_profile=cmyk_profile()))
    width, _, pixels = seen(normalized.data)
    assert normalized.changes[0] == "colours-converted"
    assert min(pixels[0]) > 250
    assert max(pixels[width - 1]) < 5


def test_the_tables_of_a_profile_take_precedence_over_its_floating_point_steps() -> None:
    """A megabyte holds thousands of such steps; but the profile's colours are kept without them."""
    profile = cmyk_profile().replace(b"cprt", b"D2B0", 1)
    normalized = normalize_image(encoded(Image.new("CMYK", (64, 64), (0, 255, 0, 0)), "JPEG", icc_profile=profile))
    assert max(seen(normalized.data)[2][0]) < 5


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_converted_like_ink(kind: str) -> None:
    """Adobe's inverted CMYK and a TIFF's are both decoded correctly."""
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


def test_an_image_of_32_bits_is_refused_with_a_message_that_names_them() -> None:
    """Their range of values is unknown."""
    with pytest.raises(UnsupportedFormat, match="32 bits"):
        normalize_image(encoded(Image.new("F", (64, 64), 0.5), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_a_drawing_becomes_a_png_with_the_same_pixels(kind: str) -> None:
    """A logo is not blurred by a JPEG."""
    options = {"lossless": True} if kind == "WEBP" else {}
    normalized = normalize_image(encoded(pattern(), kind, **options))
    assert normalized.media_type == "image/png"
    assert [pixel[:3] for pixel in seen(normalized.data)[2]] == seen(encoded(pattern(), "PNG"))[2]


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {}), ("AVIF", {}), ("TIFF", {"compression": "jpeg"})])
def test_a_lossy_photo_becomes_a_jpeg(kind: str, options: dict[str, Any]) -> None:
    """As a PNG it would be five times the size, and look no better."""
    assert normalize_image(encoded(photo(), kind, **options)).media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("kind", "options"),
    [("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_a_lossless_image_stays_lossless_if_it_fits(kind: str, options: dict[str, Any]) -> None:
    """The limit is a budget; a picture that is too large for it becomes a JPEG."""
    picture = photo()
    data = encoded(picture, kind, **options)
    normalized = normalize_image(data)
    assert normalized.media_type == "image/png"
    assert seen(normalized.data) == seen(encoded(picture, "PNG"))
    assert normalize_image(data, ImageLimits(max_output_bytes=100_000)).media_type == "image/jpeg"


def test_a_re_encoded_png_keeps_every_pixel() -> None:
    """Rotated or padded, it is the same picture."""
    picture = photo()
    normalized = normalize_image(encoded(picture, "PNG", exif=exif(6)))
    assert seen(normalized.data) == seen(encoded(picture.transpose(Image.Transpose.ROTATE_270), "PNG"))


def sampling_of(data: bytes) -> tuple[int, int]:
    """Return how many pixels share one chroma sample in a JPEG, across and down."""
    frame = data.index(b"\xff\xc0")
    luma, colour = data[frame + 11], data[frame + 14]
    return (luma >> 4) // (colour >> 4), (luma & 15) // (colour & 15)


@pytest.mark.parametrize("max_bytes", [5_000_000, 200_000])
@pytest.mark.parametrize(("subsampling", "sampling"), [("4:4:4", (1, 1)), ("4:2:2", (2, 1)), ("4:2:0", (2, 2))])
def test_a_re_encoded_jpeg_keeps_its_chroma_sampling(
    subsampling: str, sampling: tuple[int, int], max_bytes: int
) -> None:
    """More chroma would waste bytes, less would blur it."""
    data = encoded(photo(900, 100), "JPEG", quality=90, subsampling=subsampling)
    normalized = normalize_image(data, ImageLimits(max_output_bytes=max_bytes))
    assert sampling_of(normalized.data) == sampling


def test_the_chroma_sampling_of_a_jpeg_rotates_with_it() -> None:
    """Chroma halved across would be halved down after the rotation; full chroma is kept instead."""
    data = encoded(photo(), "JPEG", quality=90, subsampling="4:2:2", exif=exif(6))
    assert sampling_of(normalize_image(data).data) == (1, 1)


@pytest.mark.parametrize(("max_bytes", "sampling"), [(5_000_000, (1, 1)), (35_000, (2, 2))])
def test_chroma_is_not_subsampled_if_the_image_fits_without_it(max_bytes: int, sampling: tuple[int, int]) -> None:
    """Red lines and text on a map would blur."""
    data = encoded(photo(400, 300), "AVIF", quality=90)
    normalized = normalize_image(data, ImageLimits(max_output_bytes=max_bytes))
    assert sampling_of(normalized.data) == sampling


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "AVIF"])
def test_transparency_is_kept_if_it_fits(kind: str) -> None:
    """It may be shown on a page that is not white."""
    picture = photo(100, 100)
    picture.putalpha(Image.linear_gradient("L").resize((100, 100)))
    normalized = normalize_image(encoded(picture, kind))
    assert normalized.media_type == "image/png"
    alphas = [pixel[-1] for pixel in seen(normalized.data)[2]]
    assert min(alphas) < 10
    assert max(alphas) > 245


def test_transparency_that_does_not_fit_becomes_white() -> None:
    """A JPEG has no transparency."""
    picture = photo(400, 400)
    picture.putalpha(Image.new("L", (400, 400), 0))
    normalized = normalize_image(
        encoded(picture, "WEBP", lossless=True, exact=True), ImageLimits(max_output_bytes=60_000)
    )
    assert normalized.media_type == "image/jpeg"
    assert "flattened" in normalized.changes
    assert min(min(pixel) for pixel in seen(normalized.data)[2]) > 250


def test_an_opaque_alpha_channel_does_not_make_an_image_a_png() -> None:
    """Many programs write one for every picture."""
    picture = photo()
    picture.putalpha(255)
    assert normalize_image(encoded(picture, "AVIF")).media_type == "image/jpeg"


def test_the_padding_of_a_transparent_image_is_transparent() -> None:
    """White bars would stand out."""
    picture = pattern().resize((480, 32))
    picture.putalpha(128)
    _, height, pixels = seen(normalize_image(encoded(picture, "PNG")).data)
    assert height == 96
    assert pixels[0][-1] == 0


def test_padding_is_white_in_a_jpeg() -> None:
    """The short side is extended at both ends."""
    normalized = normalize_image(encoded(Image.new("RGB", (640, 64)), "JPEG"))
    _, height, pixels = seen(normalized.data)
    assert height == 128
    assert min(pixels[0]) > 250
    assert max(pixels[640 * 64]) < 5


def test_cropping_keeps_the_middle() -> None:
    """Policy `crop` cuts both ends equally."""
    picture = Image.new("RGB", (640, 64), "white")
    picture.paste((0, 0, 0), (160, 0, 480, 64))
    normalized = normalize_image(encoded(picture, "PNG"), ImageLimits(aspect_policy="crop"))
    width, height, pixels = seen(normalized.data)
    assert (width, height) == (320, 64)
    assert normalized.changes == ("cropped", "recompressed")
    assert set(pixels) <= {(0,), (0, 0, 0)}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 200), (33, 31)])
def test_a_png_of_any_mode_and_size_becomes_legal(mode: str, size: tuple[int, int]) -> None:
    """Also the smallest and thinnest."""
    normalized = normalize_image(encoded(Image.new(mode, size), "PNG"))
    width, height, _ = seen(normalized.data)
    assert max(width, height) <= 5 * min(width, height)


def test_a_key_colour_of_a_16_bit_png_stays_transparent() -> None:
    """Its value is scaled like the pixels."""
    picture = Image.new("I;16", (64, 64), 0x1234)
    normalized = normalize_image(encoded(picture, "PNG", transparency=0x1234))
    assert {pixel[-1] for pixel in seen(normalized.data)[2]} == {0}


@pytest.mark.parametrize("value", [0x0000, 0x00FF, 0x1234, 0x12F0, 0xFF00, 0xFFFF])
def test_only_the_exact_key_colour_of_a_16_bit_png_is_transparent(value: int) -> None:
    """Pixels are rounded to 8 bits, and many become equal."""
    picture = Image.new("I;16", (64, 64), value)
    picture.paste(value ^ 1, (32, 0, 64, 64))
    data = encoded(picture, "PNG", transparency=value)
    alphas = [pixel[-1] for pixel in seen(normalize_image(data).data)[2]]
    assert (alphas[0], alphas[63]) == (0, 255)


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 1), (2, 2), (4, 7), (4, 15), (8, 200)])
def test_only_the_exact_key_colour_of_a_png_with_few_bits_is_transparent(depth: int, key: int) -> None:
    """Pillow scales such pixels to 8 bits, but not the key."""
    rows = bytes((0, *(int(f"{key:0{depth}b}" * (8 // depth), 2),) * 8 * depth)) * 32
    rows += bytes((0, *(int(f"{key ^ 1:0{depth}b}" * (8 // depth), 2),) * 8 * depth)) * 32
    pieces = chunk(b"tRNS", struct.pack(">H", key)) + chunk(b"eXIf", exif(3)[6:]) + chunk(b"IDAT", zlib.compress(rows))
    normalized = normalize_image(png_header(64, 64, depth, 0) + pieces + chunk(b"IEND", b""))
    assert normalized.changes == ("oriented", "recompressed", "metadata-removed")
    alphas = [pixel[-1] for pixel in seen(normalized.data)[2]]
    assert (alphas[-1], alphas[0]) == (0, 255)


def test_a_key_colour_of_16_bit_rgb_is_transparent() -> None:
    """Pillow keeps only the high byte of such pixels."""
    row = b"\0" + struct.pack(">3H", 0x12F0, 0xFF00, 0x00FF) * 64
    pieces = chunk(b"tRNS", struct.pack(">3H", 0x12F0, 0xFF00, 0x00FF)) + chunk(b"IDAT", zlib.compress(row * 64))
    normalized = normalize_image(png_header(64, 64, 16, 2) + pieces + chunk(b"IEND", b""))
    assert {pixel[-1] for pixel in seen(normalized.data)[2]} == {0}


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["dithered", "hatched"])
def test_a_drawing_with_few_colours_stays_lossless(kind: str, mode: str) -> None:
    """No two neighbours are equal, and yet a JPEG would spoil it."""
    hatching = Image.new("1", (320, 240))
    hatching.putdata([(x + y) % 2 for y in range(240) for x in range(320)])
    picture = photo(mode="1") if kind == "dithered" else hatching
    normalized = normalize_image(encoded(picture.convert(mode), "TIFF"))
    assert normalized.media_type == "image/png"


def test_a_grey_photo_does_not_count_as_a_drawing_with_few_colours() -> None:
    """It has 256 at the most."""
    assert normalize_image(encoded(photo(mode="L").convert("RGB"), "AVIF")).media_type == "image/jpeg"


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
def test_grey_of_more_than_8_bits_keeps_its_brightness(order: str, photometric: int, depth: int) -> None:
    """Whatever stands for white, and however many bits it has."""
    normalized = normalize_image(grey_tiff(order, photometric, depth))
    expected = [value if photometric else 255 - value for value in (0, 255, 127, 25)]
    assert all(abs(pixel[0] - value) <= 1 for pixel, value in zip(seen(normalized.data)[2], expected * 64, strict=True))
    assert normalized.changes == ("depth-reduced", "converted")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (grey_tiff(">", 1, 12), "grey as 12-bit big-endian integers"),
        (grey_tiff("<", 1, 12, extra=1), "grey and additional channels as 12-bit"),
        (grey_tiff("<", 5, 8, kind=2, extra=4), "CMYK and additional channels as 8-bit"),
        (grey_tiff("<", 5, 16, kind=3, extra=4), "CMYK and additional channels as 16-bit"),
        (grey_tiff("<", 1, 16, kind=3), "grey as 16-bit little-endian floating-point numbers"),
        (grey_tiff("<", 1, 16, kind=2), "negative numbers"),
        (grey_tiff("<", 1, 8, kind=2), "grey as 8-bit little-endian signed integers"),
    ],
)
def test_a_tiff_with_unsupported_pixels_is_refused_with_a_message_that_names_them(data: bytes, what: str) -> None:
    """It is not damaged, and its writer can save it differently."""
    with pytest.raises(UnsupportedFormat, match=what):
        normalize_image(data)


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
def test_separate_colour_planes_are_combined(
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
def test_planes_of_unsupported_numbers_are_refused_with_a_message_that_names_them(kind: int) -> None:
    """They are not damaged."""
    with pytest.raises(UnsupportedFormat, match="RGB as 16-bit little-endian"):
        normalize_image(tiff_of_planes("<", 2, 16, 3, **{"339": (kind,) * 3}))


def test_a_tiff_with_an_incomplete_plane_is_damaged() -> None:
    """A strip too few."""
    whole = {"273": tuple(range(8, 16)), "279": (1,) * 8}
    with pytest.raises(CorruptImage, match="fewer parts"):
        normalize_image(tiff_of_planes("<", 2, 8, 3, **whole))


def middle(data: bytes) -> tuple[int, ...]:
    """Return the pixel in the middle as every viewer shows it that knows sRGB."""
    image: Any = Image.open(BytesIO(normalize_image(data).data))
    profile = image.info.get("icc_profile")
    if profile:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        image = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(BytesIO(profile)), srgb, outputMode="RGB")
    pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    return tuple(pixel) if isinstance(pixel, tuple) else ()


P3 = chunk(b"cHRM", struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("said", "change", "grey"),
    [
        ((LINEAR,), "colours-converted", 188),
        ((chunk(b"gAMA", struct.pack(">I", 55_556)),), "profile-embedded", 146),
        ((cicp(1, 8),), "colours-converted", 188),
        ((cicp(1, 8), chunk(b"sRGB", b"\0")), "colours-converted", 188),
        ((chunk(b"sRGB", b"\0"), LINEAR), None, 128),
        ((chunk(b"gAMA", struct.pack(">I", 45_455)),), None, 128),
        ((chunk(b"gAMA", bytes(4)),), None, 128),
        ((chunk(b"cHRM", bytes(32)),), None, 128),
        ((cicp(2, 2), LINEAR), "colours-converted", 188),
        ((cicp(200, 200), LINEAR), "colours-converted", 188),
    ],
)
def test_the_colours_that_a_png_states_are_applied_when_it_is_re_encoded(
    said: tuple[bytes, ...], change: str | None, grey: int, mode: str
) -> None:
    """Mid-grey is as bright as it was: cICP goes before sRGB, sRGB before gAMA."""
    data = png_of(128, *said, mode=mode)
    changes = normalize_image(data).changes
    assert {"colours-converted", "profile-embedded"} & set(changes) == ({change} if change else set())
    assert all(abs(value - grey) <= 1 for value in middle(data))


def test_a_legal_png_keeps_its_colour_chunks() -> None:
    """Viewers know how to handle it."""
    data = with_chunk(encoded(pattern(), "PNG"), LINEAR + P3)
    assert normalize_image(data).data is data


def test_unusual_primaries_become_a_profile() -> None:
    """No pixel changes."""
    data = with_chunk(encoded(pattern().resize((640, 64)), "PNG"), P3)
    normalized = normalize_image(data)
    assert normalized.changes == ("profile-embedded", "padded", "recompressed")
    assert seen(normalized.data)[2][640 * 40] == pattern_at(0, 0)


@pytest.mark.parametrize(("depth", "darkest"), [(8, 13), (16, 1)])
def test_linear_light_keeps_its_dark_tones_if_it_has_16_bits(depth: int, darkest: int) -> None:
    """One of 255 is a hundredth of them all, and a tenth of what is seen."""
    values = [round(20 / 65_535 * (2**depth - 1)) or 1] * 3
    row = b"\0" + struct.pack(f">3{'H' if depth == 16 else 'B'}", *values) * 64
    data = png_header(64, 64, depth, 2) + LINEAR + chunk(b"eXIf", exif(3)[6:])
    data += chunk(b"IDAT", zlib.compress(row * 64)) + chunk(b"IEND", b"")
    assert middle(data) == (darkest,) * 3
    assert "colours-converted" in normalize_image(data).changes


@pytest.mark.parametrize(("transfer", "white"), [(16, 148), (18, 191)])
def test_hdr_reference_white_becomes_white_and_highlights_are_rolled_off(transfer: int, white: int) -> None:
    """203 cd/m2 of PQ, 75 % of HLG; a brighter picture keeps all of its highlights."""
    assert min(middle(png_of(white, cicp(9, transfer), mode="RGB"))) >= 252
    ramp = Image.new("RGB", (640, 64))
    for column in range(64):
        ramp.paste((4 * column,) * 3, (10 * column, 0, 10 * column + 10, 64))
    normalized = normalize_image(with_chunk(encoded(ramp, "PNG"), cicp(9, transfer)))
    assert "tone-mapped" in normalized.changes
    row = seen(normalized.data)[2][640 * 64 :: 10][:64]
    assert all(len(set(pixel[:3])) == 1 for pixel in row)
    assert row[-1][0] in range(250, 256)
    assert all(one[0] < other[0] for one, other in pairwise(row[20:50]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_a_large_profile_is_applied_when_an_image_is_re_encoded(kind: str) -> None:
    """It would take a third of the output limit; its colours are kept."""
    data = encoded(Image.new("RGB", (640, 64), (90, 120, 200)), kind, icc_profile=big_profile())
    normalized = normalize_image(data)
    assert "colours-converted" in normalized.changes
    assert "icc_profile" not in Image.open(BytesIO(normalized.data)).info
    small = colour.ColourSpace(colour.Primaries((0.3127, 0.329), (0.2, 0.4), (0.3, 0.6), (0.15, 0.06)))
    expected = middle(
        encoded(Image.new("RGB", (640, 64), (90, 120, 200)), kind, icc_profile=small.profile(is_grey=False))
    )
    assert all(abs(value - same) <= 3 for value, same in zip(middle(data), expected, strict=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_profile_is_kept_if_an_image_is_sent_as_it_is(kind: str) -> None:
    """It is legal as it is."""
    data = encoded(photo(), kind, icc_profile=big_profile())
    assert normalize_image(data).data is data


@pytest.mark.parametrize(
    ("primaries", "transfer", "changes"),
    [
        (12, 13, ("profile-embedded", "converted")),
        (9, 1, ("profile-embedded", "converted")),
        (1, 8, ("colours-converted", "converted")),
        (1, 4, ("profile-embedded", "converted")),
        (9, 16, ("tone-mapped", "profile-embedded", "converted")),
        (1, 13, ("converted",)),
        (2, 2, ("converted",)),
        (99, 99, ("converted",)),
    ],
)
def test_the_colours_that_an_avif_states_are_applied(primaries: int, transfer: int, changes: tuple[str, ...]) -> None:
    """As numbers, if it has no profile."""
    assert normalize_image(numbered(primaries, transfer)).changes == changes


def test_the_colours_of_an_avif_are_those_of_its_stream_if_its_container_states_none() -> None:
    """The sequence header states them as well."""
    data = numbered(12, 13).replace(b"colr", b"free", 1)
    assert normalize_image(data).changes == ("converted",)
    start = data.index(b"mdat") + 4
    header = int.from_bytes(data[start : start + 20], "big")
    (shift,) = (shift for shift in range(140) if header >> shift & 0xFFFF == 1 << 8 | 13)
    stated = (header & ~(0xFFFF << shift) | (12 << 8 | 13) << shift).to_bytes(20, "big")
    assert normalize_image(data[:start] + stated + data[start + 20 :]).changes == ("profile-embedded", "converted")


@pytest.mark.parametrize(("size", "offset"), [((80, 60), (0, 0)), ((40, 30), (10, -5))])
def test_the_cropped_parts_of_an_avif_are_not_sent(size: tuple[int, int], offset: tuple[int, int]) -> None:
    """Its container states the visible part; the file still contains all of it."""
    picture = Image.new("RGB", (160, 120), (200, 0, 0))
    (width, height), (right, below) = size, offset
    left, top = 80 + right - width // 2, 60 + below - height // 2
    picture.paste((0, 0, 200), (left, top, left + width, top + height))
    data = encoded(picture, "AVIF", quality=100, subsampling="4:4:4")
    crop = box(b"clap", struct.pack(">8i", width, 1, height, 1, right, 1, below, 1))
    normalized = normalize_image(with_property(data, crop))
    across, down, pixels = seen(normalized.data)
    assert (across, down) == size
    assert all(blue > 150 > red for red, _, blue in pixels)


def with_property(data: bytes, added: bytes) -> bytes:
    """Return an AVIF whose picture, its first item, has one property more, behind all others."""
    meta = data.index(b"meta") - 4
    size = int.from_bytes(data[meta : meta + 4], "big")
    inner = data[meta + 12 : meta + size]
    ipco, ipma = inner.index(b"ipco") - 4, inner.index(b"ipma") - 4
    properties = boxes_in_order(inner[ipco + 8 : ipma])
    associations = inner[ipma : ipma + int.from_bytes(inner[ipma : ipma + 4], "big")]
    count = associations[18]
    associated = associations[8:18] + bytes((count + 1,)) + associations[19:] + bytes((0x80 | len(properties) + 1,))
    iprp = box(b"iprp", box(b"ipco", *properties, added), box(b"ipma", associated))
    whole = box(b"meta", bytes(4), inner[: ipco - 8], iprp, inner[ipma + len(associations) :])
    return data[:meta] + data[meta : meta + 4] + b"free" + data[meta + 8 :] + whole


def boxes_in_order(content: bytes) -> list[bytes]:
    """Return the boxes in a box."""
    found, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        found.append(content[at : at + size])
        at += size
    return found


def test_the_alpha_item_of_an_avif_may_lack_a_size() -> None:
    """Older encoders left it out: it is that of the picture."""
    picture = pattern()
    picture.putalpha(Image.new("L", picture.size, 128))
    data = encoded(picture, "AVIF", quality=100)
    entry = data.index(b"ipma") + 8
    properties = list(data[entry + 4 :][:16])
    owned = [index & 0x7F for index in properties[3 : 3 + properties[2]]]
    second = 3 + properties[2]
    at = entry + 4 + second + 3 + [index & 0x7F for index in properties[second + 3 :]].index(owned[0])
    unsized = data[:at] + data[at + 1 : at + 2] + data[at + 1 :]
    normalized = normalize_image(unsized)
    assert {pixel[-1] for pixel in seen(normalized.data)[2]} <= {127, 128, 129}


def test_the_canvas_around_the_first_frame_of_a_gif_is_transparent() -> None:
    """Pillow fills it with the palette's first colour."""
    data = encoded(Image.new("P", (20, 10), 0), "GIF").replace(
        struct.pack("<HH", 20, 10), struct.pack("<HH", 60, 40), 1
    )
    at = data.index(b",\0\0\0\0")
    data = data[: at + 1] + struct.pack("<HH", 7, 9) + data[at + 5 :]
    width, height, pixels = seen(normalize_image(data).data)
    assert (width, height) == (60, 40)
    shown = {(at % 60, at // 60) for at, pixel in enumerate(pixels) if pixel[-1]}
    assert shown == {(x, y) for x in range(7, 27) for y in range(9, 19)}


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("offset", [(0, 0), (8, 6)])
def test_the_canvas_around_the_first_frame_of_a_webp_is_transparent(offset: tuple[int, int], *, lossless: bool) -> None:
    """Also if the file states that nothing is transparent: Pillow shows black there."""
    frame = encoded(Image.new("RGB", (20, 10), "red"), "WEBP", lossless=lossless)[12:]
    left, top = offset
    place = b"".join(number.to_bytes(3, "little") for number in (left // 2, top // 2, 19, 9, 100)) + b"\0"
    chunks = riff(b"VP8X", b"\2\0\0\0" + (59).to_bytes(3, "little") + (39).to_bytes(3, "little"))
    chunks += riff(b"ANIM", bytes(6)) + riff(b"ANMF", place + frame)
    width, height, pixels = seen(normalize_image(riff(b"RIFF", b"WEBP" + chunks)).data)
    assert (width, height) == (60, 40)
    shown = {(at % 60, at // 60) for at, pixel in enumerate(pixels) if pixel[-1]}
    assert shown == {(x, y) for x in range(left, left + 20) for y in range(top, top + 10)}


def riff(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of RIFF."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def bmp(header_bytes: int, kind: int, *, profile: bytes = b"", gamma: float = 0.0) -> bytes:
    """Return a BMP of mid-grey whose header of version 4 or 5 says something of its colours."""
    header = bytearray(header_bytes)
    struct.pack_into("<IiiHHI", header, 0, header_bytes, 16, 16, 1, 24, 0)
    struct.pack_into("<I", header, 56, kind)
    srgb = (0.4124, 0.2126, 0.0193, 0.3576, 0.7152, 0.1192, 0.1805, 0.0722, 0.9505)
    struct.pack_into("<9i", header, 60, *(round(value * 2**30) for value in srgb))
    struct.pack_into("<3I", header, 96, *[round(gamma * 2**16)] * 3)
    pixels = bytes((128,)) * 16 * 48
    if profile:
        struct.pack_into("<II", header, 112, header_bytes + len(pixels), len(profile))
    return b"BM" + struct.pack("<III", 0, 0, 14 + header_bytes) + bytes(header) + pixels + profile


@pytest.mark.parametrize(
    ("data", "change", "grey"),
    [
        (bmp(108, 0, gamma=1.0), "colours-converted", 188),
        (bmp(124, 0, gamma=1.8), "profile-embedded", 146),
        (bmp(124, 0x7352_4742), None, 128),
        (bmp(124, 0x5769_6E20), None, 128),
        (bmp(124, 0x4D42_4544, profile=colour.ColourSpace(gamma=1.8).profile(is_grey=False)), None, 146),
    ],
)
def test_the_colours_that_a_bmp_states_are_applied(data: bytes, change: str | None, grey: int) -> None:
    """As numbers, or as a profile after its pixels; sRGB and Windows' own colours need no profile."""
    assert {"colours-converted", "profile-embedded"} & set(normalize_image(data).changes) == (
        {change} if change else set()
    )
    assert all(abs(value - grey) <= 1 for value in middle(data))


def with_burdened(data: bytes, jfif: bytes) -> bytes:
    """Return a JPEG with another JFIF segment than its own, which stands first."""
    start = data.index(b"JFIF") - 4 if b"JFIF" in data[:20] else 2
    return data[:start] + segment(0xE0, jfif) + data[start + (18 if b"JFIF" in data[:20] else 0) :]


THUMBNAIL = b"JFIF\0\1\2\0\0\1\0\1\1\1" + b"red"


@pytest.mark.parametrize("adobe", [b"", segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")])
def test_a_jpegs_colours_do_not_depend_on_its_thumbnail(adobe: bytes) -> None:
    """Without its segment, decoders would take YCbCr for RGB: because of Adobe's marker, or of the names R, G, B."""
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


HEVC = bytes.fromhex(
    "010408000000000000000000fff000fcfff8f800000f03600001001740010c01ffff0408000003009e380000030000ffba024061000100"
    "2a4201010408000003009e380000030000ff90041020b2dd5c94d7370c0d0004000003006400000300042062000100084401c170306091"
    "20"
)
"""What x265 writes of a picture in Display P3."""


@pytest.mark.parametrize("references", [code(0) + "0", REFERENCE_SETS], ids=["none", "some"])
@pytest.mark.parametrize("scaling", ["", SCALING_LISTS], ids=["flat", "scaled"])
def test_the_colours_of_an_hevc_stream_are_read_after_whatever_precedes_them(scaling: str, references: str) -> None:
    """Scaling lists, and sets of reference pictures that are predicted from one another."""
    assert hevc.cicp(hevc_configuration(9, 16, scaling=scaling, references=references)) == (9, 16)


def test_malformed_parameter_sets_of_an_hevc_stream_state_no_colours() -> None:
    """A set that ends before them states none; nor do arrays that hold none, or say that they are longer."""
    assert hevc.cicp(HEVC) == (12, 13)
    for end in range(len(HEVC)):
        assert hevc.cicp(HEVC[:end]) in {None, (12, 13)}
    assert hevc.cicp(HEVC[:60]) is None
    for at in range(22, len(HEVC)):
        for byte in (0, 1, 0x80, 0xFF):
            hevc.cicp(HEVC[:at] + bytes((byte,)) + HEVC[at + 1 :])
    assert hevc.cicp(HEVC[:22] + b"\xff\xff\xff" * 2_000) is None
