"""What a parser learns from a file without decoding it: enough to refuse it, to pass it through or to open it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.image.colour import ColourSpace
    from shared.image.model import Change, ImageHeader


def as_file(data: bytes) -> IO[bytes]:
    """Return content as a file without copying it: mapped memory already has a file's methods."""
    if not hasattr(data, "read"):
        return BytesIO(data)
    file = cast("IO[bytes]", data)
    file.seek(0)
    return file


def joined(pieces: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Merge adjacent pieces."""
    whole: list[tuple[int, int]] = []
    for start, end in pieces:
        whole.append((whole.pop()[0], end) if whole and whole[-1][1] == start else (start, end))
    return tuple(whole)


NOTHING = (0, b"")


@dataclass(frozen=True)
class Inspection:
    """A file as its structure describes it.

    `orientation` is the EXIF orientation, 1 to 8, to apply after decoding. `has_metadata`: the file contains something
    that must not be sent. `fits_as_is`: its format, depth and colours allow its pixels to be sent untouched; `kept` are
    then the pieces to send, as (start, end), in order. `quality` is the IJG quality of a JPEG, otherwise None. `weight`
    is 2 or 4 if each pixel takes that many times the memory or time, as with transparency or 16 bits. `is_opaque`: it
    has neither transparency nor more than 8 bits. `depth` is in bits per channel. `buffer_bytes` is what a decoder
    keeps in addition to the pixels, at any scale. `profile` is an ICC profile that the decoder does not find; `colours`
    is the colour space of a file without a profile, or None for sRGB. `crop` is the visible part, as (left, top, right,
    bottom), or None for all of it. `is_lossless`: no lossy compression has changed the pixels. `sampling` is how many
    pixels share one chroma sample in a JPEG, across and down, as stored. `is_preview`: it is the preview in a raw file.
    `inserted` is the ICC profile, ready to write, that replaces a colour description in the metadata when the pixels
    are sent untouched, and its position.
    """

    data: bytes
    header: ImageHeader
    orientation: int = 1
    has_metadata: bool = False
    depth: int = 8
    buffer_bytes: int = 0
    fits_as_is: bool = False
    quality: int | None = None
    kept: tuple[tuple[int, int], ...] = ()
    weight: int = 1
    is_opaque: bool = False
    profile: bytes | None = None
    colours: ColourSpace | None = None
    crop: tuple[int, int, int, int] | None = None
    is_lossless: bool = False
    sampling: tuple[int, int] | None = None
    is_preview: bool = False
    inserted: tuple[int, bytes] = NOTHING

    @property
    def early_changes(self) -> tuple[Change, ...]:
        """The changes that are made before anything else."""
        return ("preview-used",) if self.is_preview else ()

    @property
    def pixels(self) -> int:
        """The number of pixels that a decoder would produce."""
        return self.header.width * self.header.height

    @property
    def bytes_that_leave(self) -> int:
        """The size of the file as it is sent untouched, in bytes."""
        return sum(end - start for start, end in self.kept) + len(self.inserted[1])

    def lossless(self) -> bytes:
        """Return the file without its metadata: the same object if it has none."""
        if not self.has_metadata:
            return self.data
        return b"".join(memoryview(self.data)[start:end] for start, end in self.kept)

    def lossless_with_profile(self) -> bytes:
        """Return the file without its metadata, but with the profile to insert."""
        at, profile = self.inserted
        if not profile:
            return self.lossless()
        view = memoryview(self.data)
        before = [view[start : min(end, at)] for start, end in self.kept if start < at]
        after = [view[max(start, at) : end] for start, end in self.kept if end > at]
        return b"".join((*before, profile, *after))
