"""What a process has used, as Linux tells it: CPU time, and the most memory that it held."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

# https://www.kernel.org/doc/html/latest/filesystems/proc.html#process-specific-subdirectories: forget the peak
_FORGET_PEAK = "5"


def cpu_s(pid: int) -> float:
    """Return the CPU time of all threads so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def peak_bytes(pid: int) -> int:
    """Return the most memory that was resident since the process started, or since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def forget_peak(pid: int) -> None:
    """Let the peak begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text(_FORGET_PEAK)
