"""How long an exchange may still take, and the only wait for a socket."""

from __future__ import annotations

import math
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class DeadlineReached(Exception):
    """The deadline is over."""


class Timer:
    """A deadline, how long it was when it was set, and for how long nothing may come."""

    def __init__(self, deadline: float, clock: Callable[[], float], quiet_s: float = math.inf) -> None:
        self.deadline = deadline
        self.quiet_s = quiet_s
        self._clock = clock
        left_s = min(max(self.left_s(), 0), quiet_s)
        self.allowed = f"{left_s:.0f}" if left_s >= 1 else f"{left_s:.1f}"

    def left_s(self) -> float:
        """Return the seconds until the deadline; none are left where it is not positive."""
        return self.deadline - self._clock()

    def at_most(self, seconds: float) -> Timer:
        """Return what ends with this one, or sooner."""
        return Timer(min(self.deadline, self._clock() + seconds), self._clock, self.quiet_s)


def wait_for(sock: socket.socket, events: int, timer: Timer) -> None:
    """Wait until the socket is ready for one of poll's `events`, or raise DeadlineReached at the deadline."""
    left_s = min(timer.left_s(), timer.quiet_s)
    poll = select.poll()
    poll.register(sock, events)
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise DeadlineReached
