"""Decides about PNG: which of its chunks leave, and whether it may pass.

The format is https://www.w3.org/TR/png-3/ (section 5 for the chunks). APNG's frames and every text, time and EXIF chunk
are cut off; what a decoder needs to show the right colours stays, where it has the length of that and hides nothing.
Whether the pixels are all there is decided in `png_integrity`.
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
"""For each pixel: the halves of 16 bits, and what becomes of them."""


@dataclass(frozen=True)
class PngInspection(Inspection):
    """What the chunks say.

    `pixel_data` are the (start, end) of the bodies of IDAT, `profile_chunk` those of the profile's chunk;
    `pixel_bits` is how many bits a pixel has; `is_deep_and_dark` says that colours of 16 bits have a curve that 8 are
    too few for.
    """

    pixel_bits: int = 24
    interlaced: bool = False
    pixel_data: tuple[tuple[int, int], ...] = ()
    profile_chunk: tuple[int, int] | None = None
    is_deep_and_dark: bool = False


def inspect(data: bytes) -> PngInspection:
    """Read the chunks up to IEND; refuse what is cut short or malformed. Looks at no pixel data."""
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
    """Return what the first chunk says; refuse a file that has another first chunk, or no pixels."""
    if found and found[0].kind == b"IHDR" and any(chunk.kind == b"IDAT" for chunk in found):
        return Header.read(found[0].content(data))
    if found and found[0].kind == b"CgBI":
        raise UnsupportedFormat(
            "The PNG is of Apple's own variant (CgBI), which only its systems show. Export it as an ordinary PNG."
        )
    raise truncated()


def _weight(header: Header, *, is_plain: bool) -> int:
    if header.is_deep and header.has_alpha:
        return 4
    return (1 if is_plain else 2) * (2 if header.interlaced else 1)
