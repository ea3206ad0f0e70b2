"""The benchmarks of the app: that they run, and that the README says what they measured. Nothing here measures time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, FIGURES, README, render
from benchmarks.report import Demand, between_markers

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("names", [("cold_start", "warm_path", "cage", "growth"), ("throughput", "memory")])
def test_every_benchmark_runs(names: tuple[str, ...]) -> None:
    """With a few drops each, they start, stop by themselves, and fill their tables."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *names],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=3600,  # which only stops a hang
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for name in names:
        assert f"plots/{name}.png" in run.stdout
    lost = [line for line in run.stdout.splitlines() if "without a final result" in line]
    assert all(line.endswith("| <= 0 | 0 | pass |") for line in lost), lost


def test_the_readme_shows_the_measured_figures() -> None:
    """The tables are generated only from the figures beside them."""
    known = json.loads(FIGURES.read_text("utf-8"))
    assert set(known) <= set(BENCHMARKS)
    assert between_markers(README) == render(known)
    for name in known:
        assert (README.parent / "plots" / f"{name}.png").stat().st_size


@pytest.mark.parametrize(
    ("demand", "holds"),
    [
        (Demand("", 1.15, most=1.15), True),
        (Demand("", 1.16, most=1.15), False),
        (Demand("", 2.0, least=2.0), True),
        (Demand("", 1.9, least=2.0), False),
    ],
)
def test_a_demand_is_met_up_to_its_bound(demand: Demand, holds: bool) -> None:  # noqa: FBT001 - a case
    """The bound itself is still accepted."""
    assert demand.holds is holds
