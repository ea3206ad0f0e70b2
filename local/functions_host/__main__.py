"""`python -m local.functions_host`: one app's host as a process of its own.

App settings are the process's environment, as in Azure. Two more variables hold the keys that callers must know; the
app never sees them.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from local.arguments import Parser, port, seconds
from local.functions_host.contract import BLOBS_EXTENSION_KEY, FUNCTION_KEY
from local.functions_host.host import FunctionsHost
from local.functions_host.http import HostKeys
from local.functions_host.listeners import MAX_VISIBILITY_TIMEOUT_S, VISIBILITY_TIMEOUT_S
from local.functions_host.worker import log_to_stdout
from local.serving import LocalCloudError, serve

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

STOP_GRACE_S = 8.0

log = logging.getLogger("local.functions_host")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 0 after an orderly end, 1 if it could not start."""
    options = _parse(arguments)
    log_to_stdout()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if options.end_with_input:
        threading.Thread(target=_end_with_input, daemon=True).start()
    keys = HostKeys(
        blobs_extension=os.environ.pop(BLOBS_EXTENSION_KEY, "") or secrets.token_urlsafe(32),
        function=os.environ.pop(FUNCTION_KEY, "") or secrets.token_urlsafe(32),
    )
    try:
        host = FunctionsHost(options.app_folder.resolve(), keys=keys, visibility_timeout_s=options.visibility_timeout)
        with serve(host.app, options.port) as address:
            host.start()
            log.info("Host started on %s", address)
            stopping.wait()
            host.stop(STOP_GRACE_S)
    except LocalCloudError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a program
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m local.functions_host", description=__doc__)
    parser.add_argument("--port", type=port, default=7071, help="where to listen on loopback (default: %(default)s)")
    parser.add_argument("--app-folder", type=Path, default=Path(), help="the folder with function_app.py and host.json")
    parser.add_argument(
        "--visibility-timeout",
        type=seconds(least=1, most=MAX_VISIBILITY_TIMEOUT_S),
        default=VISIBILITY_TIMEOUT_S,
        metavar="SECONDS",
        help="after how many seconds a message of a host that died is delivered again (default: %(default)s)",
    )
    parser.add_argument("--end-with-input", action="store_true", help="end at once when standard input closes")
    return parser.parse_args(arguments)


def _end_with_input() -> None:
    # Not through sys.stdin: its lock, held here, would abort the interpreter at exit.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    # Threads of the app that still run must not delay the exit.
    code = main()
    sys.stdout.flush()
    os._exit(code)
