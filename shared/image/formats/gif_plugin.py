"""Pillow's GIF plugin, with transparency outside the first frame, where Pillow shows the palette's first colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.GifImagePlugin import GifImageFile

from shared.image.inspection import as_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.image.formats.gif import GifInspection


def open_image(source: GifInspection, _scale: int = 1) -> Image:
    """Open the first frame; what is outside it is transparent (GIF89a, 18, and as browsers do)."""
    image = GifImageFile(as_file(source.lossless()))
    if not source.is_partial:
        return image
    image.load()
    canvas = image.convert("RGBA")
    canvas.info = {}
    (left, top, right, bottom), (width, height) = source.frame, canvas.size
    for beside in ((0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)):
        canvas.paste((0, 0, 0, 0), beside)
    return canvas
