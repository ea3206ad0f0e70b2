"""Ctrl-C and SIGTERM end a program at any moment, without a traceback, which would look like a bug."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

TYPE_CHECKING = False  # importing `typing` would double the time in which Ctrl-C prints a traceback
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130


def run_program(module: str) -> int:
    """Import a module, have its `read` parse the command line, run what that returns, and return the exit code."""
    # While loading, there is nothing to clean up, and Python may lose an exception that a signal raises in an import.
    _on_interrupt(_end_at_once)
    try:
        run = import_module(module).read(sys.argv[1:])
        _on_interrupt(_interrupt_once)
        code: int = run()
        _on_interrupt(_end_at_once)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _on_interrupt(handler: Callable[[int, FrameType | None], NoReturn] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _end_at_once(_: int, __: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)


def _interrupt_once(_: int, __: FrameType | None) -> NoReturn:
    # A second Ctrl-C must not interrupt the cleanup.
    _on_interrupt(signal.SIG_IGN)
    raise KeyboardInterrupt
