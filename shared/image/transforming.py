"""Decides what happens to pixels on their way from a decoder to an encoder. Each step begins with its no-op case."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from math import sqrt
from typing import TYPE_CHECKING

from PIL import Image, ImageCms

from shared.errors import UnsupportedFormat
from shared.image.depth import DEEP_VALUES, to_8_bits
from shared.image.refusals import fits_ratio, padded, refuse_ratio

if TYPE_CHECKING:
    from shared.image.picture import Picture

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SENDABLE_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}
_PLAIN_MODES = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB"}


def reduce_depth(picture: Picture) -> Picture:
    """Scale 9 to 16 bits of grey to 8, where Pillow's own conversion would clip them to white.

    A key colour becomes transparency before, while it can still be told from its neighbours.
    """
    if not picture.image.mode.startswith("I;16"):
        return picture
    reduced = to_8_bits(picture.image, picture.depth)
    key = picture.image.info.get("transparency")
    if key is not None:
        reduced.putalpha(picture.image.convert("I").point([255 * (value != key) for value in range(DEEP_VALUES)], "L"))
    reduced.info = {}
    return picture.changed("depth-reduced", reduced)


def unpack_palette(picture: Picture) -> Picture:
    """Turn palette and key colours into channels, unless nothing will be done to the pixels."""
    mode = picture.image.mode
    if mode in _PLAIN_MODES:
        return picture.recast(_PLAIN_MODES[mode])
    if "transparency" in picture.image.info and mode in {"1", "L", "RGB"}:
        return picture.recast("RGBA" if mode == "RGB" else "LA")
    untouched = _has_few_pixels(picture) and fits_ratio(*picture.image.size, picture.limits)
    if mode not in {"P", "1"} or untouched:
        return picture
    if mode == "1":
        return picture.recast("L")
    return picture.recast("RGBA" if "transparency" in picture.image.info else "RGB")


def resize(picture: Picture) -> Picture:
    """Take pixels away until no more than the output may have are left."""
    if _has_few_pixels(picture):
        return picture
    return shrink(picture, picture.limits.max_output_pixels)


def shrink(picture: Picture, max_pixels: float) -> Picture:
    """Resize to at most `max_pixels`, padding included, each of them the mean of all that it stands for.

    What fits the ratio still fits it afterwards, though both sides are rounded.
    """
    width, height = picture.image.size
    across, down = padded(width, height, picture.limits)
    factor = sqrt(max_pixels / (across * down))
    size = max(1, int(width * factor)), max(1, int(height * factor))
    if fits_ratio(width, height, picture.limits):
        longest = picture.limits.max_aspect_ratio * min(size)
        size = min(size[0], longest), min(size[1], longest)
    return picture.changed("resized", picture.image.resize(size, Image.Resampling.HAMMING))


def convert_colours(picture: Picture) -> Picture:
    """Bring every other mode to one that JPEG or PNG can hold; CMYK through its own profile."""
    image = picture.image
    if image.mode in _SENDABLE_MODES:
        return replace(picture, profile=_usable_profile(picture.profile, image.mode))
    if image.mode in {"I", "F"}:
        what = "negative numbers" if picture.depth == 16 else f"{picture.depth} bits"  # noqa: PLR2004
        raise UnsupportedFormat(
            f"The image has {what} in a channel, which is not supported. Save it as an 8-bit JPEG or PNG."
        )
    return picture.changed("colours-converted", _through_profile(image, picture.profile), profile=None)


def orient(picture: Picture) -> Picture:
    """Turn it as its metadata asks, since these will not be there to ask again."""
    if picture.orientation not in _TRANSPOSITIONS:
        return picture
    turned = picture.image.transpose(_TRANSPOSITIONS[picture.orientation])
    return picture.changed("oriented", turned, orientation=1)


def fit_ratio(picture: Picture) -> Picture:
    """Bring the long side to at most `max_aspect_ratio` times the short one, as the policy says."""
    width, height = picture.image.size
    limits = picture.limits
    if fits_ratio(width, height, limits):
        return picture
    refuse_ratio(width, height, limits)
    ratio = limits.max_aspect_ratio
    if limits.aspect_policy == "crop":
        across, down = min(width, ratio * height), min(height, ratio * width)
        left, top = (width - across) // 2, (height - down) // 2
        return picture.changed("cropped", picture.image.crop((left, top, left + across, top + down)))
    across, down = padded(width, height, limits)
    ground = {"LA": (255, 0), "RGBA": (255, 255, 255, 0)}.get(picture.image.mode, "white")
    canvas = Image.new(picture.image.mode, (across, down), ground)
    canvas.paste(picture.image, ((across - width) // 2, (down - height) // 2))
    return picture.changed("padded", canvas)


def flatten(picture: Picture) -> Picture:
    """Lay transparency on white and unpack the palette, for a JPEG."""
    image = picture.image
    if image.mode in {"L", "RGB"}:
        return picture
    if image.mode == "1" or (image.mode == "P" and "transparency" not in image.info):
        return picture.recast("L" if image.mode == "1" else "RGB")
    if image.mode == "P":
        image = image.convert("RGBA")
    ground = Image.new(image.mode[:-1], image.size, "white")
    ground.paste(image.convert(ground.mode), mask=image.getchannel("A"))
    return picture.changed("flattened", ground)


def _has_few_pixels(picture: Picture) -> bool:
    across, down = padded(*picture.image.size, picture.limits)
    return across * down <= picture.limits.max_output_pixels


_PROFILE_HEADER_BYTES = 128
_MAX_PROFILE_BYTES = 1_000_000
_COLOUR_SPACES = {"1": b"GRAY", "L": b"GRAY", "LA": b"GRAY", "CMYK": b"CMYK"}


def _usable_profile(profile: bytes | None, mode: str) -> bytes | None:
    """Return the profile where it is one, is for this mode and is no burden (ICC.1, 7.2)."""
    if not profile or not _PROFILE_HEADER_BYTES < len(profile) <= _MAX_PROFILE_BYTES:
        return None
    return profile if profile[36:40] == b"acsp" and profile[16:20] == _COLOUR_SPACES.get(mode, b"RGB ") else None


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "CMYK" and (profile := _usable_profile(profile, "CMYK")) and not _is_slow(profile):
        source = BytesIO(profile)
    elif image.mode == "LAB":
        source = BytesIO(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    else:
        return image.convert("RGB")
    try:
        profiles = (ImageCms.ImageCmsProfile(source), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")))
        # Without a cache: hardly two neighbours of a photo are the same.
        transform = ImageCms.ImageCmsTransform(*profiles, image.mode, "RGB", flags=ImageCms.Flags.NOCACHE)
    except (ImageCms.PyCMSError, OSError, ValueError):
        if image.mode == "LAB":
            raise UnsupportedFormat("The image is in Lab colours, which cannot be read. Save it in RGB.") from None
        return image.convert("RGB")
    converted = transform.apply(image, Image.new("RGB", image.size, None))  # not filled: every pixel is written
    converted.info = {}
    return converted


def _is_slow(profile: bytes) -> bool:
    """Say whether it converts by steps of floating point, of which a megabyte holds thousands (ICC.1, 9.2.17)."""
    count = int.from_bytes(profile[128:132], "big")
    return any(profile[at : at + 3] == b"D2B" for at in range(132, min(len(profile), 132 + 12 * count), 12))
