"""Inspects a PNG: which of its chunks are sent, and whether it may be passed through.

The format is https://www.w3.org/TR/png-3/ (section 5: chunks). APNG's frames and all text, time and EXIF chunks are
removed; chunks that a decoder needs for the right colours stay if they have the right length and hide nothing. Whether
all pixels are present is decided in `png_integrity`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import UnsupportedFormat
from shared.image import colour
from shared.image.formats import exif
from shared.image.formats.png_chunks import CRITICAL, SIGNATURE, chunks, demand_order, truncated
from shared.image.formats.png_colours import intact_chunks, profile_chunk, stated_colours, states_colours
from shared.image.formats.png_header import GREY, PALETTE, Header
from shared.image.inspection import NOTHING, Inspection, joined
from shared.image.model import ImageHeader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.image.formats.png_chunks import Chunk

_DEEP_BYTES = 12
"""Memory per pixel for reducing 16 bits to 8: the high bytes, and the result."""


@dataclass(frozen=True)
class PngInspection(Inspection):
    """What the chunks say.

    `pixel_data` are the contents of the IDAT chunks, `profile_chunk` is the whole profile chunk, as (start, end);
    `pixel_bits` is the bits per pixel; `is_deep_and_dark`: its colours have 16 bits, with a curve that is too dark for
    8.
    """

    pixel_bits: int = 24
    interlaced: bool = False
    pixel_data: tuple[tuple[int, int], ...] = ()
    profile_chunk: tuple[int, int] | None = None
    is_deep_and_dark: bool = False


def inspect(data: bytes) -> PngInspection:
    """Read the chunks up to IEND; refuse a truncated or malformed file. Does not read pixel data."""
    found = list(chunks(data))
    header = _header(data, found)
    demand_order(found)
    palette = next((chunk.size for chunk in found if chunk.kind == b"PLTE"), None)
    header.demand_palette(palette)
    intact = intact_chunks(data, found, header, (palette or 0) // 3)
    colours = stated_colours(data, intact)
    is_plain = not header.is_deep and not header.has_alpha and b"tRNS" not in intact
    has_colours = header.colour_type not in {GREY, PALETTE} and b"tRNS" not in intact
    is_deep_and_dark = has_colours and header.is_deep and bool(colours and colours.lacks_dark_values)
    exif_block = intact.pop(b"eXIf", None)
    block = memoryview(data)[exif_block.body : exif_block.body_end] if exif_block else b""
    inserted = NOTHING
    if exif.states_adobe_rgb(block) and not states_colours(intact):
        colours = colour.ADOBE_RGB
        inserted = found[0].end, profile_chunk(colours.profile(is_grey=header.is_grey))
    kept = [chunk for chunk in found if chunk.kind in CRITICAL or chunk is intact.get(chunk.kind)]
    pieces = joined([(0, len(SIGNATURE)), *((chunk.start, chunk.end) for chunk in kept)])
    profile = intact.get(b"iCCP")
    return PngInspection(
        data=data,
        header=ImageHeader("image/png", header.width, header.height),
        orientation=exif.orientation(block),
        has_metadata=pieces != ((0, len(data)),),
        depth=header.depth,
        is_lossless=True,
        fits_as_is=not header.is_deep,
        inserted=inserted,
        kept=pieces,
        pixel_bits=header.depth * header.channels,
        interlaced=header.interlaced,
        weight=_weight(header, is_plain=is_plain),
        is_opaque=is_plain,
        pixel_data=tuple((chunk.body, chunk.body_end) for chunk in found if chunk.kind == b"IDAT"),
        colours=colours,
        profile_chunk=(profile.start, profile.end) if profile else None,
        is_deep_and_dark=is_deep_and_dark,
        buffer_bytes=_DEEP_BYTES * header.width * header.height if is_deep_and_dark else 0,
    )


def _header(data: bytes, found: Sequence[Chunk]) -> Header:
    """Read the first chunk; refuse a file that begins with another one, or has no pixels."""
    if found and found[0].kind == b"IHDR" and any(chunk.kind == b"IDAT" for chunk in found):
        return Header.read(found[0].content(data))
    if found and found[0].kind == b"CgBI":
        raise UnsupportedFormat(
            "The PNG is in Apple's own variant (CgBI), which only Apple's systems show. Export it as an ordinary PNG."
        )
    raise truncated()


def _weight(header: Header, *, is_plain: bool) -> int:
    if header.is_deep and header.has_alpha:
        return 4
    return (1 if is_plain else 2) * (2 if header.interlaced else 1)
