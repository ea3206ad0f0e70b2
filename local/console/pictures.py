"""Decides which pictures can be looked at, and how large.

A dropped file is drawn only after the app has accepted it, as it is stored: without applying its orientation. Its own
bytes are never served, because a browser might interpret them as something else.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from pi_heif import HeifImageFile
from PIL import Image, UnidentifiedImageError

from local.itwin_platform.image import with_eight_bits

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_EDGE = 720
MAX_KEPT_BYTES = 256_000_000
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")

Picture = tuple[bytes, str]


class Pictures:
    """Recently drawn or sent pictures, by key; the oldest are evicted."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._kept: OrderedDict[str, Picture] = OrderedDict()

    def keep(self, key: str, picture: Picture) -> None:
        """Keep a picture as long as there is room."""
        with self._lock:
            self._kept[key] = picture
            self._kept.move_to_end(key)
            while sum(len(data) for data, _ in self._kept.values()) > self._max_bytes:
                self._kept.popitem(last=False)

    def find(self, key: str) -> Picture | None:
        """Return what is kept."""
        with self._lock:
            return self._kept.get(key)

    def draw(self, key: str, read: Callable[[], bytes | None]) -> Picture | None:
        """Return the small picture of that key, drawn of what `read` returns; one at a time, for the memory it takes.

        None where nothing can be drawn.
        """
        with self._drawing:
            found = self.find(key)
            if found is None and (data := read()) is not None and (found := _small(data)) is not None:
                self.keep(key, found)
            return found


def _small(data: bytes) -> Picture | None:
    """Draw a small picture; None if it is not a picture."""
    try:
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            image = HeifImageFile(io.BytesIO(data))
        with image:
            image.draft("RGB", (MAX_EDGE, MAX_EDGE))
            small = with_eight_bits(image)
            small.thumbnail((MAX_EDGE, MAX_EDGE), Image.Resampling.BILINEAR, reducing_gap=2)
            is_clear = small.has_transparency_data
            output = io.BytesIO()
            # Lossless where it is clear, so that no edge gets a halo.
            small.convert("RGBA" if is_clear else "RGB").save(output, "PNG" if is_clear else "JPEG", quality=88)
    except Exception:  # noqa: BLE001 - decoders raise what they like, and the page has a place for no picture
        return None
    return output.getvalue(), "image/png" if is_clear else "image/jpeg"
