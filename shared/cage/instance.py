"""Decides how much of the instance's memory images may take, and how many of them are worked on at once.

::

    of an instance's memory                         2,048 MB    512 MB
    a fifth is the Functions host's and the system's     410       102
    the app, its template                                160       160
    for each process: itself, and a file that waits  4 x 125   1 x 125
    what is left is for images                           978       125
"""

from __future__ import annotations

from pathlib import Path

from shared.cage.images import CageLimits

_HOST_SHARE = 5
_APP_BYTES = 160_000_000
_PROCESS_BYTES = 25_000_000
_LEAST_BUDGET_BYTES, _MOST_BUDGET_BYTES = 100_000_000, 3_000_000_000
_BYTES_FOR_EACH_PROCESS = 500_000_000
MOST_PROCESSES = 4
"""As many as host.json lets drops come at once."""

_UNLIMITED = 2**60
"""Version 1 of control groups says some number as large as this where there is no limit."""


def instance_bytes(root: Path = Path("/")) -> int:
    """Return the memory of this instance: its control group's limit, or all that the machine has; 0 where unknown."""
    limits = [*_group_limits(root), *_machine(root)]
    return min(limits, default=0)


def limits_for(memory_bytes: int, max_source_bytes: int) -> CageLimits:
    """Return what files may take on an instance of so much memory."""
    processes = max(1, min(MOST_PROCESSES, memory_bytes // _BYTES_FOR_EACH_PROCESS))
    ours = memory_bytes - memory_bytes // _HOST_SHARE - _APP_BYTES
    left = ours - processes * (_PROCESS_BYTES + max_source_bytes)
    return CageLimits(budget_bytes=min(_MOST_BUDGET_BYTES, max(_LEAST_BUDGET_BYTES, left)), processes=processes)


def _group_limits(root: Path) -> list[int]:
    """Return the limits of the process's group and of those above it (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""
    try:
        own = (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    group = next((line.removeprefix("0::") for line in own if line.startswith("0::")), "/")
    mounted = root / "sys/fs/cgroup"
    folders = [mounted / group.lstrip("/"), *(mounted / group.lstrip("/")).parents]
    files = [folder / "memory.max" for folder in folders if folder.is_relative_to(mounted)]
    found = [_number(file) for file in [*files, mounted / "memory/memory.limit_in_bytes"]]
    return [limit for limit in found if 0 < limit < _UNLIMITED]


def _machine(root: Path) -> list[int]:
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    return [1024 * int(line.split()[1]) for line in lines if line.startswith("MemTotal:")]


def _number(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
