"""Start the program; Ctrl-C works even while it is being loaded."""

import sys

from shared.interrupts import run_program

if __name__ == "__main__":
    sys.exit(run_program("shared.replay.program"))
