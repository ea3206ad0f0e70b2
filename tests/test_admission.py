"""How much memory images may take at once, and in which order those come in that wait."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.processes import wait_until
from shared.admission import Admission
from shared.errors import OutOfTime
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from concurrent.futures import Future


@dataclass
class Hall:
    """Threads that come in one after another, stay until they are let out, and note who is in."""

    admission: Admission
    pool: ThreadPoolExecutor
    inside: list[int] = field(default_factory=list)
    entered: list[int] = field(default_factory=list)
    outs: dict[int, threading.Event] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def come(self, number: int, size: int) -> Future[None]:
        """Have a thread ask, and wait until it is in or in line."""
        before = len(self.admission._line) + len(self.entered)
        self.outs[number] = threading.Event()
        visit = self.pool.submit(self._visit, number, size)
        assert wait_until(lambda: len(self.admission._line) + len(self.entered) > before, timeout_s=HANG_S)
        return visit

    def _visit(self, number: int, size: int) -> None:
        with self.admission.admit(size):
            with self.lock:
                self.inside.append(number)
                self.entered.append(number)
            self.outs[number].wait(HANG_S)
            with self.lock:
                self.inside.remove(number)

    def settle(self, *inside: int) -> None:
        """See exactly these inside, and nobody more who could come in."""
        assert wait_until(lambda: sorted(self.inside) == sorted(inside), timeout_s=HANG_S), self.inside
        line = list(self.admission._line)
        assert not wait_until(lambda: list(self.admission._line) != line, timeout_s=0.05)


def test_waiting_images_are_admitted_in_order() -> None:
    """A small image that came later does not overtake a large one that is waiting, or the large one might starve."""
    with ThreadPoolExecutor(8) as pool:
        hall = Hall(Admission(100), pool)
        visits = [hall.come(number, size) for number, size in enumerate((60, 60, 10, 30))]
        hall.settle(0)
        hall.outs[0].set()
        hall.settle(1, 2, 3)
        assert hall.entered[:2] == [0, 1]
        for number in (1, 2, 3):
            hall.outs[number].set()
        assert not wait(visits, timeout=HANG_S).not_done


def test_an_image_larger_than_the_budget_is_admitted_alone() -> None:
    """It is admitted when no other is being processed, and none is admitted beside it."""
    with ThreadPoolExecutor(8) as pool:
        hall = Hall(Admission(100), pool)
        visits = [hall.come(number, size) for number, size in enumerate((1, 10**12, 1))]
        hall.settle(0)
        hall.outs[0].set()
        hall.settle(1)
        hall.outs[1].set()
        hall.settle(2)
        hall.outs[2].set()
        assert not wait(visits, timeout=HANG_S).not_done


def test_a_failed_image_returns_its_memory() -> None:
    """Otherwise hostile images would use it up."""
    admission = Admission(100)
    for _ in range(3):
        with pytest.raises(RuntimeError), admission.admit(100):
            raise RuntimeError
    with admission.admit(100):
        pass


@given(st.lists(st.integers(0, 150), min_size=1, max_size=40), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_the_budget_is_never_exceeded_and_every_image_is_admitted(sizes: list[int], threads: int) -> None:
    """Whatever the images, and however many threads there are."""
    admission, lock, taken, most, done = Admission(100), threading.Lock(), 0, 0, 0

    def work(size: int) -> None:
        nonlocal taken, most, done
        with admission.admit(size):
            with lock:
                taken += min(size, 100)
                most = max(most, taken)
            threading.Event().wait(0.001)
            with lock:
                taken -= min(size, 100)
                done += 1

    with ThreadPoolExecutor(threads) as pool:
        wait([pool.submit(work, size) for size in sizes], timeout=HANG_S)
    assert done == len(sizes)
    assert most <= 100


def test_no_image_waits_beyond_its_attempts_deadline() -> None:
    """One that stops waiting does not hold up those behind it."""
    admission = Admission(100)
    with admission.admit(100), pytest.raises(OutOfTime), admission.admit(1, time.monotonic()):
        pytest.fail("There was nothing left.")
    with admission.admit(100, time.monotonic()):
        pass
