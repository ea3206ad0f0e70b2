"""When the platform may be called: as often as the limit lets the process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from local.processes import wait_until
from shared.errors import PlatformThrottled
from shared.throttle import (
    FAIR_INTERVAL_S,
    HOLD_S,
    MAX_INTERVAL_S,
    MAX_PAUSE_S,
    PATIENCE_S,
    PAUSE_S,
    WINDOW_S,
    Pace,
    Throttle,
)
from tests.deadlines import HANG_S


@dataclass
class Time:
    """A clock that goes on while somebody sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        """Let it go on."""
        self.slept.append(seconds)
        self.now += seconds

    def throttle(self) -> Throttle:
        """Return a throttle in this time; chance is left out of it."""
        return Throttle(clock=lambda: self.now, sleep=self.sleep, uniform=lambda least, _: least)


@pytest.mark.parametrize(
    ("pace", "calls_since", "calls_in_window", "slower"),
    [
        (Pace(), 120, 120, Pace(0.5)),
        (Pace(), 30, 30, Pace(2)),
        (Pace(), 29, 29, Pace(0.24, is_learned=False)),
        (Pace(), 0, 0, Pace(0.24, is_learned=False)),
        (Pace(0.24, is_learned=False), 40, 15, Pace(0.3, is_learned=False)),
        (Pace(0.24, is_learned=False), 5, 1, Pace(0.48, is_learned=False)),
        (Pace(0.24, is_learned=False), 12, 12, Pace(5)),
        (Pace(0.24, is_learned=False), 3, 5, Pace(12)),
        (Pace(0.24, is_learned=False), 0, 0, Pace(MAX_INTERVAL_S)),
        (Pace(1), 200, 60, Pace(1.25)),
        (Pace(1), 3, 60, Pace(2)),
        (Pace(MAX_INTERVAL_S), 0, 0, Pace(MAX_INTERVAL_S)),
    ],
)
def test_a_throttle_slows_the_pace(pace: Pace, calls_since: int, calls_in_window: int, slower: Pace) -> None:
    """The first tells a busy process its share; another one halves a fair rate, unless both are in one window."""
    assert pace.slower(calls_since, calls_in_window) == slower


def test_the_rate_recovers_from_a_throttle_within_some_eighty_calls() -> None:
    """So less than 2 % of the calls are throttled; after many calls without a throttle the rate grows quickly."""
    paces = [Pace(1.25)]
    for calls in range(1, 1001):
        paces.append(paces[-1].faster(calls))
    assert 70 < next(calls for calls, pace in enumerate(paces) if pace.interval_s <= 1) < 100
    assert paces[-1].interval_s < 1e-6


def test_simultaneous_throttles_count_once() -> None:
    """Until Retry-After is over nothing is sent, whatever the calls in flight are told then."""
    time = Time()
    throttle = time.throttle()
    throttle.check()
    assert throttle.throttled(100) == 100
    time.now = 1
    assert throttle.throttled(None) == 99
    assert throttle.throttled(120) == 120
    time.now = 120.9
    with pytest.raises(PlatformThrottled) as waiting:
        throttle.check()
    assert waiting.value.retry_after_s == pytest.approx(0.1)
    time.now = 121.1
    throttle.check()


def test_a_throttle_without_retry_after_causes_a_pause_too() -> None:
    """The limits are counted by the minute."""
    assert Time().throttle().throttled(None) == PAUSE_S


def test_no_drop_waits_before_the_first_throttle() -> None:
    """A process that was never throttled calls without delay."""
    time = Time()
    throttle = time.throttle()
    for _ in range(1000):
        throttle.wait()
        throttle.succeeded()
    assert time.slept == []


def test_after_a_throttle_calls_keep_the_rate_that_was_accepted() -> None:
    """Sixty calls in this minute before the first 429 mean one per second from then on."""
    time = Time()
    throttle = time.throttle()
    for _ in range(60):
        throttle.succeeded()
    throttle.throttled(20)
    time.now = 20
    for _ in range(10):
        throttle.wait()
    assert time.slept == pytest.approx([1] * 9)
    assert time.now == pytest.approx(29)


