"""The app past one machine: a hundredth of the simulation or less, on the app's own decision code."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

from benchmarks.simulation.__main__ import BEGIN, END, FIGURES, QUICK, README
from benchmarks.simulation.report import render
from benchmarks.simulation.run import World, run
from benchmarks.simulation.scenarios import AT_FULL_SIZE, FAULTY, Scenario

if TYPE_CHECKING:
    from benchmarks.simulation.run import Outcome

BULK = AT_FULL_SIZE[0].scaled(QUICK)
# Enough for a dozen of the rarest fault.
WITH_FAULTS = [each.scaled(QUICK / 2) for each in AT_FULL_SIZE[1:]]
simulated = cache(run)


@pytest.mark.parametrize("scenario", [BULK, *WITH_FAULTS], ids=lambda each: each.name)
def test_no_drop_is_lost_and_the_newest_stays_whatever_fails(scenario: Scenario) -> None:
    """Crashes, duplicates, reordered events, an outage, lost responses and failing storage."""
    outcome = simulated(scenario)
    assert (outcome.lost, outcome.violations, outcome.tally.given_up) == (0, 0, [])
    assert bool(outcome.tally.crashes) == bool(scenario.faults.crashes_per_hour)


def test_a_batch_is_processed_at_the_rate_of_the_limit() -> None:
    """Independent instances share the limit and waste almost none of it; what waits is queued."""
    outcome = simulated(BULK)
    assert outcome.drain_s < 1.1 * BULK.ideal_s
    assert outcome.wasted < 0.05
    assert outcome.tally.attempts < 3 * BULK.drops


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_instances_find_their_shares_within_minutes(seed: int) -> None:
    """Each may make five calls a minute: those that were quicker at first do not leave the others without any."""
    outcome = run(Scenario("", 4_000, instances=40, calls_per_minute=200, shuffled_over=40), seed)
    settled = range(5, 19)
    refused = sum(outcome.tally.refused_in[minute] for minute in settled)
    assert refused < 0.06 * sum(outcome.tally.passed_in[minute] for minute in settled)


@pytest.mark.parametrize("instances", [1, 10])
def test_thousands_of_drops_are_processed_at_the_rate_of_the_smallest_plan(instances: int) -> None:
    """With 500 calls a minute and 5,000 an hour none fails, and under 2 % of the calls are throttled."""
    scenario = Scenario("", 6_000, instances=instances, calls_per_minute=500, calls_per_hour=5000)
    outcome = run(scenario)
    assert outcome.tally.statuses == {"uploaded": 6_000}
    assert outcome.tally.refused < 0.02 * outcome.tally.calls
    assert outcome.drain_s < 2 * scenario.ideal_s


def test_the_same_seed_repeats_a_run() -> None:
    """What was seen once can be examined again."""
    small = replace(BULK, drops=300, faults=FAULTY)
    assert run(small, 5) == run(small, 5) != run(small, 6)


def test_a_broken_promise_is_noticed() -> None:
    """A drop without a result counts as lost, and an iTwin that shows an older image as a violation."""

    def outcome(shown: int, status: str | None) -> Outcome:
        world = World(Scenario("", 2, drops_per_itwin=2), 1)
        world.statuses = ["superseded", status]
        world.platform.shown[0] = shown
        return world.outcome()

    assert (outcome(1, "uploaded").lost, outcome(1, "uploaded").violations) == (0, 0)
    assert outcome(1, None).lost == outcome(1, "retrying").lost == outcome(1, "failed").lost == 1
    assert outcome(0, "uploaded").violations == 1


def test_the_tables_show_the_figures() -> None:
    """The page says what was measured."""
    page = README.read_text("utf-8")
    written = page.partition(BEGIN)[2].partition(END)[0].strip()
    assert written == render(json.loads(FIGURES.read_text("utf-8")))
