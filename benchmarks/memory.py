"""Decides the most memory that the worker holds: many large pictures, and hostile ones at once.

The embedded host and the worker are one process here, so that what it holds before the first drop is more than a
worker's alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.deluge import opened
from benchmarks.drops import HOSTILE, LARGE, mixed, picture
from benchmarks.processes import forget_peak, peak_bytes
from benchmarks.report import Demand, Section, table
from benchmarks.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Mapping

INSTANCE_BYTES = 2_048 * 1024 * 1024
# What the Functions host itself, which is .NET, is given beside the worker.
HOST_BYTES = 400 * 1024 * 1024
TIMEOUT_S = 150.0
POOLS: Mapping[str, Mapping[str, str]] = {"default": {}, "PILLOW_BLOCKS_MAX=12": {"PILLOW_BLOCKS_MAX": "12"}}
START, MIXED, LARGE_ONES, HOSTILE_ONES = "before the first drop", "40 mixed", "12 of 100 MP", "10 hostile of 100 MP"
COUNTS = {MIXED: 40, LARGE_ONES: 12, HOSTILE_ONES: 10}


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the peak of each run, each in a worker that has done those before."""
    figures: dict[str, Any] = {}
    with StandIn() as platform:
        for pool, settings in POOLS.items():
            if quick and settings:
                break
            with opened(None, {**settings, "ITWIN_API_URL": platform.address}, itwins=10) as pourer:
                peaks = {START: peak_bytes(pourer.host_pid)}
                kinds = {
                    MIXED: mixed(),
                    LARGE_ONES: [] if quick else [(name, picture(name)) for name in LARGE],
                    HOSTILE_ONES: [] if quick else [(name, picture(name)) for name in HOSTILE],
                }
                for kind, pictures in kinds.items():
                    if pictures:
                        forget_peak(pourer.host_pid)
                        pourer.pour(
                            pictures,
                            8 if quick else COUNTS[kind],
                            timeout_s=TIMEOUT_S,
                            at_once=kind == HOSTILE_ONES,
                        )
                        peaks[kind] = peak_bytes(pourer.host_pid)
                figures[pool] = {"peak_bytes": peaks, "statuses": dict(pourer.deluge.statuses)}
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
        if HOSTILE_ONES in peaks:
            ratio = peaks[HOSTILE_ONES] / peaks[LARGE_ONES]
            demands.append(Demand(f"memory, {pool}: ten hostile at once, ratio to large ones", ratio, 1.05))
        lost = figure["statuses"].get("no result", 0)
        demands.append(Demand(f"memory, {pool}: drops without a final result", lost, 0))
    return Section("Memory", table(["peak in MB, host and worker", *kinds], rows), tuple(demands))
