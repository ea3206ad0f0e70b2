"""The order of a run: simulate scenarios, keep the figures of each when it ends, write tables and plot."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.simulation import report
from benchmarks.simulation.scenarios import AT_FULL_SIZE, SMALLEST_PLAN, SWEEP

if TYPE_CHECKING:
    from collections.abc import Sequence

README = Path("benchmarks/README.md")
PLOT = Path("benchmarks/plots/simulation.png")
FIGURES = Path(__file__).with_name("figures.json")
BEGIN, END = "<!-- bench-simulation: begin -->", "<!-- bench-simulation: end -->"
QUICK = 0.01


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for, and say what was found."""
    asked = _arguments(arguments)
    scenarios = (
        [each.scaled(QUICK) for each in AT_FULL_SIZE] if asked.quick else [*AT_FULL_SIZE, *SWEEP, *SMALLEST_PLAN]
    )
    known: dict[str, Any] = {} if asked.quick else json.loads(FIGURES.read_text("utf-8"))
    # A process each: the threads that wait for ever at a scenario's end would keep its million drops in memory.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4), spawn, max_tasks_per_child=1) as pool:
        wanted = [scenario for scenario in scenarios if asked.only in scenario.name]
        running = {pool.submit(report.simulate, scenario, asked.seed): scenario.name for scenario in wanted}
        for done in as_completed(running):
            known[running[done]] = done.result()
            if asked.write:
                FIGURES.write_text(json.dumps(known) + "\n", "utf-8")
    text = report.render(known)
    sys.stdout.write(text + "\n")
    if asked.write:
        write(README, text)
        report.draw(known, PLOT)


def write(path: Path, text: str) -> None:
    """Replace what stands between the markers of a file."""
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}", "utf-8")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="a hundredth of everything, in seconds; keeps nothing")
    what.add_argument("--write", action="store_true", help="write tables into benchmarks/README.md, and the plot")
    parser.add_argument("--seed", type=int, default=1, help="the same seed repeats a run")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the scenarios that have it in their names")
    asked = parser.parse_args(arguments)
    if asked.quick and asked.only:
        parser.error("--only leaves the figures of the others as they are, and --quick has none")
    return asked


if __name__ == "__main__":
    main()
