"""Decides about the formats that are read but never sent: how large they are, which way up, and who decodes them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import CorruptImage
from shared.image import exif
from shared.image.model import ImageHeader
from shared.image.survey import Survey

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}


@dataclass(frozen=True)
class ForeignSurvey(Survey):
    """A file that Pillow has opened but not decoded."""

    image: ImageFile | None = None


def gif(data: bytes) -> ForeignSurvey:
    """Survey a GIF; its first frame is the picture."""
    from PIL.GifImagePlugin import GifImageFile

    return _opened(data, "image/gif", GifImageFile)


def bmp(data: bytes) -> ForeignSurvey:
    from PIL.BmpImagePlugin import BmpImageFile

    return _opened(data, "image/bmp", BmpImageFile)


def tiff(data: bytes) -> ForeignSurvey:
    """Survey a TIFF; its first page is the picture. Pillow turns it upright itself while it loads."""
    from PIL.TiffImagePlugin import TiffImageFile

    return _opened(data, "image/tiff", TiffImageFile)


def webp(data: bytes) -> ForeignSurvey:
    from PIL.WebPImagePlugin import WebPImageFile

    width, height = _webp_size(data[:30])
    if width * height > 25_000_000:
        return ForeignSurvey(data, ImageHeader("image/webp", width, height))
    return _opened(data, "image/webp", WebPImageFile)


def avif(data: bytes) -> ForeignSurvey:
    from PIL.AvifImagePlugin import AvifImageFile

    return _opened(data, "image/avif", AvifImageFile)


def heic(data: bytes) -> ForeignSurvey:
    """Survey a HEIC; libheif turns it upright itself while it loads."""
    from pi_heif import HeifImageFile

    return _opened(data, "image/heic", HeifImageFile)


def is_avif(head: bytes) -> bool:
    return bool(_brands(head) & _AVIF_BRANDS)


def is_heic(head: bytes) -> bool:
    return bool(_brands(head) & _HEIC_BRANDS) and not is_avif(head)


def open_image(source: ForeignSurvey) -> ImageFile:
    assert source.image is not None
    return source.image


def _opened(data: bytes, media_type: str, opener: type[ImageFile]) -> ForeignSurvey:
    from io import BytesIO

    image = opener(BytesIO(data))
    turned = media_type in {"image/webp", "image/avif"}
    block = image.info.get("exif", b"") if turned else b""
    return ForeignSurvey(
        data,
        ImageHeader(media_type, *image.size),
        orientation=exif.orientation(block.removeprefix(b"Exif\0\0")) if block else 1,
        has_metadata=any(image.info.get(key) for key in ("exif", "xmp", "comment", "photoshop")),
        image=image,
    )


def _brands(head: bytes) -> set[bytes]:
    if head[4:8] != b"ftyp":
        return set()
    size = int.from_bytes(head[:4], "big")
    return {head[8:12]} | {head[i : i + 4] for i in range(16, min(size, len(head)), 4)}


def _webp_size(head: bytes) -> tuple[int, int]:
    try:
        if head[12:16] == b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        if head[12:16] == b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if head[12:16] == b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    except struct.error:
        pass
    raise CorruptImage("The WebP is cut short or damaged. Upload the whole file.")
