"""Decides which page of a TIFF is its picture: the first one, unless that is a thumbnail of another page.

TIFF/EP (ISO 12234-2), scanners and some exporters write a thumbnail first; the picture is then a later page, or a
sub-page (SubIFDs). A page states its own kind in NewSubFileType, or the older SubFileType (TIFF 6.0, page 36 and 40).
Some thumbnails do not state it, but are recognized by their shape and size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import ImageRefused, UnsupportedFormat
from shared.image.formats import tiff_tags as tags
from shared.image.formats.tiff_directory import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PAGES = 32
"""How many pages are read."""

_REDUCED, _OF_A_DOCUMENT = 1, 2
_OLD_KINDS = {2: _REDUCED, 3: _OF_A_DOCUMENT}
_SENSORS = {32_803, 34_892}
"""The pixels of a raw file (PhotometricInterpretation), as recorded by a sensor."""

_THUMBNAIL_SIDE = 512
_LEAST_SCALE = 2
"""The maximum size of an unmarked thumbnail, and how much larger its picture is at least."""


def pages(first: Directory) -> Iterator[tuple[Directory, bool]]:
    """Yield the readable pages, each once, and whether it is in the main sequence of pages."""
    waiting, seen = [(first, True)], {first.start}
    while waiting:
        page, is_main = waiting.pop(0)
        yield page, is_main
        behind = [(page.next_start, is_main)] if page.next_start else []
        for start, follows in (*behind, *((start, False) for start in page.numbers(tags.SUB_PAGES)[:MAX_PAGES])):
            if start in seen or len(seen) == MAX_PAGES:
                continue
            seen.add(start)
            try:
                waiting.append((Directory.read(page.data, start), follows))
            except ImageRefused:
                continue


def main_page(first: Directory) -> Directory:
    """Return the page that is the picture; refuse camera raw files and files that hold only a preview."""
    if _kind(first) & _REDUCED:
        found = [(page, is_main) for page, is_main in pages(first) if not _kind(page) & ~_OF_A_DOCUMENT]
        following = [page for page, is_main in found if is_main]
        picture = following[0] if following else max((page for page, _ in found), key=_pixels, default=None)
        if not picture or picture.first(tags.PHOTOMETRIC, 0) in _SENSORS:
            raise UnsupportedFormat(
                "The TIFF holds a small preview, but not the picture itself, as cameras' raw files do. Export it as a "
                "JPEG."
            )
        return picture
    if _kind(first) or tags.PAGE_NUMBER in first.entries or max(first.size) > _THUMBNAIL_SIDE:
        return first
    enlarged = [page for page, _ in pages(first) if not _kind(page) and _is_enlarged(first, page)]
    return max(enlarged, key=_pixels, default=first)


def _kind(page: Directory) -> int:
    return page.first(tags.SUB_FILE_TYPE, 0) | _OLD_KINDS.get(page.first(tags.OLD_SUB_FILE_TYPE, 1), 0)


def _pixels(page: Directory) -> int:
    width, height = page.size
    return width * height


def _is_enlarged(thumbnail: Directory, page: Directory) -> bool:
    """Say whether a page has the shape of a thumbnail, within rounding, and is much larger."""
    (width, height), (across, down) = thumbnail.size, page.size
    is_larger = across >= _LEAST_SCALE * width and down >= _LEAST_SCALE * height
    return is_larger and abs(across * height - down * width) <= max(across, down)
