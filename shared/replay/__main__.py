"""Start the program; Ctrl-C works even while it is being loaded."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from shared.interrupts import run_program

if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[], int]:
    """Import it."""
    from shared.replay.program import main  # noqa: PLC0415 - it takes a while, in which Ctrl-C may come

    return partial(main, sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(run_program(load))
