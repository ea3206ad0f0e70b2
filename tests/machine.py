"""What tests ask of the machine that they run on."""

from __future__ import annotations

import psutil

from local.serving import listen


def is_running(pid: int) -> bool:
    """Whether the process does anything: one that only waits to be reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """Return a port that nobody uses."""
    with listen() as listener:
        return int(listener.getsockname()[1])
