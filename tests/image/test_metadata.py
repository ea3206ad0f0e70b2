"""Metadata is removed, and the pixels are not touched."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
import pyvips
from PIL import Image, ImageCms, PngImagePlugin

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import ImageLimits, colour, normalize_image
from shared.image.formats.exif import states_adobe_rgb
from tests.image.pictures import encoded, exif, pattern, photo, seen
from tests.image.structures import chunk, segment, with_chunk, with_segment

SECRET = b"SECRET PLACE"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


PLAIN_JPEG = encoded(photo(), "JPEG", quality=85)
PLAIN_PNG = encoded(photo(), "PNG")

JPEG_METADATA = {
    "exif with a place": segment(0xE1, b"Exif\0\0" + exif()[6:] + SECRET),
    "xmp": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET),
    "iptc": segment(0xED, b"Photoshop 3.0\x008BIM" + SECRET),
    "comment": segment(0xFE, SECRET),
    "flashpix": segment(0xE2, b"FPXR\0" + SECRET),
    "multi-picture": segment(0xE2, b"MPF\0" + SECRET),
    "a maker's own": segment(0xEB, SECRET),
    "thumbnail in jfxx": segment(0xE0, b"JFXX\0\x10" + SECRET),
    "thumbnail in jfif": segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\2\2" + SECRET),
}

PNG_METADATA = {
    "text": chunk(b"tEXt", b"Comment\0" + SECRET),
    "compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(SECRET)),
    "international text": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + SECRET),
    "exif with a place": chunk(b"eXIf", exif()[6:] + SECRET),
    "time": chunk(b"tIME", b"\x07\xe8\1\1\1\1\1"),
    "a program's own": chunk(b"prVt", SECRET),
}


@pytest.mark.parametrize("kind", JPEG_METADATA)
def test_exactly_the_metadata_of_a_jpeg_is_cut_out(kind: str) -> None:
    """The output is the same file as without them."""
    normalized = normalize_image(with_segment(PLAIN_JPEG, JPEG_METADATA[kind]))
    assert normalized.data == PLAIN_JPEG
    assert normalized.changes == ("metadata-removed",)


@pytest.mark.parametrize("kind", PNG_METADATA)
def test_exactly_the_metadata_of_a_png_is_cut_out(kind: str) -> None:
    """The output is the same file as without them."""
    normalized = normalize_image(with_chunk(PLAIN_PNG, PNG_METADATA[kind]))
    assert normalized.data == PLAIN_PNG
    assert normalized.changes == ("metadata-removed",)


@pytest.mark.parametrize("plain", [PLAIN_JPEG, PLAIN_PNG], ids=["JPEG", "PNG"])
def test_nothing_is_sent_after_the_end_of_the_image(plain: bytes) -> None:
    """Motion photos, gain maps and archives are hidden there."""
    normalized = normalize_image(plain + SECRET + plain)
    assert normalized.data == plain
    assert normalized.changes == ("metadata-removed",)


def test_only_the_first_picture_of_an_mpo_is_sent() -> None:
    """Stereo cameras and phones append further pictures."""
    both = encoded(photo(), "MPO", save_all=True, append_images=[photo(), photo()])
    normalized = normalize_image(both)
    assert normalized.media_type == "image/jpeg"
    assert normalized.data.count(b"\xff\xd8\xff") == 1
    assert b"MPF\0" not in normalized.data


def test_only_the_first_frame_of_an_apng_is_sent() -> None:
    """The frames are chunks of their own; the picture before them is a PNG."""
    animated = encoded(photo(), "PNG", save_all=True, append_images=[photo(), photo()])
    normalized = normalize_image(animated)
    assert normalized.changes == ("metadata-removed",)
    assert b"fdAT" not in normalized.data
    assert b"acTL" not in normalized.data
    assert seen(normalized.data) == seen(encoded(Image.open(BytesIO(animated)).convert("RGB"), "PNG"))


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
def test_removing_metadata_changes_no_pixel(kind: str, options: dict[str, Any]) -> None:
    """Removing metadata does not re-encode the picture, as another decoder confirms."""
    data = encoded(photo(), kind, exif=exif(), **options)
    normalized = normalize_image(data)
    assert len(normalized.data) < len(data)
    assert seen(normalized.data) == seen(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "GIF", "BMP"])
def test_a_re_encoded_image_contains_nothing_personal(kind: str) -> None:
    """Pillow's encoders write what they find in the image's `info`."""
    options: dict[str, Any] = {"exif": exif(6)} if kind not in {"GIF", "BMP"} else {}
    if kind in {"JPEG", "GIF"}:
        options["comment"] = SECRET
    normalized = normalize_image(encoded(photo(1000, 100), kind, **options))
    assert "padded" in normalized.changes
    for secret in (SECRET, b"Secret Camera", b"Exif\0", b"eXIf", b"xmpmeta"):
        assert secret not in normalized.data


def test_the_comment_of_a_gif_is_not_in_the_jpeg_made_from_it() -> None:
    """Pillow's encoder would write it."""
    data = encoded(photo(), "GIF", comment=SECRET)
    normalized = normalize_image(data, ImageLimits(max_output_bytes=30_000))
    assert normalized.media_type == "image/jpeg"
    assert SECRET not in normalized.data


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_colour_profile_is_kept_if_the_image_is_sent_as_it_is(kind: str) -> None:
    """Without it the colours would be different."""
    data = encoded(photo(), kind, icc_profile=PROFILE)
    normalized = normalize_image(data)
    assert normalized.data is data


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_a_colour_profile_is_kept_if_the_image_is_re_encoded(kind: str) -> None:
    """Applying it would take twice as long as decoding; every viewer can apply it."""
    normalized = normalize_image(encoded(photo(1000, 100), kind, icc_profile=PROFILE))
    assert Image.open(BytesIO(normalized.data)).info["icc_profile"] == PROFILE


