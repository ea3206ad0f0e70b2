"""How long the current attempt may still take, for every request to storage.

The Azure SDK has no deadline across its own retries, and limits only the wait for each piece of a response: it would
wait forever for a body whose bytes arrive one by one.
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
    """End every request to storage in the block by `deadline`, an instant of `monotonic`.

    A request that begins later raises OutOfTime.
    """
    token = _left_s.set(lambda: deadline - monotonic())
    try:
        yield
    finally:
        _left_s.reset(token)


def left_s() -> float:
    """Return how many seconds are left; infinity if there is no deadline. Raises OutOfTime if none are left."""
    left = _left_s.get(lambda: math.inf)()
    if left <= 0:
        raise OutOfTime("The attempt took too long and was postponed before it finished.")
    return left


@contextmanager
def body_bounded() -> Iterator[Callable[[Any], None]]:
    """Read the bodies of responses until the deadline only; yields a function that is given each urllib3 response.

    Raises OutOfTime, whatever the outcome of a read that was cut off so: it may even look complete.
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
    with suppress(OSError, RuntimeError, ValueError):  # it has been read in the meantime
        body.shutdown()
