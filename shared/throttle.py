"""When the process may call the platform: after a 429, not before it said so, and less and less often in vain.

The platform's limits are per OAuth client (https://developer.bentley.com/apis/overview/rate-limits), which all
instances of the app share without knowing of each other. So every process draws its own conclusion from what it
hears: where too few calls came through between two throttles, it stays away twice as long; and until enough did, it
makes one call at a time, so that it hears the next throttle once.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from shared.errors import PlatformThrottled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIN_PAUSE_S = 30.0
MAX_PAUSE_S = 450.0
# This many calls between two throttles, of which each is heard once, keep the throttled ones under 2 %.
ENOUGH_CALLS = 100


def next_pause_s(retry_after_s: float | None, last_pause_s: float, calls_since: int, *, scale: float = 1) -> float:
    """Return how long to stay away after a 429; at least what Retry-After says.

    `last_pause_s` is 0 before the first throttle; `calls_since` counts the calls that came through since then; `scale`
    shortens the bounds for tests.
    """
    own = last_pause_s / 2 if calls_since >= ENOUGH_CALLS else last_pause_s * 2
    own = min(max(own, MIN_PAUSE_S * scale), MAX_PAUSE_S * scale)
    return max(own, retry_after_s or 0)


class Line(Protocol):
    """What lets callers through one by one; `threading.Lock` does."""

    def acquire(self, *, timeout: float) -> bool:
        """Take it; False where it was not to be had in time."""

    def release(self) -> None:
        """Let the next one in."""


class Throttle:
    """What the process has heard of the platform's limits; shared by its threads."""

    def __init__(
        self, *, scale: float = 1, clock: Callable[[], float] = time.monotonic, line: Line | None = None
    ) -> None:
        self._scale = scale
        self._clock = clock
        self._lock = threading.Lock()
        self._single_file = line or threading.Lock()
        self._open_at = clock()
        self._pause_s = 0.0
        self._calls = 0

    def check(self) -> None:
        """Raise PlatformThrottled, with the time that is left, while nothing may be sent."""
        with self._lock:
            left_s = self._open_at - self._clock()
        if left_s > 0:
            message = "The iTwin Platform's rate limit was reached a moment ago; nothing is sent until it is over."
            raise PlatformThrottled(message, retry_after_s=left_s)

    @contextmanager
    def admit(self, patience_s: float) -> Iterator[None]:
        """Let a call through, alone if a throttle was heard lately.

        Raises PlatformThrottled while nothing may be sent, or where the call before took longer than `patience_s`.
        """
        self.check()
        if not self._is_wary:
            yield
            return
        if not self._single_file.acquire(timeout=patience_s):
            message = "The iTwin Platform's rate limit was reached lately, and the calls since then take long."
            raise PlatformThrottled(message, retry_after_s=MIN_PAUSE_S * self._scale)
        try:
            self.check()
            yield
        finally:
            self._single_file.release()

    @property
    def _is_wary(self) -> bool:
        with self._lock:
            return self._pause_s > 0 and self._calls < ENOUGH_CALLS

    def passed(self) -> None:
        """Note a call that came through."""
        with self._lock:
            self._calls += 1

    def heard(self, retry_after_s: float | None) -> float:
        """Note a 429, and return how long nothing may be sent.

        Those that were already in flight when the first was heard can only lengthen the pause.
        """
        with self._lock:
            now = self._clock()
            if self._open_at <= now:
                self._pause_s = next_pause_s(retry_after_s, self._pause_s, self._calls, scale=self._scale)
                self._calls = 0
                self._open_at = now + self._pause_s
            self._open_at = max(self._open_at, now + (retry_after_s or 0))
            return self._open_at - now
