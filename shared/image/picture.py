"""The value that the steps hand on: pixels, and what still has to be known about where they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.image.colour import ColourSpace
    from shared.image.model import Change, ImageLimits


@dataclass(frozen=True)
class Picture:
    """Decoded pixels on their way out. Every step returns a new one, or the same where it has nothing to do.

    `orientation` is still to be applied; `quality` is the IJG quality that the source had, None where it was no JPEG;
    `depth` is the bits that a channel had; `profile` is the ICC profile that the pixels are to be read with,
    and `colours` what they stand for where there is none; `is_drawing` says that a JPEG would spoil it,
    and `is_lossless` that nothing has spoilt it yet; `sampling` is how many pixels of a JPEG had one colour, across and
    down.
    """

    image: Image
    limits: ImageLimits
    orientation: int = 1
    quality: int | None = None
    depth: int = 8
    profile: bytes | None = None
    colours: ColourSpace | None = None
    is_drawing: bool = False
    is_lossless: bool = False
    sampling: tuple[int, int] | None = None
    changes: tuple[Change, ...] = ()

    def changed(self, change: Change, image: Image, **values: Any) -> Picture:
        """Return the picture with other pixels, and the word for why."""
        changes = self.changes if change in self.changes else (*self.changes, change)
        return replace(self, image=image, changes=changes, **values)

    def recast(self, mode: str) -> Picture:
        """Return the picture with the same pixels in another mode."""
        return replace(self, image=self.image.convert(mode))
