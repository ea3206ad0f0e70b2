"""Measures drops per second, compared with a plain function: same host, parallelism, storage and platform.

Every second picture is legal already; 200 iTwins take turns, so that no iTwin has to wait for its next upload, as with
200 cameras. Under load, eight drops always wait or run. The app and its peers take turns. Memory is measured in a
round of its own, as reading the memory of every process takes a quarter of a core.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from benchmarks.deluge import BACKLOG, opened
from benchmarks.drops import SMALL, mixed, picture
from benchmarks.processes import Peak
from benchmarks.report import Demand, Section, table
from benchmarks.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.deluge import Deluge

LEAST_RATIO = 2.0
ROUNDS = 20
OURS, PEER, LENIENT_PEER = "the app", "plain function", "plain function, `optimize=False`"
# Peers are slower, and a rate needs fewer drops: each gets every picture equally often.
DROPS = {OURS: 100, PEER: 8, LENIENT_PEER: 8}
QUICK_DROPS = {OURS: 8, PEER: 8}
ITWINS, QUICK_ITWINS = 200, 8
POUR_TIMEOUT_S = 100.0
# No round begins after this: a busy machine processes fewer drops, and the table says how many.
BEGIN_WITHIN_S = 900.0
APPS: Mapping[str, tuple[str | None, Mapping[str, str]]] = {
    OURS: (None, {}),
    PEER: ("peer", {"PEER_OPTIMIZES": "1"}),
    LENIENT_PEER: ("peer", {}),
}


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the time and the number of drops of each contestant."""
    pictures = [(SMALL, picture(SMALL))] if quick else mixed()
    drops = QUICK_DROPS if quick else DROPS
    with ExitStack() as stack:
        platform = stack.enter_context(StandIn())
        pourers = {}
        for name in drops:
            app, settings = APPS[name]
            settings = {**settings, "ITWIN_API_URL": platform.address}
            pourers[name] = stack.enter_context(opened(app, settings, QUICK_ITWINS if quick else ITWINS))
        began, rounds = time.monotonic(), 0
        while rounds < (1 if quick else ROUNDS) and time.monotonic() - began < BEGIN_WITHIN_S:
            for name, count in drops.items():
                pourers[name].pour(pictures, count, timeout_s=POUR_TIMEOUT_S)
            rounds += 1
        figures = {name: _figures(pourers[name].deluge, drops[name], rounds) for name in drops}
        for name, count in drops.items():
            with Peak(pourers[name].host_pid) as peak:
                pourers[name].pour(pictures, count, timeout_s=POUR_TIMEOUT_S)
            figures[name]["peak_bytes"] = peak.bytes
        return figures


def report(figures: Mapping[str, Any]) -> Section:
    """Return drops per second, the time of one drop, and the CPU time per process."""
    rows = []
    for name, figure in figures.items():
        statuses = ", ".join(f"{count:,} {status}" for status, count in figure["statuses"].items() if count)
        rows.append(
            [
                name,
                statuses,
                f"{figure['drops_per_s']:.1f}",
                f"{figure['uploads_per_s']:.1f}",
                f"{figure['median_s']:.2f}",
                f"{figure['p99_s']:.2f}",
                f"{figure['peak_bytes'] / 1e6:.0f}",
            ]
        )
    ours = figures[OURS]
    head = ["", "drops", "drops/s", "uploads/s", "median in s", "99 % within s", "peak memory in MB"]
    used = [[what, *(f"{figure['cpu_ms'][what]:.1f}" for figure in figures.values())] for what in ours["cpu_ms"]]
    text = (
        f"{table(head, rows)}\n\nFrom the blob written to its final result, while {BACKLOG} others wait or run.\n\n"
        f"{table(['CPU in ms per drop', *figures], used)}"
    )
    demands = [
        Demand(
            f"throughput: drops a second, ratio to the {name}",
            ours["drops_per_s"] / figures[name]["drops_per_s"],
            least=LEAST_RATIO,
        )
        for name in figures
        if name != OURS
    ]
    lost = ours["statuses"].get("no result", 0)
    return Section("Throughput", text, (*demands, Demand("throughput: drops without a final result", lost, 0)))


def _figures(deluge: Deluge, per_round: int, rounds: int) -> dict[str, Any]:
    total = per_round * rounds
    seconds = median(deluge.seconds)
    cuts = quantiles(deluge.latencies_s or [0.0, 0.0], n=100, method="inclusive")
    return {
        "drops": total,
        "statuses": dict(deluge.statuses),
        "rounds_s": [round(s, 2) for s in deluge.seconds],
        "drops_per_s": per_round / seconds,
        "uploads_per_s": deluge.statuses["uploaded"] / rounds / seconds,
        "median_s": cuts[49],
        "p99_s": cuts[98],
        "latencies_s": [round(cut, 3) for cut in cuts],
        "cpu_ms": {what: 1_000 * cpu_s / total for what, cpu_s in deluge.cpu_s.items()},
    }
