"""A file's content without a copy: memory that the app has filled is mapped here."""

from __future__ import annotations

import mmap
import re
from typing import cast


def map_file(descriptor: int, size: int) -> bytes:
    """Return a descriptor's content as an object that the image code takes for `bytes`, and Pillow for a file."""
    if not size:  # an empty file cannot be mapped
        return b""
    at_once = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # all at once, to avoid a page fault for each page
    return cast("bytes", MappedFile(descriptor, size, flags=at_once, prot=mmap.PROT_READ))


class MappedFile(mmap.mmap):
    """The methods of `bytes` and `BytesIO` that `mmap` lacks."""

    def startswith(self, prefix: bytes) -> bool:
        """Say whether the content begins with this."""
        return self[: len(prefix)] == prefix

    def count(self, word: bytes, start: int = 0, end: int | None = None) -> int:
        """Count the occurrences of some bytes."""
        pattern = re.compile(re.escape(word))
        return sum(1 for _ in pattern.finditer(self, start, len(self) if end is None else end))

    def replace(self, word: bytes | memoryview, other: bytes, most: int = -1) -> bytes:
        """Return a copy in which some bytes are replaced."""
        return self[:].replace(word, other, most)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, bytes) and self.find(word) >= 0

    def getvalue(self) -> MappedFile:
        """Return the whole content: without this method, Pillow would read it before it passes it to libtiff."""
        return self
