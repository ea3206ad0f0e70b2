"""What a TIFF says of its pixels is heeded, or refused by its name; and all of them are there."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
import pyvips
from PIL import Image

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import normalize_image
from shared.image.depth import joined, rounded, to_8_bits
from tests.image.pictures import encoded, is_accepted, pattern, pattern_at, scenery, seen, shows_damage
from tests.image.tiff_files import behind_a_thumbnail, shape, tiff

if TYPE_CHECKING:
    from collections.abc import Callable

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def in_strips(image: Image.Image, compression: int, strips: list[bytes], rows: int, **more: tuple[int, ...]) -> bytes:
    """Return a TIFF of so many rows a strip."""
    starts = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    where = {259: (compression,), 278: (rows,), 273: tuple(starts), 279: tuple(map(len, strips))}
    return tiff({**shape(image, **more), **where}, b"".join(strips))


def rows_of(image: Image.Image, rows: int) -> list[bytes]:
    """Return the pixels of each strip."""
    return [
        image.crop((0, top, image.width, min(top + rows, image.height))).tobytes()
        for top in range(0, image.height, rows)
    ]


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_reversed_bits_are_decoded(compression: int, bits: int, *, alpha: bool) -> None:
    """FillOrder 2 applies to compressed bytes too, which were called damaged; few formats have it uncompressed."""
    image = pattern().convert("RGBA" if alpha else "RGB")
    strips = [pixels if bits == 8 else pixels.replace(b"", b"\0")[:-1] for pixels in rows_of(image, 8)]
    if compression == 8:
        strips = list(map(zlib.compress, strips))
    strips = [strip.translate(REVERSED) for strip in strips]
    channels = 4 if alpha else 3
    more = {"258": (bits,) * channels, "266": (2,), "277": (channels,), **({"338": (2,)} if alpha else {})}
    _, _, pixels = seen(normalize_image(in_strips(image, compression, strips, 8, **more)).data)
    assert [pixel[:3] for pixel in pixels] == [
        pattern_at(x, y) for y in range(image.height) for x in range(image.width)
    ]


@pytest.mark.parametrize(
    ("compression", "name"),
    [(50_000, "Zstandard"), (50_001, "WebP"), (50_002, "JPEG XL"), (34_887, "LERC"), (34_676, "LogLuv"), (9, "JBIG")],
)
def test_an_unsupported_compression_is_refused_with_a_message_that_names_it(compression: int, name: str) -> None:
    """A number means nothing to someone who chose the compression from a list."""
    image = pattern()
    with pytest.raises(UnsupportedFormat, match=rf"{name}.* \({compression}\)"):
        normalize_image(in_strips(image, compression, rows_of(image, 8), 8))


def test_a_sparse_tiff_is_refused_with_that_reason() -> None:
    """GDAL can leave out empty tiles; such files were called cut short."""
    image = pattern()
    strips = rows_of(image, 8)
    entries = {**shape(image), 259: (1,), 278: (8,), 273: (8, 0, 8, 8), 279: (len(strips[0]), 0, *[len(strips[0])] * 2)}
    with pytest.raises(UnsupportedFormat, match="sparse"):
        normalize_image(tiff(entries, strips[0]))


def test_a_tiff_with_too_few_strips_is_refused() -> None:
    """Missing strips used to become black."""
    image = pattern()
    with pytest.raises(CorruptImage, match="fewer parts"):
        normalize_image(in_strips(image, 1, rows_of(image, 8)[:-1], 8))


def test_a_deflated_strip_without_its_end_is_refused() -> None:
    """All of its pixels may be decoded, and yet be wrong."""
    image = pattern()
    strips = list(map(zlib.compress, rows_of(image, 8)))
    data = in_strips(image, 8, [*strips[:-1], strips[-1][:-4]], 8)
    with pytest.raises(CorruptImage, match="missing"):
        normalize_image(data)


def test_a_jpeg_with_two_channels_in_a_tiff_is_decoded_or_refused_with_that_reason() -> None:
    """Grey with transparency is not damage."""
    data = encoded(Image.merge("LA", scenery().split()[:2]), "TIFF", compression="jpeg", quality=95)
    normalized = normalize_image(data)
    assert Image.open(BytesIO(normalized.data)).mode == "LA"


def test_channels_with_different_depths_are_unsupported_and_not_damaged() -> None:
    """How many bytes they should decode to is not known."""
    image = pattern()
    packed = b"".join(b"\x2f" + bytes(48) for _ in range(image.height * 4))
    data = in_strips(image, 32_773, [packed], image.height, **{"258": (8, 16, 8)})
    with pytest.raises(UnsupportedFormat, match="RGB as 16-bit"):
        normalize_image(data)


def with_a_wrong_bit(data: bytes, at: int) -> bytes:
    """Return a file that a disk has spoilt."""
    return data[:at] + bytes((data[at] ^ 4,)) + data[at + 1 :]


def with_bytes_out_of_place(data: bytes, at: int) -> bytes:
    """Return a file in which some bytes come after those that should follow them."""
    return data[:at] + data[at + 40 : at + 1_000] + data[at : at + 40] + data[at + 1_000 :]


@pytest.mark.parametrize(
    ("compression", "damage"), [("tiff_lzw", with_a_wrong_bit), ("packbits", with_bytes_out_of_place)]
)
def test_strips_with_surplus_data_are_refused(compression: str, damage: Callable[[bytes, int], bytes]) -> None:
    """Almost no visible damage is let through; libtiff stops reading once it has all the pixels it needs."""
    data = encoded(scenery().quantize(8).convert("RGB"), "TIFF", compression=compression)
    whole = pyvips.Image.new_from_buffer(normalize_image(data).data, "").copy_memory()
    dice = random.Random(compression)  # noqa: S311 - no secret
    harmful = accepted = 0
    for _ in range(60):
        damaged = damage(data, dice.randrange(8, len(data) * 9 // 10))
        if shows_damage(damaged, whole):
            harmful += 1
            accepted += is_accepted(damaged)
    assert harmful >= 15
    assert accepted <= 0.1 * harmful


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"])
def test_the_page_after_a_thumbnail_is_checked_for_damage(compression: str) -> None:
    """Whatever compression its strips have; the thumbnail before them does not matter."""
    picture = scenery().convert("1") if compression == "group4" else scenery()
    data = behind_a_thumbnail(encoded(picture, "TIFF", compression=compression))
    assert normalize_image(data).width == picture.width
    middle = len(data) // 2
    with pytest.raises(CorruptImage):
        normalize_image(data[:middle] + bytes(400) + data[middle + 400 :])


@pytest.mark.parametrize("kind", [0, 1])
def test_a_circular_list_of_pages_ends(kind: int) -> None:
    """Each page is visited once."""
    data = bytearray(behind_a_thumbnail(encoded(pattern(), "TIFF"), kind))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    if kind:
        with pytest.raises(UnsupportedFormat, match="not the picture itself"):
            normalize_image(bytes(data))
    else:
        assert normalize_image(bytes(data)).width == 8


def grey_and_alpha(side: int, compression: int, pixels: bytes) -> bytes:
    """Return a TIFF of 16 bits in one strip."""
    entries = {256: (side,), 257: (side,), 258: (16, 16), 259: (compression,), 262: (1,), 277: (2,), 278: (side,)}
    return tiff({**entries, 273: (8,), 279: (len(pixels),), 338: (2,)}, pixels)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("side", [16, 256])
def test_interleaved_channels_are_picked_from_one_strip(side: int, compression: int) -> None:
    """However large the strip is: libtiff would split it if it is not compressed."""
    samples = [(x << 12 | y, 0xFFFF - 257 * y) for y in range(side) for x in range(side)]
    pixels = b"".join(struct.pack("<HH", grey & 0xFFFF, alpha) for grey, alpha in samples)
    data = grey_and_alpha(side, compression, zlib.compress(pixels) if compression == 8 else pixels)
    _, _, sent = seen(normalize_image(data).data)
    assert sent == [(round((grey & 0xFFFF) / 257), round(alpha / 257)) for grey, alpha in samples]


def test_interleaved_channels_that_end_early_are_damaged() -> None:
    """As with pixels of any other kind."""
    data = grey_and_alpha(64, 8, zlib.compress(bytes(64 * 63 * 4)))
    with pytest.raises(CorruptImage, match="errors among its pixels"):
        normalize_image(data)


def test_channels_that_cannot_be_separated_are_refused_with_that_reason() -> None:
    """JPEG compression mixes them."""
    entries = {256: (8,), 257: (8,), 258: (8,) * 9, 259: (7,), 262: (2,), 277: (9,), 278: (8,), 273: (8,), 279: (4,)}
    with pytest.raises(UnsupportedFormat, match="9 channels"):
        normalize_image(tiff(entries, bytes(4)))


def test_every_16_bit_value_is_rounded_to_the_nearest_8_bit_value() -> None:
    """Rounding in two halves gives the same result as a table."""
    high = Image.frombytes("L", (256, 256), bytes(range(256)) * 256).transpose(Image.Transpose.TRANSPOSE)
    low = Image.frombytes("L", (256, 256), bytes(range(256)) * 256)
    assert rounded(high, low).tobytes() == bytes(round(value / 257) for value in range(65_536))
    assert to_8_bits(joined(high, low), 16).tobytes() == rounded(high, low).tobytes()


@pytest.mark.parametrize(("kind", "inks"), [(2, (0, 199, 199, 0)), (1, (0, 100, 100, 0))])
@pytest.mark.parametrize("planes", [1, 2])
def test_the_alpha_channel_beside_inks_is_kept(planes: int, kind: int, inks: tuple[int, ...]) -> None:
    """Pillow ignores it; inks may be premultiplied by it."""
    channels = *inks, 128
    pixels = bytes(channels) * 64 if planes == 1 else b"".join(bytes((channel,)) * 64 for channel in channels)
    apart = 5 if planes == 2 else 1
    shape = {256: (8,), 257: (8,), 258: (8,) * 5, 259: (1,), 262: (5,), 277: (5,), 284: (planes,), 338: (kind,)}
    places = {273: tuple(8 + 64 * plane for plane in range(apart)), 279: (len(pixels) // apart,) * apart}
    normalized = normalize_image(tiff({**shape, **places}, pixels))
    assert set(seen(normalized.data)[2]) == {(255, 56, 56, 128)}
    assert "colours-converted" in normalized.changes


def test_the_alpha_channel_beside_lab_is_kept() -> None:
    """Its colours are converted, as without one."""
    entries = {256: (8,), 257: (8,), 258: (8,) * 4, 259: (1,), 262: (8,), 273: (8,), 277: (4,), 279: (256,), 338: (2,)}
    (pixel,) = set(seen(normalize_image(tiff(entries, bytes((255, 0, 0, 77)) * 64)).data)[2])
    assert min(pixel[:3]) > 250
    assert pixel[3] == 77


def small(photometric: int, samples: int, pixel: tuple[int, ...], **more: tuple[int, ...]) -> bytes:
    """Return a TIFF of 8 x 8 pixels of one value; a tag without values is left out."""
    pixels = bytes(pixel) * 64
    entries = {256: (8,), 257: (8,), 258: (8,) * samples, 259: (1,), 262: (photometric,), 273: (8,), 277: (samples,)}
    entries |= {279: (len(pixels),), **{int(tag): values for tag, values in more.items()}}
    rationals = dict.fromkeys((318, 319), (5, "I"))
    short = dict.fromkeys((258, 259, 262, 277, 301, 320, 332, 339), (3, "H"))
    return tiff({tag: values for tag, values in entries.items() if values}, pixels, kinds=short | rationals)


@pytest.mark.parametrize("scale", [1, 256, 257])
def test_a_palette_may_have_8_bits_per_value(scale: int) -> None:
    """Older programs write such palettes, which would otherwise be black."""
    palette = [0] * 768
    palette[7], palette[256 + 7], palette[512 + 7] = 200 * scale, 100 * scale, 50 * scale
    assert set(seen(normalize_image(small(3, 1, (7,), **{"320": tuple(palette)})).data)[2]) == {(200, 100, 50)}


def test_inks_other_than_cmyk_are_refused_by_name() -> None:
    """Their colours are in the minds of printers."""
    normalize_image(small(5, 4, (0, 0, 0, 0), **{"332": (1,)}))
    with pytest.raises(UnsupportedFormat, match="inks other than CMYK"):
        normalize_image(small(5, 4, (0, 0, 0, 0), **{"332": (2,)}))


def test_values_that_nothing_describes_are_refused() -> None:
    """Otherwise RGB would be shown as a negative of its red."""
    with pytest.raises(CorruptImage, match="does not say what its values mean"):
        normalize_image(small(2, 3, (200, 100, 50), **{"262": ()}))


def test_values_of_an_undeclared_kind_are_unsigned() -> None:
    """As libtiff reads them."""
    assert set(seen(normalize_image(small(2, 3, (200, 100, 50), **{"339": (4,) * 3})).data)[2]) == {(200, 100, 50)}


LINEAR = tuple(257 * value for value in range(256))
DISPLAY_P3 = {"318": (3127, 10_000, 329, 1_000), "319": (68, 100, 32, 100, 265, 1000, 69, 100, 15, 100, 6, 100)}


@pytest.mark.parametrize(
    ("stated", "change"),
    [
        (DISPLAY_P3, "profile-embedded"),
        ({"301": LINEAR}, "colours-converted"),
        ({"301": tuple(round(65_535 * (value / 255) ** 1.8) for value in range(256)) * 3}, "profile-embedded"),
        ({"301": tuple(round(65_535 * (value / 255) ** 2.2) for value in range(256))}, None),
        ({"301": (0,) * 256}, None),
        ({"318": (0, 0, 0, 0), "319": (0,) * 12}, None),
        ({"318": DISPLAY_P3["318"]}, None),
        ({**DISPLAY_P3, "319": DISPLAY_P3["319"][:6]}, None),
    ],
)
def test_a_tiffs_own_description_of_its_colours_is_followed(
    stated: dict[str, tuple[int, ...]], change: str | None
) -> None:
    """White, primaries, and the light of each value; what is incomplete or impossible is ignored."""
    changes = normalize_image(small(2, 3, (200, 100, 50), **stated)).changes
    assert {"profile-embedded", "colours-converted"} & set(changes) == ({change} if change else set())


@pytest.mark.parametrize("sampling", [0, 2])
def test_a_jpeg_of_the_older_kind_needs_no_strip(sampling: int) -> None:
    """Its stream is where two tags of its own say."""
    jpeg = encoded(scenery(), "JPEG", quality=95, subsampling=sampling)
    factors = (2, 2) if sampling else (1, 1)
    entries = {**shape(scenery()), 259: (6,), 262: (6,), 513: (8,), 514: (len(jpeg),), 530: factors}
    _, _, pixels = seen(normalize_image(tiff(entries, jpeg, kinds={530: (3, "H")})).data)
    differences = [max(map(abs, map(int.__sub__, *pair))) for pair in zip(pixels, seen(jpeg)[2], strict=True)]
    assert sum(differences) < 6 * len(differences)
