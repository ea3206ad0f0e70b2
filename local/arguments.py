"""What the programs take on their command lines: anything else is one sentence and exit code 1."""

from __future__ import annotations

import argparse
import math
import uuid
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PORT = 65_535


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(1, f"{message[0].upper()}{message[1:]}; see `{self.prog} --help`.\n")


def port(text: str) -> int:
    """Read a port; 0 stands for a free one."""
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Make a reader of numbers within these bounds."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def seconds(*, least: float) -> Callable[[str], float]:
    """Make a reader of times that neither run backwards nor never end."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {least:g} up")
        return found

    return read


def itwin_id(text: str) -> str:
    """Read a GUID, in whatever way it is written."""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no iTwin ID, which is a GUID") from error
