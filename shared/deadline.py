"""How long the current attempt may still take, for every request to storage.

The Azure SDK has no deadline across its own retries; the transport that it sends by asks here.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

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
