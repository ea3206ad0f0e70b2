"""`python -m local`: however and whenever it is interrupted, it ends without a traceback."""

import os
import sys

from local.interrupts import run_program


def main() -> int:
    """Run what the command line says."""
    try:
        return run_program("local.commands")
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
