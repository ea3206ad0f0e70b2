"""How long the attempt that runs may still take, for whatever asks storage.

The Azure SDK hands no such thing through its own retries, and bounds the wait for each piece of a response alone: a
body whose bytes come one by one would be waited for without end.
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError

from shared.errors import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_left_s: ContextVar[Callable[[], float]] = ContextVar("left_s")


@contextmanager
def bounded(deadline: float, monotonic: Callable[[], float]) -> Iterator[None]:
    """Let every request to storage in the block end by `deadline`, an instant of `monotonic`.

    One that begins later raises OutOfTime.
    """
    token = _left_s.set(lambda: deadline - monotonic())
    try:
        yield
    finally:
        _left_s.reset(token)


def left_s() -> float:
    """Return how many seconds are left; infinity where nothing is bounded. Raises OutOfTime where none is."""
    left = _left_s.get(lambda: math.inf)()
    if left <= 0:
        raise OutOfTime("The attempt took too long, and was postponed before it had finished.")
    return left


@contextmanager
def body_bounded() -> Iterator[Callable[[Any], None]]:
    """Let the bodies of responses be read until the deadline; yields what takes each, as urllib3 has it.

    Raises OutOfTime for whatever came of a read that was ended so: it may even look like one that was whole.
    """
    timers: list[threading.Timer] = []

    def bound(body: Any) -> None:
        if (left := left_s()) < math.inf:
            timer = threading.Timer(left, _stop, [body])
            timer.daemon = True
            timers.append(timer)
            timer.start()

    try:
        yield bound
        left_s()
    except AzureError as error:
        _check(error)
        raise
    finally:
        for timer in timers:
            timer.cancel()


def _check(error: AzureError) -> None:
    try:
        left_s()
    except OutOfTime as ended:
        raise ended from error


def _stop(body: Any) -> None:
    with suppress(OSError, RuntimeError, ValueError):  # it has been read meanwhile
        body.shutdown()
