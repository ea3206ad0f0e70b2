"""Measures whether a drop costs more as data grows: more iTwins with an image, or more results.

It counts the app's own CPU time and its requests: the services respond from memory, in a process of their own, and cost
the same however much they hold. Every size has services and clients of its own, and they take turns.
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.drops import SMALL, picture
from benchmarks.processes import cpu_s
from benchmarks.report import Demand, Section, table
from benchmarks.stand_in import StandIn
from benchmarks.surroundings import environment, silent_log
from shared.attempt import Attempt
from shared.drop import Drop
from shared.pipeline import process_drop
from shared.services import Services

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCALES: Mapping[str, Sequence[int]] = {"iTwins": (10, 100, 1_000, 10_000), "results": (100, 1_000, 10_000, 100_000)}
QUICK_SCALES: Mapping[str, Sequence[int]] = {"iTwins": (10, 100), "results": (100, 1_000)}
ROUNDS, QUICK_ROUNDS = 30, 2
BLOCK = 10
MOST_GROWTH = 1.1
# Shorter than a round, so that no iTwin has to wait when its next drop comes.
REST_S = 1


@dataclass
class Scale:
    """One amount of existing data."""

    stand_in: StandIn
    services: Services
    itwins: list[str]
    sends: int = 0

    def fill(self, kind: str, count: int) -> None:
        """Create that much data, by the app itself."""
        self.stand_in.put("seed/photo.jpg", picture(SMALL))
        self.send(self.itwins[:1])
        made = self.itwins[0]
        ledger = [f"ledger/{itwin_id}.json" for itwin_id in self.itwins[1:]]
        self.stand_in.copy(f"ledger/{made}.json", ledger)
        if kind == "results":
            names = (f"results/{self.itwins[n % len(self.itwins)]}/old {n}.jpg.json" for n in range(count))
            self.stand_in.copy(f"results/{made}/new 1.jpg.json", names)

    def send(self, itwins: list[str]) -> float:
        """Send one drop to each; return the CPU seconds per drop."""
        self.sends += 1
        drops = [Drop(itwin_id, f"new {self.sends}.jpg") for itwin_id in itwins]
        self.stand_in.copy("seed/photo.jpg", (f"{drop.container}/{drop.blob}" for drop in drops))
        began = cpu_s(os.getpid())
        for drop in drops:
            process_drop(Attempt.event(drop), self.services)
        return (cpu_s(os.getpid()) - began) / len(drops)


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the CPU time and requests per drop, for each size of each kind."""
    scales = QUICK_SCALES if quick else SCALES
    figures: dict[str, Any] = {kind: {} for kind in scales}
    with ExitStack() as stack:
        stack.enter_context(silent_log())
        opened = {(kind, count): _open(stack, kind, count) for kind in scales for count in scales[kind]}
        runs: dict[tuple[str, int], list[float]] = {key: [] for key in opened}
        time.sleep(REST_S)
        before = {key: scale.stand_in.count() for key, scale in opened.items()}
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            round_ends = time.monotonic() + 1.2 * REST_S
            for key, scale in opened.items():
                first = number * BLOCK % len(scale.itwins)
                runs[key].append(scale.send(scale.itwins[first : first + BLOCK]))
            time.sleep(max(0, round_ends - time.monotonic()))
        for (kind, count), scale in opened.items():
            asked = scale.stand_in.count() - before[kind, count]
            drops = BLOCK * len(runs[kind, count])
            figures[kind][str(count)] = {
                "cpu_ms": 1_000 * median(runs[kind, count]),
                "blocks_ms": [round(1_000 * cpu_s, 3) for cpu_s in runs[kind, count]],
                "requests": sum(asked.values()) / drops,
                "listings": asked["anything else"],
                "uploads": asked["put image"] / drops,
            }
    return figures


def report(figures: Mapping[str, Any]) -> Section:
    """Return the cost of a drop at each size."""
    rows, demands = [], []
    for kind, sizes in figures.items():
        (least, first), *_, (most, last) = sizes.items()
        for count, figure in sizes.items():
            ratio = figure["cpu_ms"] / first["cpu_ms"]
            rows.append(
                [f"{int(count):,} {kind}", f"{figure['cpu_ms']:.2f}", f"{ratio:.2f}", f"{figure['requests']:g}"]
            )
        grown = last["cpu_ms"] / first["cpu_ms"]
        demands.append(
            Demand(f"growth: CPU per drop at {int(most):,} {kind}, ratio to {int(least):,}", grown, MOST_GROWTH)
        )
        more = last["requests"] - first["requests"]
        demands.append(Demand(f"growth: requests per drop more at {int(most):,} {kind}", more, 0))
        listings = sum(figure["listings"] for figure in sizes.values())
        demands.append(Demand(f"growth: listings and other requests that grow, {kind}", listings, 0))
    head = ["there already", "CPU in ms per drop", "ratio to the least", "requests per drop"]
    text = "A small legal JPEG, so that the image work hides nothing; iTwins that were uploaded to before."
    return Section("Growth", f"{text}\n\n{table(head, rows)}", tuple(demands))


def _open(stack: ExitStack, kind: str, count: int) -> Scale:
    stand_in = stack.enter_context(StandIn())
    itwins = [str(uuid.uuid4()) for _ in range(count if kind == "iTwins" else BLOCK)]
    with environment(stand_in.settings() | {"RETRY_MIN_DELAY_S": str(REST_S)}):
        services = Services.from_environ(os.environ)
        scale = Scale(stand_in, services, itwins)
        scale.fill(kind, count)  # the token is fetched here, and cached
    return scale
