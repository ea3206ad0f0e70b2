"""Decodes every format once, so that nothing is left to import, open or build when a file arrives."""

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from pathlib import Path

from PIL import Image

from shared.image import ImageLimits, normalize_image

_HEIC = Path(__file__).with_name("sample.heic")
"""pi-heif only decodes, so it cannot create this file."""

_RE_ENCODED = ImageLimits(max_output_pixels=100)


def warm_up() -> None:
    """Decode a tiny picture of every format, passed through and re-encoded; also in CMYK and with a palette."""
    for plugin in ("Avif", "Tiff", "WebP"):  # otherwise Pillow imports all of its plugins: 1 MB, and 0.1 ms per fork
        import_module(f"PIL.{plugin}ImagePlugin")
    colours = Image.new("RGB", (16, 16), "red")
    inks = colours.convert("CMYK")
    for picture, kind in [
        *((colours, kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF")),
        *((inks, kind) for kind in ("JPEG", "TIFF")),
        *((colours.quantize(2), kind) for kind in ("GIF", "PNG")),
    ]:
        file = _encoded(picture, kind)
        for limits in (ImageLimits(), _RE_ENCODED):
            normalize_image(file, limits)
    for file in (_encoded(colours.convert("LAB"), "TIFF"), _HEIC.read_bytes()):  # slow imports
        normalize_image(file)


def _encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()
