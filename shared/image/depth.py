"""Decides how more than 8 bits per channel become 8."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.image.colour import ColourSpace

DEEP_VALUES = 2**16


def to_8_bits(deep: Image.Image, depth: int, space: ColourSpace | None = None) -> Image.Image:
    """Scale 9 to 16 bits of grey to 8, where Pillow's own conversion would clip them to white.

    A curve that has too few of 256 values for dark tones is replaced by sRGB's before that.
    """
    table: Sequence[int] = _scaled(depth)
    if space and space.lacks_dark_values:
        table = [*space.as_srgb_curve(2**depth), *[255] * (DEEP_VALUES - 2**depth)]
    return deep.convert("I").point(table, "L")


def rounded(high: Image.Image, low: Image.Image) -> Image.Image:
    """Scale 16 bits, given as two halves, to 8, as `to_8_bits` does: it is faster for small images.

    A value v = 256 high + low becomes the nearest integer to v / 257 = high + (low - high) / 257.
    """
    up, down = (ImageChops.subtract(*pair).point(_OVER_HALF) for pair in ((low, high), (high, low)))
    return ImageChops.subtract(ImageChops.add(high, up), down)


_OVER_HALF = [int(difference > 128) for difference in range(256)]  # noqa: PLR2004 - half of 257


def joined(high: Image.Image, low: Image.Image) -> Image.Image:
    """Join the high and the low bytes into 16-bit values."""
    return Image.frombytes("I;16", high.size, Image.merge("LA", (low, high)).tobytes())


@cache
def _scaled(depth: int) -> bytes:
    white = 2**depth - 1
    return bytes(min(255, (510 * value + white) // (2 * white)) for value in range(DEEP_VALUES))
