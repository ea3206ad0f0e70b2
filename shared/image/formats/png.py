"""Decides about PNG: which of its chunks leave, and whether it may pass.

The format is https://www.w3.org/TR/png-3/ (section 5 for the chunks). APNG's frames and
every text, time and EXIF chunk are cut off; what a decoder needs to show the right colours stays, where it has the
length of that and hides nothing.
Whether the pixels are all there is decided in `png_integrity`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.formats import exif
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_COLOURS = {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP"}
_ONCE = (_CRITICAL | _COLOURS | {b"eXIf"}) - {b"IDAT"}
_PALETTE = 3
_TRANSPARENT = {4, 6}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_MAX_CHUNKS = 15_000
"""Of 270 bytes of memory each. Encoders write 8 KB of pixels and more into one: 100 MB are 12,000."""

_MAX_PROFILE_BYTES = 1_000_000


@dataclass(frozen=True)
class PngInspection(Inspection):
    """What the chunks say. `pixel_data` are the (start, end) of the bodies of IDAT."""

    colour_type: int = 2
    interlaced: bool = False
    pixel_data: tuple[tuple[int, int], ...] = ()


def inspect(data: bytes) -> PngInspection:
    """Walk the chunks up to IEND; refuse what is cut short or malformed. Looks at no pixel data."""
    found = list(chunks(data))
    if not found or found[0][0] != b"IHDR" or not any(kind == b"IDAT" for kind, *_ in found):
        raise _truncated()
    kinds = [kind for kind, *_ in found]
    width, height, depth, colour_type, interlaced = _header(data[found[0][2] : found[0][3] - 4])
    _demand_order(kinds)
    palette = next((end - 4 - body for kind, _, body, end in found if kind == b"PLTE"), None)
    _demand_palette(palette, 2**depth if colour_type == _PALETTE else None)
    lengths = _lengths(colour_type, (palette or 0) // 3)
    orientation = 1
    for kind, _, body, end in found:
        if kind == b"iCCP":
            _demand_sane_profile(data[body : end - 4])
        elif kind == b"eXIf":
            orientation = exif.orientation(memoryview(data)[body : end - 4])
    is_plain = depth <= 8 and colour_type not in _TRANSPARENT and b"tRNS" not in kinds  # noqa: PLR2004 - bits
    kept = [
        (start, end)
        for kind, start, body, end in found
        if kind in _CRITICAL or (kind in lengths and end - 4 - body in lengths[kind])
    ]
    pieces = _joined([(0, len(SIGNATURE)), *kept])
    return PngInspection(
        data=data,
        header=ImageHeader("image/png", width, height),
        orientation=orientation,
        has_metadata=pieces != ((0, len(data)),),
        depth=depth,
        fits_as_is=depth <= 8,  # noqa: PLR2004 - bits
        kept=pieces,
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


def _lengths(colour_type: int, colours: int) -> dict[bytes, Collection[int]]:
    """Return how many bytes the chunks that tell colours have (11.3); of others, decoders make nothing."""
    return {
        b"tRNS": {0: {2}, 2: {6}, _PALETTE: range(1, colours + 1)}.get(colour_type, ()),
        b"gAMA": {4},
        b"cHRM": {32},
        b"sRGB": {1},
        b"iCCP": range(2**31),
        b"sBIT": {3 if colour_type == _PALETTE else CHANNELS[colour_type]},
        b"cICP": {4},
    }


def _demand_palette(length: int | None, indices: int | None) -> None:
    """Refuse a palette of no colours, of a part of one, or of more than there are indices; or none where it is needed.

    Beside colours that are no indices it is only a proposal, of up to 256 (11.2.2).
    """
    if length is None and indices is None:
        return
    if not length or length % 3 or length // 3 > (indices or 256):
        raise CorruptImage("The PNG is damaged: it lacks its colours, or has more than it can show. Save it again.")


def _demand_order(kinds: list[bytes]) -> None:
    """Refuse what may not be there twice, torn pixel data, colours after them and what no decoder knows (5.6)."""
    first, last = kinds.index(b"IDAT"), len(kinds) - 1 - kinds[::-1].index(b"IDAT")
    once = [kind for kind in kinds if kind in _ONCE]
    if len(set(once)) < len(once) or set(kinds[first : last + 1]) != {b"IDAT"}:
        raise CorruptImage("The PNG is damaged: its parts are not in order. Save it again.")
    if not _COLOURS.union({b"PLTE"}).isdisjoint(kinds[last:]):
        raise CorruptImage("The PNG is damaged: its colours come after its pixels. Save it again.")
    if any(kind[:1].isupper() and kind not in _CRITICAL for kind in kinds):
        raise CorruptImage("The PNG holds a critical part that no decoder knows. Save it again.")


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
        if not kind.isalpha() or (kind == b"IEND" and size):
            raise CorruptImage("The PNG is damaged: its parts do not follow one another. Save it again.")
        if end > len(data):
            raise _truncated()
        yield kind, start, body, end
        if kind == b"IEND":
            return
        start = end
    else:
        raise UnsupportedFormat("The PNG is in far more parts than a usual one. Save it again.")
    raise _truncated()


def _header(body: bytes) -> tuple[int, int, int, int, bool]:
    try:
        width, height, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    except struct.error:
        raise _truncated() from None
    if not width or not height or depth not in _DEPTHS.get(colour_type, ()):
        raise CorruptImage("The PNG is damaged: its header describes no picture. Save it again.")
    if compression or filtering or interlace > 1:
        raise CorruptImage("The PNG is damaged: its header describes an unknown method. Save it again.")
    return width, height, depth, colour_type, bool(interlace)


def _demand_sane_profile(body: bytes) -> None:
    """Refuse a colour profile that inflates without end: 4 KB of it can hold gigabytes."""
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(body[body.index(b"\0") + 2 :], _MAX_PROFILE_BYTES)
    except (ValueError, zlib.error):
        raise CorruptImage("The PNG is damaged: its colour profile cannot be read. Save it again.") from None
    if inflater.unconsumed_tail:
        raise UnsupportedFormat("The PNG's colour profile has more than 1 MB. Save it with a usual one, such as sRGB.")
    if not inflater.eof or inflater.unused_data:
        raise CorruptImage("The PNG is damaged: its colour profile is cut short or too long. Save it again.")


def _truncated() -> CorruptImage:
    return CorruptImage("The PNG is cut short: its end is missing. Upload the whole file.")
