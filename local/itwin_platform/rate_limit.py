"""How often a client may call.

https://developer.bentley.com/apis/overview/rate-limits: per OAuth client, 500 a minute and 5,000 an hour on the
smallest plan. What is refused does not count.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE_S = 60
HOUR_S = 3600


class RateLimit:
    """Counts the calls of each client in two sliding windows."""

    def __init__(self, *, requests_per_minute: int, requests_per_hour: int, clock: Callable[[], float]) -> None:
        self._limits = ((MINUTE_S, requests_per_minute), (HOUR_S, requests_per_hour))
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: defaultdict[str, deque[float]] = defaultdict(deque)

    def count(self, client: str) -> int | None:
        """Count one call; if there were too many, return after how many seconds to retry."""
        now = self._clock()
        with self._lock:
            calls = self._calls[client]
            while calls and calls[0] <= now - HOUR_S:
                calls.popleft()
            waits_s = [
                calls[-limit] + window_s - now
                for window_s, limit in self._limits
                if len(calls) >= limit and calls[-limit] > now - window_s
            ]
            if not waits_s:
                calls.append(now)
                return None
        return max(1, math.ceil(max(waits_s)))

    def clear(self) -> None:
        """Forget every call."""
        with self._lock:
            self._calls.clear()
