"""Decides which formats are read, by content alone: the one place to add one.

A format needs an entry in `FORMATS`: how its first bytes look, how it is surveyed without decoding, how it is opened,
and how many pixels its decoder may make, which follows from the memory that decoder takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import EmptySource, TooManyPixels, UnsupportedFormat
from shared.image import foreign, jpeg, png, strangers

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from shared.image.survey import Survey


@dataclass(frozen=True)
class Format:
    """One kind of image that is read."""

    name: str
    recognizes: Callable[[bytes], bool]
    survey: Callable[[bytes], Any]
    open_image: Callable[[Any], Image]
    max_pixels: int = 100_000_000


FORMATS = (
    Format("JPEG", lambda head: head.startswith(b"\xff\xd8\xff"), jpeg.survey, jpeg.open_image),
    Format("PNG", lambda head: head.startswith(png.SIGNATURE), png.survey, png.open_image),
    Format("GIF", lambda head: head.startswith((b"GIF87a", b"GIF89a")), foreign.gif, foreign.open_image),
    Format("BMP", lambda head: head.startswith(b"BM"), foreign.bmp, foreign.open_image),
    Format("TIFF", lambda head: head.startswith((b"II*\0", b"MM\0*")), foreign.tiff, foreign.open_image),
    Format("WebP", lambda head: head[:4] + head[8:12] == b"RIFFWEBP", foreign.webp, foreign.open_image, 25_000_000),
    Format("AVIF", foreign.is_avif, foreign.avif, foreign.open_image, 40_000_000),
    Format("HEIC", foreign.is_heic, foreign.heic, foreign.open_image, 50_000_000),
)


def recognize(data: bytes) -> Format:
    """Return the format of `data`; refuse what is none of those that are read, and say what it is."""
    if not data:
        raise EmptySource("The file is empty. Upload it again.")
    head = data[:512]
    for candidate in FORMATS:
        if candidate.recognizes(head):
            return candidate
    raise UnsupportedFormat(strangers.describe(data))


def refuse_too_many_pixels(source: Survey, kind: Format, max_source_pixels: int) -> None:
    """Refuse more pixels than the setting allows, or than the format's decoder has memory for."""
    allowed = min(max_source_pixels, kind.max_pixels)
    if source.pixels > allowed:
        raise TooManyPixels(
            f"The {kind.name} has {source.header.width} x {source.header.height} pixels, "
            f"{source.pixels / 1e6:,.1f} million; at most {allowed / 1e6:,.0f} million are read. Send a smaller one."
        )
