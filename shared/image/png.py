"""Decides about PNG: which of its chunks leave, and whether it may pass.

The format is https://www.w3.org/TR/png-3/ (section 5 for the chunks). APNG's frames and
every text, time and EXIF chunk are cut off; what a decoder needs to show the right colours stays.
Whether the pixels are all there is decided in `png_soundness`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import CorruptImage
from shared.image import exif
from shared.image.model import ImageHeader
from shared.image.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Iterator


SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP"}
_PALETTE = 3
_TRANSPARENT = {4, 6}
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_MAX_CHUNKS = 100_000
_MAX_PROFILE_BYTES = 4_000_000


@dataclass(frozen=True)
class PngSurvey(Survey):
    """What the chunks say. `pixel_data` are the (start, end) of the bodies of IDAT."""

    colour_type: int = 2
    interlaced: bool = False
    pixel_data: tuple[tuple[int, int], ...] = ()


def survey(data: bytes) -> PngSurvey:
    """Walk the chunks up to IEND; refuse what is cut short or malformed. Looks at no pixel data."""
    found = list(chunks(data))
    if not found or found[0][0] != b"IHDR" or not any(kind == b"IDAT" for kind, *_ in found):
        raise _truncated()
    kinds = [kind for kind, *_ in found]
    width, height, depth, colour_type, interlaced = _header(data[found[0][2] : found[0][3] - 4])
    _demand_order(kinds, has_palette=colour_type == _PALETTE)
    orientation = 1
    for kind, _, body, end in found:
        if kind == b"iCCP":
            _demand_sane_profile(data[body : end - 4])
        elif kind == b"eXIf":
            orientation = exif.orientation(memoryview(data)[body : end - 4])
    is_plain = depth <= 8 and colour_type not in _TRANSPARENT and b"tRNS" not in kinds  # noqa: PLR2004 - bits
    kept = _joined([(0, len(SIGNATURE)), *((start, end) for kind, start, _, end in found if kind in _KEPT)])
    return PngSurvey(
        data=data,
        header=ImageHeader("image/png", width, height),
        orientation=orientation,
        has_metadata=kept != ((0, len(data)),),
        depth=depth,
        fits_as_is=depth <= 8,  # noqa: PLR2004 - bits
        kept=kept,
        colour_type=colour_type,
        interlaced=interlaced,
        weight=_weight(depth, colour_type, interlaced=interlaced, is_plain=is_plain),
        is_opaque=is_plain,
        pixel_data=tuple((body, end - 4) for kind, _, body, end in found if kind == b"IDAT"),
    )


def _weight(depth: int, colour_type: int, *, interlaced: bool, is_plain: bool) -> int:
    if depth > 8 and colour_type in _TRANSPARENT:  # noqa: PLR2004 - bits
        return 4
    return (1 if is_plain else 2) * (2 if interlaced else 1)


def _demand_order(kinds: list[bytes], *, has_palette: bool) -> None:
    """Refuse a second header, torn pixel data, a missing palette and critical chunks that no decoder knows (5.6)."""
    first = kinds.index(b"IDAT")
    if kinds.count(b"IHDR") > 1 or set(kinds[first : first + kinds.count(b"IDAT")]) != {b"IDAT"}:
        raise CorruptImage("The PNG is damaged: its parts are not in order. Save it anew.")
    if has_palette and kinds[:first].count(b"PLTE") != 1:
        raise CorruptImage("The PNG is damaged: it lacks its colours. Save it anew.")
    if any(kind[:1].isupper() and kind not in _KEPT for kind in kinds):
        raise CorruptImage("The PNG holds a critical part that no decoder knows. Save it anew.")


def _joined(pieces: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Make one of pieces that touch."""
    joined = pieces[:1]
    for start, end in pieces[1:]:
        joined.append((joined.pop()[0], end) if joined[-1][1] == start else (start, end))
    return tuple(joined)


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield each chunk as type, start, start of its body, end; stop after IEND."""
    start = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if start + 12 > len(data):
            break
        size, kind = struct.unpack_from(">I4s", data, start)
        body, end = start + 8, start + 12 + size
        if not kind.isalpha():
            raise CorruptImage("The PNG is damaged: its parts do not follow one another. Save it anew.")
        if end > len(data):
            raise _truncated()
        yield kind, start, body, end
        if kind == b"IEND":
            return
        start = end
    raise _truncated()


def _header(body: bytes) -> tuple[int, int, int, int, bool]:
    try:
        width, height, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    except struct.error:
        raise _truncated() from None
    if not width or not height or depth not in _DEPTHS.get(colour_type, ()):
        raise CorruptImage("The PNG is damaged: its header describes no picture. Save it anew.")
    if compression or filtering or interlace > 1:
        raise CorruptImage("The PNG is damaged: its header describes an unknown method. Save it anew.")
    return width, height, depth, colour_type, bool(interlace)


def _demand_sane_profile(body: bytes) -> None:
    """Refuse a colour profile that inflates without end: 4 KB of it can hold gigabytes."""
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(body[body.index(b"\0") + 2 :], _MAX_PROFILE_BYTES)
    except (ValueError, zlib.error):
        raise CorruptImage("The PNG is damaged: its colour profile cannot be read. Save it anew.") from None
    if not inflater.eof:
        raise CorruptImage("The PNG's colour profile is cut short or too large. Save it anew.")


def _truncated() -> CorruptImage:
    return CorruptImage("The PNG is cut short: its end is missing. Upload the whole file.")
