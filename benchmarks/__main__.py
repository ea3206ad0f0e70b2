"""The order of a run: measure what was asked for, store the figures, and write tables and plots of all figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import cage, cold_start, growth, memory, throughput, warm_path
from benchmarks.report import demands_table, write_between_markers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

HERE = Path(__file__).parent
README, FIGURES, PLOTS = HERE / "README.md", HERE / "figures.json", HERE / "plots"
BENCHMARKS: Mapping[str, ModuleType] = {
    "cold_start": cold_start,
    "warm_path": warm_path,
    "cage": cage,
    "throughput": throughput,
    "memory": memory,
    "growth": growth,
}


def main() -> None:
    """Run what was asked for, or everything."""
    asked = _arguments()
    known: dict[str, Any] = {}
    for name in asked.names or BENCHMARKS:
        began, machine = time.monotonic(), _machine()
        measured = BENCHMARKS[name].measure(quick=asked.quick)
        known[name] = {"machine": machine, "figures": measured}
        sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
        if asked.write:
            known = (json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}) | {name: known[name]}
            FIGURES.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
    sys.stdout.write(render(known) + "\n")
    if asked.write:
        write_between_markers(README, render(known))
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "benchmarks.plots", FIGURES, PLOTS], check=True
        )


def render(known: Mapping[str, Any]) -> str:
    """Return the tables of all stored figures, the demands first."""
    sections = {name: module.report(known[name]["figures"]) for name, module in BENCHMARKS.items() if name in known}
    demands = [demand for section in sections.values() for demand in section.demands]
    parts = ["### What is demanded", demands_table(demands)]
    for name, section in sections.items():
        parts += [f"### {section.title}", f"![{section.title}](plots/{name}.png)", section.text]
        parts.append(f"Measured {known[name]['machine']}.")
    return "\n\n".join(parts)


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    processor = str(names[0]).strip() if names else platform.processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {len(names)} x {processor}{load}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="a few small drops of each: shows that it runs, measures nothing"
    )
    parser.add_argument("--write", action="store_true", help="remember the figures; write README.md and the plots")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return asked


if __name__ == "__main__":
    main()
