"""What time it is: storage's time where instances compare, and this process's own where it waits.

Machines' clocks differ, by hours where somebody set one by hand. What is compared over instances is told by storage's
clock, which all of them hear; how long something takes or may take is monotonic.
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

# A Date header counts whole seconds and is a moment old when it is read.
DATE_PRECISION = timedelta(seconds=2)


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """What time it is, and how to wait; tests hand in their own.

    `now` is for what instances compare, `monotonic` (seconds) for what takes time in this process.
    """

    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


LOCAL = Clock()


class StorageTime:
    """The local clock, set by the Date of storage's last response where the two differ."""

    def __init__(self, local: Callable[[], datetime] = utc_now) -> None:
        self._local = local
        self._offset = timedelta()

    def now(self) -> datetime:
        """Return the time."""
        return self._local() + self._offset

    def hear(self, date: str) -> None:
        """Take in a Date header (RFC 9110, 6.6.1); any other text says nothing."""
        with suppress(TypeError, ValueError):
            offset = parsedate_to_datetime(date).astimezone(UTC) - self._local()
            self._offset = offset if abs(offset) > DATE_PRECISION else timedelta()
