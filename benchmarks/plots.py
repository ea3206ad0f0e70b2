"""Draws one picture per benchmark from the figures: `python -m benchmarks.plots FIGURES FOLDER`.

On white, with dark lines, so that they are readable on light and dark pages.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BLUE, ORANGE, GREY, GREEN, RED = "#2f6db5", "#e08214", "#9aa3ad", "#3a9a5b", "#c0392b"
COLOURS = (BLUE, ORANGE, GREEN, GREY, "#7b5ea7", RED)
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "legend.frameon": False,
}


def draw(figures: Mapping[str, Any], folder: Path) -> None:
    """Draw what there are figures for."""
    folder.mkdir(exist_ok=True)
    for name, plot in PLOTS.items():
        if name in figures:
            with plt.style.context(_STYLE):
                figure = plot(figures[name])
                figure.savefig(folder / f"{name}.png", dpi=130, metadata={"Software": None})
                plt.close(figure)


def _cold_start(figures: Mapping[str, Any]) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", width_ratios=(1, 1.4))
    ms = figures["cpu_ms"]
    labels = ["two libraries", "function_app"]
    bars = left.bar(labels, list(ms.values()), color=[GREY, BLUE], width=0.6)
    left.bar_label(bars, fmt="%.0f")
    bare = next(iter(ms.values()))
    left.axhline(1.15 * bare, color=RED, linestyle="--", linewidth=1)
    left.annotate("limit, 1.15 x", (0.5, 1.15 * bare), ha="center", va="bottom", color=RED)
    left.set(title="Indexing", ylabel="CPU in ms", ylim=(0, 1.4 * bare))
    steps = figures["first_drop_ms"]
    names = [name for name in steps if name != "all that is paid once"]
    bars = right.barh(
        names[::-1], [max(0.0, steps[name]) for name in names[::-1]], color=[GREY] + [BLUE] * 9, height=0.6
    )
    right.bar_label(bars, fmt="%.0f", padding=3)
    right.set(title="The first drop", xlabel="CPU in ms")
    right.margins(x=0.12)
    return figure


def _warm_path(figures: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
    setups = [(name, value["cpu_ms"]) for name, value in figures.items() if isinstance(value, dict)][::-1]
    for row, (_, ms) in enumerate(setups):
        base = ms["image"] + ms["bare"]
        own = max(0.0, ms["app"] - base)
        for left, width, colour, label in (
            (0, ms["image"], GREY, "image work"),
            (ms["image"], ms["bare"], ORANGE, "bare SDK calls and one PUT"),
            (base, own, BLUE, "the app's own"),
        ):
            axes.barh(row, width, left=left, color=colour, height=0.5, label=label if row == 0 else None)
        axes.plot(
            [1.15 * base] * 2,
            [row - 0.35, row + 0.35],
            color=RED,
            linestyle="--",
            linewidth=1.4,
            label="limit" if row == 0 else None,
        )
        axes.annotate(f"+{own / base:.1%}", (1.15 * base, row), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(setups)), [name.replace(" (", "\n(") for name, _ in setups])
    axes.set(title="CPU of a warm drop, a legal JPEG of 2 MB", xlabel="CPU in ms")
    axes.margins(x=0.14)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _cage(figures: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(8, 2.4), layout="constrained")
    files = list(figures.values())[::-1]
    for place, way, colour, label in ((0.2, "plain", GREY, "in the process"), (-0.2, "caged", BLUE, "in the cage")):
        rows = [row + place for row in range(len(files))]
        bars = axes.barh(rows, [file["cpu_ms"][way] for file in files], color=colour, height=0.38, label=label)
        axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_yticks(range(len(files)), [f"{file['bytes'] / 1e6:.1f} MB" for file in files])
    axes.set(title="CPU for a legal JPEG", xlabel="CPU in ms")
    axes.margins(x=0.12)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _throughput(figures: Mapping[str, Any]) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    names = [name.replace(", ", ",\n").replace("`", "") for name in figures]
    bars = left.bar(names, [f["drops_per_s"] for f in figures.values()], color=[BLUE, ORANGE, GREY], width=0.6)
    left.bar_label(bars, fmt="%.1f")
    left.set(title="Drops through the host", ylabel="drops per second")
    left.margins(y=0.12)
    for (name, run), colour in zip(figures.items(), (BLUE, ORANGE, GREY), strict=False):
        right.plot(run["latencies_s"], range(1, len(run["latencies_s"]) + 1), color=colour, label=name.replace("`", ""))
    right.set(
        title="From the blob written to its final result",
        xlabel="seconds",
        ylabel="% of the drops",
        xlim=(0, None),
        ylim=(0, 100),
    )
    right.grid(alpha=0.3)
    right.legend(loc="lower right")
    return figure


def _memory(figures: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    kinds = list(next(iter(figures.values()))["peak_bytes"])
    width = 0.8 / len(figures)
    for number, (pool, run) in enumerate(figures.items()):
        places = [place + number * width for place in range(len(kinds))]
        bars = axes.bar(
            places, [run["peak_bytes"][kind] / 2**20 for kind in kinds], width, color=COLOURS[number], label=pool
        )
        axes.bar_label(bars, fmt="%.0f")
    axes.axhline(1_648, color=RED, linestyle="--", linewidth=1)
    axes.annotate("2,048 MB instance less 400 MB for the host", (-0.3, 1_648), va="bottom", color=RED)
    axes.set_xticks([place + width * (len(figures) - 1) / 2 for place in range(len(kinds))], kinds)
    axes.set(title="The most memory that host and worker held", ylabel="MB", ylim=(0, 1_950))
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0.85))
    return figure


def _growth(figures: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for (kind, sizes), colour in zip(figures.items(), (BLUE, ORANGE), strict=True):
        counts = [int(count) for count in sizes]
        axes.plot(
            counts, [size["cpu_ms"] for size in sizes.values()], "o-", color=colour, label=f"{kind} there already"
        )
    axes.set_xscale("log")
    axes.set(
        title="A drop costs the same, however much is there",
        xlabel="how many are there",
        ylabel="CPU in ms per drop",
    )
    axes.margins(y=0.2)
    axes.set_ylim(0, None)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


PLOTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "cold_start": _cold_start,
    "warm_path": _warm_path,
    "cage": _cage,
    "throughput": _throughput,
    "memory": _memory,
    "growth": _growth,
}


if __name__ == "__main__":
    known = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    draw({name: entry["figures"] for name, entry in known.items()}, Path(sys.argv[2]))
