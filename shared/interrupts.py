"""Ctrl-C ends a program at any moment, without a word and with 130: a traceback would look like a fault of its own."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

INTERRUPTED = 130


def run_program(load: Callable[[], Callable[[], int]]) -> int:
    """Load a program and run it; return its exit code.

    Whatever takes a while to import belongs into `load`.
    """
    # Meanwhile there is nothing to tidy up, and Python loses some of the exceptions that a signal raises in an import.
    signal.signal(signal.SIGINT, _end_at_once)
    try:
        run = load()
        signal.signal(signal.SIGINT, _interrupt_once)
        code = run()
        signal.signal(signal.SIGINT, _end_at_once)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _end_at_once(_: int, __: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)


def _interrupt_once(_: int, __: FrameType | None) -> NoReturn:
    # A second Ctrl-C must not interrupt the tidying up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
