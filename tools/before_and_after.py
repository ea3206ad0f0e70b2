"""Writes the README's two pictures, scaled down: a phone's file, and what is sent instead. `make docs`."""

from __future__ import annotations

import argparse
import io
from typing import TYPE_CHECKING

from PIL import Image

from local.processes import PROJECT
from local.samples import phone_photo
from shared.image import normalize_image

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = PROJECT / "docs" / "images"
LONGEST_SIDE = 240


def pictures() -> dict[Path, Image.Image]:
    """Return both as a viewer without support for EXIF orientation shows them."""
    photo = phone_photo()
    contents = {"before.jpg": photo, "after.jpg": normalize_image(photo).data}
    return {IMAGES / name: _small(content) for name, content in contents.items()}


def _small(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return picture


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tools.before_and_after", description=__doc__).parse_args()
    for file, picture in pictures().items():
        picture.save(file, quality=85)
