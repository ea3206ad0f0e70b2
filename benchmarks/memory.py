"""Measures the peak memory of worker, template and children: with many large pictures, and with hostile ones.

The limit: their memory after a first small drop, the budget that admission gives to images, and one file per running
drop. It does not depend on how many pixels arrive at once, or how hostile they are. The machine may have more memory
than the instance to judge: the budget is set to what that instance can spare.

The embedded host and the worker are one process here, so its memory before the first drop is more than a worker's
alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.deluge import opened
from benchmarks.drops import HOSTILE, LARGE, PLAIN, PLAN, SMALL, mixed, picture
from benchmarks.processes import Peak
from benchmarks.report import Demand, Section, table
from benchmarks.stand_in import StandIn
from shared.cage.instance import limits_for

if TYPE_CHECKING:
    from collections.abc import Mapping

INSTANCE_BYTES = 2_048 * 1024 * 1024
BUDGET_BYTES = limits_for(INSTANCE_BYTES, max_source_bytes=100_000_000).budget_bytes
# The share of the Functions host itself, a .NET process beside the worker.
HOST_BYTES = 400 * 1024 * 1024
TIMEOUT_S = 1200.0
DEPLOYED = "as deployed"
# The number of drops at once in the project's host.json, each with its file.
PARALLELISM = 4
LOADED, MIXED, LARGE_ONES, PLAIN_ONES, HOSTILE_ONES = (
    "after a small one",
    "40 mixed",
    "12 of 100 MP",
    "12 large PNGs, TIFFs and WebPs",
    "10 hostile of 100 MP",
)
COUNTS = {LOADED: 1, MIXED: 40, LARGE_ONES: 12, PLAIN_ONES: 12, HOSTILE_ONES: 10}


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the peak of each run, each in a worker that has done the previous runs."""
    kinds = {
        LOADED: [(SMALL, picture(SMALL))],
        MIXED: [(PLAN, picture(PLAN))] if quick else mixed(),
        LARGE_ONES: [] if quick else [(name, picture(name)) for name in LARGE],
        PLAIN_ONES: [] if quick else [(name, picture(name)) for name in PLAIN],
        HOSTILE_ONES: [] if quick else [(name, picture(name)) for name in HOSTILE],
    }
    settings = {"MAX_IMAGE_MEMORY_MB": str(BUDGET_BYTES // 1_000_000)}
    with StandIn() as platform, opened(None, {**settings, "ITWIN_API_URL": platform.address}, itwins=10) as pourer:
        peaks = {}
        for kind, pictures in kinds.items():
            if pictures:
                with Peak(pourer.host_pid) as peak:
                    pourer.pour(
                        pictures,
                        min(COUNTS[kind], 8) if quick else COUNTS[kind],
                        timeout_s=TIMEOUT_S,
                        at_once=kind == HOSTILE_ONES,
                    )
                peaks[kind] = peak.bytes
        figure = {
            "peak_bytes": peaks,
            "largest_bytes": {
                kind: max(len(content) for _, content in pictures)
                for kind, pictures in kinds.items()
                if pictures and kind != LOADED
            },
            "statuses": dict(pourer.deluge.statuses),
        }
    return {DEPLOYED: figure}


def report(figures: Mapping[str, Any]) -> Section:
    """Return the peaks, and whether the default instance has enough memory for them."""
    bound = (INSTANCE_BYTES - HOST_BYTES) / 2**20
    demands, rows = [], []
    for name, figure in figures.items():
        peaks = figure["peak_bytes"]
        rows.append([name, *(f"{peak / 2**20:.0f}" for peak in peaks.values())])
        most = max(peaks.values()) / 2**20
        demands.append(Demand(f"memory, {name}: the app's peak in MB, beside 400 MB for the host", most, bound))
        for kind, files_bytes in (figure.get("largest_bytes") or {}).items():
            formula = peaks[LOADED] + BUDGET_BYTES + PARALLELISM * files_bytes
            what = f"memory, {name}: {kind}, the peak's ratio to the formula ({formula / 2**20:,.0f} MB)"
            demands.append(Demand(what, peaks[kind] / formula, 1))
        lost = figure["statuses"].get("no result", 0)
        demands.append(Demand(f"memory, {name}: drops without a final result", lost, 0))
    text = (
        "The formula for the peak: what host, worker, template and children hold after a first small drop + "
        f"{BUDGET_BYTES / 1e6:,.0f} MB for images (`shared/cage/instance.py`) + {PARALLELISM} x the largest file. "
        "Each page is counted once (PSS)."
    )
    return Section("Memory", text + "\n\n" + table(["peak in MB", *peaks], rows), tuple(demands))
