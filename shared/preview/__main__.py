"""Starts the program, which can be interrupted before it is there."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from shared.interrupts import run_program

if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[], int]:
    """Import it."""
    from shared.preview.program import main  # noqa: PLC0415 - it takes a while, in which Ctrl-C may come

    # A name may have letters that the terminal does not.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is no other than the real one
    return partial(main, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run_program(load))
