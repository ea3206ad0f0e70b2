"""The order of a run: simulate every scenario, remember the figures, write tables and plot."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
    groups = {"full": AT_FULL_SIZE, "sweep": SWEEP, "smallest": SMALLEST_PLAN}
    if asked.quick:
        groups = {"full": tuple(each.scaled(QUICK) for each in AT_FULL_SIZE), "sweep": (), "smallest": ()}
    if asked.again:
        known = json.loads(FIGURES.read_text("utf-8"))
    else:
        flat = [scenario for scenarios in groups.values() for scenario in scenarios]
        with ProcessPoolExecutor(min(os.cpu_count() or 1, 4), multiprocessing.get_context("spawn")) as pool:
            found = iter(list(pool.map(partial(report.simulate, seed=asked.seed), flat)))
        known = {group: [next(found) for _ in scenarios] for group, scenarios in groups.items()}
    text = report.render(known)
    sys.stdout.write(text + "\n")
    if asked.write:
        FIGURES.write_text(json.dumps(known) + "\n", "utf-8")
        write(README, text)
        report.draw(known, PLOT)


def write(path: Path, text: str) -> None:
    """Replace what stands between the markers of a file."""
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}", "utf-8")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything, in seconds")
    parser.add_argument("--seed", type=int, default=1, help="the same seed repeats a run")
    parser.add_argument("--write", action="store_true", help="write tables into benchmarks/README.md, and the plot")
    parser.add_argument("--again", action="store_true", help="tables and plot of the figures of the last run")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
