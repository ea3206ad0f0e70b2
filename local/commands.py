"""`python -m local`: the whole cloud on this machine, until Ctrl-C; `drop` sends files through it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError
from azure.storage.blob import BlobServiceClient

from local.arguments import Parser, itwin_id, port, seconds
from local.azurite import QUICK_RETRIES
from local.cloud import LocalCloud, Ports
from local.console import open_console
from local.drops import FINAL_STATUSES, DroppedFile, drop_file, files_in, wait_for_results, why_left_alone
from local.preflight import ask_app
from local.serving import LocalCloudError
from local.state import claim_state, find_state
from local.terminal import say
from local.watch import watch

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

DEFAULT_COMMAND = "up"
COMMANDS = (DEFAULT_COMMAND, "drop", "watch", "preflight", "demo")
PARTS = ("console", "blob", "queue", "platform", "identity", "host")
HEALTH_INTERVAL_S = 0.5
# Whoever watches would not wait for an hour to see a drop survive an outage.
SHORT_WAITS = {"RETRY_MIN_DELAY_S": "1", "RETRY_MAX_DELAY_S": "10"}


def main(arguments: Sequence[str]) -> int:
    """Run a command; 0 when all went well, 1 with one sentence on stderr when not."""
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = [DEFAULT_COMMAND, *arguments]
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except LocalCloudError as error:
        say(str(error), sys.stderr)
        return 1
    except (requests.ConnectionError, ServiceRequestError, ServiceResponseError):
        say("The local cloud does not answer: it has ended, or is ending.", sys.stderr)
        return 1
    except AzureError as error:
        say(f"The local cloud's storage did not do it: {_first_line(error)}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if options.command in ("up", "watch") else 130


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "drop":
            return run_drop(options)
        case "watch":
            return run_watch(options)
        case "preflight":
            return run_preflight(options)
        case "demo":
            from local.demo import main as run_demo  # noqa: PLC0415 - only the demo needs to draw pictures

            return run_demo()
    return run_up(options)


def run_up(options: argparse.Namespace) -> int:
    """Start everything, say where it is, and run until Ctrl-C or SIGTERM."""
    ports = Ports(**{part: getattr(options, f"{part}_port") for part in PARTS})
    host_log = HostLog()
    with claim_state() as publish:
        cloud = LocalCloud(
            app_settings=SHORT_WAITS,
            host=options.host,
            data=options.data,
            ports=ports,
            on_line=host_log.line,
        )
        try:
            with cloud, open_console(cloud, ports.console) as console:
                publish(cloud.state)
                for line in _describe(cloud, console):
                    say(line)
                host_log.release()
                while True:
                    cloud.check()
                    time.sleep(HEALTH_INTERVAL_S)
        finally:
            host_log.release()


def run_drop(options: argparse.Namespace) -> int:
    """Drop files into the cloud that runs and print each result as it comes; 1 when any was not uploaded.

    An iTwin has one image: without an iTwin's id every file gets one of its own.
    """
    names = {file: name for path in options.files for file, name in _files(path)}
    left_alone = {file: why for file, name in names.items() if (why := why_left_alone(name))}
    for file, why in left_alone.items():
        del names[file]
        skipped = {"file": str(file), "result": None, "skipped": why}
        say(json.dumps(skipped) if options.json else f"{file} -> skipped -> {why}")
    if not names:
        return 1
    if options.itwin and len(set(names.values())) < len(names):
        raise LocalCloudError("Two of the files have the same name, and one would replace the other: drop them apart.")
    for file in names:
        with _reading(file):
            file.open("rb").close()
    state = _find_running()
    uploaded = not left_alone
    with BlobServiceClient.from_connection_string(state["connectionString"], **QUICK_RETRIES) as storage:
        files: dict[DroppedFile, Path] = {}
        for file, name in names.items():  # one after the other: the newest wins
            with _reading(file):
                content = file.read_bytes()
            target = options.itwin or str(uuid.uuid4())
            _make_itwin(state["platform"], target, file.stem)
            files[drop_file(storage, target, name, content)] = file
        for drop, result in wait_for_results(storage, state["resultsContainer"], files, timeout_s=options.timeout):
            file = files[drop]
            line = json.dumps({"file": str(file), "result": result})
            say(line if options.json else _line(file, result, options.timeout))
            uploaded = uploaded and result is not None and result["status"] == "uploaded"
    return 0 if uploaded else 1


def run_watch(options: argparse.Namespace) -> int:
    """Drop what is new in a folder, and again what changes, until Ctrl-C."""
    state = _find_running()
    if not options.folder.is_dir():
        raise LocalCloudError(f"{options.folder} is no folder.")
    say(f"Watching {options.folder}; Ctrl-C ends it.")
    watch(
        options.folder,
        state,
        itwin_id=options.itwin,
        min_age_s=options.min_age,
        make_itwin=lambda target, name: _make_itwin(state["platform"], target, name),
    )
    return 0


def run_preflight(options: argparse.Namespace) -> int:
    """Print what works and what does not; 1 where something does not."""
    is_good, report = ask_app(_find_running(), options.itwin)
    for line in report.splitlines():
        say(line)
    return 0 if is_good else 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar=" | ".join(COMMANDS))

    up = commands.add_parser("up", help="start the cloud and run it until Ctrl-C (what is done without a command)")
    up.add_argument(
        "--host",
        choices=("embedded", "func"),
        default="embedded",
        help="who runs the app: the embedded host, or Azure Functions Core Tools",
    )
    up.add_argument("--data", type=Path, metavar="FOLDER", help="keep what is in storage in this folder")
    for part in PARTS:
        up.add_argument(
            f"--{part}-port",
            type=port,
            default=0,
            metavar="PORT",
            help=f"where the {part} service listens (default: a free port)",
        )

    drop = commands.add_parser("drop", help="drop files into the cloud that runs and print the results as they come")
    drop.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder with all that is in it")
    drop.add_argument(
        "--itwin", type=itwin_id, metavar="ID", help="the iTwin to drop on (default: a new one for each file)"
    )
    drop.add_argument("--json", action="store_true", help="print whole result documents, one a line")
    drop.add_argument(
        "--timeout",
        type=seconds(least=0.1),
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for a result (default: %(default)s)",
    )

    watcher = commands.add_parser("watch", help="drop what is new in a folder, and again what changes, until Ctrl-C")
    watcher.add_argument("folder", type=Path, metavar="FOLDER", help="with a folder for each iTwin, named by its ID")
    watcher.add_argument("--itwin", type=itwin_id, metavar="ID", help="drop everything on this iTwin")
    watcher.add_argument(
        "--min-age",
        type=seconds(least=0),
        default=2.0,
        metavar="SECONDS",
        help="leave alone what was written to more lately (default: %(default)s)",
    )

    preflight = commands.add_parser("preflight", help="ask the app of the cloud that runs what works and what does not")
    preflight.add_argument(
        "--itwin", type=itwin_id, metavar="ID", help="an iTwin to check the app's permission and container of"
    )

    commands.add_parser("demo", help="drop a handful of different pictures, and show what became of each")
    return parser


class HostLog:
    """Prints what the host says, but holds it back until `release`: the console's address is to come first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[str] | None = []

    def line(self, line: str) -> None:
        """Print or hold a line."""
        with self._lock:
            if self._held is None:
                say(line)
            else:
                self._held.append(line)

    def release(self) -> None:
        """Print what was held, and from now on every line."""
        with self._lock:
            held, self._held = self._held or [], None
            for line in held:
                say(line)


