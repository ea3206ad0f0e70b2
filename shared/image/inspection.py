"""What a parser learns from a file without decoding it: enough to refuse it, to pass it or to open it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.image.colour import ColourSpace
    from shared.image.model import Change, ImageHeader


def as_file(data: bytes) -> IO[bytes]:
    """Return content as a file, without a copy of it: mapped memory can be read as one itself."""
    if not hasattr(data, "read"):
        return BytesIO(data)
    file = cast("IO[bytes]", data)
    file.seek(0)
    return file


def joined(pieces: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Make one of pieces that touch."""
    whole: list[tuple[int, int]] = []
    for start, end in pieces:
        whole.append((whole.pop()[0], end) if whole and whole[-1][1] == start else (start, end))
    return tuple(whole)


@dataclass(frozen=True)
class Inspection:
    """A file as its structure describes it.

    `orientation` is the EXIF one, 1 to 8, that still has to be applied once it is decoded. `has_metadata` says whether
    anything is in the file that must not leave. `fits_as_is` says whether its pixels could leave untouched as far as
    format, depth and colour go; `kept` are the (start, end) of the pieces that then leave, in order. `quality` is the
    IJG quality of a JPEG, None where the source was no JPEG. `weight` is 2 or 4 where each pixel takes so many times
    the memory or time, as transparency and 16 bits do. `is_opaque` says that it can have no transparency, nor more than
    8 bits. `depth` is the bits of a channel. `buffer_bytes` is what a decoder keeps beside the pixels, whatever the
    scale. `profile` is an ICC profile that the decoder does not find;
    `colours` are what the pixels stand for where no profile says it; None where that is sRGB. `crop` is the part
    of the picture that is shown, as left, top, right and bottom; None where that is all of it.
    `is_lossless` says that the file has its pixels as they were made. `sampling` is how many pixels of a JPEG have one
    colour, across and down, as they are stored. `is_preview` says that it is a picture that a raw file holds.
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

    @property
    def early_changes(self) -> tuple[Change, ...]:
        """What is done to it before anything else."""
        return ("preview-used",) if self.is_preview else ()

    @property
    def pixels(self) -> int:
        """How many pixels a decoder would make of it."""
        return self.header.width * self.header.height

    @property
    def bytes_that_leave(self) -> int:
        """How many bytes the file has without its metadata."""
        return sum(end - start for start, end in self.kept)

    def lossless(self) -> bytes:
        """Return the file without its metadata: the very same object where it has none."""
        if not self.has_metadata:
            return self.data
        return b"".join(memoryview(self.data)[start:end] for start, end in self.kept)
