"""What a walker learns from a file without decoding it: enough to refuse it, to pass it or to open it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.image.model import ImageHeader


@dataclass(frozen=True)
class Survey:
    """A file as its structure describes it.

    `orientation` is the EXIF one, 1 to 8, that still has to be applied. `has_metadata` says whether anything is in the
    file that must not leave. `fits_as_is` says whether its pixels could leave untouched as far as format, depth and
    colour go. `quality` is the IJG quality the source was encoded at, or None where it was not a JPEG.
    """

    data: bytes
    header: ImageHeader
    orientation: int = 1
    has_metadata: bool = False
    fits_as_is: bool = False
    quality: int | None = None

    @property
    def pixels(self) -> int:
        """How many pixels a decoder would make of it."""
        return self.header.width * self.header.height
