"""Decides which colours are sent: sRGB, or pixels with an embedded ICC profile.

A profile is embedded rather than applied, as applying it would take twice as long as decoding; every viewer can apply
it. It is applied if the pixels are of a kind that JPEG and PNG cannot hold, or if it is so large that the picture would
suffer.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, ImageCms

from shared.errors import UnsupportedFormat
from shared.image.colour import MAX_PROFILE_BYTES
from shared.image.tone import tone_map

if TYPE_CHECKING:
    from shared.image.picture import Picture

_SENDABLE_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}
_GREY_MODES = {"1", "L", "LA"}
_PROFILE_HEADER_BYTES = 128
_BURDENSOME_BYTES = 1_000_000
"""A fifth of the output limit: a larger profile is applied instead of embedded."""


def convert_colours(picture: Picture) -> Picture:
    """Convert pixels to a mode and a colour space that a JPEG or PNG can hold."""
    image = picture.image
    if image.mode in _SENDABLE_MODES:
        profile = _usable_profile(picture.profile, image.mode)
        if profile and len(profile) > _BURDENSOME_BYTES:
            return picture.changed("colours-converted", _applied(image, profile), profile=None)
        return replace(picture, profile=profile) if profile else _with_own_profile(picture)
    if image.mode in {"I", "F"}:
        what = "negative numbers" if picture.depth == 16 else f"{picture.depth} bits"  # noqa: PLR2004
        raise UnsupportedFormat(
            f"The image has {what} in a channel, which is not supported. Save it as an 8-bit JPEG or PNG."
        )
    return picture.changed("colours-converted", as_rgb(image, picture.profile), profile=None)


def _with_own_profile(picture: Picture) -> Picture:
    """Make a profile from the file's own description of its colours; HDR content is tone-mapped first."""
    space = picture.colours
    if not space or space.is_srgb:
        return replace(picture, profile=None)
    if space.hdr:
        picture = _unpacked(picture)
        picture = picture.changed("tone-mapped", tone_map(picture.image, space))
    elif space.lacks_dark_values:
        picture = _unpacked(picture)
        picture = picture.changed("colours-converted", _by_table(picture.image, space.as_srgb_curve(256)))
    if space.hdr or space.lacks_dark_values:
        space = space.with_srgb_curve()
    is_grey = picture.image.mode in _GREY_MODES
    if space.is_srgb or (is_grey and space.gamma is None):
        return replace(picture, profile=None)
    return picture.changed("profile-embedded", picture.image, profile=space.profile(is_grey=is_grey))


def _unpacked(picture: Picture) -> Picture:
    mode = picture.image.mode
    if mode not in {"1", "P"}:
        return picture
    return picture.recast("L" if mode == "1" else "RGBA" if "transparency" in picture.image.info else "RGB")


def _by_table(image: Image.Image, table: list[int]) -> Image.Image:
    """Map every value except alpha."""
    return image.point([value for band in image.getbands() for value in (range(256) if band == "A" else table)])


def _usable_profile(profile: bytes | None, mode: str) -> bytes | None:
    """Return the profile if it is valid and for this mode (ICC.1, 7.2); refuse one that is far too large."""
    if not profile or len(profile) <= _PROFILE_HEADER_BYTES:
        return None
    if len(profile) > MAX_PROFILE_BYTES:
        raise UnsupportedFormat(
            f"The image's colour profile is larger than {MAX_PROFILE_BYTES // 10**6} MB. Save it with a common "
            "profile, such as sRGB."
        )
    space = b"CMYK" if mode == "CMYK" else b"GRAY" if mode in _GREY_MODES else b"RGB "
    return profile if profile[36:40] == b"acsp" and profile[16:20] == space else None


def _applied(image: Image.Image, profile: bytes) -> Image.Image:
    """Return the picture in sRGB."""
    if image.mode in {"1", "P"}:
        image = image.convert("L" if image.mode == "1" else "RGBA" if "transparency" in image.info else "RGB")
    colours = image.convert(image.mode.removesuffix("A")) if image.mode in {"LA", "RGBA"} else image
    refusal = UnsupportedFormat(
        "The image's colour profile is too large to embed, and cannot be applied. Save it with a common profile, such "
        "as sRGB."
    )
    try:
        converted = _transformed(colours, ImageCms.ImageCmsProfile(BytesIO(_of_tables(profile))))
    except (ImageCms.PyCMSError, OSError, ValueError):
        raise refusal from None
    if colours is not image:
        converted.putalpha(image.getchannel("A"))
    return converted


def as_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return CMYK by its profile, if that is valid, or Lab or YCbCr in sRGB."""
    if image.mode == "CMYK" and (profile := _usable_profile(profile, "CMYK")):
        source = BytesIO(_of_tables(profile))
    elif image.mode == "LAB":
        source = BytesIO(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    else:
        return image.convert("RGB")
    try:
        return _transformed(image, ImageCms.ImageCmsProfile(source))
    except (ImageCms.PyCMSError, OSError, ValueError):
        if image.mode == "LAB":
            raise UnsupportedFormat("The image is in Lab colours, which cannot be converted. Save it in RGB.") from None
        return image.convert("RGB")


def _transformed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    # Without a cache: in a photo, neighbouring pixels hardly ever have the same colour.
    transform = ImageCms.ImageCmsTransform(profile, srgb, image.mode, "RGB", flags=ImageCms.Flags.NOCACHE)
    converted = transform.apply(image, Image.new("RGB", image.size, None))  # not initialized: every pixel is written
    converted.info = {}
    return converted


def _of_tables(profile: bytes) -> bytes:
    """Return the profile without its floating-point tags, a megabyte of which holds thousands of steps (ICC.1, 9.2.17).

    They duplicate what its tables say, and would be preferred to these.
    """
    count = int.from_bytes(profile[128:132], "big")
    kept = bytearray(profile)
    for at in range(132, min(len(profile), 132 + 12 * count), 12):
        if kept[at : at + 3] == b"D2B":
            kept[at : at + 1] = b"_"
    return bytes(kept)
