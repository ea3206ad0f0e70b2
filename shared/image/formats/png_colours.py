"""Decides which chunks of a PNG state its colours (https://www.w3.org/TR/png-3/, 11.3.2), and reads them."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from shared.errors import UnsupportedFormat
from shared.image import colour
from shared.image.formats.png_chunks import has_checksum
from shared.image.formats.png_header import GREY, PALETTE, RGB

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from shared.image.colour import ColourSpace
    from shared.image.formats.png_chunks import Chunk
    from shared.image.formats.png_header import Header

_COLOURS = {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP"}
_STATED = _COLOURS - {b"tRNS", b"sBIT"}
_BEFORE = {kind: {b"IDAT"} if kind == b"tRNS" else {b"PLTE", b"IDAT"} for kind in _COLOURS}
"""The chunks that must not precede a chunk (5.6)."""

_UNSPECIFIED = 2
_NAME_BYTES = 10_000
"""More than a profile's name and deflate's overhead take."""


def intact_chunks(data: bytes, found: Iterable[Chunk], header: Header, palette: int) -> dict[bytes, Chunk]:
    """Return the first chunk of each supported kind with a valid place, length and checksum.

    Others are ignored, as the standard demands for invalid ancillary chunks (13.1), and are not sent. `palette` is the
    number of its colours.
    """
    lengths = _lengths(header, palette)
    intact: dict[bytes, Chunk] = {}
    passed: set[bytes] = set()
    for chunk in found:
        kind = chunk.kind
        is_heeded = kind == b"eXIf" or (chunk.size in lengths.get(kind, ()) and passed.isdisjoint(_BEFORE[kind]))
        if is_heeded and kind not in intact and has_checksum(data, chunk):
            intact[kind] = chunk
        passed.add(kind)
    if b"iCCP" in intact and not _has_profile(data, intact[b"iCCP"]):
        del intact[b"iCCP"]
    return intact


def _lengths(header: Header, palette: int) -> dict[bytes, Collection[int]]:
    """Return the valid lengths of the chunks that state colours (11.3); decoders ignore chunks of other lengths."""
    return {
        b"tRNS": {GREY: {2}, RGB: {6}, PALETTE: range(1, palette + 1)}.get(header.colour_type, ()),
        b"gAMA": {4},
        b"cHRM": {32},
        b"sRGB": {1},
        b"iCCP": range(2**31),
        b"sBIT": {3 if header.colour_type == PALETTE else header.channels},
        b"cICP": {4},
    }


def stated_colours(data: bytes, intact: Mapping[bytes, Chunk]) -> ColourSpace | None:
    """Return the colours stated without a profile, in the precedence of 4.3: cICP, iCCP, sRGB, gAMA and cHRM."""
    stated = {kind: chunk.content(data) for kind, chunk in intact.items() if kind in _STATED}
    primaries, transfer, matrix, _ = stated.get(b"cICP", bytes(4))
    of_code = colour.of_cicp(primaries, transfer)
    if of_code and not matrix and _UNSPECIFIED not in {primaries, transfer}:
        return of_code
    if not {b"iCCP", b"sRGB"}.isdisjoint(stated):
        return None
    points = [(x / 100_000, y / 100_000) for x, y in struct.iter_unpack(">2I", stated.get(b"cHRM", b""))]
    gamma = int.from_bytes(stated.get(b"gAMA", b""), "big")
    return colour.of_gamma(colour.Primaries(*points) if points else None, 100_000 / gamma if gamma else None)


def states_colours(kinds: Collection[bytes]) -> bool:
    """Say whether one of these chunks states them."""
    return not _STATED.isdisjoint(kinds)


def profile_chunk(profile: bytes) -> bytes:
    """Return the chunk that holds a profile (11.3.2.3)."""
    content = b"iCCPprofile\0\0" + zlib.compress(profile)
    return b"".join((struct.pack(">I", len(content) - 4), content, struct.pack(">I", zlib.crc32(content))))


def _has_profile(data: bytes, chunk: Chunk) -> bool:
    """Say whether it holds a profile and nothing after it (11.3.2.3); refuse one that inflates beyond the limit."""
    if (
        chunk.end - chunk.body > colour.MAX_PROFILE_BYTES + _NAME_BYTES
    ):  # deflate never makes useful data larger than that
        raise _large_profile()
    try:
        return bool(inflated_profile(chunk.content(data)))
    except (ValueError, zlib.error):
        return False


def inflated_profile(content: bytes) -> bytes:
    """Return the profile in a chunk, 4 KB of which can inflate to gigabytes. Raises ValueError if it is invalid."""
    inflater = zlib.decompressobj()
    profile = inflater.decompress(content[content.index(b"\0") + 2 :], colour.MAX_PROFILE_BYTES)
    if inflater.unconsumed_tail:
        raise _large_profile()
    if not inflater.eof or inflater.unused_data or profile[36:40] != b"acsp":
        raise ValueError
    return profile


def _large_profile() -> UnsupportedFormat:
    return UnsupportedFormat(
        f"The PNG's colour profile is larger than {colour.MAX_PROFILE_BYTES // 10**6} MB. Save it with sRGB instead."
    )
