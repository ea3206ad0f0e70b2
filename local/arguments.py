"""What the programs accept on their command lines: anything else ends with one sentence and exit code 2."""

from __future__ import annotations

import argparse
import math
import uuid
from typing import TYPE_CHECKING, NoReturn

from local.serving import UsageError
from local.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PORT = 65_535


class Parser(argparse.ArgumentParser):
    """A parser that reports what is wrong in one sentence, without printing the usage."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(
            UsageError.exit_code, printable(f"{message[0].upper()}{message[1:]}; see `{self.prog} --help`.") + "\n"
        )


def port(text: str) -> int:
    """Read a port; 0 stands for a free one."""
    if not _is_number(text, 0, MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid port: it must be from 0 to {MAX_PORT}")
    return int(text)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of numbers within these bounds."""

    def read(text: str) -> int:
        if not _is_number(text, least, most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def seconds(*, least: float, most: float = math.inf) -> Callable[[str], float]:
    """Return a reader of finite times within these bounds."""
    bounds = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not (least <= found <= most and math.isfinite(found)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds {bounds}")
        return found

    return read


def itwin_id(text: str) -> str:
    """Read a GUID in any notation."""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an iTwin ID: it must be a GUID") from error


def _is_number(text: str, least: int, most: int) -> bool:
    # Python refuses to convert thousands of digits.
    return text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most
