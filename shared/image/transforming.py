"""Decides what happens to pixels on their way from a decoder to an encoder. Each step begins with its no-op case."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from math import ceil, sqrt
from typing import TYPE_CHECKING

from PIL import Image, ImageCms

from shared.errors import AspectRatioRefused, UnsupportedFormat

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
_SENDABLE_MODES = {"1", "L", "LA", "RGB", "RGBA"}


def reduce_depth(picture: Picture) -> Picture:
    """Scale 16 bits a channel to 8; Pillow's own conversion would clip them to white."""
    if not picture.image.mode.startswith("I;16"):
        return picture
    scaled = picture.image.convert("I").point([round(value / 257) for value in range(65_536)], "L")
    return picture.changed("depth-reduced", scaled)


def convert_colours(picture: Picture) -> Picture:
    """Bring every other mode to one that JPEG or PNG can hold; CMYK through its own profile."""
    image = picture.image
    if "transparency" in image.info and image.mode in {"1", "L", "P", "RGB"}:
        return replace(picture, image=image.convert("LA" if image.mode in {"1", "L"} else "RGBA"))
    if image.mode in _SENDABLE_MODES:
        return picture
    if image.mode == "P":
        return replace(picture, image=image.convert("RGB"))
    if image.mode in {"PA", "La", "RGBa"}:
        return replace(picture, image=image.convert("LA" if image.mode == "La" else "RGBA"))
    if image.mode == "RGBX":
        return replace(picture, image=image.convert("RGB"))
    if image.mode in {"I", "F"}:
        raise UnsupportedFormat("The image has 32 bits a channel; 8 and 16 are read. Save it as an 8-bit JPEG or PNG.")
    return replace(picture.changed("colours-converted", _through_profile(image, picture.profile)), profile=None)


def resize(picture: Picture) -> Picture:
    """Take pixels away until no more than the output may have are left."""
    width, height = picture.image.size
    allowed = picture.limits.max_output_pixels
    if width * height <= allowed:
        return picture
    factor = sqrt(allowed / (width * height))
    size = max(1, int(width * factor)), max(1, int(height * factor))
    return picture.changed("resized", picture.image.resize(size, Image.Resampling.HAMMING))


def orient(picture: Picture) -> Picture:
    """Turn it as its metadata asks, since these will not be there to ask again."""
    if picture.orientation == 1:
        return picture
    turned = picture.image.transpose(_TRANSPOSITIONS[picture.orientation])
    return replace(picture.changed("oriented", turned), orientation=1)


def fit_ratio(picture: Picture) -> Picture:
    """Bring the long side to at most `max_aspect_ratio` times the short one, as the policy says."""
    width, height = picture.image.size
    ratio = picture.limits.max_aspect_ratio
    if max(width, height) <= ratio * min(width, height):
        return picture
    refuse_ratio(width, height, picture)
    if picture.limits.aspect_policy == "crop":
        width, height = min(width, ratio * height), min(height, ratio * width)
        left, top = (picture.image.width - width) // 2, (picture.image.height - height) // 2
        return picture.changed("cropped", picture.image.crop((left, top, left + width, top + height)))
    width, height = max(width, ceil(height / ratio)), max(height, ceil(width / ratio))
    mode = picture.image.mode
    canvas = Image.new(mode, (width, height), _background(mode))
    canvas.paste(picture.image, ((width - picture.image.width) // 2, (height - picture.image.height) // 2))
    return picture.changed("padded", canvas)


def refuse_ratio(width: int, height: int, picture: Picture) -> None:
    """Refuse it where the policy is to refuse."""
    if picture.limits.aspect_policy == "reject":
        raise AspectRatioRefused(
            f"The image is {width} x {height} pixels; the long side may be at most "
            f"{picture.limits.max_aspect_ratio} times the short one. Send one that is cut or padded to that."
        )


def flatten(picture: Picture) -> Picture:
    """Lay transparency on white, for a JPEG."""
    image = picture.image
    if not image.mode.endswith("A"):
        return picture
    ground = Image.new(image.mode[:-1], image.size, "white")
    ground.paste(image.convert(ground.mode), mask=image.getchannel("A"))
    return picture.changed("flattened", ground)


def _background(mode: str) -> str | tuple[int, ...]:
    return {"LA": (255, 0), "RGBA": (255, 255, 255, 0)}.get(mode, "white")


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    elif profile and image.mode == "CMYK":
        source = BytesIO(profile)
    else:
        return image.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
    return converted or image.convert("RGB")
