"""How much memory images may take at once, over all threads of the process: who may begin, and who waits.

First come, first served, so that nobody starves; what needs more than there is goes alone. Beside it the process holds
what waits: a file of at most `MAX_SOURCE_BYTES` for each of its threads.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.image import examine_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image import ImageLimits, NormalizedImage

# Leaves, of an instance of 2,048 MB, enough for the files that wait and for what the process keeps.
BUDGET_BYTES = 1_000_000_000


class Admission:
    """The memory that there is for images; one for the process, shared by its threads."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self._budget_bytes = self._free_bytes = budget_bytes
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def admit(self, size_bytes: int) -> Iterator[None]:
        """Let the block take so much; wait before it while others have it, or came before."""
        share_bytes = min(size_bytes, self._budget_bytes)
        self._enter(share_bytes)
        try:
            yield
        finally:
            with self._changed:
                self._free_bytes += share_bytes
                self._changed.notify_all()

    def _enter(self, share_bytes: int) -> None:
        place = object()
        with self._changed:
            self._line.append(place)
            try:
                self._changed.wait_for(lambda: self._line[0] is place and share_bytes <= self._free_bytes)
                self._free_bytes -= share_bytes
            finally:
                self._line.remove(place)
                self._changed.notify_all()


def normalize_admitted(content: bytes, *, limits: ImageLimits, admission: Admission) -> NormalizedImage:
    """Return the content as an image that the API accepts, once there is memory for it. Raises DropError."""
    examined = examine_image(content, limits)
    with admission.admit(len(content) + examined.peak_bytes):
        return examined.normalize()
