"""The pictures that the benchmarks drop, created once and kept in `.local/bench/drops`.

Half of the mixed ones are legal already, as phones and site cameras send them; the others are typical as well: phones
held upright, a drone's 48 MP, screenshots and scans.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from benchmarks.image.inputs import compose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_KEPT = Path(".local/bench/drops")
_ORIENTATION, _MAKE = 0x0112, 0x010F


def picture(name: str) -> bytes:
    """Return one of the pictures."""
    path = _KEPT / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_PICTURES[name]())
    return path.read_bytes()


def mixed() -> list[tuple[str, bytes]]:
    """Return the name and content of the mixed pictures, alternating between legal ones and others."""
    return [(name, picture(name)) for pair in zip(LEGAL, OTHERS, strict=True) for name in pair]


@cache
def _photo() -> Image.Image:
    return compose(8_064, 6_048, (), seed=7)


def _small() -> bytes:
    buffer = BytesIO()
    compose(1_200, 900, (), seed=7).resize((160, 120), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[_MAKE], exif[_ORIENTATION] = "A camera", orientation
    return exif


def _saved(width: int, height: int, kind: str, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        buffer = BytesIO()
        _photo().resize((width, height), Image.Resampling.BICUBIC).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


def _flat(width: int, height: int, kind: str, **options: Any) -> Callable[[], bytes]:
    """Create a picture that is large, but cheap for its sender."""

    def make() -> bytes:
        buffer = BytesIO()
        Image.new("RGB", (width, height), "teal").save(buffer, kind, **options)
        return buffer.getvalue()

    return make


def _noise(width: int, height: int, kind: str, **options: Any) -> Callable[[], bytes]:
    """Create a picture whose file is large as well: one channel of fine noise."""

    def make() -> bytes:
        buffer, flat = BytesIO(), Image.new("L", (width, height), 128)
        noise = Image.effect_noise((width, height), 2.5)
        Image.merge("RGB", (noise, flat, flat)).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


PLAN = "plan.png"
LEGAL = ("camera-4mp.jpg", "camera-8mp.jpg", "telephone-12mp.jpg", PLAN)
OTHERS = ("upright-12mp.jpg", "drone-48mp.jpg", "screenshot-4mp.png", "scan-4mp.tiff")
SMALL, TWO_HUNDRED_KILOBYTES, TWO_MEGABYTES = "small.jpg", "preview.jpg", "camera-8mp.jpg"
LARGE = ("large-100mp.jpg", "large-100mp.png")
PLAIN = ("noise-100mp.png", "scan-89mp.tiff", "photo-24mp.webp")
HOSTILE = ("hostile-100mp.jpg", "hostile-100mp.png", "hostile-100mp.webp", "hostile-100mp.tiff")
_PICTURES: Mapping[str, Callable[[], bytes]] = {
    SMALL: _small,
    TWO_HUNDRED_KILOBYTES: _saved(1_024, 768, "JPEG", quality=75),
    "camera-4mp.jpg": _saved(2_688, 1_520, "JPEG", quality=85, exif=_exif()),
    "camera-8mp.jpg": _saved(3_264, 2_448, "JPEG", quality=80),
    "telephone-12mp.jpg": _saved(4_032, 3_024, "JPEG", quality=85, exif=_exif()),
    PLAN: _flat(1_600, 1_200, "PNG"),
    "upright-12mp.jpg": _saved(4_032, 3_024, "JPEG", quality=85, exif=_exif(6)),
    "drone-48mp.jpg": _saved(8_064, 6_048, "JPEG", quality=90, exif=_exif()),
    "screenshot-4mp.png": _saved(2_560, 1_440, "PNG", compress_level=1),
    "scan-4mp.tiff": _saved(2_480, 1_754, "TIFF", compression="tiff_lzw"),
    "large-100mp.jpg": _saved(12_000, 8_333, "JPEG", quality=85),
    "large-100mp.png": _saved(12_000, 8_333, "PNG", compress_level=1),
    "noise-100mp.png": _noise(10_000, 10_000, "PNG", compress_level=1),
    "scan-89mp.tiff": _noise(9_400, 9_400, "TIFF", compression="tiff_lzw"),
    "photo-24mp.webp": _saved(6_000, 4_000, "WEBP", method=0),
    "hostile-100mp.jpg": _flat(12_000, 8_333, "JPEG", progressive=True),
    "hostile-100mp.png": _flat(12_000, 8_333, "PNG"),
    "hostile-100mp.webp": _flat(12_000, 8_333, "WEBP"),
    "hostile-100mp.tiff": _flat(12_000, 8_333, "TIFF", compression="tiff_lzw"),
}
