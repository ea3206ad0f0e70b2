"""Rations something that is limited for all threads, memory or processes: who may begin, and who has to wait.

First come, first served, so that nobody starves; a request for more than the whole budget is admitted alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Iterator


class Admission:
    """A budget to ration; one for the process, shared by its threads."""

    def __init__(self, budget: int) -> None:
        self._budget = self._free = budget
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def admit(self, size: int, deadline: float = math.inf) -> Iterator[None]:
        """Give the block `size` of the budget; first wait while others have it, or came earlier.

        Raises OutOfTime at the `deadline`, an instant of `time.monotonic`.
        """
        share = min(size, self._budget)
        self._enter(share, deadline)
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()

    def _enter(self, share: int, deadline: float) -> None:
        place = object()
        with self._changed:
            self._line.append(place)
            try:
                left_s = None if math.isinf(deadline) else max(deadline - time.monotonic(), 0)
                if not self._changed.wait_for(lambda: self._line[0] is place and share <= self._free, left_s):
                    raise OutOfTime("Other images were still being processed when the attempt's time was up.")
                self._free -= share
            finally:
                self._line.remove(place)
                self._changed.notify_all()
