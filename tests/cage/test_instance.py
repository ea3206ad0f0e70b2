"""How much memory images may take, depending on the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.cage.instance import instance_bytes, limits_for

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20


def machine(root: Path, files: dict[str, str]) -> Path:
    """Write files of `/proc` and `/sys` below a folder."""
    for name, content in {"proc/meminfo": "MemTotal:        8388608 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8_192 * MIB),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": str(2_048 * MIB)}, 2_048 * MIB),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 8_192 * MIB),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": f"{512 * MIB}\n"}, 512 * MIB),
        (
            {
                "proc/self/cgroup": "5:cpu:/x\n4:memory:/x\n0::/\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": f"{1_024 * MIB}\n",
            },
            1_024 * MIB,
        ),
        ({"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63)}, 8_192 * MIB),
    ],
    ids=["a machine", "a group", "a group without a limit", "a group above", "version 1", "version 1, no limit"],
)
def test_available_memory_follows_the_smallest_limit(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    """A container sees all of the machine's memory, but is killed at its own limit."""
    assert instance_bytes(machine(tmp_path, files)) == expected


def test_available_memory_is_unknown_where_no_limit_can_be_read(tmp_path: Path) -> None:
    """Then the budget is only what one image needs."""
    assert instance_bytes(tmp_path) == 0
    assert limits_for(0, 100_000_000).processes == 1


@pytest.mark.parametrize(("megabytes", "processes"), [(512, 1), (1_024, 2), (2_048, 4), (4_096, 4)])
def test_everything_in_memory_at_once_fits_the_instance(megabytes: int, processes: int) -> None:
    """The budget of images, waiting files, the processes, the app, and a fifth for the host."""
    limits = limits_for(megabytes * MIB, 100_000_000)
    assert limits.processes == processes
    ours = limits.budget_bytes + processes * (25_000_000 + 100_000_000) + 160_000_000
    assert ours <= megabytes * MIB * 4 // 5 + 1
    assert limits.budget_bytes >= 100_000_000
