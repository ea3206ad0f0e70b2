"""A file of every kind that takes much memory to decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from tests.cage.costly import sample
from tests.image.corpus import intact
from tests.image.pictures import encoded, photo
from tests.kept import made_once

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH, HEIGHT = 1_600, 1_200


def transparent() -> Image.Image:
    """Return a photo that is partly transparent."""
    picture = photo(WIDTH, HEIGHT, "RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    return picture


FILES: dict[str, Callable[[], bytes]] = {
    "progressive jpeg": lambda: encoded(photo(WIDTH, HEIGHT), "JPEG", progressive=True, subsampling=0),
    "cmyk jpeg": lambda: encoded(photo(WIDTH, HEIGHT, "CMYK"), "JPEG"),
    "png": lambda: encoded(transparent(), "PNG", compress_level=1),
    "palette png": lambda: encoded(photo(WIDTH, HEIGHT).quantize(), "PNG", compress_level=1),
    "deep png": lambda: encoded(Image.new("I;16", (WIDTH, HEIGHT)), "PNG"),
    "gif": lambda: encoded(photo(WIDTH, HEIGHT).quantize(), "GIF"),
    "bmp": lambda: encoded(photo(WIDTH, HEIGHT), "BMP"),
    "tiff": lambda: encoded(photo(WIDTH, HEIGHT), "TIFF"),
    "tiff lzw": lambda: encoded(transparent(), "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: encoded(transparent(), "TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": lambda: encoded(photo(WIDTH, HEIGHT), "TIFF", compression="jpeg"),
    "tiff fax": lambda: encoded(photo(WIDTH, HEIGHT, "1"), "TIFF", compression="group4"),
    "webp": lambda: encoded(transparent(), "WEBP", method=0),
    "webp lossless": lambda: encoded(transparent(), "WEBP", lossless=True, method=0),
    "avif": lambda: encoded(transparent(), "AVIF", speed=10),
    "heic": lambda: intact()["heic"],
    "heic of hidden pictures": lambda: sample("hidden-pictures.heic"),
    "avif of reference slots": lambda: sample("reference-slots.avif"),
}


@made_once
def file(kind: str) -> bytes:
    """Return one of the files, which take longer to create than to read."""
    return FILES[kind]()
