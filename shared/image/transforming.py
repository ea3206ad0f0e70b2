"""Decides what happens to pixels between a decoder and an encoder. Each step begins with its no-op case."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from PIL import Image

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
_ON_THE_SIDE = {5, 6, 7, 8}
_PLAIN_MODES = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB"}


def reduce_depth(picture: Picture) -> Picture:
    """Scale 9 to 16 bits of grey to 8, where Pillow's own conversion would clip them to white.

    A key colour becomes transparency first, while it can still be told from its neighbours.
    """
    if not picture.image.mode.startswith("I;16"):
        return picture
    reduced = to_8_bits(picture.image, picture.depth, picture.colours)
    key = picture.image.info.get("transparency")
    if key is not None:
        reduced.putalpha(picture.image.convert("I").point([255 * (value != key) for value in range(DEEP_VALUES)], "L"))
    reduced.info = {}
    colours = picture.colours
    if colours and colours.lacks_dark_values:
        picture = picture.changed("colours-converted", reduced, colours=colours.with_srgb_curve())
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
    """Scale down to the number of pixels that the output may have."""
    if _has_few_pixels(picture):
        return picture
    return shrink(picture, picture.limits.max_output_pixels)


def shrink(picture: Picture, max_pixels: float) -> Picture:
    """Resize to at most `max_pixels`, padding included, averaging all source pixels.

    The aspect ratio stays within its limit, although both sides are rounded.
    """
    width, height = picture.image.size
    across, down = padded(width, height, picture.limits)
    factor = sqrt(max_pixels / (across * down))
    size = max(1, int(width * factor)), max(1, int(height * factor))
    if fits_ratio(width, height, picture.limits):
        longest = picture.limits.max_aspect_ratio * min(size)
        size = min(size[0], longest), min(size[1], longest)
    return picture.changed("resized", picture.image.resize(size, Image.Resampling.HAMMING))


def orient(picture: Picture) -> Picture:
    """Rotate or mirror it as its metadata says, since the metadata will be gone."""
    if picture.orientation not in _TRANSPOSITIONS:
        return picture
    turned = picture.image.transpose(_TRANSPOSITIONS[picture.orientation])
    sampling = picture.sampling
    if sampling and picture.orientation in _ON_THE_SIDE:
        sampling = sampling[1], sampling[0]
    return picture.changed("oriented", turned, orientation=1, sampling=sampling)


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
    """Blend transparency with white and unpack the palette, for a JPEG."""
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
