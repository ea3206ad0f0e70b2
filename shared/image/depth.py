"""Decides how more than 8 bits become 8."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

DEEP_VALUES = 2**16


def to_8_bits(deep: Image, depth: int) -> Image:
    """Scale 9 to 16 bits of grey to 8, where Pillow's own conversion would clip them to white."""
    return deep.convert("I").point(_in_8_bits(depth), "L")


@cache
def _in_8_bits(depth: int) -> bytes:
    white = 2**depth - 1
    return bytes(min(255, (510 * value + white) // (2 * white)) for value in range(DEEP_VALUES))
