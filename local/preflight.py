"""`python -m local.preflight`: ask the app of the local cloud that runs what works and what does not."""

# ruff: noqa: T201 - a program prints
from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import requests

from local.arguments import Parser, itwin_id
from local.state import find_state

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 230


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the app's answer; 0 where nothing fails, 1 where something does."""
    parser = Parser(prog="python -m local.preflight", description=__doc__)
    parser.add_argument(
        "--itwin", type=itwin_id, metavar="ID", help="an iTwin to check the app's permission and container of"
    )
    options = parser.parse_args(arguments)
    state = find_state()
    if state is None:
        print("No local cloud is running: start one with `python -m local`.", file=sys.stderr)
        return 1
    try:
        answer = requests.get(
            f"{state['host']}/api/preflight",
            params={"itwin": options.itwin} if options.itwin else {},
            headers={"x-functions-key": state["functionKey"]},
            timeout=TIMEOUT_S,
        )
    except requests.RequestException as error:
        print(f"The Functions host did not answer ({type(error).__name__}).", file=sys.stderr)
        return 1
    print(answer.text, end="")
    return 0 if answer.ok else 1


if __name__ == "__main__":
    sys.exit(main())
