"""`python -m local`: the whole cloud on this machine, until Ctrl-C; `drop` sends files through it."""

# ruff: noqa: T201 - a program prints
from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import requests
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient

from local.cloud import LocalCloud, Ports, find_state
from local.console import open_console
from local.drops import FINAL_STATUSES, drop_file, wait_for_result
from local.serving import LocalCloudError
from local.watch import watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

DEFAULT_COMMAND = "up"
COMMANDS = (DEFAULT_COMMAND, "drop", "watch", "demo")
HEALTH_INTERVAL_S = 0.5
# Whoever watches would not wait for an hour to see a drop survive an outage.
SHORT_WAITS = {"RETRY_MIN_DELAY_S": "1", "RETRY_MAX_DELAY_S": "10"}


def main(arguments: Sequence[str]) -> int:
    """Run a command; 0 when all went well, 1 with one sentence on stderr when not."""
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = [DEFAULT_COMMAND, *arguments]
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "drop":
                return run_drop(options)
            case "watch":
                return run_watch(options)
            case "demo":
                from local.demo import main as run_demo  # noqa: PLC0415 - only the demo needs to draw pictures

                return run_demo()
        return run_up(options)
    except LocalCloudError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if options.command in ("up", "watch") else 130


def run_up(options: argparse.Namespace) -> int:
    """Start everything, say where it is, and run until Ctrl-C or SIGTERM."""
    running = find_state()
    if running:
        raise LocalCloudError(f"A local cloud of this project runs already (process {running['pid']}): end it first.")
    cloud = LocalCloud(
        app_settings=SHORT_WAITS,
        host=options.host,
        data=options.data,
        ports=Ports(
            blob=options.blob_port,
            queue=options.queue_port,
            platform=options.platform_port,
            identity=options.identity_port,
            host=options.host_port,
        ),
        on_line=lambda line: print(line, flush=True),
    )
    with cloud, open_console(cloud, options.console_port) as console:
        cloud.publish_state()
        print(_describe(cloud, console), flush=True)
        while True:
            cloud.check()
            time.sleep(HEALTH_INTERVAL_S)


def run_drop(options: argparse.Namespace) -> int:
    """Drop files into the cloud that runs and print each result as it comes; 1 when any was not uploaded.

    An iTwin has one image: without an iTwin's id every file gets one of its own.
    """
    contents = {file: _read(file) for file in options.files}
    if options.itwin and len({file.name for file in contents}) < len(contents):
        raise LocalCloudError("Two of the files have the same name, and one would replace the other: drop them apart.")
    state = find_state()
    if state is None:
        raise LocalCloudError("No local cloud is running: start one with `python -m local`.")
    uploaded = True
    try:
        with (
            BlobServiceClient.from_connection_string(state["connectionString"]) as storage,
            ThreadPoolExecutor(len(contents)) as pool,
        ):
            waiting: dict[Future[dict[str, Any] | None], Path] = {}
            for file, content in contents.items():  # one after the other: the newest wins
                itwin_id = _make_itwin(state["platform"], options.itwin or str(uuid.uuid4()))
                drop = drop_file(storage, itwin_id, file.name, content)
                future = pool.submit(
                    wait_for_result, storage, state["resultsContainer"], drop, timeout_s=options.timeout
                )
                waiting[future] = file
            for future in as_completed(waiting):
                file, result = waiting[future], future.result()
                print(_json_line(file, result) if options.json else _line(file, result, options.timeout), flush=True)
                uploaded = uploaded and result is not None and result["status"] == "uploaded"
    except AzureError as error:
        raise LocalCloudError(f"The local cloud's storage did not do it: {_first_line(error)}") from error
    return 0 if uploaded else 1


