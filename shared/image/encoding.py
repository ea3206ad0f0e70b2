"""Decides how pixels become a JPEG or PNG that fits, with one encode.

The size of a JPEG is foretold instead of searched for: about 500 tiles of 32 x 32 pixels from all over the picture
are encoded as one mosaic, in 9 ms whatever the picture, with a standard error of 1.6 %; strips of rows err by up to
300 %. `optimize` costs 2.45 x the time for 5 % of the bytes and `progressive` 4.9 x for 7.5 %, so neither is used.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from io import BytesIO
from math import log, sqrt
from random import Random
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops

from shared.image.transforming import flatten, shrink

if TYPE_CHECKING:
    from shared.image.model import Change, MediaType
    from shared.image.picture import Picture

TOP_QUALITY = 92
FLOOR_QUALITY = 70
_BUSY_BITS_PER_PIXEL = 3.0
"""What hardly any photo exceeds at the top quality: below the size that this comes to, nothing is foretold."""

_JPEG_HEADER_BYTES = 623
_OF_EDGES = 0.985
"""What a mosaic's size is taken for: where its tiles meet, it has edges that the picture has not."""

_TILE = 32
_TILES = 512
_FEW_TILES = 128
_AIM = 0.97
"""Which share of the limit is aimed at: two standard errors below."""
_NEAR = 0.96
"""Which share of the aim is near enough: one step of quality is 2 to 5 % of the size."""


@dataclass(frozen=True)
class Encoded:
    """What leaves."""

    data: bytes
    media_type: MediaType
    size: tuple[int, int]
    changes: tuple[Change, ...]


def recognize_drawing(picture: Picture) -> Picture:
    """Find out whether a JPEG would spoil it: it is transparent, has a palette, or is flat at least half over."""
    if picture.quality is not None:
        return picture
    image = picture.image
    if image.mode in {"LA", "RGBA"} and image.getchannel("A").getextrema() == (255, 255):
        picture = picture.recast(image.mode[:-1])
    return replace(picture, is_drawing=picture.image.mode not in {"L", "RGB"} or _is_flat(picture.image))


def encode(picture: Picture) -> Encoded:
    """Return a PNG of a drawing that fits as one, and a JPEG of everything else."""
    if picture.is_drawing and _may_fit_as_png(picture):
        data = _saved(picture.image, "PNG", icc_profile=picture.profile)
        if len(data) <= picture.limits.max_output_bytes:
            return Encoded(data, "image/png", picture.image.size, picture.changes)
    return _jpeg_that_fits(flatten(picture))


def _is_flat(image: Image.Image) -> bool:
    """Say whether at least half of its pixels are the same as the one on their left."""
    sample = mosaic(image, _FEW_TILES).convert("L")
    same = ImageChops.difference(sample, ImageChops.offset(sample, 1, 0)).histogram()[0]
    return 2 * same >= sample.width * sample.height


def _may_fit_as_png(picture: Picture) -> bool:
    """Spare the encode where the size is hopeless; tiles compress worse than a whole, so three times the limit is."""
    sample = mosaic(picture.image, _FEW_TILES)
    return _share(picture.image, sample) * len(_saved(sample, "PNG")) <= 3 * picture.limits.max_output_bytes


def _jpeg_that_fits(picture: Picture) -> Encoded:
    limit = picture.limits.max_output_bytes
    top = min(TOP_QUALITY, picture.quality or TOP_QUALITY)
    if picture.image.width * picture.image.height * _BUSY_BITS_PER_PIXEL / 8 <= limit:
        data = _jpeg(picture.image, top, picture.profile)
        if len(data) <= limit:
            return Encoded(data, "image/jpeg", picture.image.size, picture.changes)
    bias = 1.0
    while True:
        quality, foretold = _best_quality(picture.image, top, _AIM * limit, bias)
        if foretold > limit:
            # More detail falls on each of fewer pixels, and at least the floor's quality must be left to choose.
            picture = shrink(picture, 0.85 * limit / foretold * picture.image.width * picture.image.height)
            continue
        data = _jpeg(picture.image, quality, picture.profile)
        if len(data) <= limit:
            return Encoded(data, "image/jpeg", picture.image.size, picture.changes)
        bias *= len(data) / foretold


