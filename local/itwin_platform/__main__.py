"""`python -m local.itwin_platform`: starts the program, which can be interrupted even while it is being loaded."""

from __future__ import annotations

import sys

from local.interrupts import run_program

TYPE_CHECKING = False  # as in `local.interrupts`
if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[], int]:
    """Import it."""
    from local.itwin_platform.program import read  # noqa: PLC0415 - it takes a while, in which Ctrl-C may come

    return read(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run_program(load))