def run_watch(options: argparse.Namespace) -> int:
    """Drop what is new in a folder, and again what changes, until Ctrl-C."""
    state = find_state()
    if state is None:
        raise LocalCloudError("No local cloud is running: start one with `python -m local`.")
    if not options.folder.is_dir():
        raise LocalCloudError(f"{options.folder} is no folder.")
    print(f"Watching {options.folder}; Ctrl-C ends it.", flush=True)
    try:
        watch(
            options.folder,
            state,
            itwin_id=options.itwin,
            min_age_s=options.min_age,
            make_itwin=lambda itwin_id: _make_itwin(state["platform"], itwin_id),
        )
    except AzureError as error:
        raise LocalCloudError(f"The local cloud's storage did not do it: {_first_line(error)}") from error
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{message[0].upper()}{message[1:]}; see `python -m local --help`.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="up | drop | watch | demo", parser_class=_Parser)

    up = commands.add_parser("up", help="start the cloud and run it until Ctrl-C (what is done without a command)")
    up.add_argument(
        "--host",
        choices=("embedded", "func"),
        default="embedded",
        help="who runs the app: the embedded host, or Azure Functions Core Tools",
    )
    up.add_argument("--data", type=Path, metavar="FOLDER", help="keep what is in storage in this folder")
    for part in ("console", "blob", "queue", "platform", "identity", "host"):
        up.add_argument(
            f"--{part}-port",
            type=_port,
            default=0,
            metavar="PORT",
            help=f"where the {part} service listens (default: a free port)",
        )

    drop = commands.add_parser("drop", help="drop files into the cloud that runs and print the results as they come")
    drop.add_argument("files", nargs="+", type=Path, metavar="FILE")
    drop.add_argument(
        "--itwin", type=_itwin_id, metavar="ID", help="the iTwin to drop on (default: a new one for each file)"
    )
    drop.add_argument("--json", action="store_true", help="print whole result documents, one a line")
    drop.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for a result (default: %(default)s)",
    )

    watcher = commands.add_parser("watch", help="drop what is new in a folder, and again what changes, until Ctrl-C")
    watcher.add_argument("folder", type=Path, metavar="FOLDER", help="with a folder for each iTwin, named by its ID")
    watcher.add_argument("--itwin", type=_itwin_id, metavar="ID", help="drop everything on this iTwin")
    watcher.add_argument(
        "--min-age",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="leave alone what was written to more lately (default: %(default)s)",
    )

    commands.add_parser("demo", help="drop a handful of different pictures, and show what became of each")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 - the highest port there is
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _itwin_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no iTwin ID, which is a GUID") from error


def _describe(cloud: LocalCloud, console: str) -> str:
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
    return (
        "\nThe cloud runs; Ctrl-C ends it.\n\n"
        f"  console           {console}\n"
        f"  iTwin Platform    {cloud.platform_address}\n"
        f"  managed identity  {cloud.identity_address}\n"
        f"  Functions host    {cloud.host.address}\n"
        f"  drop storage      {cloud.connection_string}\n\n"
        f"Drop a file:  {python} -m local drop FILE\n"
    )


def _interrupt_once(_: int, __: FrameType | None) -> NoReturn:
    # A second Ctrl-C must not interrupt the tidying up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise LocalCloudError(f"{file} cannot be read ({error.strerror}).") from error


def _make_itwin(platform: str, itwin_id: str) -> str:
    try:
        response = requests.put(f"{platform}/_control/itwins/{itwin_id}", json={}, timeout=10)
        response.raise_for_status()
    except requests.RequestException as error:
        raise LocalCloudError(f"The iTwin {itwin_id} could not be made: {_first_line(error)}") from error
    return itwin_id


def _line(file: Path, result: dict[str, Any] | None, timeout_s: float) -> str:
    if result is None:
        return f"{file} -> no result after {timeout_s:.0f} s"
    changes = ", ".join((result.get("sent") or {}).get("changes") or ()) or "nothing changed"
    error = result.get("error") or {}
    reason = result.get("reason") or error.get("message")
    parts = [str(file), result["status"], changes if result["status"] == "uploaded" else "", reason or ""]
    waiting = "" if result["status"] in FINAL_STATUSES else f"not final after {timeout_s:.0f} s"
    return " -> ".join(filter(None, [*parts, waiting]))


def _json_line(file: Path, result: dict[str, Any] | None) -> str:
    return json.dumps({"file": str(file), "result": result}, ensure_ascii=False)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, _interrupt_once)
    sys.exit(main(sys.argv[1:]))
