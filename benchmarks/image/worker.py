"""One engine in a process of its own, controlled line by line: `python -m benchmarks.image.worker ENGINE FOLDER`.

Its first line is unsolicited: what it is, or why it is missing. Then each request is one line of JSON, and so is each
response:

- `prepare`: a job, its source, and our output, as far as peers are told;
- `run`: do it once; the response has the CPU seconds of all threads and children, and the size of the output in bytes;
- `save`: write the last output.

sharp.mjs uses the same protocol.
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
    """Respond until there are no more requests."""
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
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is its response
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
    """Return freed memory to the system before each run, if the C library can.

    Otherwise chance decides which engine finds memory still mapped: it depends on the heap's layout, and matters by a
    fifth.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def cpu_seconds() -> float:
    """Return the CPU time of this process, its threads and its finished children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes() -> int:
    """Return the peak memory of this process, or of one of its children.

    `ru_maxrss` of a process includes its parent's memory when it was forked; the kernel's high-water mark does not.
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
