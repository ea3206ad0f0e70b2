"""Decides how time is measured: every engine in a process of its own, all on one core, taking turns in rounds.

CPU time is measured, not wall-clock time, as other load affects it less. The order changes with every round, so that no
engine always follows the same one. The median of the rounds counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

from benchmarks.image.jobs import OURS, POOLED, SHARP

if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE = Path(__file__).parent
POOL = {"PILLOW_BLOCKS_MAX": "12"}
POOL_FOR_TWO = {"PILLOW_BLOCKS_MAX": "64"}
_ENOUGH_S = 4.0
_FEWEST_ROUNDS = 3


@dataclass
class Worker:
    """An engine in a process of its own."""

    engine: str
    folder: Path
    said: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Start it and read what it is."""
        command = [sys.executable, "-m", "benchmarks.image.worker", OURS if self.engine == POOLED else self.engine]
        if self.engine == SHARP:
            command = ["node", str(_HERE / "sharp.mjs")]
        environment = {key: value for key, value in os.environ.items() if key not in POOL}
        environment |= POOL if self.engine == POOLED else {}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                [*command, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                text=True,
            )
        except FileNotFoundError:
            self.said = {"missing": "not installed"}
            return self
        self.said = self._next_line()
        return self

    def __exit__(self, *_: object) -> None:
        """Close its input and let it exit."""
        if hasattr(self, "_process"):
            self._process.communicate()

    @property
    def is_missing(self) -> bool:
        """Whether it is not installed on this machine."""
        return "missing" in self.said

    def ask(self, op: str, **details: Any) -> dict[str, Any]:
        """Send one request and wait for its response."""
        if self._process.stdin is None:
            raise BrokenPipeError
        self._process.stdin.write(json.dumps({"op": op, **details}, default=str) + "\n")
        self._process.stdin.flush()
        return self._next_line()

    def _next_line(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        return dict(json.loads(line)) if line else {"error": "it died"}


def interleave(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each run of each worker."""
    runs: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(rounds):
        for name in turn([name for name in workers if not is_enough(runs[name])], number):
            answer = workers[name].ask("run")
            if "cpu_s" in answer:
                runs[name].append(answer["cpu_s"])
    return runs


def turn(names: list[str], number: int) -> list[str]:
    """Return the order of a round, rotated by one in every round."""
    first = number % max(1, len(names))
    return names[first:] + names[:first]


def is_enough(runs: list[float]) -> bool:
    """Say whether a slow engine has been measured for long enough."""
    return len(runs) >= _FEWEST_ROUNDS and sum(runs) >= _ENOUGH_S


def middle(runs: list[float]) -> float | None:
    """Return the median, or None if nothing was measured."""
    return median(runs) if runs else None


def pin(cores: int = 1) -> bool:
    """Keep this process, and all that it starts, on this many cores; return whether the machine can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    allowed = sorted(_ALLOWED)
    os.sched_setaffinity(0, allowed[-cores:])
    return len(allowed) >= cores


_ALLOWED = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
