"""What random tests and runs were about when they failed: kept in `.local/failures`, and named where it is reported."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from local.processes import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAILURES = PROJECT / ".local" / "failures"


def keep(name: str, data: bytes, folder: Path = FAILURES) -> Path:
    """Write the data into the folder and return where it is; an earlier failure of that name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / re.sub(r"[^\w.-]+", "-", name)
    file.write_bytes(data)
    return file


@contextmanager
def kept_if_it_fails(name: str, data: bytes, folder: Path = FAILURES) -> Iterator[None]:
    """Keep the data if the block raises, and say where in the traceback."""
    try:
        yield
    except Exception as error:
        error.add_note(f"What it was about is kept in {keep(name, data, folder)}")
        raise
