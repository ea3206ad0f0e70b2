"""A file's content without a copy of it: memory that the app has filled, and that is only mapped here."""

from __future__ import annotations

import mmap
import re
from typing import cast


def map_file(descriptor: int, size: int) -> bytes:
    """Return what the image work may take for `bytes`, and Pillow for a file."""
    if not size:  # which cannot be mapped
        return b""
    at_once = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # and not page by page, which takes a fault for each
    return cast("bytes", MappedFile(descriptor, size, flags=at_once, prot=mmap.PROT_READ))


class MappedFile(mmap.mmap):
    """What `mmap` lacks of `bytes`, and of `BytesIO`."""

    def startswith(self, prefix: bytes) -> bool:
        """Say whether it begins so."""
        return self[: len(prefix)] == prefix

    def count(self, word: bytes, start: int = 0, end: int | None = None) -> int:
        """Count a word."""
        pattern = re.compile(re.escape(word))
        return sum(1 for _ in pattern.finditer(self, start, len(self) if end is None else end))

    def replace(self, word: bytes | memoryview, other: bytes, most: int = -1) -> bytes:
        """Return a copy in which a word is replaced."""
        return self[:].replace(word, other, most)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, bytes) and self.find(word) >= 0

    def getvalue(self) -> MappedFile:
        """Return all of it, for Pillow, which would else read what it hands to libtiff."""
        return self
