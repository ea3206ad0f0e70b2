"""One engine in a process of its own, asked line by line: `python -m benchmarks.image.worker ENGINE FOLDER`.

It answers its first line unasked: what it is, or why it is missing. Then each request is one JSON object in a line, and
so is its answer:

- `prepare`: a job, its source, and what ours made of it, as far as peers are told;
- `run`: do it once; the answer holds the CPU seconds of all threads and children, and the bytes of what came out;
- `save`: write what came out last.

sharp.mjs speaks the same.
"""

from __future__ import annotations

import ctypes
import json
import re
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.image.engines import Engine


def main(engine_name: str, folder: Path) -> None:
    """Answer until there are no more requests."""
    from benchmarks.image import engines  # noqa: PLC0415 - only a process of its own may import them

    try:
        engine = engines.start(engine_name, folder)
    except (ImportError, OSError) as error:
        _answer({"missing": str(error)})
        return
    _answer({"version": engine.version})
    for line in sys.stdin:
        try:
            _answer(_obey(engine, json.loads(line)))
        except Exception as error:  # noqa: BLE001 - whatever an engine throws at a picture is its answer
            _answer({"error": f"{type(error).__name__}: {error}"[:300]})


def _obey(engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
    if request["op"] == "prepare":
        engine.prepare(request["job"], Path(request["source"]), request["told"])
        return {}
    if request["op"] == "save":
        Path(request["path"]).write_bytes(engine.output or b"")
        return {}
    engine.output = None
    _give_memory_back()
    cpu_s = cpu_seconds()
    wall_s = time.perf_counter()
    engine.output = engine.run()
    return {
        "cpu_s": cpu_seconds() - cpu_s,
        "wall_s": time.perf_counter() - wall_s,
        "bytes": len(engine.output or b""),
        "peak_bytes": peak_bytes(),
        "made": engine.made,
    }


def _give_memory_back() -> None:
    """Have each run begin without the memory that the last one freed, where the C library can.

    Else chance decides who finds it still mapped: it depends on what lies on the heap above it, and is worth a fifth.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def cpu_seconds() -> float:
    """Return the CPU time of this process, its threads and its finished children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes() -> int:
    """Return the most memory that this process, or one of its children, has had.

    `ru_maxrss` of a process counts what its parent had when it was forked; the kernel's high-water mark does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        own = int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0])
    else:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1_024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def _answer(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
