"""Decides how much of the instance's memory images may take, and how many of them are worked on at once.

::

    of an instance's memory, in MB                  2,048 MiB  1,024 MiB    512 MiB
    a fifth is the Functions host's and the system's      429        215        107
    the app and its template                              160        160        160
    for each process: itself, and a file that waits   4 x 125    2 x 125    1 x 125
    what is left is for images                          1,058        449        144

With 144 MB, photos of 12 megapixels are turned and JPEGs of 48 are shrunk; one of 100, or a WebP of 24 that must be
converted, is too demanding.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shared.cage.images import CageLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOST_SHARE = 5
_APP_BYTES = 160_000_000
_PROCESS_BYTES = 25_000_000
_LEAST_BUDGET_BYTES, _MOST_BUDGET_BYTES = 100_000_000, 3_000_000_000
_BYTES_FOR_EACH_PROCESS = 500_000_000
MOST_PROCESSES = 4
"""As many as host.json lets drops come at once."""


def instance_bytes(root: Path = Path("/")) -> int:
    """Return the memory of this instance: its control group's limit, or all that the machine has; 0 where unknown."""
    return min((*_group_limits(root), *_machine(root)), default=0)


def limits_for(memory_bytes: int, max_source_bytes: int) -> CageLimits:
    """Return what files may take on an instance of so much memory."""
    processes = max(1, min(MOST_PROCESSES, memory_bytes // _BYTES_FOR_EACH_PROCESS))
    ours = memory_bytes - memory_bytes // _HOST_SHARE - _APP_BYTES
    left = ours - processes * (_PROCESS_BYTES + max_source_bytes)
    return CageLimits(budget_bytes=min(_MOST_BUDGET_BYTES, max(_LEAST_BUDGET_BYTES, left)), processes=processes)


def _group_limits(root: Path) -> Iterator[int]:
    """Yield the limits of the process's groups, and of those above them, in both versions of control groups.

    https://docs.kernel.org/admin-guide/cgroup-v2.html; what a line begins with is the controllers, none in version 2.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in {"", "memory"}:
            mounted = root / "sys/fs/cgroup" / controllers
            for folder in (mounted / group.lstrip("/"), *(mounted / group.lstrip("/")).parents):
                if folder.is_relative_to(mounted):
                    yield from _number(folder / ("memory.limit_in_bytes" if controllers else "memory.max"))


def _machine(root: Path) -> Iterator[int]:
    with suppress(OSError):
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        yield from (1024 * int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))


def _number(file: Path) -> Iterator[int]:
    """Yield the number in a file; nothing where there is none, as where a group has no limit."""
    with suppress(OSError, ValueError):
        yield int(file.read_text(encoding="ascii"))
