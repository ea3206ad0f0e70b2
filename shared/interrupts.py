"""Ctrl-C ends a program at any moment, silently and with exit code 130: a traceback would look like a bug."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

TYPE_CHECKING = False  # importing `typing` would double the time in which Ctrl-C prints a traceback
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130


def run_program(module: str) -> int:
    """Import a module, run its `main` with the arguments of the command line, and return the exit code."""
    # While loading, there is nothing to clean up, and Python may lose an exception that a signal raises in an import.
    signal.signal(signal.SIGINT, _end_at_once)
    try:
        main = import_module(module).main
        signal.signal(signal.SIGINT, _interrupt_once)
        code: int = main(sys.argv[1:])
        signal.signal(signal.SIGINT, _end_at_once)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _end_at_once(_: int, __: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)


def _interrupt_once(_: int, __: FrameType | None) -> NoReturn:
    # A second Ctrl-C must not interrupt the cleanup.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
