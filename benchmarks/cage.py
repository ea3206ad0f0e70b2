"""Measures what the cage costs: CPU time for a legal JPEG, normalized in the cage and in this process.

Both take turns in the same run. The cage's CPU time is that of all its processes: the app, the template and the
children.
"""

from __future__ import annotations

import os
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.drops import SMALL, TWO_HUNDRED_KILOBYTES, TWO_MEGABYTES, picture
from benchmarks.processes import cpu_s
from benchmarks.report import Demand, Section, table
from shared.cage import CageLimits, open_images
from shared.image import ImageLimits, normalize_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_MORE_MS = 3
BLOCKS, BLOCK, QUICK_BLOCK = 8, 40, 2
WARM_UP = 5


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the CPU time per file of both, for a file of 200 kB and one of 2 MB."""
    names = (SMALL,) if quick else (TWO_HUNDRED_KILOBYTES, TWO_MEGABYTES)
    blocks, block = (1, QUICK_BLOCK) if quick else (BLOCKS, BLOCK)
    images = open_images(ImageLimits(), CageLimits())
    try:
        return {name: _measure(picture(name), images.normalize, blocks, block) for name in names}
    finally:
        images.close()


def report(figures: Mapping[str, Any]) -> Section:
    """Return the figures, and the additional cost."""
    rows, demands = [], []
    for name, figure in figures.items():
        plain_ms, caged_ms = figure["cpu_ms"]["plain"], figure["cpu_ms"]["caged"]
        size, more_ms = f"{figure['bytes'] / 1e6:.1f} MB", caged_ms - plain_ms
        rows.append([size, f"{plain_ms:.2f}", f"{caged_ms:.2f}", f"{more_ms:+.2f}"])
        if name != TWO_MEGABYTES:  # judged by the warm path
            demands.append(Demand(f"cage: CPU in ms more for a legal JPEG of {size}", more_ms, MOST_MORE_MS))
    head = ["a legal JPEG of", "in the process", "in the cage", "more"]
    return Section("Cage", f"CPU in ms per file, of all processes.\n\n{table(head, rows)}", tuple(demands))


def _measure(content: bytes, caged: Callable[[bytes], object], blocks: int, block: int) -> dict[str, Any]:
    ways: dict[str, Callable[[bytes], object]] = {"plain": normalize_image, "caged": caged}
    for normalize in ways.values():
        _run(normalize, content, WARM_UP)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(blocks):
        for way, normalize in ways.items():
            seconds[way].append(_run(normalize, content, block))
    return {"bytes": len(content), "cpu_ms": {way: 1_000 * median(each) for way, each in seconds.items()}}


def _run(normalize: Callable[[bytes], object], content: bytes, times: int) -> float:
    began = cpu_s(os.getpid())
    for _ in range(times):
        normalize(content)
    return (cpu_s(os.getpid()) - began) / times
