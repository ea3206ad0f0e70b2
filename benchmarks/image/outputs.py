"""Decides whether an output is legal, and still the same picture: `python -m benchmarks.image.outputs OURS PATH`.

The judge is libvips, which shares no code with Pillow except the JPEG library itself; or Pillow if libvips is missing.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageStat
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

_MAX_BYTES = 5_000_000
_MAX_RATIO = 5
_THUMBNAIL = 96, 96
_MAX_DIFFERENCE = 8.0


def judge(path: Path, reference: Path) -> dict[str, Any]:
    """Return the facts of one output, and what is wrong with it."""
    data = path.read_bytes()
    image = Image.open(BytesIO(data))
    facts: dict[str, Any] = {
        "bytes": len(data),
        "width": image.width,
        "height": image.height,
        "media_type": Image.MIME[image.format or ""],
        "quality": _quality(image),
        "sampling": get_sampling(image) if isinstance(image, JpegImageFile) else 0,
    }
    wrong = []
    if len(data) > _MAX_BYTES:
        wrong.append("too many bytes")
    if max(image.size) > _MAX_RATIO * min(image.size):
        wrong.append("too long")
    if image.getexif():
        wrong.append("has metadata")
    if not _decodes(data):
        wrong.append("cannot be decoded")
    elif _difference(image, Image.open(reference)) > _MAX_DIFFERENCE:
        wrong.append("another picture than ours")
    return facts | {"wrong": wrong}


def _decodes(data: bytes) -> bool:
    try:
        import pyvips  # noqa: PLC0415 - may be missing
    except (ImportError, OSError):
        return True
    try:
        pyvips.Image.new_from_buffer(data, "", access="sequential", fail_on="warning").avg()
    except pyvips.Error:
        return False
    return True


def _difference(one: Image.Image, other: Image.Image) -> float:
    """Return by how many of 256 levels two scaled-down pictures differ."""
    for image in (one, other):
        image.draft("RGB", _THUMBNAIL)
    small = [image.convert("RGB").resize(_THUMBNAIL, Image.Resampling.BOX) for image in (one, other)]
    return max(ImageStat.Stat(ImageChops.difference(*small)).mean)


def _quality(image: Image.Image) -> int | None:
    """Return the quality for which Pillow writes this luma table, or None."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    wanted = sum(tables[0])
    return min(range(1, 101), key=lambda quality: abs(_luma_sum(quality) - wanted))


def _luma_sum(quality: int) -> int:
    buffer = BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
    return sum(JpegImageFile(BytesIO(buffer.getvalue())).quantization[0])


if __name__ == "__main__":
    sys.stdout.write(json.dumps([judge(Path(path), Path(sys.argv[1])) for path in sys.argv[1:]]))
