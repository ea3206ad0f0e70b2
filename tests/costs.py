"""What work costs: of CPU always as a ratio to other work of the same run, for a slow or busy machine changes both."""

from __future__ import annotations

import re
import time
from functools import cache
from io import BytesIO
from pathlib import Path
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


def memory_bytes(work: Callable[[], object]) -> int:
    """Return how much more than before this process held at once while it worked, as Linux has seen it.

    What it held at most since it began, `ru_maxrss`, would tell nothing after tests that took more.
    """
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak: man 5 proc_pid_clear_refs
    before = _status_bytes("VmRSS")
    work()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


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
