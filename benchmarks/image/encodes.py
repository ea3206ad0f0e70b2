"""Counts full encodes: `python -m benchmarks.image.encodes PHOTOS`.

Only encoding reveals the size at a given quality; a search for the quality pays for every attempt. Encoding a part of
the picture does not count as a full encode.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from benchmarks.image.inputs import compose, find_photos
from benchmarks.image.jobs import UNCAPPED_PIXELS
from shared.image import ImageLimits, normalize_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_PICTURES = 48
_SIZES = (1_200, 900), (2_400, 1_800), (4_032, 3_024), (5_200, 3_900), (7_000, 5_000)
_TURNED = Image.Exif()
_TURNED[0x0112] = 6
_BUILDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("JPEG", {"quality": 97, "exif": _TURNED}),
    ("TIFF", {}),
    ("JPEG", {"quality": 88, "exif": _TURNED}),
    ("BMP", {}),
)
_FULL = 0.9


def count_full_encodes(data: bytes) -> int:
    """Return how many encodes of the full output size were needed."""
    with watched_encodes() as sizes:
        normalized = normalize_image(data, ImageLimits(max_output_pixels=UNCAPPED_PIXELS))
    return sum(width * height >= _FULL * normalized.width * normalized.height for width, height in sizes)


@contextmanager
def watched_encodes() -> Iterator[list[tuple[int, int]]]:
    """Yield the sizes of all pictures that this thread encodes in the block, as the interpreter sees them."""
    sizes: list[tuple[int, int]] = []

    def see(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is Image.Image.save.__code__:
            sizes.append(frame.f_locals["self"].size)

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        yield sizes
    finally:
        sys.setprofile(before)


def _pictures(photos: tuple[Path, ...]) -> Any:
    """Yield pictures that must be re-encoded, of every size, half of which do not fit at the best quality."""
    for seed in range(_PICTURES):
        kind, options = _BUILDS[seed // len(_SIZES) % len(_BUILDS)]
        buffer = BytesIO()
        compose(*_SIZES[seed % len(_SIZES)], photos, seed).save(buffer, kind, **options)
        yield buffer.getvalue()


if __name__ == "__main__":
    counts = [count_full_encodes(data) for data in _pictures(tuple(find_photos(Path(sys.argv[1]))))]
    sys.stdout.write(json.dumps(counts))
