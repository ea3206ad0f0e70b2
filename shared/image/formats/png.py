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
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import colour
from shared.image.formats import exif
from shared.image.inspection import Inspection, joined
from shared.image.model import ImageHeader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from shared.image.colour import ColourSpace

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_COLOURS = {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP"}
_BEFORE = {kind: {b"IDAT"} if kind == b"tRNS" else {b"PLTE", b"IDAT"} for kind in _COLOURS}
"""What must not have come before a chunk (5.6)."""

_STATED = _COLOURS - {b"tRNS", b"sBIT"}
_UNSPECIFIED = 2
_GREY, _PALETTE = 0, 3
_TRANSPARENT = {4, 6}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_NAME_BYTES = 10_000
"""More than a profile's name takes, and what deflate adds to what it cannot make smaller."""

_DEEP_BYTES = 12
"""For each pixel: the halves of 16 bits, and what becomes of them."""


@dataclass(frozen=True)
class PngInspection(Inspection):
    """What the chunks say.

    `pixel_data` are the (start, end) of the bodies of IDAT, `profile_chunk` those of the profile's chunk;
    `is_deep_and_dark` says that colours of 16 bits have a curve that 8 are too few for.
    """

    colour_type: int = 2
    interlaced: bool = False
    pixel_data: tuple[tuple[int, int], ...] = ()
    profile_chunk: tuple[int, int] | None = None
    is_deep_and_dark: bool = False


class Chunk(NamedTuple):
    """One part of the file: where it starts, where its content does, and where it ends."""

    kind: bytes
    start: int
    body: int
    end: int


def has_checksum(data: bytes, chunk: Chunk) -> bool:
    """Say whether a chunk's content is what its writer made its checksum of."""
    view = memoryview(data)
    return zlib.crc32(view[chunk.start + 4 : chunk.end - 4]) == int.from_bytes(view[chunk.end - 4 : chunk.end], "big")


def inspect(data: bytes) -> PngInspection:
    """Walk the chunks up to IEND; refuse what is cut short or malformed. Looks at no pixel data."""
    found = list(chunks(data))
    if not found or found[0].kind != b"IHDR" or not any(chunk.kind == b"IDAT" for chunk in found):
        raise _apples_own() if found and found[0].kind == b"CgBI" else _truncated()
    width, height, depth, colour_type, interlaced = _header(data[found[0].body : found[0].end - 4])
    _demand_order([chunk.kind for chunk in found])
    palette = next((chunk.end - 4 - chunk.body for chunk in found if chunk.kind == b"PLTE"), None)
    _demand_palette(palette, 2**depth if colour_type == _PALETTE else None)
    intact = _intact(data, found, _lengths(colour_type, (palette or 0) // 3))
    is_plain = depth <= 8 and colour_type not in _TRANSPARENT and b"tRNS" not in intact  # noqa: PLR2004 - bits
    colours = _colours({kind: data[chunk.body : chunk.end - 4] for kind, chunk in intact.items() if kind in _STATED})
    has_colours = colour_type not in {_GREY, _PALETTE} and b"tRNS" not in intact
    is_deep_and_dark = has_colours and depth == 16 and bool(colours and colours.starves_the_darks)  # noqa: PLR2004
    exif_block = intact.pop(b"eXIf", None)
    kept = [chunk for chunk in found if chunk.kind in _CRITICAL or chunk is intact.get(chunk.kind)]
    pieces = joined([(0, len(SIGNATURE)), *((chunk.start, chunk.end) for chunk in kept)])
    profile = intact.get(b"iCCP")
    return PngInspection(
        data=data,
        header=ImageHeader("image/png", width, height),
        orientation=exif.orientation(memoryview(data)[exif_block.body : exif_block.end - 4]) if exif_block else 1,
        has_metadata=pieces != ((0, len(data)),),
        depth=depth,
        is_lossless=True,
        fits_as_is=depth <= 8,  # noqa: PLR2004 - bits
        kept=pieces,
        colour_type=colour_type,
        interlaced=interlaced,
        weight=_weight(depth, colour_type, interlaced=interlaced, is_plain=is_plain),
        is_opaque=is_plain,
        pixel_data=tuple((chunk.body, chunk.end - 4) for chunk in found if chunk.kind == b"IDAT"),
        colours=colours,
        profile_chunk=(profile.start, profile.end) if profile else None,
        is_deep_and_dark=is_deep_and_dark,
        buffer_bytes=_DEEP_BYTES * width * height if is_deep_and_dark else 0,
    )


def _intact(data: bytes, found: list[Chunk], lengths: dict[bytes, Collection[int]]) -> dict[bytes, Chunk]:
    """Return, of each kind that is heeded, the first chunk that is in its place, has its length and its checksum.

    The others are ignored, as the standard says of ancillary chunks that are in error (13.1), and do not leave.
    """
    intact: dict[bytes, Chunk] = {}
    passed: set[bytes] = set()
    for chunk in found:
        kind, size = chunk.kind, chunk.end - 4 - chunk.body
        is_heeded = kind == b"eXIf" or (size in lengths.get(kind, ()) and passed.isdisjoint(_BEFORE[kind]))
        if is_heeded and kind not in intact and has_checksum(data, chunk):
            intact[kind] = chunk
        passed.add(kind)
    if b"iCCP" in intact and not _has_profile(data, intact[b"iCCP"]):
        del intact[b"iCCP"]
    return intact


def _colours(stated: dict[bytes, bytes]) -> ColourSpace | None:
    """Return the colours that are stated beside a profile, in the order of 4.3: cICP, iCCP, sRGB, gAMA and cHRM."""
    primaries, transfer, matrix, _ = stated.get(b"cICP", bytes(4))
    of_code = colour.of_cicp(primaries, transfer)
    if of_code and not matrix and _UNSPECIFIED not in {primaries, transfer}:
        return of_code
    if not {b"iCCP", b"sRGB"}.isdisjoint(stated):
        return None
    points = [(x / 100_000, y / 100_000) for x, y in struct.iter_unpack(">2I", stated.get(b"cHRM", b""))]
    gamma = int.from_bytes(stated.get(b"gAMA", b""), "big")
    return colour.of_gamma(colour.Primaries(*points) if points else None, 100_000 / gamma if gamma else None)


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
        raise CorruptImage("The PNG is damaged: its palette is missing or too long. Save it again.")


def _demand_order(kinds: list[bytes]) -> None:
    """Refuse what may not be there twice, torn pixel data, a palette after them and what no decoder knows (5.6)."""
    first, last = kinds.index(b"IDAT"), len(kinds) - 1 - kinds[::-1].index(b"IDAT")
    once = [kind for kind in kinds if kind in _CRITICAL - {b"IDAT"}]
    if len(set(once)) < len(once) or set(kinds[first : last + 1]) != {b"IDAT"}:
        raise CorruptImage("The PNG is damaged: its parts are not in order. Save it again.")
    if b"PLTE" in kinds[last:]:
        raise CorruptImage("The PNG is damaged: its palette comes after its pixels. Save it again.")
    if any(kind[:1].isupper() and kind not in _CRITICAL for kind in kinds):
        raise CorruptImage("The PNG holds a critical part that no decoder knows. Save it again.")


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield each chunk; stop after IEND."""
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        body, end = start + 8, start + 12 + size
        if not kind.isalpha() or (kind == b"IEND" and size):
            raise CorruptImage("The PNG is damaged: its parts do not follow one another. Save it again.")
        if end > len(data):
            raise _truncated()
        yield Chunk(kind, start, body, end)
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
        raise CorruptImage("The PNG is damaged: its header describes no picture. Save it again.")
    if compression or filtering or interlace > 1:
        raise CorruptImage("The PNG is damaged: its header describes an unknown method. Save it again.")
    return width, height, depth, colour_type, bool(interlace)


def _has_profile(data: bytes, chunk: Chunk) -> bool:
    """Say whether it holds a profile and nothing behind it (11.3.2.3); refuse one that inflates without end."""
    if chunk.end - chunk.body > colour.MAX_PROFILE_BYTES + _NAME_BYTES:  # deflate makes nothing of use larger
        raise _large_profile()
    try:
        return bool(inflated_profile(data[chunk.body : chunk.end - 4]))
    except (ValueError, zlib.error):
        return False


def inflated_profile(body: bytes) -> bytes:
    """Return the profile that a chunk holds: 4 KB of it can hold gigabytes. Raises ValueError where it is none."""
    inflater = zlib.decompressobj()
    profile = inflater.decompress(body[body.index(b"\0") + 2 :], colour.MAX_PROFILE_BYTES)
    if inflater.unconsumed_tail:
        raise _large_profile()
    if not inflater.eof or inflater.unused_data or profile[36:40] != b"acsp":
        raise ValueError
    return profile


def _large_profile() -> UnsupportedFormat:
    return UnsupportedFormat(
        f"The PNG's colour profile has more than {colour.MAX_PROFILE_BYTES // 10**6} MB. Save it with sRGB instead."
    )


def _apples_own() -> UnsupportedFormat:
    return UnsupportedFormat(
        "The PNG is of Apple's own variant (CgBI), which only its systems show. Export it as an ordinary PNG."
    )


def _truncated() -> CorruptImage:
    return CorruptImage("The PNG is cut short: its end is missing. Upload the whole file.")
