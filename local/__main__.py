"""`python -m local`: however and whenever it is interrupted, it ends without a traceback."""

from __future__ import annotations

import os
import sys

from local.interrupts import run_program

TYPE_CHECKING = False  # as in `local.interrupts`
if TYPE_CHECKING:
    from collections.abc import Callable

LOOPBACK = ("127.0.0.1", "localhost")


def main() -> int:
    """Run what the command line says."""
    try:
        return run_program(_load)
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _load() -> Callable[[], int]:
    if sys.stdout is None:  # closed by the shell, with `>&-`
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - pathlib is slow to import
    # A file's name may have characters that the terminal's encoding lacks.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # nobody has replaced it
    spare_loopback()
    from local.commands import read  # noqa: PLC0415 - it takes a while, in which Ctrl-C may come

    return read(sys.argv[1:])


def spare_loopback() -> None:
    """Exempt this machine from any proxy, in addition to existing exemptions; child processes inherit that."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if given.strip() != "*":
        names = dict.fromkeys((*filter(None, map(str.strip, given.split(","))), *LOOPBACK))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)


if __name__ == "__main__":
    sys.exit(main())
