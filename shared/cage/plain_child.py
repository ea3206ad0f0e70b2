"""The program of a process without a cage: it reads one file from a given path, and ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from shared.cage.conversation import pack, unpack
from shared.cage.work import normalize_file, unpack_file
from shared.image.model import ImageLimits


def main() -> None:
    """Read the job from standard input, and write messages to standard output."""
    job = unpack(sys.stdin.buffer.readline())

    def ask(message: dict[str, Any]) -> None:
        _say(message)
        if not sys.stdin.buffer.readline():
            sys.exit()

    content, room = Path(job["source"]).read_bytes(), Path(job["room"])
    if most_bytes := job["mostUnpacked"]:
        with room.open("wb") as file:
            said = unpack_file(content, most_bytes, file.write)
    else:
        said = normalize_file(content, ImageLimits(**job["limits"]), ask, room.write_bytes)
    _say(said)


def _say(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(pack(message) + b"\n")
    sys.stdout.buffer.flush()
