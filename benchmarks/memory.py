"""Decides the most memory that the worker holds: many large pictures, and hostile ones at once.

The formula: what the process holds after a first small drop, the budget that admission gives to images, Pillow's pool,
and a file for each drop that runs. How many pixels come at once, or how hostile they are, is not in it.

The embedded host and the worker are one process here, so that what it holds before the first drop is more than a
worker's alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.deluge import opened
from benchmarks.drops import HOSTILE, LARGE, SMALL, mixed, picture
from benchmarks.processes import Peak
from benchmarks.report import Demand, Section, table
from benchmarks.stand_in import StandIn
from shared.cage.instance import limits_for

if TYPE_CHECKING:
    from collections.abc import Mapping

INSTANCE_BYTES = 2_048 * 1024 * 1024
BUDGET_BYTES = limits_for(INSTANCE_BYTES, max_source_bytes=100_000_000).budget_bytes
# What the Functions host itself, which is .NET, is given beside the worker.
HOST_BYTES = 400 * 1024 * 1024
TIMEOUT_S = 150.0
DEPLOYED, NO_POOL = "as deployed", "without Pillow's pool"
# What infra/modules/function-app.bicep sets: so many blocks of 16 MB are kept from picture to picture.
POOLS: Mapping[str, Mapping[str, str]] = {DEPLOYED: {"PILLOW_BLOCKS_MAX": "4"}, NO_POOL: {}}
POOL_BYTES = {DEPLOYED: 4 * 16 * 1024 * 1024, NO_POOL: 0}
# The project's host.json: so many drops at once, each with its file.
PARALLELISM = 4
LOADED, MIXED, LARGE_ONES, HOSTILE_ONES = "after a small one", "40 mixed", "12 of 100 MP", "10 hostile of 100 MP"
COUNTS = {LOADED: 1, MIXED: 40, LARGE_ONES: 12, HOSTILE_ONES: 10}


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the peak of each run, each in a worker that has done those before."""
    figures: dict[str, Any] = {}
    with StandIn() as platform:
        for pool, settings in POOLS.items():
            if quick and pool == NO_POOL:
                break
            with opened(None, {**settings, "ITWIN_API_URL": platform.address}, itwins=10) as pourer:
                peaks = {}
                kinds = {
                    LOADED: [(SMALL, picture(SMALL))],
                    MIXED: mixed(),
                    LARGE_ONES: [] if quick else [(name, picture(name)) for name in LARGE],
                    HOSTILE_ONES: [] if quick else [(name, picture(name)) for name in HOSTILE],
                }
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
                figures[pool] = {
                    "peak_bytes": peaks,
                    "largest_bytes": {
                        kind: max(len(content) for _, content in pictures)
                        for kind, pictures in kinds.items()
                        if pictures and kind != LOADED
                    },
                    "statuses": dict(pourer.deluge.statuses),
                }
    return figures


def report(figures: Mapping[str, Any]) -> Section:
    """Say the peaks, and whether the default instance holds them."""
    kinds = list(next(iter(figures.values()))["peak_bytes"])
    rows = [
        [pool, *(f"{figure['peak_bytes'][kind] / 2**20:.0f}" for kind in kinds)] for pool, figure in figures.items()
    ]
    demands = []
    for pool, figure in figures.items():
        peaks = figure["peak_bytes"]
        most = max(peaks.values()) / 2**20
        bound = (INSTANCE_BYTES - HOST_BYTES) / 2**20
        demands.append(Demand(f"memory, {pool}: the worker's peak in MB, beside 400 MB for the host", most, bound))
        for kind, files_bytes in (figure.get("largest_bytes") or {}).items():
            formula = peaks[LOADED] + BUDGET_BYTES + POOL_BYTES[pool] + PARALLELISM * files_bytes
            what = f"memory, {pool}: {kind}, the peak's ratio to the formula ({formula / 2**20:,.0f} MB)"
            demands.append(Demand(what, peaks[kind] / formula, 1))
        lost = figure["statuses"].get("no result", 0)
        demands.append(Demand(f"memory, {pool}: drops without a final result", lost, 0))
    text = (
        "The formula for the peak: what host and worker hold after a first small drop + "
        f"{BUDGET_BYTES / 1e6:,.0f} MB for images (`shared/cage/instance.py`) + Pillow's pool (64 MB as deployed) + "
        f"{PARALLELISM} x the largest file."
    )
    return Section("Memory", text + "\n\n" + table(["peak in MB, host and worker", *kinds], rows), tuple(demands))
