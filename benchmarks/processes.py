"""The resources of the app's processes, as Linux reports them: CPU time, and the memory that they hold together."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from types import TracebackType

_EVERY_S = 0.05
_CAGE = "shared.cage"


def cpu_s(pid: int) -> float:
    """Return the CPU time so far of all threads, and of the processes that decode images."""
    total = psutil.Process(pid).cpu_times()
    used = total.user + total.system
    for template in decoding(pid, recursive=False):
        times = psutil.Process(template).cpu_times()  # that of its children is the time of those that have ended
        used += times.user + times.system + times.children_user + times.children_system
    return float(used)


def decoding(pid: int, *, recursive: bool = True) -> list[int]:
    """Return the processes in which an app decodes images."""
    found = []
    with suppress(psutil.Error):  # it has just ended
        for child in psutil.Process(pid).children(recursive=recursive):
            with suppress(psutil.Error):
                if any(_CAGE in argument for argument in child.cmdline()):
                    found.append(child.pid)
    return found


def held_bytes(*pids: int) -> int:
    """Return the memory of processes: each page once (PSS), including memory that only a descriptor holds."""
    total, files = 0, {}
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            found = dict(re.findall(r"^(Pss|Pss_Shmem):\s+(\d+) kB", rollup, re.MULTILINE))
            total += 1024 * (int(found["Pss"]) - int(found["Pss_Shmem"]))
            for link in Path(f"/proc/{pid}/fd").iterdir():
                if str(link.readlink()).startswith("/memfd:"):
                    status = link.stat()
                    files[status.st_ino] = 512 * status.st_blocks
        except (OSError, KeyError):
            continue  # it has just ended
    return total + sum(files.values())


class Peak:
    """The peak memory of an app and its processes while a block runs."""

    def __init__(self, pid: int, *, only_decoding: bool = False) -> None:
        self._pid = pid
        self._own = [] if only_decoding else [pid]
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._watch.join()

    def _look(self) -> None:
        while True:
            processes = decoding(self._pid)
            held = held_bytes(*self._own, *processes)
            # On a busy machine, one process may end and another begin during the measurement: they never coexisted.
            if set(processes) <= set(decoding(self._pid)):
                self.bytes = max(self.bytes, held)
            if self._is_over.wait(_EVERY_S):
                return
