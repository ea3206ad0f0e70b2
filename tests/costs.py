"""What work costs, always as a ratio to other work of the same run: a slow or busy machine changes both alike."""

from __future__ import annotations

import time
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from tests.image.pictures import encoded, photo

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 3


def cost(work: Callable[[], object], reference: Callable[[], object]) -> float:
    """Return the CPU time of `work` as a multiple of the reference's: of a few tries, the one that was disturbed least.

    Each try measures both, one after the other, so that what slows one of them down meets the other one too.
    """
    return min(_cpu_s(work) / _cpu_s(reference) for _ in range(TRIES))


def cost_in_photos(work: Callable[[], object]) -> float:
    """Return the CPU time of `work` as a multiple of what the mere decoding of a photo of 4 megapixels takes."""
    photo_file = _photo_file()  # or to make it were measured with the first try
    return cost(work, lambda: decode(photo_file))


def decode(data: bytes) -> None:
    """Let Pillow alone decode an image."""
    with Image.open(BytesIO(data)) as image:
        image.load()


@cache
def _photo_file() -> bytes:
    return encoded(photo(2400, 1810), "JPEG", quality=90)


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
