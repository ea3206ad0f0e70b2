"""Decides how much of the instance's memory images may take, and how many of them are processed at once.

::

    memory of an instance, in MB                    2,048 MiB  1,024 MiB    512 MiB
    a fifth for the Functions host and the system         429        215        107
    the app and its template                              160        160        160
    per process: itself, and a file that waits        4 x 125    2 x 125    1 x 125
    the rest is for images                              1,058        449        144

144 MB are enough to rotate photos of 12 megapixels and to shrink JPEGs of 48; a JPEG of 100, or a WebP of 24 that must
be converted, is too demanding.
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
"""The number of drops that host.json lets run at once."""


def instance_bytes(root: Path = Path("/")) -> int:
    """Return the memory of this instance in bytes: its control group's limit, or the machine's memory; 0 if unknown."""
    return min((*_group_limits(root), *_machine(root)), default=0)


def limits_for(memory_bytes: int, max_source_bytes: int) -> CageLimits:
    """Return the limits for files on an instance with this much memory."""
    processes = max(1, min(MOST_PROCESSES, memory_bytes // _BYTES_FOR_EACH_PROCESS))
    ours = memory_bytes - memory_bytes // _HOST_SHARE - _APP_BYTES
    left = ours - processes * (_PROCESS_BYTES + max_source_bytes)
    return CageLimits(budget_bytes=min(_MOST_BUDGET_BYTES, max(_LEAST_BUDGET_BYTES, left)), processes=processes)


def _group_limits(root: Path) -> Iterator[int]:
    """Yield the memory limits of the process's control groups and of their ancestors, in both versions.

    https://docs.kernel.org/admin-guide/cgroup-v2.html; a line of /proc/self/cgroup names its controllers, none in
    version 2.
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
    """Yield the number in a file, or nothing if it holds none: a group without a limit."""
    with suppress(OSError, ValueError):
        yield int(file.read_text(encoding="ascii"))
