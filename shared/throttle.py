"""When the process may call the platform: as often as the limit lets it, which it learns from what it hears.

The platform's limits are per OAuth client (https://developer.bentley.com/apis/overview/rate-limits), which all
instances of the app share without knowing of each other. So every process finds its own share: the first 429 tells it
how many calls of its own the last minute took, and from then on it spreads them evenly; each further 429 makes it a
little slower, each call that comes through a very little faster. Whoever has not called for a minute starts anew.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from shared.errors import PlatformThrottled

if TYPE_CHECKING:
    from collections.abc import Callable

# A limit's shortest window, and the pause after a 429 that names none.
WINDOW_S = 60.0
PAUSE_S = 30.0
# The longest window of a limit is an hour: whoever is told to wait for longer asks again after that.
MAX_PAUSE_S = 3600.0
# A drop waits so long for its turn at most; longer waits are the queue's, and so are pauses, however short.
PATIENCE_S = 60.0
# A process that had no luck calls so often still.
MAX_INTERVAL_S = 15.0
# With these, some 80 calls come through between two throttles, so that under 2 % are throttled; the longer nothing is
# heard, the sooner the pace grows.
SLOWER, MUCH_SLOWER = 1.25, 2.0
FASTER, SOONER_AFTER = 0.001, 50
FEW_CALLS = 10


def slower(interval_s: float, calls_since: int, calls_in_window: int) -> float:
    """Return the seconds between two calls after a 429.

    `interval_s` is 0 before the first; `calls_since` came through since the last one, `calls_in_window` in this window.
    """
    if not interval_s:
        return min(WINDOW_S / max(calls_in_window, 1), MAX_INTERVAL_S)
    return min(interval_s * (MUCH_SLOWER if calls_since < FEW_CALLS else SLOWER), MAX_INTERVAL_S)


def faster(interval_s: float, calls_since: int) -> float:
    """Return the seconds between two calls after one that came through."""
    return interval_s / (1 + FASTER * (1 + 2 * calls_since / SOONER_AFTER))


class Throttle:
    """What the process has heard of the platform's limits; shared by its threads.

    `scale` shortens the waits for tests.
    """

    def __init__(
        self,
        *,
        scale: float = 1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._scale = scale
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._lock = threading.Lock()
        self._open_at = self._turn_at = clock()
        self._interval_s = 0.0
        self._calls_since = 0
        self._passed_at: deque[float] = deque()

    def check(self) -> None:
        """Raise PlatformThrottled, with the time that is left, while nothing may be sent."""
        with self._lock:
            left_s = self._open_at - self._clock()
        if left_s > 0:
            raise _throttled(left_s)

    def wait(self) -> None:
        """Wait for the turn of a call.

        Raises PlatformThrottled, with the time that is left, while nothing may be sent, and where the turn is far off.
        """
        self.check()
        with self._lock:
            now = self._clock()
            if now - max(self._turn_at, self._open_at) > WINDOW_S * self._scale:
                self._interval_s = 0.0
            turn_at = max(now, self._turn_at)
            if turn_at - now > PATIENCE_S * self._scale:
                raise _throttled(turn_at - now)
            self._turn_at = turn_at + self._interval_s
        if turn_at > now:
            self._sleep(turn_at - now)
        self.check()

    def succeeded(self) -> None:
        """Note a call that came through."""
        with self._lock:
            self._calls_since += 1
            self._interval_s = faster(self._interval_s, self._calls_since)
            self._passed_at.append(self._clock())
            self._forget(WINDOW_S * self._scale)

    def throttled(self, retry_after_s: float | None) -> float:
        """Note a 429, and return how long nothing may be sent.

        Those that were already in flight when the first was heard can only lengthen the pause.
        """
        pause_s = PAUSE_S * self._scale if retry_after_s is None else min(retry_after_s, MAX_PAUSE_S)
        with self._lock:
            now = self._clock()
            if self._open_at <= now:
                self._forget(max(WINDOW_S * self._scale - pause_s, 0))
                scaled_s = self._interval_s / self._scale
                self._interval_s = slower(scaled_s, self._calls_since, len(self._passed_at)) * self._scale
                self._calls_since = 0
            self._open_at = max(self._open_at, now + pause_s)
            # Not all processes at once, and none before those of its threads that wait already.
            self._turn_at = max(self._turn_at, self._open_at + self._uniform(0, self._interval_s))
            return self._open_at - now

    def _forget(self, window_s: float) -> None:
        """Keep the calls that count in the window alone."""
        while self._passed_at and self._passed_at[0] < self._clock() - window_s:
            self._passed_at.popleft()


def _throttled(left_s: float) -> PlatformThrottled:
    message = "The iTwin Platform's rate limit was reached a moment ago; nothing is sent until it is over."
    return PlatformThrottled(message, retry_after_s=left_s)