def _describe(cloud: LocalCloud, console: str) -> list[str]:
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
    return [
        "",
        "The cloud runs; Ctrl-C ends it.",
        "",
        f"  console           {console}",
        f"  iTwin Platform    {cloud.platform_address}",
        f"  managed identity  {cloud.identity_address}",
        f"  Functions host    {cloud.host.address}",
        f"  drop storage      {cloud.connection_string}",
        "",
        f"Drop a file:  {python} -m local drop FILE",
        "",
    ]


def _files(path: Path) -> list[tuple[Path, str]]:
    """Return what is to be dropped, each with the name that its blob gets; of a folder with its sub-folders in it."""
    with _reading(path):
        if not path.is_dir():
            return [(path, path.name)]
        found = [(file, file.relative_to(path).as_posix()) for file in files_in(path)]
    if not found:
        raise LocalCloudError(f"There is no file in {path}.")
    return found


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalCloudError(f"{path} cannot be read ({error.strerror}).") from error


def _find_running() -> dict[str, Any]:
    state = find_state()
    if state is None:
        raise LocalCloudError("No local cloud is running: start one with `python -m local`.")
    return state


def _make_itwin(platform: str, itwin_id: str, name: str) -> None:
    """Make the iTwin under that name where it is new; what is known of it stays."""
    address = f"{platform}/_control/itwins/{itwin_id}"
    try:
        made = requests.put(address, timeout=10)
        made.raise_for_status()
        if made.status_code == requests.codes.created:
            requests.put(address, json={"displayName": name}, timeout=10).raise_for_status()
    except requests.ConnectionError:
        raise
    except requests.RequestException as error:
        raise LocalCloudError(f"The iTwin {itwin_id} could not be made: {_first_line(error)}") from error


def _line(file: Path, result: dict[str, Any] | None, timeout_s: float) -> str:
    if result is None:
        return f"{file} -> no result after {timeout_s:g} s"
    changes = ", ".join((result.get("sent") or {}).get("changes") or ()) or "nothing changed"
    error = result.get("error") or {}
    reason = result.get("reason") or error.get("message")
    parts = [str(file), result["status"], changes if result["status"] == "uploaded" else "", reason or ""]
    waiting = "" if result["status"] in FINAL_STATUSES else f"not final after {timeout_s:g} s"
    return " -> ".join(filter(None, [*parts, waiting]))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
