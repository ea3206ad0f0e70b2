"""How long an attempt may take, and may still take, for every request to storage.

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

    from shared.clock import Clock

# How long an attempt may take before it is postponed, and how long recording that may take. Their sum is below
# host.json's functionTimeout: when that is exceeded, the worker is restarted with all its drops.
ATTEMPT_S, ENDING_S = 240.0, 30.0

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


class Stopwatch:
    """How long the stages of an attempt take, and how long it may still take, in seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._stages: dict[str, float] = {}
        self.deadline = self._began + ATTEMPT_S
        self.ends_at = self.deadline + ENDING_S

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure how long the block takes."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self._stages[stage] = round(self._clock.monotonic() - began, 3)

    def read(self) -> dict[str, float]:
        """Return the time of each stage, and the total so far."""
        return {**self._stages, "total": round(self._clock.monotonic() - self._began, 3)}
