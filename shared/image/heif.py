"""Decides about HEIC and AVIF, which share a container: which of them it is, and how large its largest picture.

The container is ISO/IEC 14496-12 with the items of ISO/IEC 23008-12 (https://nokiatech.github.io/heif/technical.html);
AVIF's brands are in https://aomediacodec.github.io/av1-avif/. Both decoders apply the container's own rotation and
mirroring, beside which EXIF's orientation does not count.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.model import ImageHeader
from shared.image.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Iterator

_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_EITHER = {b"mif1", b"msf1"}
_MAX_BOXES = 1_000


def is_avif(head: bytes) -> bool:
    """Say whether a file begins as AVIF."""
    brands = _brands(head)
    return not brands.isdisjoint(_AVIF)


def is_heic(head: bytes) -> bool:
    """Say whether a file begins as HEIC, or as HEIF that is no AVIF."""
    brands = _brands(head)
    return not brands.isdisjoint(_HEIC | _EITHER) and brands.isdisjoint(_AVIF)


def survey_avif(data: bytes) -> Survey:
    """Survey an AVIF."""
    return _survey(data, "image/avif", "AVIF")


def survey_heic(data: bytes) -> Survey:
    """Survey a HEIC."""
    return _survey(data, "image/heic", "HEIC")


def _survey(data: bytes, media_type: str, name: str) -> Survey:
    boxes = {kind: (body, stop) for kind, body, stop in _boxes(data, 0, len(data))}
    if b"meta" not in boxes and b"moov" in boxes:
        raise UnsupportedFormat(f"The {name} holds no still image. Send one frame of it as a JPEG or PNG.")
    if b"meta" not in boxes:
        raise CorruptImage(f"The {name} is cut short: it holds no picture. Upload the whole file.")
    start, end = boxes[b"meta"]
    sizes = [
        struct.unpack_from(">II", data, body + 4)
        for kind, body, stop in _nested(data, start + 4, end, (b"iprp", b"ipco"))
        if kind == b"ispe" and body + 12 <= stop
    ]
    if not sizes:
        raise CorruptImage(f"The {name} is damaged or cut short: it states no size. Upload the whole file.")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if not width or not height:
        raise CorruptImage(f"The {name} is damaged: it states no size. Save it anew.")
    has_metadata = data.find(b"Exif", start, end) >= 0 or data.find(b"application/rdf+xml", start, end) >= 0
    return Survey(data, ImageHeader(media_type, width, height), has_metadata=has_metadata)


def _brands(head: bytes) -> set[bytes]:
    if head[4:8] != b"ftyp":
        return set()
    size = int.from_bytes(head[:4], "big")
    return {head[8:12]} | {head[at : at + 4] for at in range(16, min(size, len(head)), 4)}


def _nested(data: bytes, start: int, end: int, path: tuple[bytes, ...]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes that are inside the boxes of `path`."""
    for kind, body, stop in _boxes(data, start, end):
        if not path:
            yield kind, body, stop
        elif kind == path[0]:
            yield from _nested(data, body, stop, path[1:])


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of each box (14496-12, 4.2)."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1 and body + 8 <= end:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        stop = end if size == 0 else start + size
        if stop < body or stop > end:
            return
        yield kind, body, stop
        start = stop
