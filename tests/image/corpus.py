"""An intact file of every supported kind, and what can be done to one."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.image.pictures import encoded, exif, pattern, photo
from tests.kept import Intact, noted

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = Path(__file__).parent / "samples"


@cache
def intact(*, small: bool = False) -> dict[str, bytes]:
    """Return one intact file of every supported kind."""
    size, side = ((48, 36), 16) if small else ((160, 120), 64)
    picture, grey = photo(*size), photo(*size, "L")
    deep = Image.new("I;16", (side, side))
    deep.putdata(range(0, 65_536, 65_536 // side**2))
    files = {
        "baseline": encoded(picture, "JPEG", exif=exif(6)),
        "progressive": encoded(picture, "JPEG", progressive=True),
        "restarts": encoded(picture, "JPEG", restart_marker_rows=1),
        "grey": encoded(grey, "JPEG"),
        "cmyk": encoded(picture.convert("CMYK"), "JPEG"),
        "mpo": encoded(picture, "MPO", save_all=True, append_images=[picture]),
        "png": encoded(picture, "PNG", exif=exif(3)),
        "png of 16 bits": encoded(deep, "PNG"),
        "png with a palette": encoded(pattern().quantize(), "PNG", transparency=0),
        "apng": encoded(picture, "PNG", save_all=True, append_images=[grey.convert("RGB")]),
        "gif": encoded(picture, "GIF", comment=b"hello"),
        "bmp": encoded(picture, "BMP"),
        "tiff": encoded(picture, "TIFF"),
        "tiff lzw": encoded(picture, "TIFF", compression="tiff_lzw"),
        "tiff deflate": encoded(picture, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": encoded(picture, "TIFF", compression="jpeg"),
        "tiff of 16 bits": encoded(deep, "TIFF"),
        "webp": encoded(picture, "WEBP", exif=exif(6)),
        "webp lossless": encoded(picture, "WEBP", lossless=True),
        "avif": encoded(picture, "AVIF", exif=exif(6)),
        "heic": (SAMPLES / "orientation-6.heic").read_bytes(),
    }
    return Intact(files)


KINDS = tuple(intact(small=True))  # which is sooner made


def damaged(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield a file truncated, with flipped bits, overwritten, split, doubled, and with every size in it swapped."""
    yield from map(noted, _damaged(data, seed))


def _damaged(data: bytes, seed: int) -> Iterator[bytes]:
    dice = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(6):
        yield data[: dice.randrange(len(data))]
    for reach in (64, 256, len(data)):
        for _ in range(8):
            at = dice.randrange(min(reach, len(data)))
            yield data[:at] + bytes((data[at] ^ 1 << dice.randrange(8),)) + data[at + 1 :]
            yield data[:at] + dice.choice((b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff")) + data[at + 4 :]
    for _ in range(4):
        at, to = sorted(dice.sample(range(len(data)), 2))
        yield data[:at] + data[to:]
        yield data[:to] + data[at:]
        yield data[:at] + dice.randbytes(to - at) + data[to:]
    width, height = (160).to_bytes(2, "big"), (120).to_bytes(2, "big")
    for order in (slice(None), slice(None, None, -1)):
        yield data.replace(width[order], height[order])
        yield data.replace(height[order], b"\xff\xff")
