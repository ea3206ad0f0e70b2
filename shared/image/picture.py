"""The value that the steps pass on: pixels, and what later steps must know about their source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.image.colour import ColourSpace
    from shared.image.model import Change, ImageLimits


@dataclass(frozen=True)
class Picture:
    """Decoded pixels on their way out. Every step returns a new picture, or the same one if it has nothing to do.

    `orientation` has yet to be applied; `quality` is the IJG quality of a JPEG source, otherwise None; `depth` is the
    source's bits per channel; `profile` is the ICC profile of the pixels, and `colours` their colour space if there is
    no profile; `is_drawing`: a JPEG would spoil it; `is_lossless`: no lossy compression has changed it; `sampling` is
    how many pixels share one chroma sample in a JPEG source, across and down.
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
        """Return the picture with other pixels, and add the change."""
        changes = self.changes if change in self.changes else (*self.changes, change)
        return replace(self, image=image, changes=changes, **values)

    def recast(self, mode: str) -> Picture:
        """Return the picture with the same pixels in another mode."""
        return replace(self, image=self.image.convert(mode))
