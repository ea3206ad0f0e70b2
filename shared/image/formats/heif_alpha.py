"""Adds the size of an AVIF's alpha picture, which older encoders left out and Pillow's decoder requires."""

from __future__ import annotations

from shared.image.formats.heif_boxes import VERSION_BYTES, Box, boxes, boxes_of_meta, written
from shared.image.formats.heif_items import Items

_MAX_COUNT = 255


def with_sized_alpha(data: bytes) -> bytes:
    """Return an AVIF whose alpha picture states its size, which is that of the main picture.

    The new `meta` is appended, and its old place becomes free space, so that all offsets stay valid.
    """
    for box in boxes(data, 0, len(data)):
        if box.kind == b"meta":
            items = Items.read(data, box)
            missing = items.alphas_without_size()
            if not missing:
                return data
            size = next(number for number in items.owned[items.primary] if items.size(number))
            meta = _with_property(data, box, dict.fromkeys(missing, size + 1))
            return b"".join((data[: box.start - 4], b"free", data[box.start :], written(b"meta", meta)))
    return data


def _with_property(data: bytes, meta: Box, added: dict[int, int]) -> bytes:
    """Return the content of `meta` with one more property for some items."""
    content = data[meta.start : meta.start + VERSION_BYTES]
    for kind, body, stop in boxes_of_meta(data, meta):
        inside = data[body:stop]
        if kind == b"iprp":
            inside = b"".join(
                written(inner, _with_associations(data[at:until], added) if inner == b"ipma" else data[at:until])
                for inner, at, until in boxes(data, body, stop)
            )
        content += written(kind, inside)
    return content


def _with_associations(content: bytes, added: dict[int, int]) -> bytes:
    """Return the content of `ipma` with one more property for some items (23008-12, 9.3)."""
    item_bytes, index_bytes = 4 if content[0] else 2, 2 if content[3] & 1 else 1
    made, at = content[:8], 8
    for _ in range(int.from_bytes(content[4:8], "big")):
        item, count = int.from_bytes(content[at : at + item_bytes], "big"), content[at + item_bytes]
        listed = at + item_bytes + 1
        after = listed + count * index_bytes
        extra = added[item].to_bytes(index_bytes, "big") if item in added and count < _MAX_COUNT else b""
        made += content[at : listed - 1] + bytes((count + bool(extra),)) + content[listed:after] + extra
        at = after
    return made
