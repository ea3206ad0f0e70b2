"""When the process may call the platform: as often as the rate limit allows, which it learns from the platform's 429s.

The platform's limits are per OAuth client (https://developer.bentley.com/apis/overview/rate-limits), which all
instances of the app share without knowing about each other. So every process finds its own share by AIMD, as TCP does:
a 429 slows it down by a factor, and each successful call speeds it up very slightly. A process that called often before
its first 429 has learned its pace from that minute; one that called rarely has learned nothing, and starts at half a
fair pace, until a minute shows that this is too fast. A process that has not called for a minute starts over.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.errors import PlatformThrottled

if TYPE_CHECKING:
    from collections.abc import Callable

# The shortest window of a rate limit, and the pause after a 429 without a Retry-After.
WINDOW_S = 60.0
PAUSE_S = 30.0
# The longest window of a rate limit is an hour: after that, the app tries again even if it was told to wait longer.
MAX_PAUSE_S = 3600.0
# The longest that a drop waits for its turn; longer waits are left to the queue.
PATIENCE_S = 60.0
# How long a drop that arrives during a pause is held before it goes back to the queue: otherwise a process that may not
# call would send back everything in the queue again and again.
HOLD_S = 2.0
# This many calls in a window show what a process may call; fewer only show that it had little to do.
ENOUGH_CALLS = 30
# The pace of the smallest plan, 500 calls a minute, which is assumed for a process that has learned nothing.
FAIR_INTERVAL_S = 0.12
# The slowest pace, however often a process is throttled.
MAX_INTERVAL_S = 15.0
# With these, about 80 calls succeed between two 429s, so that under 2 % are throttled; the longer there is no 429, the
# faster the pace grows.
SLOWER, MUCH_SLOWER = 1.25, 2.0
FASTER, SOONER_AFTER = 0.001, 50
FEW_CALLS = 10


@dataclass(frozen=True)
class Pace:
    """The seconds between two calls, 0 before the first 429; `is_learned` unless it was only guessed."""

    interval_s: float = 0.0
    is_learned: bool = True

    def slower(self, calls_since: int, calls_in_window: int) -> Pace:
        """Return the pace after a 429: `calls_since` succeeded since the last one, `calls_in_window` in this window.

        If most calls since the last 429 were in this window, the limit was reached within one window at a guessed pace:
        the process may really make only as many calls as that.
        """
        is_refuted = not self.is_learned and calls_since <= 2 * calls_in_window
        if calls_in_window >= ENOUGH_CALLS if not self.interval_s else is_refuted:
            return Pace(min(WINDOW_S / max(calls_in_window, 1), MAX_INTERVAL_S))
        if not self.interval_s:
            return Pace(FAIR_INTERVAL_S * MUCH_SLOWER, is_learned=False)
        factor = MUCH_SLOWER if calls_since < FEW_CALLS else SLOWER
        return replace(self, interval_s=min(self.interval_s * factor, MAX_INTERVAL_S))

    def faster(self, calls_since: int) -> Pace:
        """Return the pace after a call that succeeded."""
        return replace(self, interval_s=self.interval_s / (1 + FASTER * (1 + 2 * calls_since / SOONER_AFTER)))


class Throttle:
    """What the process has learned about the platform's limits; shared by its threads.

    No pause is longer than `max_pause_s`; `scale` shortens the others for tests.
    """

    def __init__(
        self,
        *,
        scale: float = 1,
        max_pause_s: float = MAX_PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._scale = scale
        self._max_pause_s = min(max_pause_s, MAX_PAUSE_S)
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._lock = threading.Lock()
        self._open_at = self._turn_at = clock()
        self._pace = Pace()
        self._calls_since = 0
        self._succeeded_at: deque[float] = deque()

    def check(self) -> None:
        """Raise PlatformThrottled, with the remaining time, while nothing may be sent."""
        with self._lock:
            left_s = self._open_at - self._clock()
        if left_s > 0:
            raise _throttled(left_s)

    def hold(self) -> None:
        """Hold a drop that arrives during a pause. Raises PlatformThrottled if the pause is still not over."""
        with self._lock:
            left_s = self._open_at - self._clock()
        if left_s > 0:
            self._sleep(min(left_s, HOLD_S * self._scale))
        self.check()

    def wait(self, deadline: float = math.inf) -> None:
        """Wait for the turn of a call, no longer than the `deadline`, an instant of the clock.

        Raises PlatformThrottled, with the remaining time, while nothing may be sent, or if the turn is too far off.
        """
        self.hold()
        with self._lock:
            now = self._clock()
            if now - max(self._turn_at, self._open_at) > WINDOW_S * self._scale:
                self._pace = Pace()
            turn_at = max(now, self._turn_at)
            if turn_at > min(now + PATIENCE_S * self._scale, max(deadline, now)):
                raise _throttled(turn_at - now)
            self._turn_at = turn_at + self._interval_s()
        if turn_at > now:
            self._sleep(turn_at - now)
        self.check()

    def succeeded(self) -> None:
        """Note a call that was not throttled."""
        with self._lock:
            self._calls_since += 1
            self._pace = self._pace.faster(self._calls_since)
            self._succeeded_at.append(self._clock())
            self._forget(WINDOW_S * self._scale)

    def throttled(self, retry_after_s: float | None) -> float:
        """Note a 429, and return how long nothing may be sent.

        Further 429s, to calls that were already in flight, can only lengthen the pause.
        """
        pause_s = min(PAUSE_S * self._scale if retry_after_s is None else retry_after_s, self._max_pause_s)
        with self._lock:
            now = self._clock()
            if self._open_at <= now:
                self._forget(max(WINDOW_S * self._scale - pause_s, 0))
                self._pace = self._pace.slower(self._calls_since, len(self._succeeded_at))
                self._calls_since = 0
            self._open_at = max(self._open_at, now + pause_s)
            # Not all processes resume at once, and no new call overtakes threads that are already waiting.
            self._turn_at = max(self._turn_at, self._open_at + self._uniform(0, self._interval_s()))
            return self._open_at - now

    def _interval_s(self) -> float:
        return self._pace.interval_s * self._scale

    def _forget(self, window_s: float) -> None:
        """Keep only the calls within the window."""
        while self._succeeded_at and self._succeeded_at[0] < self._clock() - window_s:
            self._succeeded_at.popleft()


def _throttled(left_s: float) -> PlatformThrottled:
    message = "The iTwin Platform's rate limit was reached; nothing is sent until the pause after that is over."
    return PlatformThrottled(message, retry_after_s=left_s)
