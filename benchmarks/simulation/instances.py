"""The Functions host on many machines: processes whose threads process messages, crash and are restarted.

An instance handles events and retries alike; one core does its image work, and its threads wait for storage and the
platform concurrently. The messages of a crashed process are redelivered later; one that fails five times goes to its
poison queue.
"""

from __future__ import annotations

import json
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from greenlet import greenlet

from benchmarks.simulation.services import (
    STORAGE_GIVES_UP_S,
    STORAGE_S,
    Crash,
    drop_of,
    open_services,
    version_of,
)
from benchmarks.simulation.storage import storage_error
from shared.attempt import Attempt
from shared.dead_letters import drop_poisoned
from shared.image import NormalizedImage
from shared.image.model import ImageHeader
from shared.pipeline import process_drop

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.simulation.run import World

HEADER = ImageHeader("image/jpeg", 1600, 1200)
# As in host.json, for both triggers.
MAX_DELIVERIES = 5
# Assumed, seconds of a core: the cost of host and worker besides the image work; an image passed through; another one.
DELIVERY_S = 0.01
PASSING_S, ENCODING_S = 0.04, 0.3
STARTS_IN_S = 10.0
# A message without a result is visible again within ten minutes.
COMES_BACK_S = (300.0, 600.0)

# A blob's event holds its index; a retry is the app's own text. Both come with their number of deliveries.
Message = tuple[int | str, int]


class Thread(greenlet):  # type: ignore[misc]  # it comes without types
    """One thread of a process; its message is redelivered if it dies."""

    def __init__(self, process: Process) -> None:
        super().__init__(self._work)
        self.process = process
        self.in_hand: Message | None = None

    def _work(self) -> None:
        instances = self.process.world.instances
        try:
            while True:
                self.in_hand = instances.take(self)
                try:
                    self._deliver(*self.in_hand)
                except AzureError:
                    instances.give_back(self.in_hand)
                else:
                    instances.settle()
                self.in_hand = None
        except Crash:
            return

    def _deliver(self, payload: int | str, deliveries: int) -> None:
        process = self.process
        process.world.tally.attempts += 1
        process.compute(DELIVERY_S)
        if isinstance(payload, str):
            attempt = Attempt.from_message(payload)
        elif deliveries > MAX_DELIVERIES:
            version = version_of(process.world, payload)
            attempt = Attempt(drop_of(process.world, payload), 1, process.world.now(), version.etag)
        else:
            attempt = Attempt.event(drop_of(process.world, payload))
        if deliveries > MAX_DELIVERIES:
            drop_poisoned(attempt, process.services)
        else:
            process_drop(attempt, process.services)


class Process:
    """A worker process on an instance, from its start to its crash."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_dead = False
        self.services = open_services(self)
        self._core_is_free_at = 0.0
        self._threads = [Thread(self) for _ in range(world.scenario.parallelism)]
        for thread in self._threads:
            thread.switch()

    def sleep(self, seconds: float) -> None:
        """Wait for something outside the instance."""
        if self.is_dead:
            raise Crash
        self.world.loop.sleep(seconds)

    def compute(self, seconds: float) -> None:
        """Use the instance's core, after those who came before."""
        now = self.world.loop.now
        self._core_is_free_at = max(self._core_is_free_at, now) + seconds
        self.sleep(self._core_is_free_at - now)

    def normalize(self, content: bytes, *_: float) -> NormalizedImage:
        """Use the core for as long as an image takes."""
        self.compute(self.world.chance.choice((PASSING_S, ENCODING_S)))
        return NormalizedImage(content, "image/jpeg", HEADER.width, HEADER.height, (), HEADER)

    def send_message(self, text: str, *, visibility_timeout: int, **_: object) -> None:
        """Have a message delivered later."""
        self.request_storage(partial(self.world.instances.send, text, visibility_timeout))

    def request_storage(self, do: Callable[[], Any], has_condition: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002 - as the storage calls it
        """Make a request to the drop account. Raises AzureError if there is no response."""
        world = self.world
        world.tally.storage_requests += 1
        self.sleep(world.chance.uniform(*STORAGE_S))
        if world.scenario.faults.storage and world.chance.random() < world.scenario.faults.storage:
            self.sleep(STORAGE_GIVES_UP_S)
            raise storage_error(503)
        return do()

    def crash(self) -> None:
        """Crash."""
        self.is_dead = True
        for thread in self._threads:
            if thread.in_hand is not None:
                self.world.instances.give_back(thread.in_hand, self.world.chance.uniform(*COMES_BACK_S))
            thread.throw(Crash)


class Instances:
    """All instances, and the messages that wait for one of their threads."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._idle: list[Thread] = []
        self._events: deque[Message] = deque()
        self._retries: deque[Message] = deque()
        self._unsettled = 0
        self._events_first = False

    def start(self) -> None:
        """Start every instance within some seconds."""
        world = self._world
        for _ in range(world.scenario.instances):
            world.loop.at(world.chance.uniform(0, STARTS_IN_S), self._start_process)

    def _start_process(self) -> None:
        world, process = self._world, Process(self._world)
        if world.scenario.faults.crashes_per_hour:
            lives_s = world.chance.expovariate(world.scenario.faults.crashes_per_hour / 3600)
            world.loop.at(world.loop.now + lives_s, partial(self._crash, process))

    def _crash(self, process: Process) -> None:
        self._world.tally.crashes += 1
        process.crash()
        self._world.loop.at(self._world.loop.now + STARTS_IN_S, self._start_process)

    def send(self, payload: int | str, delay_s: float = 0) -> None:
        """Put a message into its queue, visible after the delay."""
        self._unsettled += 1
        self._show_later((payload, 1), delay_s)

    def give_back(self, message: Message, delay_s: float = 0) -> None:
        """Redeliver a message."""
        payload, deliveries = message
        if deliveries > MAX_DELIVERIES:
            self._world.tally.given_up.append(json.dumps(payload))
        self._show_later((payload, deliveries + 1), delay_s)

    def settle(self) -> None:
        """Mark a message as completed."""
        self._unsettled -= 1
        if not self._unsettled and self._world.all_written:
            self._world.loop.is_over = True

    def take(self, thread: Thread) -> Message:
        """Return the next message for a thread, once there is one; events and retries alternate."""
        first, second = self._events, self._retries
        self._events_first = not self._events_first
        if not self._events_first:
            first, second = second, first
        if first:
            return first.popleft()
        if second:
            return second.popleft()
        self._idle.append(thread)
        message: Message = self._world.loop.wait()
        return message

    def _show_later(self, message: Message, delay_s: float) -> None:
        if delay_s:
            self._world.loop.at(self._world.loop.now + delay_s, partial(self._show, message))
        else:
            self._show(message)

    def _show(self, message: Message) -> None:
        while self._idle:
            place = self._world.chance.randrange(len(self._idle))
            self._idle[place], self._idle[-1] = self._idle[-1], self._idle[place]
            thread = self._idle.pop()
            if not thread.process.is_dead:
                self._world.loop.at(self._world.loop.now, partial(self._hand_over, thread, message))
                return
        (self._retries if isinstance(message[0], str) else self._events).append(message)

    def _hand_over(self, thread: Thread, message: Message) -> None:
        if thread.process.is_dead:
            self._show(message)
        else:
            thread.switch(message)