def profile_segments(*numbers: int) -> bytes:
    """Return a profile in the segments with these numbers, of three."""
    pieces = {number: PROFILE[200 * (number - 1) : 200 * number if number < 3 else None] for number in (1, 2, 3)}
    return b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((number, 3)) + pieces[number]) for number in numbers)


@pytest.mark.parametrize("before", [b"\xff\xda", b"\xff\xc0", b"\xff\xdb"], ids=["the scan", "the frame", "the tables"])
@pytest.mark.parametrize("numbers", [(1, 2, 3), (3, 1, 2)])
def test_a_colour_profile_of_a_jpeg_is_kept_wherever_its_segments_are(numbers: tuple[int, ...], before: bytes) -> None:
    """Before the scan, in any order, when the picture is re-encoded."""
    data = encoded(photo(1000, 100), "JPEG")
    at = data.index(before)
    normalized = normalize_image(data[:at] + profile_segments(*numbers) + data[at:])
    assert Image.open(BytesIO(normalized.data)).info["icc_profile"] == PROFILE


@pytest.mark.parametrize("numbers", [(1, 3), (1, 2, 2), (1, 2, 3, 3)])
def test_a_colour_profile_with_missing_or_repeated_segments_is_removed(numbers: tuple[int, ...]) -> None:
    """A decoder cannot tell which parts belong to it."""
    data = encoded(photo(1000, 100), "JPEG")
    at = data.index(b"\xff\xda")
    normalized = normalize_image(data[:at] + profile_segments(*numbers) + data[at:])
    assert "icc_profile" not in Image.open(BytesIO(normalized.data)).info


def test_a_profile_for_another_colour_space_is_removed() -> None:
    """A grey picture with an RGB profile looks different in every program."""
    normalized = normalize_image(encoded(photo(1000, 100, "L"), "TIFF", icc_profile=PROFILE))
    assert "icc_profile" not in Image.open(BytesIO(normalized.data)).info


def test_the_transparency_and_gamma_of_a_png_are_kept() -> None:
    """They are not metadata: a decoder needs them to show the picture."""
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 45_455))
    info.add_text("Comment", SECRET.decode())
    data = encoded(pattern().quantize(), "PNG", transparency=0, pnginfo=info)
    normalized = normalize_image(data)
    assert b"gAMA" in normalized.data
    assert b"tRNS" in normalized.data
    assert SECRET not in normalized.data


