"""Prints text for people: a file may have any name, and a terminal would act on some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


def say(line: str, to: TextIO | None = None) -> None:
    """Print a line at once, on standard output unless told otherwise."""
    print(printable(line), file=to, flush=True)


def printable(text: str) -> str:
    """Return the text with everything escaped that a terminal would act on."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