def _best_quality(image: Image.Image, top: int, aim: float, bias: float) -> tuple[int, float]:
    """Return the best quality that comes to at most `aim` bytes, and those bytes; the worst allowed where none does.

    `bias` is by how much the picture turned out larger than was foretold before.
    """
    floor = min(FLOOR_QUALITY, top)
    sample = mosaic(image, _TILES)
    share = _share(image, sample)

    def foretold(quality: int) -> float:
        return bias * share * _OF_EDGES * (len(_jpeg(sample, quality)) - _JPEG_HEADER_BYTES)

    most = foretold(top)
    if most <= aim or top == floor:
        return top, most
    too_good, too_bad = (top, most), (floor - 1, 0.0)
    while too_good[0] - too_bad[0] > 1 and too_bad[1] < _NEAR * aim:
        quality = _interpolated(too_good, too_bad, aim)
        size = foretold(quality)
        if size <= aim:
            too_bad = quality, size
        else:
            too_good = quality, size
    return too_good if too_good[0] == floor else too_bad


def _interpolated(too_good: tuple[int, float], too_bad: tuple[int, float], aim: float) -> int:
    """Guess a quality between two: a JPEG's size falls with a power of the scale of its tables, which is about -0.6."""
    power = -0.6
    if too_bad[1]:
        power = log(too_bad[1] / too_good[1]) / log(_table_scale(too_bad[0]) / _table_scale(too_good[0]))
    scale = _table_scale(too_good[0]) * (aim / too_good[1]) ** (1 / power)
    return min(too_good[0] - 1, max(too_bad[0] + 1, int(100 - scale / 2)))


def _table_scale(quality: int) -> float:
    """Return the per cent by which libjpeg scales its tables for a quality."""
    return 200 - 2 * quality if quality >= 50 else 5_000 / quality  # noqa: PLR2004 - where libjpeg's formula bends


def mosaic(image: Image.Image, tiles: int) -> Image.Image:
    """Return tiles from all over the picture as one, or the picture itself where it has no more than so many.

    Tiles lie on multiples of 32, so that a JPEG's blocks stay what they were; which ones, is the same every time.
    """
    columns, rows = image.width // _TILE, image.height // _TILE
    if columns * rows <= tiles:
        return image
    across = min(columns, max(1, round(sqrt(tiles * columns / rows))))
    down = min(rows, max(1, tiles // across))
    jitter = Random(0)  # noqa: S311 - no secret; the same picture must always give the same bytes
    sample = Image.new(image.mode, (across * _TILE, down * _TILE))
    if image.mode == "P":
        sample.putpalette(image.getpalette("RGB") or [], "RGB")
    for row in range(down):
        for column in range(across):
            x = _TILE * int((column + jitter.random()) * columns / across)
            y = _TILE * int((row + jitter.random()) * rows / down)
            sample.paste(image.crop((x, y, x + _TILE, y + _TILE)), (column * _TILE, row * _TILE))
    return sample


def _share(image: Image.Image, sample: Image.Image) -> float:
    return image.width * image.height / (sample.width * sample.height)


def _jpeg(image: Image.Image, quality: int, profile: bytes | None = None) -> bytes:
    return _saved(image, "JPEG", quality=quality, icc_profile=profile)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode into memory that has a file descriptor: Pillow lets other threads run while it writes to one."""
    if not hasattr(os, "memfd_create"):
        buffer = BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()
    with os.fdopen(os.memfd_create("image"), "w+b", buffering=0) as file:
        image.save(file, kind, **options)
        file.seek(0)
        return file.read()
