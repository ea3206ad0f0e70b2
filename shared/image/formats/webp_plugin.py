"""Pillow's WebP plugin, with transparency outside an animation's first frame, where Pillow shows black."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.WebPImagePlugin import WebPImageFile

from shared.image.inspection import as_file

if TYPE_CHECKING:
    from shared.image.formats.webp import WebpInspection


def open_image(source: WebpInspection, _scale: int = 1) -> WebPImageFile:
    """Open the picture, or the first frame of an animation."""
    return (_PartialFrame if source.is_partial else WebPImageFile)(as_file(source.data))


class _PartialFrame(WebPImageFile):
    """A canvas that is transparent wherever no frame is, even if the file states that nothing is transparent."""

    def _open(self) -> None:
        super()._open()
        self._mode = self.rawmode = "RGBA"
