"""When the platform may be called, and what that makes of thousands of drops on the smallest plan."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest

from local.itwin_platform.rate_limit import RateLimit
from local.processes import wait_until
from shared.errors import PlatformResponse, PlatformThrottled
from shared.retries import RetryPolicy, retry_delay_s
from shared.throttle import ENOUGH_CALLS, MAX_PAUSE_S, MIN_PAUSE_S, Throttle, next_pause_s

THREADS = 4  # what one instance has
CALL_S = (0.1, 0.5)


@pytest.mark.parametrize(
    ("retry_after_s", "last_pause_s", "calls_since", "pause_s"),
    [
        (None, 0, 0, MIN_PAUSE_S),
        (7, 0, 0, MIN_PAUSE_S),
        (100, 0, 0, 100),
        (None, MIN_PAUSE_S, 0, 2 * MIN_PAUSE_S),
        (None, 4 * MIN_PAUSE_S, ENOUGH_CALLS, 2 * MIN_PAUSE_S),
        (None, MAX_PAUSE_S, 0, MAX_PAUSE_S),
        (None, 2 * MIN_PAUSE_S, ENOUGH_CALLS - 1, 4 * MIN_PAUSE_S),
        (3600, MAX_PAUSE_S, 0, 3600),
    ],
)
def test_a_pause_is_what_was_asked_for_or_longer(
    retry_after_s: float | None, last_pause_s: float, calls_since: int, pause_s: float
) -> None:
    """Retry-After is kept; where too few calls came through since the last pause, the next one is twice as long."""
    assert next_pause_s(retry_after_s, last_pause_s, calls_since) == pause_s


def test_a_throttle_is_heard_once() -> None:
    """Until Retry-After is over nothing is sent, whatever the calls in flight then hear."""
    now = 0.0
    throttle = Throttle(clock=lambda: now)
    throttle.check()
    assert throttle.heard(100) == 100
    now = 1
    assert throttle.heard(None) == 99
    assert throttle.heard(120) == 120
    now = 120.9
    with pytest.raises(PlatformThrottled) as waiting:
        throttle.check()
    assert waiting.value.retry_after_s == pytest.approx(0.1)
    now = 121.1
    throttle.check()


def test_after_a_throttle_calls_go_one_by_one() -> None:
    """The next limit is met by one call, not by every thread's; whoever cannot wait comes back later."""
    now = 0.0
    throttle = Throttle(clock=lambda: now)
    with throttle.admit(0), throttle.admit(0):
        throttle.heard(None)
    now = MIN_PAUSE_S + 1
    with throttle.admit(0), pytest.raises(PlatformThrottled), throttle.admit(0.01):
        pass
    waited = threading.Event()

    def wait_for_turn() -> None:
        with throttle.admit(30):
            waited.set()

    with throttle.admit(0):
        thread = threading.Thread(target=wait_for_turn)
        thread.start()
        assert not waited.wait(0.05)
    assert wait_until(waited.is_set, timeout_s=10)
    thread.join()
    for _ in range(ENOUGH_CALLS):
        throttle.passed()
    with throttle.admit(0), throttle.admit(0):
        pass


@dataclass
class Drain:
    """A queue of drops, instances of the app and the platform's rate limit, in a time of their own."""

    drops: int
    instances: int
    chance: random.Random
    now: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Work until every drop is uploaded; what the threads do stands in the order of time."""
        limit = RateLimit(requests_per_minute=500, requests_per_hour=5000, clock=lambda: self.now)
        throttles = [Throttle(clock=lambda: self.now) for _ in range(self.instances)]
        waiting = [(0.0, number, 1) for number in range(self.drops)]  # due, drop, attempt
        order = itertools.count()
        threads = [(0.0, next(order), n % self.instances) for n in range(self.instances * THREADS)]
        in_flight: list[tuple[float, int, int, int, int, int | None]] = []
        busy = [0] * self.instances
        while waiting or in_flight:
            if in_flight and (not threads or in_flight[0][0] <= threads[0][0]):
                self.now, _, instance, drop, attempt, retry_after_s = heapq.heappop(in_flight)
                busy[instance] -= 1
                if retry_after_s is None:
                    throttles[instance].passed()
                    self.calls["passed"] += 1
                else:
                    left_s = throttles[instance].heard(retry_after_s)
                    self.calls["throttled"] += 1
                    self._postpone(waiting, drop, attempt, left_s)
                heapq.heappush(threads, (self.now, next(order), instance))
                continue
            self.now, _, instance = heapq.heappop(threads)
            due = waiting[0][0] if waiting else math.inf
            alone = throttles[instance]._is_wary and busy[instance]
            if due > self.now or alone:
                heapq.heappush(threads, (self.now + 0.2 if alone else min(due, self.now + 5), next(order), instance))
                continue
            _, drop, attempt = heapq.heappop(waiting)
            try:
                throttles[instance].check()
            except PlatformThrottled as throttled:
                self._postpone(waiting, drop, attempt, throttled.retry_after_s or 0)
                heapq.heappush(threads, (self.now + 0.05, next(order), instance))
                continue
            busy[instance] += 1
            answered_at = self.now + self.chance.uniform(*CALL_S)
            heapq.heappush(in_flight, (answered_at, next(order), instance, drop, attempt, limit.count("the app")))

    def _postpone(self, waiting: list[tuple[float, int, int]], drop: int, attempt: int, left_s: float) -> None:
        throttled = PlatformThrottled("x", response=PlatformResponse(429))
        throttled.retry_after_s = left_s
        delay_s = retry_delay_s(throttled, attempt, self.now, RetryPolicy(), self.chance.uniform)
        assert delay_s is not None, "a drop failed"
        heapq.heappush(waiting, (self.now + max(1, math.ceil(delay_s)), drop, attempt + 1))


@pytest.mark.parametrize(("drops", "instances"), [(2_000, 1), (10_000, 1), (10_000, 4), (10_000, 10)])
def test_thousands_of_drops_drain_at_the_pace_of_the_smallest_plan(drops: int, instances: int) -> None:
    """With 500 calls a minute and 5,000 an hour none fails, and under 2 % of the calls are throttled."""
    drain = Drain(drops, instances, random.Random(drops + instances))  # noqa: S311 - it repeats a run
    drain.run()
    print(f"{drain.calls.total()} calls, {drain.calls['throttled']} throttled, {drain.now / 3600:.2f} h")  # noqa: T201
    assert drain.calls["passed"] == drops
    assert drain.calls["throttled"] < 0.02 * drain.calls.total()
    least_s = {2_000: 3 * 60, 10_000: 3600 + 9 * 60}[drops]
    assert least_s < drain.now < 2 * least_s
