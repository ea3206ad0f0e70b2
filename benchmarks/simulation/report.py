"""The figures of a scenario, the tables and the plot made from them, and the demands on them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.report import Demand, demands_table, table
from benchmarks.simulation.run import run
from benchmarks.simulation.scenarios import AT_FULL_SIZE, SMALLEST_PLAN, SWEEP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.simulation.run import Outcome
    from benchmarks.simulation.scenarios import Scenario

Figures = dict[str, Any]


def simulate(scenario: Scenario, seed: int) -> Figures:
    """Run one scenario, and print on stderr how long it took."""
    began = time.monotonic()
    told = figures(run(scenario, seed))
    sys.stderr.write(f"{scenario.name}: {time.monotonic() - began:.0f} s\n")
    return told


def figures(outcome: Outcome) -> Figures:
    """Return the figures of a scenario. Times are in minutes, `after_s` in seconds from a drop to its result."""
    scenario, tally, ended_at = outcome.scenario, outcome.tally, outcome.ended_at
    calls = max(tally.calls, 1)
    minutes = range(max(tally.passed_in, default=-1) + 1)
    return {
        "name": scenario.name,
        "drops": scenario.drops,
        "instances": scenario.instances,
        "threads": scenario.parallelism,
        "calls_per_minute": scenario.calls_per_minute,
        "is_steady": bool(scenario.lasts_s),
        "drain_min": outcome.drain_s / 60,
        "nearly_drained_min": outcome.nearly_drained_s / 60,
        "ideal_min": scenario.ideal_s / 60,
        "after_s": [ended_at[len(ended_at) * share // 100] if ended_at else 0 for share in (50, 99)],
        "calls": tally.calls,
        "refused": tally.refused / calls,
        "outdated": tally.outdated / calls,
        "repeated": tally.repeated / calls,
        "attempts": tally.attempts / scenario.drops,
        "storage_requests": tally.storage_requests / scenario.drops,
        "crashes": tally.crashes,
        "given_up": len(tally.given_up),
        "lost": outcome.lost,
        "violations": outcome.violations,
        "passed_in": [tally.passed_in[minute] for minute in minutes],
    }


def render(known: Mapping[str, Figures]) -> str:
    """Return the tables of all stored figures, by scenario."""
    full, sweep, smallest = (_of(scenarios, known) for scenarios in (AT_FULL_SIZE, SWEEP, SMALLEST_PLAN))
    parts = [
        "![Past one machine](plots/simulation.png)",
        demands_table(demands(known)),
        f"{full[0]['drops']:,} drops each; outdated and repeated uploads are shares of the calls:",
        _table("what is dropped", [figures | {"label": figures["name"]} for figures in full]),
    ]
    if sweep:
        parts.append("A bulk of 20,000 drops without faults, for as many iTwins:")
        parts.append(_table("instances x threads", [figures | {"label": _size(figures)} for figures in sweep]))
    if smallest:
        parts.append("10,000 drops for as many iTwins on the smallest plan, 500 calls a minute and 5,000 an hour:")
        parts.append(_table("instances x threads", [figures | {"label": _size(figures)} for figures in smallest]))
    return "\n\n".join(parts)


def _of(scenarios: Sequence[Scenario], known: Mapping[str, Figures]) -> list[Figures]:
    return [known[scenario.name] for scenario in scenarios if scenario.name in known]


def _size(figures: Figures) -> str:
    return f"{figures['instances']:,} x {figures['threads']}"


def _table(first: str, rows: Sequence[Figures]) -> str:
    head = (
        first,
        "instances",
        "calls a minute",
        "drained, 99 %, ideal (min)",
        "429",
        "outdated",
        "repeated",
        "attempts",
        "storage requests",
        "lost",
        "older left",
    )
    return table(
        head,
        (
            (
                figures["label"],
                f"{figures['instances']:,}",
                f"{figures['calls_per_minute']:,}",
                _times(figures),
                *(f"{figures[share]:.2%}" for share in ("refused", "outdated", "repeated")),
                f"{figures['attempts']:.2f}",
                f"{figures['storage_requests']:.1f}",
                figures["lost"],
                figures["violations"],
            )
            for figures in rows
        ),
    )


def _times(figures: Figures) -> str:
    if figures["is_steady"]:
        median_s, most_s = figures["after_s"]
        return f"each after {median_s:.1f} s; 99 %: {most_s:.0f} s"
    return f"{figures['drain_min']:.0f}, {figures['nearly_drained_min']:.0f}, {figures['ideal_min']:.0f}"


def demands(known: Mapping[str, Figures]) -> list[Demand]:
    """Compare the figures with the demands."""
    everything = _of((*AT_FULL_SIZE, *SWEEP, *SMALLEST_PLAN), known)
    bulk = known[AT_FULL_SIZE[0].name]
    return [
        Demand("drops lost, all scenarios", sum(f["lost"] for f in everything), most=0),
        Demand("iTwins left with an older image, all scenarios", sum(f["violations"] for f in everything), most=0),
        Demand("a bulk: time to drain, ratio to the ideal", bulk["drain_min"] / bulk["ideal_min"], most=1.1),
        Demand("a bulk: share of calls that were wasted", bulk["refused"] + bulk["outdated"] + bulk["repeated"], 0.05),
    ]


def draw(known: Mapping[str, Figures], path: Path) -> None:
    """Draw uploads over time, and the effect of the number of instances on a bulk. Needs matplotlib."""
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the tests do not need it

    from benchmarks.plots import _STYLE as STYLE  # noqa: PLC0415
    from benchmarks.plots import BLUE, COLOURS, GREY, ORANGE, RED  # noqa: PLC0415

    with plt.style.context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.8), layout="constrained", width_ratios=(1.4, 1))
        full = _of(AT_FULL_SIZE, known)
        for figures, colour in zip(full, COLOURS, strict=False):
            label = f"{figures['name']} ({figures['instances']:,})"
            left.plot(figures["passed_in"], color=colour, linewidth=1.2, label=label)
        limit, drops = full[0]["calls_per_minute"], full[0]["drops"]
        left.axhline(limit, color=RED, linestyle="--", linewidth=1)
        left.set(
            title=f"{drops:,} drops (instances)",
            xlabel="minutes",
            ylabel="calls let through a minute",
        )
        left.set_ylim(0, 1.75 * limit)
        left.legend(loc="upper right", fontsize=8)
        sweep = [figures for figures in _of(SWEEP, known) if figures["threads"] == full[0]["threads"]]
        sweep.sort(key=lambda figures: figures["instances"])
        if sweep:
            counts = [f["instances"] for f in sweep]
            right.plot(counts, [f["nearly_drained_min"] / f["ideal_min"] for f in sweep], "o-", color=BLUE)
            right.set(xscale="log", yscale="log", xlabel="instances of four threads", title="20,000 drops")
            right.set_ylabel("time until 99 % are done, x ideal", color=BLUE)
            right.axhline(1, color=GREY, linewidth=1)
            other = right.twinx()
            other.spines["right"].set_visible(True)
            other.plot(counts, [100 * f["refused"] for f in sweep], "s--", color=ORANGE)
            other.set_ylabel("calls refused with 429, %", color=ORANGE)
            other.set_ylim(0, None)
        figure.savefig(path, dpi=130, metadata={"Software": None})
        plt.close(figure)