@pytest.mark.parametrize(
    "piece",
    [segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\0\0" + SECRET), segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + SECRET)],
    ids=["jfif", "adobe"],
)
def test_nothing_can_hide_in_the_colour_segments_of_a_jpeg(piece: bytes) -> None:
    """Such segments have a fixed length."""
    assert normalize_image(with_segment(PLAIN_JPEG, piece)).data == PLAIN_JPEG


@pytest.mark.parametrize("kind", [b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"cICP", b"tRNS"])
def test_nothing_can_hide_in_the_colour_chunks_of_a_png(kind: bytes) -> None:
    """Such chunks have a fixed length, and decoders ignore any other."""
    normalized = normalize_image(with_chunk(PLAIN_PNG, chunk(kind, bytes(40) + SECRET)))
    assert normalized.data == PLAIN_PNG
    assert normalized.changes == ("metadata-removed",)


def test_nothing_can_hide_in_the_end_chunk_of_a_png() -> None:
    """It could not be removed without a new checksum."""
    with pytest.raises(CorruptImage):
        normalize_image(PLAIN_PNG[:-12] + chunk(b"IEND", SECRET))


def with_wrong_checksum(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk with a bad checksum, as a faulty disk or GIMP 2.10 wrote it."""
    return chunk(kind, body)[:-4] + b"\xde\xad\xbe\xef"


GAMMA = struct.pack(">I", 45_455)


@pytest.mark.parametrize(
    "faulty",
    [
        with_wrong_checksum(b"iCCP", b"p\0\0" + zlib.compress(PROFILE)),
        with_wrong_checksum(b"gAMA", GAMMA),
        with_wrong_checksum(b"cHRM", bytes(32)),
        with_wrong_checksum(b"tRNS", bytes(6)),
        with_wrong_checksum(b"eXIf", exif(6)[6:]),
        chunk(b"iCCP", b"p\0\0" + zlib.compress(PROFILE) + SECRET),
        chunk(b"iCCP", b"p\0\0" + zlib.compress(PROFILE)[:-9]),
        chunk(b"iCCP", b"p\0\0" + zlib.compress(SECRET * 20)),
        chunk(b"iCCP", b"no end of the name"),
    ],
)
def test_a_faulty_ancillary_chunk_of_a_png_is_ignored(faulty: bytes) -> None:
    """As the standard demands (13.1); the picture is passed through without it, not rotated."""
    normalized = normalize_image(with_chunk(PLAIN_PNG, faulty))
    assert normalized.data == PLAIN_PNG
    assert normalized.changes == ("metadata-removed",)


@pytest.mark.parametrize("kind", ["iCCP", "gAMA", "sRGB"])
def test_only_the_first_intact_one_of_duplicate_chunks_is_kept(kind: str) -> None:
    """Similar segments are removed, whatever they contain."""
    first, second = {
        "iCCP": (b"p\0\0" + zlib.compress(PROFILE), b"q\0\0" + zlib.compress(PROFILE)),
        "gAMA": (GAMMA, struct.pack(">I", 100_000)),
        "sRGB": (b"\0", b"\1"),
    }[kind]
    name = kind.encode()
    with_first = with_chunk(PLAIN_PNG, chunk(name, first))
    doubled = with_chunk(PLAIN_PNG, with_wrong_checksum(name, second) + chunk(name, first) + chunk(name, second))
    assert normalize_image(doubled).data == with_first


def test_the_first_of_two_orientations_applies() -> None:
    """A PNG may have one."""
    both = chunk(b"eXIf", exif(6)[6:]) + chunk(b"eXIf", exif(3)[6:])
    normalized = normalize_image(with_chunk(encoded(photo(320, 200), "PNG"), both))
    assert (normalized.width, normalized.height) == (200, 320)


def test_colour_chunks_after_the_pixels_of_a_png_are_ignored() -> None:
    """Some decoders use it there, others do not."""
    normalized = normalize_image(PLAIN_PNG[:-12] + chunk(b"gAMA", GAMMA) + PLAIN_PNG[-12:])
    assert normalized.data == PLAIN_PNG


def test_apples_own_variant_of_png_is_refused_with_a_message_that_names_it() -> None:
    """Its first chunk is not a PNG's, and its channels are in another order."""
    with pytest.raises(UnsupportedFormat, match="CgBI"):
        normalize_image(PLAIN_PNG[:8] + chunk(b"CgBI", bytes(4)) + PLAIN_PNG[8:])


FRAMES = [photo(64, 64), photo(64, 64), photo(64, 64)]


@pytest.mark.parametrize(
    "data",
    [
        encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
        encoded(FRAMES[0], "GIF")[:-1] + b"!\xfe\x05hello\0;",
        encoded(FRAMES[0], "GIF") + SECRET,
        encoded(FRAMES[0], "AVIF", save_all=True, append_images=FRAMES[1:], speed=10),
    ],
    ids=["frames of a gif", "a gif's last comment", "after a gif", "frames of an avif"],
)
def test_removed_metadata_is_reported(data: bytes) -> None:
    """Even if it follows the picture."""
    assert normalize_image(data).changes == ("converted", "metadata-removed")


@pytest.mark.parametrize("kind", ["GIF", "AVIF"])
def test_nothing_is_reported_if_no_metadata_is_removed(kind: str) -> None:
    """A picture without metadata has nothing to remove."""
    assert normalize_image(encoded(FRAMES[0], kind)).changes == ("converted",)


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_the_reduced_depth_of_an_avif_is_reported(depth: int) -> None:
    """Pillow returns 8 bits per channel."""
    picture = pyvips.Image.new_from_memory(photo(64, 64).tobytes(), 64, 64, 3, "uchar")
    data = picture.heifsave_buffer(compression="av1", bitdepth=depth, effort=0)
    assert ("depth-reduced" in normalize_image(data).changes) == (depth > 8)


def of_adobe_rgb() -> bytes:
    """Return an EXIF block that states Adobe RGB as cameras do: no sRGB, and the rules of DCF's optional colours."""
    block = Image.Exif()
    block[0x0112] = 1
    block.get_ifd(0x8769)[0xA001] = 0xFFFF
    block.get_ifd(0x8769)[0xA005] = {1: "R03"}
    return block.tobytes()


ADOBE_RGB = colour.ADOBE_RGB.profile(is_grey=False)


def test_a_jpeg_whose_exif_states_adobe_rgb_gets_a_profile() -> None:
    """All other bytes stay the same; the profile follows the JFIF segment, which comes first."""
    data = encoded(photo(), "JPEG", quality=85, exif=of_adobe_rgb())
    jfif, picture = data[2:20], data[data.index(b"\xff\xdb") :]
    assert jfif[4:8] == b"JFIF"
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + ADOBE_RGB)
    for source, head in ((data, jfif), (data[:2] + data[20:], b"")):
        normalized = normalize_image(source)
        assert normalized.data == data[:2] + head + profile + picture
        assert normalized.changes == ("profile-embedded", "metadata-removed")


def test_an_added_profile_counts_towards_the_size_limit() -> None:
    """A JPEG that would be too large with it is re-encoded, with the profile."""
    data = encoded(photo(), "JPEG", quality=85, exif=of_adobe_rgb())
    size = len(normalize_image(data).data)
    assert "recompressed" not in normalize_image(data, ImageLimits(max_output_bytes=size)).changes
    normalized = normalize_image(data, ImageLimits(max_output_bytes=size - 1))
    assert {"profile-embedded", "recompressed"} <= set(normalized.changes)
    assert Image.open(BytesIO(normalized.data)).info["icc_profile"] == ADOBE_RGB


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
@pytest.mark.parametrize("size", [(320, 240), (320, 40)])
def test_a_png_whose_exif_states_adobe_rgb_gets_a_profile(size: tuple[int, int], mode: str) -> None:
    """Whether it is passed through or padded; a grey picture gets a profile of the curve only."""
    source = encoded(photo(*size).convert(mode), "PNG", exif=of_adobe_rgb())
    normalized = normalize_image(source)
    profile = colour.ADOBE_RGB.profile(is_grey=mode in {"L", "LA"})
    assert Image.open(BytesIO(normalized.data)).info["icc_profile"] == profile
    assert normalized.changes[0] == "profile-embedded"
    assert b"eXIf" not in normalized.data
    if size == (320, 240):
        assert normalized.changes == ("profile-embedded", "metadata-removed")
        assert seen(normalized.data) == seen(source)


@pytest.mark.parametrize("stated", [chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 45_455))])
def test_the_colour_chunks_of_a_png_take_precedence_over_its_exif(stated: bytes) -> None:
    """The EXIF block was written by another program."""
    data = with_chunk(encoded(photo(), "PNG", exif=of_adobe_rgb()), stated)
    normalized = normalize_image(data)
    assert normalized.changes == ("metadata-removed",)
    assert stated in normalized.data
    assert b"iCCP" not in normalized.data


def test_a_cmyk_jpeg_does_not_get_an_adobe_rgb_profile() -> None:
    """Whatever its EXIF says: CMYK is converted."""
    normalized = normalize_image(encoded(photo(mode="CMYK"), "JPEG", exif=of_adobe_rgb()))
    assert normalized.changes == ("colours-converted", "recompressed", "metadata-removed")


def test_circular_exif_states_nothing() -> None:
    """Or an offset beyond its end, or it is empty."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    circle = b"II*\0" + struct.pack("<IH", 8, 3) + entry + struct.pack("<HHII", 0xA001, 3, 1, 0xFFFF)
    for at in (8, 0, 4, 2**32 - 1):
        block = circle + struct.pack("<HHIII", 0xA005, 4, 1, at, 0)
        for end in (len(block), len(block) - 6, 20, 9, 8, 4, 0):
            assert not states_adobe_rgb(block[:end])
