"""What time it is: storage's clock where instances compare times, and this process's own where it waits.

The clocks of machines differ, by hours if one was set by hand. Times that instances compare are those of storage's
clock, which all of them see in its responses; durations and deadlines use the monotonic clock.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A Date header has whole seconds and is a little old when it is read.
DATE_PRECISION = timedelta(seconds=2)


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """What time it is, and how to wait; tests pass their own.

    `now` is for times that instances compare, `monotonic` (seconds) for durations in this process. `is_told` says
    whether storage has told `now`: until then it may be hours off, and no drop is too late.
    """

    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    is_told: Callable[[], bool] = lambda: True


LOCAL = Clock()


class StorageTime:
    """The local clock, corrected by the Date of storage's last response if the two differ."""

    def __init__(self, local: Callable[[], datetime] = utc_now) -> None:
        self._local = local
        self._offset = timedelta()
        self._is_told = False

    def now(self) -> datetime:
        """Return the time."""
        return self._local() + self._offset

    def is_told(self) -> bool:
        """Whether a response has had a Date."""
        return self._is_told

    def observe(self, date: str) -> None:
        """Adjust to a Date header (RFC 9110, 6.6.1); any other text is ignored."""
        with suppress(TypeError, ValueError, OverflowError):
            offset = parsedate_to_datetime(date).astimezone(UTC) - self._local()
            self._offset = offset if abs(offset) > DATE_PRECISION else timedelta()
            self._is_told = True
