"""DNGs: a camera's raw data with previews."""

from __future__ import annotations

import struct
from typing import Any

from PIL import Image

from tests.image.pictures import encoded

Page = dict[int, tuple[int, ...]]
PREVIEW, ALTERNATIVE, MAIN, MASK = 1, 0x1_0001, 0, 4
YCBCR, RGB, CFA, LINEAR_RAW, TRANSPARENCY_MASK = 6, 2, 32_803, 34_892, 4
DNG_VERSION, SUB_PAGES, PREVIEW_COLOURS = 50_706, 330, 50_970


def jpeg(colour: str, width: int, height: int, **options: Any) -> bytes:
    """Return a JPEG of one colour."""
    return encoded(Image.new("RGB", (width, height), colour), "JPEG", quality=90, **options)


def page(kind: int, photometric: int, pixels: bytes, size: tuple[int, int], **more: int) -> tuple[Page, bytes]:
    """Return the entries of a page, without the place of its pixels, and these."""
    width, height = size
    entries: Page = {254: (kind,), 256: (width,), 257: (height,), 258: (8, 8, 8), 259: (7,), 262: (photometric,)}
    return {**entries, 277: (3,), 278: (height,), **{int(tag): (value,) for tag, value in more.items()}}, pixels


def dng(first: Page, pages: list[tuple[Page, bytes]], order: str = "<", *, chained: bool = False) -> bytes:
    """Return a DNG: the entries of its first page, and its other pages, as sub-pages or in sequence."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    body = bytearray(head + bytes(4))
    starts = []
    for entries, pixels in pages:
        at = len(body)
        body += pixels + bytes(len(pixels) % 2)
        starts.append(_write(body, order, {**entries, 273: (at,), 279: (len(pixels),)}))
    own = {} if chained else {SUB_PAGES: tuple(starts)}
    first_start = _write(body, order, {DNG_VERSION: (0x0104_0000,), **first, **own})
    if chained:
        for before, after in zip([first_start, *starts], starts, strict=False):
            count = struct.unpack_from(order + "H", body, before)[0]
            struct.pack_into(order + "I", body, before + 2 + 12 * count, after)
    struct.pack_into(order + "I", body, 4, first_start)
    return bytes(body)


def _write(body: bytearray, order: str, entries: Page) -> int:
    """Append a directory of numbers; return its offset."""
    apart = {}
    for tag, values in entries.items():
        if len(values) > 1:
            apart[tag] = len(body)
            body += struct.pack(f"{order}{len(values)}I", *values)
    start = len(body)
    body += struct.pack(order + "H", len(entries))
    for tag, values in sorted(entries.items()):
        body += struct.pack(order + "HHII", tag, 4, len(values), apart.get(tag, values[0]))
    body += bytes(4)
    return start


RAW = page(MAIN, CFA, jpeg("red", 3_000, 2_000), (3_000, 2_000))
LARGE = page(PREVIEW, YCBCR, jpeg("blue", 1_600, 1_200), (1_600, 1_200))
SMALL = page(PREVIEW, YCBCR, jpeg("lime", 1_024, 768), (1_024, 768))
THUMBNAIL: Page = {254: (PREVIEW,), 256: (160,), 257: (120,), 258: (8, 8, 8), 259: (1,), 262: (RGB,), 277: (3,)}
