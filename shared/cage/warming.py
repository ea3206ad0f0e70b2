"""Has every format decoded once, so that nothing is left to import, to open or to build when a file comes."""

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from pathlib import Path

from PIL import Image

from shared.image import ImageLimits, normalize_image

_HEIC = Path(__file__).with_name("sample.heic")
"""pi-heif, which only decodes, cannot make one."""

_RE_ENCODED = ImageLimits(max_output_pixels=100)


def warm_up() -> None:
    """Decode a tiny picture of every format, passed on and re-encoded; also one of inks, and one with a palette."""
    for plugin in ("Avif", "Tiff", "WebP"):  # else Pillow imports all that it has: 1 MB, and in each fork 0.1 ms
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
    for file in (_encoded(colours.convert("LAB"), "TIFF"), _HEIC.read_bytes()):  # slow ones
        normalize_image(file)


def _encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()