def test_one_stray_throttle_does_not_slow_a_quiet_process() -> None:
    """Two hundred drops take a minute, and not the half hour that its two earlier calls would suggest."""
    time = Time()
    throttle = time.throttle()
    for _ in range(2):
        throttle.wait()
        throttle.succeeded()
    throttle.throttled(5)
    time.now = 5
    for _ in range(200):
        throttle.wait()
        throttle.succeeded()
    assert time.now < 60


def test_a_drop_never_waits_beyond_its_attempts_deadline() -> None:
    """It returns to the queue, with the remaining time, and takes no turn."""
    time = Time()
    throttle = time.throttle()
    throttle._pace = Pace(10)
    throttle.wait(deadline=5)
    with pytest.raises(PlatformThrottled) as waiting:
        throttle.wait(deadline=9)
    assert waiting.value.retry_after_s == 10
    throttle.wait(deadline=10)
    assert time.slept == [10]


def test_a_drop_waits_a_minute_at_most() -> None:
    """Longer waits are for the queue: the drop returns to it, with the remaining time, and takes no turn."""
    time = Time()
    throttle = time.throttle()
    throttle._pace = Pace(PATIENCE_S + 1)
    throttle.wait()
    for _ in range(2):
        with pytest.raises(PlatformThrottled) as waiting:
            throttle.wait()
        assert waiting.value.retry_after_s == PATIENCE_S + 1
    assert time.slept == []


def test_a_drop_that_arrives_during_a_pause_is_held_briefly() -> None:
    """Otherwise a paused process would turn back all waiting drops; after that they do go back."""
    time = Time()
    throttle = time.throttle()
    throttle.throttled(30)
    for come in (throttle.hold, throttle.wait):
        with pytest.raises(PlatformThrottled):
            come()
    assert (time.slept, time.now) == ([HOLD_S] * 2, 2 * HOLD_S)
    time.now = 29.5
    throttle.wait()
    assert time.now == 30


def test_no_pause_is_longer_than_the_longest_window() -> None:
    """A Retry-After of a hundred years means an hour, or less if no delay may be that long."""
    assert Time().throttle().throttled(3e9) == MAX_PAUSE_S
    assert Throttle(max_pause_s=60, clock=lambda: 0.0).throttled(3e9) == 60
    assert Throttle(max_pause_s=20, clock=lambda: 0.0).throttled(None) == 20


def test_a_drop_that_waits_during_a_throttle_goes_back() -> None:
    """A turn from before the throttle is void."""
    time = Time()
    throttle = time.throttle()
    throttle._pace = Pace(10)

    def hear(_: float) -> None:
        time.now = 10
        throttle.throttled(5)

    throttle._sleep = hear
    throttle.wait()
    with pytest.raises(PlatformThrottled) as waiting:
        throttle.wait()
    assert waiting.value.retry_after_s == 5


def test_a_process_that_was_idle_for_a_minute_starts_again_without_a_rate() -> None:
    """The rate of yesterday's batch says nothing about today's limit."""
    time = Time()
    throttle = time.throttle()
    throttle.throttled(10)
    time.now = 10 + WINDOW_S - 1
    throttle.wait()
    throttle.wait()
    assert time.slept == pytest.approx([2 * FAIR_INTERVAL_S])
    time.now += 2 * WINDOW_S
    throttle.wait()
    throttle.wait()
    assert len(time.slept) == 1


def test_each_thread_waits_for_its_own_turn() -> None:
    """Two that come at once do not go at once."""
    slept: list[float] = []
    throttle = Throttle(clock=lambda: 0.0, sleep=slept.append, uniform=lambda least, _: least)
    for _ in range(6):
        throttle.succeeded()
    throttle._pace = Pace(10)
    threads = [threading.Thread(target=throttle.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(slept) == 3, timeout_s=HANG_S)
    for thread in threads:
        thread.join()
    assert sorted(slept) == [10, 20, 30]
