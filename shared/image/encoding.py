"""Decides how pixels become a JPEG or PNG that fits, with one encode."""

from __future__ import annotations

import os
from dataclasses import replace
from io import BytesIO
from math import sqrt
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image, ImageChops

from shared.image.transforming import flatten

if TYPE_CHECKING:
    from shared.image.picture import Picture

TOP_QUALITY = 92
FLOOR_QUALITY = 70
_TILE = 32
_TILES = 1_024
_MARGIN = 0.97


def encode(picture: Picture) -> tuple[Picture, bytes, Literal["image/jpeg", "image/png"]]:
    """Return what was encoded, its bytes and their media type."""
    if picture.is_drawing:
        data = _png(picture.image, picture.profile)
        if len(data) <= picture.limits.max_output_bytes:
            return picture, data, "image/png"
    picture = flatten(picture)
    if picture.image.mode == "1":
        picture = replace(picture, image=picture.image.convert("L"))
    return *_jpeg_that_fits(picture), "image/jpeg"


def recognize_drawing(picture: Picture) -> Picture:
    """Say whether a picture is a drawing or transparent, which a JPEG would spoil."""
    if picture.quality is not None:
        return picture
    return replace(picture, is_drawing=_is_drawing(picture.image))


def _is_drawing(image: Image.Image) -> bool:
    if image.mode == "1" or (image.mode.endswith("A") and image.getchannel("A").getextrema() != (255, 255)):
        return True
    sample = mosaic(image).convert("L")
    flat = ImageChops.difference(sample, ImageChops.offset(sample, 1, 0)).histogram()[0]
    return flat > 0.5 * sample.width * sample.height


def mosaic(image: Image.Image) -> Image.Image:
    """Return about a million pixels of it, in tiles from all over, whose size as a JPEG foretells that of the whole."""
    columns, rows = image.width // _TILE, image.height // _TILE
    if columns * rows <= _TILES or not columns or not rows:
        return image
    across = max(1, min(columns, round(sqrt(_TILES * columns / rows))))
    down = max(1, min(rows, _TILES // across))
    random = Random(0)  # noqa: S311 - the same picture must always give the same bytes
    sample = Image.new(image.mode, (across * _TILE, down * _TILE))
    for row in range(down):
        for column in range(across):
            x = _TILE * int((column + random.random()) * columns / across)
            y = _TILE * int((row + random.random()) * rows / down)
            sample.paste(image.crop((x, y, x + _TILE, y + _TILE)), (column * _TILE, row * _TILE))
    return sample


def _jpeg_that_fits(picture: Picture) -> tuple[Picture, bytes]:
    limit = picture.limits.max_output_bytes
    aim = _MARGIN * limit
    while True:
        top = min(TOP_QUALITY, picture.quality or TOP_QUALITY)
        quality, foretold = _quality(picture.image, top, min(FLOOR_QUALITY, top), aim)
        if foretold <= aim:
            data = _jpeg(picture.image, quality, picture.profile)
            if len(data) <= limit:
                return picture, data
            aim *= 0.9 * limit / len(data)
        else:
            factor = sqrt(0.85 * aim / foretold)
            size = max(1, int(picture.image.width * factor)), max(1, int(picture.image.height * factor))
            picture = picture.changed("resized", picture.image.resize(size, Image.Resampling.HAMMING))


def _quality(image: Image.Image, top: int, floor: int, aim: float) -> tuple[int, float]:
    """Return the best quality, and the bytes it will come to, that stays under `aim`; the floor where none does."""
    sample = mosaic(image)
    share = image.width * image.height / (sample.width * sample.height)

    def foretell(quality: int) -> float:
        return share * len(_jpeg(sample, quality, None))

    if (most := foretell(top)) <= aim:
        return top, most
    low, high = floor, top
    best = floor, foretell(floor)
    if best[1] > aim:
        return best
    while high - low > 1:
        middle = (low + high) // 2
        size = foretell(middle)
        if size <= aim:
            low, best = middle, (middle, size)
        else:
            high = middle
    return best


def _jpeg(image: Image.Image, quality: int, profile: bytes | None) -> bytes:
    return _save(image, "JPEG", quality=quality, icc_profile=profile)


def _png(image: Image.Image, profile: bytes | None) -> bytes:
    return _save(image, "PNG", icc_profile=profile)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    bare = image.copy() if image.info else image
    bare.info = {}
    if not hasattr(os, "memfd_create"):
        buffer = BytesIO()
        bare.save(buffer, kind, **options)
        return buffer.getvalue()
    with os.fdopen(os.memfd_create("image"), "w+b", buffering=0) as file:
        bare.save(file, kind, **options)
        file.seek(0)
        return file.read()
