"""Start the program; Ctrl-C works even while it is being loaded."""

from __future__ import annotations

import sys

from shared.interrupts import run_program

TYPE_CHECKING = False  # as in `shared.interrupts`
if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[], int]:
    """Import it."""
    from functools import partial  # noqa: PLC0415 - as the next line

    from shared.preview.program import main  # noqa: PLC0415 - it takes a while, in which Ctrl-C may come

    # A file's name may have characters that the terminal's encoding lacks.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # nobody has replaced it
    return partial(main, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run_program(load))
