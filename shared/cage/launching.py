"""Starts a program of the cage with the app's import paths, and without its environment and descriptors.

The paths are passed on because only the app knows where its packages are (the Functions worker puts `.python_packages`
on `sys.path` after it has started). No setting is passed on, as it may be secret.
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
"""Some Pythons do not start without these."""

_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"}
"""One arena only, as each further one would take 64 MB of the address space that a process may have; and large pages,
which save a seventh of the CPU time when a large picture is rotated."""


def launch(module: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start a module's `main`; `streams` are keyword arguments of `Popen`."""
    paths = [str(Path(path).resolve()) for path in sys.path]
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-c", _BOOT.format(module), json.dumps(paths)],
        stderr=subprocess.DEVNULL,
        env=_MEMORY | kept,
        **streams,
    )
