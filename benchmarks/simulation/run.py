"""One scenario from its first drop to its last message, and its counters."""

from __future__ import annotations

import gc
import json
import logging
import random
from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.simulation.instances import Instances
from benchmarks.simulation.loop import Loop
from benchmarks.simulation.services import EPOCH, RESULTS, SimulatedPlatform, drop_of, version_of
from benchmarks.simulation.storage import Account, Stored
from shared.records import FINAL

if TYPE_CHECKING:
    from datetime import datetime

    from benchmarks.simulation.scenarios import Scenario

# Event Grid's own delay, and when it redelivers an event, in seconds
EVENT_DELAY_S, DUPLICATE_DELAY_S = 5.0, 600.0
LONGEST_S = 48 * 3600.0


@dataclass
class Tally:
    """The counters."""

    attempts: int = 0
    storage_requests: int = 0
    calls: int = 0
    refused: int = 0
    uploads: int = 0
    outdated: int = 0
    repeated: int = 0
    crashes: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    passed_in: Counter[int] = field(default_factory=Counter)
    refused_in: Counter[int] = field(default_factory=Counter)
    given_up: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How a scenario ended. `ended_at` are the times of the drops' final results, seconds, in order."""

    scenario: Scenario
    tally: Tally
    ended_at: array[float]
    lost: int
    violations: int

    @property
    def drain_s(self) -> float:
        """The time until the last drop had its final result."""
        return self.ended_at[-1] if self.ended_at else 0.0

    @property
    def nearly_drained_s(self) -> float:
        """The time until 99 % of the drops had theirs."""
        return self.ended_at[len(self.ended_at) * 99 // 100] if self.ended_at else 0.0

    @property
    def wasted(self) -> float:
        """The share of calls that were refused, or whose image was outdated or already uploaded."""
        tally = self.tally
        return (tally.refused + tally.outdated + tally.repeated) / max(tally.calls, 1)


class World:
    """Everything in a scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.chance = random.Random(seed)  # noqa: S311 - it makes runs repeatable
        self.loop = Loop()
        self.tally = Tally()
        self.account = Account(self.now, self._note_result)
        self.statuses: list[str | None] = [None] * scenario.drops
        self.ended_at = array("d")
        self.platform = SimulatedPlatform(self)
        self.instances = Instances(self)
        self.all_written = False

    def clock(self) -> float:
        """Return the time, in seconds since the start."""
        return self.loop.now

    def now(self) -> datetime:
        """Return the same as a date."""
        return EPOCH + timedelta(seconds=self.loop.now)

    def _note_result(self, container: str, name: str, content: bytes) -> None:
        """Note which results exist, and when a drop has its final one."""
        if container != RESULTS:
            return
        index, status = int(name.rpartition("/")[2].partition(".")[0]), str(json.loads(content)["status"])
        is_first_end = status in FINAL and self.statuses[index] not in FINAL
        self.statuses[index] = status
        if not is_first_end:
            return
        since = max(self.scenario.written_at(index), 0) if self.scenario.lasts_s else 0
        self.ended_at.append(self.loop.now - since)
        self.tally.statuses[status] += 1

    def run(self) -> None:
        """Run the scenario."""
        if self.scenario.lasts_s:
            self._write(0)
        else:
            self._write_all()
        self.instances.start()
        self.loop.run(LONGEST_S)

    def _write_all(self) -> None:
        """Deliver the events of a bulk that has been written, not quite in order."""
        span = self.scenario.shuffled_over
        order = sorted(range(self.scenario.drops), key=lambda index: index + self.chance.uniform(0, span))
        for index in order:
            self._announce(index, 0)
        self.all_written = True

    def _write(self, index: int) -> None:
        """Write a drop when it is due, and schedule the next."""
        self._announce(index, self.chance.uniform(0, EVENT_DELAY_S))
        following = index + 1
        if following < self.scenario.drops:
            self.loop.at(self.scenario.written_at(following), partial(self._write, following))
        else:
            self.all_written = True

    def _announce(self, index: int, delay_s: float) -> None:
        drop, version = drop_of(self, index), version_of(self, index)
        blob = Stored(str(index).encode(), version.etag, version.last_modified)
        self.account.blobs[drop.container, drop.blob] = blob
        self.instances.send(index, delay_s)
        if self.scenario.faults.duplicates and self.chance.random() < self.scenario.faults.duplicates:
            self.instances.send(index, delay_s + self.chance.uniform(0, DUPLICATE_DELAY_S))

    def outcome(self) -> Outcome:
        """Compare the final state with what was promised."""
        scenario = self.scenario
        lost = sum(status not in ("uploaded", "superseded") for status in self.statuses)
        newest = (scenario.newest(itwin, LONGEST_S) for itwin in range(scenario.itwins))
        violations = sum(self.platform.shown.get(itwin) != index for itwin, index in enumerate(newest))
        return Outcome(scenario, self.tally, array("d", sorted(self.ended_at)), lost, violations)


def run(scenario: Scenario, seed: int = 1) -> Outcome:
    """Simulate a scenario; the same seed gives the same outcome.

    The garbage collector is off meanwhile: looking through a million drops again and again takes 40 % of the time.
    """
    world = World(scenario, seed)
    gc.disable()
    logging.disable()
    try:
        world.run()
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()
    return world.outcome()
