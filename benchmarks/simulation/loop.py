"""Simulated time: the next event, and code that waits in simulated time without knowing it.

Each simulated thread is a greenlet, so that the app's own code runs unchanged; where it would wait, the loop continues
with whatever is due next.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """The scheduled events, in the order of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_over = False
        self._hub = getcurrent()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Schedule a call."""
        heapq.heappush(self._due, (when, next(self._order), action))

    def sleep(self, seconds: float) -> None:
        """Let time pass for the running greenlet."""
        self.at(self.now + seconds, getcurrent().switch)
        self._hub.switch()

    def wait(self) -> Any:
        """Suspend the running greenlet until another one switches to it, and return the value passed."""
        return self._hub.switch()

    def run(self, until: float) -> None:
        """Run what is due until the time limit, or until nothing is left."""
        while self._due and not self.is_over and self._due[0][0] <= until:
            self.now, _, action = heapq.heappop(self._due)
            action()
