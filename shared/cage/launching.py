"""Starts a program of the cage: with the paths that the app imports from, and without its environment and descriptors.

Packages lie where only the app knows (the Functions worker puts `.python_packages` on `sys.path` when it has started),
so the paths are handed over; and no setting, which may be secret, is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import main; main()"
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""Without which some Pythons do not start."""

_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"}
"""One arena, for each further one would take 64 MB of the addresses that a process may have; and large pages, which
save a big picture that is turned a seventh of its CPU."""


def launch(module: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start a module's `main`; `streams` are what `Popen` calls so."""
    paths = [str(Path(path).resolve()) for path in sys.path]
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-c", _BOOT.format(module), json.dumps(paths)],
        stderr=subprocess.DEVNULL,
        env=_MEMORY | kept,
        **streams,
    )
