"""Simulated time: what happens next, and code that waits in it without knowing.

Each simulated thread is a greenlet, so that the app's own code runs unchanged; where it would wait, the loop goes on
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
    """What is to happen, in the order of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_over = False
        self._hub = getcurrent()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Have something done at a time."""
        heapq.heappush(self._due, (when, next(self._order), action))

    def sleep(self, seconds: float) -> None:
        """Let time pass for the greenlet that runs."""
        self.at(self.now + seconds, getcurrent().switch)
        self._hub.switch()

    def wait(self) -> Any:
        """Stop the greenlet that runs until somebody switches to it, and return what it is told."""
        return self._hub.switch()

    def run(self, until: float) -> None:
        """Do what is due until it is over, nothing is left, or the time has come."""
        while self._due and not self.is_over and self._due[0][0] <= until:
            self.now, _, action = heapq.heappop(self._due)
            action()
