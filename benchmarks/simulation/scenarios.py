"""The scenarios: how many drops for how many iTwins, on how many instances, with which faults."""

from __future__ import annotations

from dataclasses import dataclass, replace

WRITTEN_A_SECOND = 1000


@dataclass(frozen=True)
class Faults:
    """What fails: shares of the platform's calls, of storage requests and of events, and crashes."""

    unavailable: float = 0.0
    silent: float = 0.0
    storage: float = 0.0
    duplicates: float = 0.0
    crashes_per_hour: float = 0.0
    outage_s: tuple[float, float] = (0.0, 0.0)

    def is_out(self, now: float) -> bool:
        """Whether the platform responds only with 503."""
        return self.outage_s[0] <= now < self.outage_s[1]


FAULTLESS = Faults()
FAULTY = Faults(
    unavailable=0.01, silent=0.002, storage=0.0005, duplicates=0.01, crashes_per_hour=0.5, outage_s=(300.0, 600.0)
)


@dataclass(frozen=True)
class Scenario:
    """What is dropped, which instances process it, and what fails.

    A bulk (`lasts_s` 0) exists completely at the start, folder by folder, and its events come in the order of writing,
    except for a shuffle among neighbours; otherwise drops are written steadily, to one iTwin after the other.
    """

    name: str
    drops: int
    drops_per_itwin: int = 1
    instances: int = 1000
    parallelism: int = 4
    calls_per_minute: int = 5000
    calls_per_hour: int = 0
    lasts_s: float = 0.0
    shuffled_over: int = 1000
    faults: Faults = FAULTLESS

    @property
    def itwins(self) -> int:
        """The number of iTwins."""
        return self.drops // self.drops_per_itwin

    def itwin(self, index: int) -> int:
        """Return the iTwin of a drop."""
        return index % self.itwins if self.lasts_s else index // self.drops_per_itwin

    def written_at(self, index: int) -> float:
        """Return when a drop is written; before the start for a bulk."""
        return index * self.lasts_s / self.drops if self.lasts_s else (index - self.drops) / WRITTEN_A_SECOND

    def newest(self, itwin: int, now: float) -> int:
        """Return the last drop of an iTwin written by then."""
        if not self.lasts_s:
            return (itwin + 1) * self.drops_per_itwin - 1
        written = min(int(now * self.drops / self.lasts_s), self.drops - 1)
        rounds = (written - itwin) // self.itwins
        return itwin + rounds * self.itwins

    @property
    def ideal_s(self) -> float:
        """The least time in which the rate limits allow one upload for each iTwin."""
        hours = (self.itwins - 1) // self.calls_per_hour if self.calls_per_hour else 0
        rest = self.itwins - hours * self.calls_per_hour
        return hours * 3600 + max(60 * (rest / self.calls_per_minute - 1), 0)

    def scaled(self, factor: float) -> Scenario:
        """Return the scenario with all amounts scaled."""
        return replace(
            self,
            drops=round(self.drops * factor),
            instances=max(round(self.instances * factor), 1),
            calls_per_minute=round(self.calls_per_minute * factor),
            shuffled_over=round(self.shuffled_over * factor),
        )


MILLION = 1_000_000
# 4,000 drops a minute, of 5,000 that may be uploaded
STEADILY_S = MILLION / 4000 * 60

AT_FULL_SIZE = (
    Scenario("a bulk", MILLION),
    Scenario("a bulk, faults", MILLION, faults=FAULTY),
    Scenario("a bulk, as many as advised, faults", MILLION, instances=30, faults=FAULTY),
    Scenario("a bulk, 10 for each iTwin, faults", MILLION, drops_per_itwin=10, faults=FAULTY),
    Scenario("steadily 4,000 a minute, 10 for each iTwin, faults", MILLION, 10, lasts_s=STEADILY_S, faults=FAULTY),
)

SWEEP = tuple(
    Scenario(f"20,000 on {count} x {threads}", 20_000, instances=count, parallelism=threads)
    for count, threads in ((3, 4), (10, 4), (30, 4), (100, 4), (300, 4), (10, 1), (10, 2), (10, 8), (10, 16))
)

SMALLEST_PLAN = tuple(
    Scenario(f"the smallest plan on {count} x 4", 10_000, instances=count, calls_per_minute=500, calls_per_hour=5000)
    for count in (1, 3, 10, 100)
)
