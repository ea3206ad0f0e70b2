"""Keeps the inputs of failed random tests and runs in `.local/failures`, where the failure report names them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from local.processes import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

FAILURES = PROJECT / ".local" / "failures"


def keep(name: str, data: bytes, folder: Path = FAILURES) -> Path:
    """Write the data into the folder and return its path; an earlier failure of that name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / re.sub(r"[^\w.-]+", "-", name)
    file.write_bytes(data)
    return file
