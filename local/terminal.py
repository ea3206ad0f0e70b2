"""Prints text for people: a file may have any name, and a terminal would act on some of them."""

from __future__ import annotations

import io
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


def prepare_output() -> None:
    """Let standard output take any text: what its encoding lacks is escaped, and if it is closed, nothing is shown."""
    if sys.stdout is None:  # closed by the shell, with `>&-`
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the program runs
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(line: str, to: TextIO | None = None) -> None:
    """Print a line at once, on standard output unless told otherwise."""
    print(printable(line), file=to, flush=True)


def printable(text: str) -> str:
    """Return the text with everything escaped that a terminal would act on."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def own_command() -> str:
    """Return what to type in this folder to run `python -m local` with the same interpreter."""
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
    return f"{shlex.quote(python)} -m local"
