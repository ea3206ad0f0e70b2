"""`python -m local.itwin_platform`: starts the program, which can be interrupted even while it is being loaded."""

import sys

from local.interrupts import run_program

if __name__ == "__main__":
    sys.exit(run_program("local.itwin_platform.program"))
