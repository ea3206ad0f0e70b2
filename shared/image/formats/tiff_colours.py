"""Reads the colours that a TIFF states by numbers of its own, without an ICC profile (TIFF 6.0, section 20)."""

from __future__ import annotations

import struct
from math import log
from typing import TYPE_CHECKING

from shared.image import colour
from shared.image.formats import tiff_tags as tags

if TYPE_CHECKING:
    from shared.image.formats.tiff_directory import Directory

_GREY, _COLOURED = {tags.BLACK_IS_ZERO}, {tags.RGB, tags.YCBCR}
_WHITE = 65_535
_DEPTHS = {8, 16}
_SAMPLES = 64
_TOLERANCE = 0.005
"""How far a table of light may be from a power of its values."""


def stated(directory: Directory) -> colour.ColourSpace | None:
    """Return the colours of a page without a profile, or None if it states none."""
    photometric = directory.first(tags.PHOTOMETRIC, tags.WHITE_IS_ZERO)
    if tags.PROFILE in directory.entries or photometric not in _GREY | _COLOURED:
        return None
    primaries = _primaries(directory) if photometric in _COLOURED else None
    space = colour.of_gamma(primaries, _gamma(directory))
    return None if space.is_srgb else space


def _primaries(directory: Directory) -> colour.Primaries | None:
    """Return the chromaticities of white, red, green and blue."""
    numbers = (*_fractions(directory, tags.WHITE_POINT, 2), *_fractions(directory, tags.PRIMARIES, 6))
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    return colour.Primaries(*pairs) if len(pairs) == 4 else None  # noqa: PLR2004


def _fractions(directory: Directory, tag: int, count: int) -> list[float]:
    kind, number, _ = directory.entries.get(tag, (0, 0, 0))
    if kind != tags.RATIONAL or number != count:
        return []
    parts = struct.unpack(f"{directory.order}{2 * count}I", directory.bytes_of(tag))
    return [above / below if below else 0.0 for above, below in zip(parts[::2], parts[1::2], strict=True)]


def _gamma(directory: Directory) -> float | None:
    """Return the power that a table gives the light of each value by, the table of red if each channel has one."""
    depth = directory.first(tags.BITS, 1)
    kind, count, _ = directory.entries.get(tags.TRANSFER_FUNCTION, (0, 0, 0))
    if kind != tags.SHORT or depth not in _DEPTHS or count not in {2**depth, 3 * 2**depth}:
        return None
    table = directory.numbers(tags.TRANSFER_FUNCTION)[: 2**depth]
    middle, last = len(table) // 2, len(table) - 1
    if not 0 < table[middle] < _WHITE:
        return None
    gamma = log(table[middle] / _WHITE) / log(middle / last)
    places = range(0, len(table), len(table) // _SAMPLES)
    is_power = all(abs(table[place] / _WHITE - (place / last) ** gamma) < _TOLERANCE for place in places)
    return gamma if is_power else None
