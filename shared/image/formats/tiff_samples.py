"""Extracts single channels from a TIFF with interleaved channels, if Pillow does not support their combination.

Pillow supports few kinds of pixels with additional channels, and with 16 bits hardly any: no grey with alpha, no five
channels. So libtiff decompresses each strip or tile, and the visible channels are extracted from its bytes.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from PIL import Image

from shared.errors import CorruptImage
from shared.image.depth import rounded
from shared.image.formats import libtiff
from shared.image.formats import tiff_tags as tags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.image.formats.tiff import TiffInspection

_PIECE_PIXELS = 100_000


def channels(source: TiffInspection, numbers: Sequence[int]) -> list[Image.Image]:
    """Return some channels as pictures of 8 bits; refuse the pixels by name if libtiff was not found."""
    directory, (width, height) = source.directory, source.directory.size
    samples = directory.first(tags.SAMPLES, 1)
    if not libtiff.is_found() or max(numbers) >= samples:
        raise directory.unsupported_pixels()
    across = directory.first(tags.TILE_WIDTH, width)
    row_bytes = across * samples * source.depth // 8
    rows, at_once = source.piece_bytes // row_bytes, ceil(_PIECE_PIXELS / across)
    planes = [Image.new("L", (width, height)) for _ in numbers]
    places = ((left, top) for top in range(0, height, rows) for left in range(0, width, across))
    with libtiff.listening() as errors:
        for (left, top), piece in zip(places, libtiff.pieces(source.data), strict=False):
            if len(piece) < row_bytes * min(rows, height - top):
                raise _broken()
            for row in range(0, min(rows, height - top), at_once):
                pixels = bytes(piece[row * row_bytes : (row + at_once) * row_bytes])
                for plane, number in zip(planes, numbers, strict=True):
                    plane.paste(_channel(pixels, number, samples, source.depth, across), (left, top + row))
    if errors() or next(places, None):
        raise _broken()
    return planes


def _channel(pixels: bytes, number: int, samples: int, depth: int, width: int) -> Image.Image:
    """Return one channel of some rows; libtiff has converted each number to this machine's byte order."""
    height = len(pixels) * 8 // (depth * samples * width)
    if depth == 8:  # noqa: PLR2004 - bits
        return Image.frombytes("L", (width, height), pixels[number::samples])
    low, high = (Image.frombytes("L", (width, height), pixels[2 * number + half :: 2 * samples]) for half in (0, 1))
    return rounded(high, low)


def _broken() -> CorruptImage:
    return CorruptImage("The TIFF is damaged: its decoder found errors among its pixels. Save it again.")
