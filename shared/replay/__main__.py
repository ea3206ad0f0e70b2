"""Start the program; Ctrl-C works even while it is being loaded."""

from __future__ import annotations

import os
import sys

from shared.interrupts import run_program

TYPE_CHECKING = False  # as in `shared.interrupts`
if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[], int]:
    """Import it."""
    from functools import partial  # noqa: PLC0415 - as the next line

    from shared.replay.program import main  # noqa: PLC0415 - it takes a while, in which Ctrl-C may come

    return partial(main, sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(run_program(load))
