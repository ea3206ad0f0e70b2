"""Inspects HEIC and AVIF, which share a container: which of them a file is, and the size of its largest picture.

The container is ISO/IEC 14496-12 with the items of ISO/IEC 23008-12 (https://nokiatech.github.io/heif/technical.html);
AVIF's brands are in https://aomediacodec.github.io/av1-avif/. Both decoders apply the container's own rotation and
mirroring, which override the EXIF orientation.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import colour
from shared.image.formats import av1, exif, hevc
from shared.image.formats.heif_boxes import Box, boxes
from shared.image.formats.heif_items import Items, extents, item_types, stored_within
from shared.image.formats.heif_streams import item_heads, stream_heads
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

if TYPE_CHECKING:
    from shared.image.colour import ColourSpace

_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_EITHER = {b"mif1", b"msf1"}
_METADATA = (b"Exif", b"application/rdf+xml", b"thmb")
_UNSUPPORTED = {
    b"unci": "uncompressed pixels (unif, unci)",
    b"avc1": "an AVC-coded picture (avc1)",
    b"vvc1": "a VVC-coded picture (vvc1)",
    b"evc1": "an EVC-coded picture (evc1)",
    b"j2k1": "a JPEG 2000 picture (j2k1)",
    b"jpeg": "a JPEG picture (jpeg)",
    b"mski": "a mask",
}
"""Item types that none of the decoders supports."""

_OVERLAY_BYTES = 10
"""What precedes the size of an overlay's canvas: a version, flags, and the colour of the canvas."""


def is_avif(head: bytes) -> bool:
    """Say whether a file begins as AVIF."""
    brands = _brands(head)
    return not brands.isdisjoint(_AVIF)


def is_heic(head: bytes) -> bool:
    """Say whether a file begins as HEIC, or as HEIF that is not AVIF."""
    brands = _brands(head)
    return not brands.isdisjoint(_HEIC | _EITHER) and brands.isdisjoint(_AVIF)


def _brands(head: bytes) -> set[bytes]:
    """Return the major and the compatible brands (`ftyp`, 14496-12, 4.3)."""
    if head[4:8] != b"ftyp":
        return set()
    size = int.from_bytes(head[:4], "big")
    return {head[8:12]} | {head[at : at + 4] for at in range(16, min(size, len(head)), 4)}


def inspect_avif(data: bytes) -> Inspection:
    """Inspect an AVIF: its stream may state the colours, and its decoder ignores the crop (`clap`)."""
    source, items = _inspect(data, "image/avif", "AVIF")
    numbers = filter(None, map(av1.cicp, stream_heads(data)))
    in_stream = next((colour.of_cicp(*pair) for pair in numbers), None)
    return replace(
        source,
        colours=source.colours or in_stream,
        crop=items.clean_aperture(source.header.width, source.header.height),
    )


def inspect_heic(data: bytes) -> Inspection:
    """Inspect a HEIC: its stream may state colours that the container does not."""
    source, items = _inspect(data, "image/heic", "HEIC")
    in_stream = hevc.cicp(items.configuration(b"hvcC"))
    return replace(source, colours=source.colours or (colour.of_cicp(*in_stream) if in_stream else None))


def _inspect(data: bytes, media_type: str, name: str) -> tuple[Inspection, Items]:
    meta, is_animated = _meta(data, name)
    items = Items.read(data, meta)
    size = items.largest_size()
    if not size:
        raise CorruptImage(f"The {name} is damaged or cut short: it does not state its size. Upload the whole file.")
    if 0 in size:
        raise CorruptImage(f"The {name} is damaged: it does not state its size. Save it again.")
    if unsupported := _UNSUPPORTED.get(item_types(data, meta).get(items.first_coded(), b"")):
        raise UnsupportedFormat(f"The {name} holds {unsupported}, which is not supported. Save it as a JPEG.")
    _demand_extents(data, meta, name)
    _refuse_cut_overlays(data, meta, name)
    source = Inspection(
        data,
        ImageHeader(media_type, *size),
        has_metadata=is_animated or any(data.find(word, meta.start, meta.end) >= 0 for word in _METADATA),
        depth=items.depth(),
        colours=items.colours() or _colours_of_exif(data, meta),
    )
    return source, items


def _colours_of_exif(data: bytes, meta: Box) -> ColourSpace | None:
    """Return what EXIF says of them (23008-12, A.2.1): the item begins with how many bytes there are before it."""
    for head in item_heads(data, meta, b"Exif"):
        before = int.from_bytes(head[:4], "big")
        if exif.states_adobe_rgb(head[4 + before :]):
            return colour.ADOBE_RGB
    return None


def _meta(data: bytes, name: str) -> tuple[Box, bool]:
    """Return the box that describes the items (`meta`, 14496-12, 8.11.1), and whether there are tracks (`moov`)."""
    found = list(boxes(data, 0, len(data)))
    metas = [box for box in found if box.kind == b"meta"]
    has_tracks = any(box.kind == b"moov" for box in found)
    if len(metas) > 1:
        raise CorruptImage(f"The {name} is damaged: it has two descriptions (`meta`). Save it again.")
    if not metas and has_tracks:
        raise UnsupportedFormat(f"The {name} holds no still image. Send one frame of it as a JPEG or PNG.")
    if not metas:
        raise CorruptImage(f"The {name} is cut short: its description (`meta`) is missing. Upload the whole file.")
    return metas[0], has_tracks


def _refuse_cut_overlays(data: bytes, meta: Box, name: str) -> None:
    """Refuse pictures laid on a canvas (`iovl`, 23008-12, 6.6.2.2) above or left of it: libheif would not show them."""
    for head in item_heads(data, meta, b"iovl"):
        letter, size = ("i", 4) if head[1:2] == b"\1" else ("h", 2)
        offsets = head[_OVERLAY_BYTES + 2 * size :]
        places = struct.unpack(f">{len(offsets) // size}{letter}", offsets[: len(offsets) // size * size])
        if min(places, default=0) < 0:
            raise UnsupportedFormat(
                f"The {name} lays pictures over the left or upper edge of its canvas, which is not supported. "
                "Save it as a JPEG."
            )


def _demand_extents(data: bytes, meta: Box, name: str) -> None:
    """Refuse items whose bytes are missing. Items may share bytes (14496-12, 8.11.3), as tiles of one colour do."""
    _, stored = stored_within(data, meta)
    for extent in extents(data, meta):
        if extent.place + extent.length > (stored if extent.is_within else len(data)):
            raise CorruptImage(f"The {name} is cut short: it refers to more bytes than it has. Upload the whole file.")
