"""`python -m local`: the whole cloud on this machine, until Ctrl-C; `drop` sends files through it.

Each command is a module of this package, and is imported only when it is run.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from local.arguments import Parser, itwin_id, port, seconds
from local.ports import DEFAULT_PORTS, PARTS
from local.proxies import spare_loopback
from local.serving import LocalCloudError
from local.terminal import prepare_output, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from types import ModuleType

DEFAULT_COMMAND = "up"
COMMANDS = (DEFAULT_COMMAND, "drop", "watch", "itwin", "env", "preflight", "demo")


def main(arguments: Sequence[str]) -> int:
    """Run a command; 0 on success, 1 with a sentence on stderr on failure, 2 for a usage error."""
    return read(arguments)()


def read(arguments: Sequence[str]) -> Callable[[], int]:
    """Parse a command line and import its command; return a function that runs it."""
    prepare_output()
    spare_loopback()
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = [DEFAULT_COMMAND, *arguments]
    options = _parser().parse_args(arguments)
    return partial(_run, import_module(f"local.commands.{options.command}"), options)


def _run(command: ModuleType, options: argparse.Namespace) -> int:
    try:
        code: int = command.run(options)
    except LocalCloudError as error:
        say(str(error), sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0 if options.command in ("up", "watch") else 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m local", description="Run the whole cloud on this machine, until Ctrl-C.")
    commands = parser.add_subparsers(dest="command", metavar=" | ".join(COMMANDS))

    up = commands.add_parser("up", help="start the cloud and run it until Ctrl-C (the default command)")
    up.add_argument(
        "--host",
        choices=("embedded", "func"),
        default="embedded",
        help="what runs the app: the embedded host (default), or Azure Functions Core Tools",
    )
    up.add_argument(
        "--data", type=Path, metavar="FOLDER", help="keep everything in this folder: storage, iTwins, images"
    )
    for part in PARTS:
        up.add_argument(
            f"--{part}-port",
            type=port,
            metavar="PORT",
            help=f"port of the {part} service; 0 chooses a free one "
            f"(default: {getattr(DEFAULT_PORTS, part)}, or a free one if that is in use)",
        )

    drop = commands.add_parser("drop", help="drop files into the running cloud and print their results as they arrive")
    drop.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder with everything in it")
    drop.add_argument(
        "--itwin", type=itwin_id, metavar="ID", help="the iTwin to drop on (default: a new one for each file)"
    )
    drop.add_argument("--json", action="store_true", help="print whole result documents, one per line")
    drop.add_argument(
        "--timeout",
        type=seconds(least=0.1),
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for a result (default: %(default)s)",
    )

    watcher = commands.add_parser("watch", help="drop new and changed files in a folder, until Ctrl-C")
    watcher.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a folder with a sub-folder for each iTwin, named by its ID"
    )
    watcher.add_argument("--itwin", type=itwin_id, metavar="ID", help="drop everything on this iTwin")
    watcher.add_argument(
        "--min-age",
        type=seconds(least=0),
        default=2.0,
        metavar="SECONDS",
        help="skip files that were modified less than this long ago (default: %(default)s)",
    )

    itwin = commands.add_parser("itwin", help="create an iTwin with the container for its drops, and print its ID")
    itwin.add_argument("id", nargs="?", type=itwin_id, metavar="ID", help="its ID (default: a new one)")
    itwin.add_argument("--name", help="its name; an existing iTwin is renamed")

    commands.add_parser("env", help="print the variables that other programs need, for `eval` in a shell")

    preflight = commands.add_parser("preflight", help="ask the app in the running cloud what works and what does not")
    preflight.add_argument(
        "--itwin", type=itwin_id, metavar="ID", help="an iTwin whose container and permission to check"
    )

    commands.add_parser("demo", help="drop a handful of different images and show what happened to each")
    return parser
