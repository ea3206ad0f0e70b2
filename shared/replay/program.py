"""The program: which results are selected, and how their drops get back onto the queue."""

# ruff: noqa: T201 - a program prints
from __future__ import annotations

import argparse
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

from shared import replay
from shared.attempt import Attempt
from shared.clock import utc_now
from shared.errors import InvalidSettings
from shared.records import FINAL, Recorded
from shared.replay.missing import Account
from shared.results import ResultStore
from shared.retries import RETRY_QUEUE, RetryQueue
from shared.sdk_transport import error_code
from shared.settings import CONNECTION, StorageSettings
from shared.storage import open_blobs, open_queue, storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from azure.storage.blob import ContainerClient

    from shared.drop import Drop

READERS = 16
BAR_WIDTH = 40

# The SDK logs at length how each way to log in failed; without a handler, that would be printed before our sentence.
logging.getLogger("azure").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Wanted:
    """Which results to replay: of one status, of one iTwin (None: of all), and finished since then (None: ever)."""

    status: str
    itwin_id: str | None = None
    since: datetime | None = None

    def includes(self, recorded: Recorded) -> bool:
        """Whether the result is one of them."""
        if recorded.document.get("status") != self.status:
            return False
        return self.since is None or (recorded.finished_at is not None and recorded.finished_at >= self.since)


def find_drops(results: ContainerClient, wanted: Wanted) -> Iterator[Drop]:
    """Yield the drops whose results are wanted. Raises azure.core.exceptions.AzureError."""
    names = results.list_blob_names(name_starts_with=f"{wanted.itwin_id}/" if wanted.itwin_id else None)

    def read(name: str) -> Recorded:
        with suppress(ResourceNotFoundError):  # it may have been deleted meanwhile
            return Recorded.from_json(results.get_blob_client(name).download_blob().readall())
        return Recorded()

    with ThreadPoolExecutor(READERS) as pool:
        for recorded in pool.map(read, names):
            drop = recorded.drop
            if drop and wanted.includes(recorded):
                yield drop


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Replay what was asked for; 0 on success, otherwise one sentence on stderr and 1, or 2 for a usage error."""
    options = _parser().parse_args(arguments)
    try:
        settings = StorageSettings.from_environ(_with_account(environ, options.account))
        login = DefaultAzureCredential()
        queue = RetryQueue(partial(open_queue, settings, RETRY_QUEUE, login), utc_now)

        def send(attempt: Attempt) -> None:
            if not options.dry_run:
                queue.postpone(attempt, 0)

        storage = open_blobs(settings, login)
        if options.missing:
            account = Account(storage, ResultStore(storage, settings.results_container), send, utc_now)
            count = _catch_up(account, options)
        else:
            count = _replay(storage.get_container_client(settings.results_container), send, options)
    except InvalidSettings as error:
        print(f"{error} Or name the drop account with --account.", file=sys.stderr)
        return 2
    except AzureError as error:
        print(_problem(error), file=sys.stderr)
        return 1
    sent = "is on its way" if count == 1 else "are on their way"
    print(f"{count} {'drop' if count == 1 else 'drops'} {'would be replayed' if options.dry_run else sent}.")
    return 0


def _problem(error: AzureError) -> str:
    """Say what failed and what to do: here storage refuses an operator's login, and not the app's identity."""
    if isinstance(error, ClientAuthenticationError) and error.response is None:
        return "No access token for Azure Storage could be obtained: run `az login`, then try again."
    if isinstance(error, ClientAuthenticationError) or getattr(error, "status_code", None) == HTTPStatus.FORBIDDEN:
        return (
            f"The drop account refused the request ({error_code(error) or 'no error code'}): check that your login has "
            "the roles Storage Blob Data Reader and Storage Queue Data Message Sender on the account, that the "
            "account's network rules admit this machine and, where DropStorage is set, that its key is valid."
        )
    if isinstance(error, HttpResponseError) and error.status_code:
        return str(storage_error(error))
    return "The drop account could not be reached: check its name and the network."


def _replay(results: ContainerClient, send: Callable[[Attempt], None], options: argparse.Namespace) -> int:
    count = 0
    for drop in find_drops(results, Wanted(options.status, options.itwin, options.since)):
        count += 1
        print(f"{drop.container}/{drop.blob}")
        send(Attempt.replay(drop))
    return count


def _catch_up(account: Account, options: argparse.Namespace) -> int:
    """Send what is missing and show the progress; when interrupted, say how to continue."""
    containers = account.containers(options.itwin, options.first or "")
    count = done = 0
    try:
        for found in account.catch_up(containers, options.since):
            done = found.done
            if found.drop:
                count += 1
                print(f"{found.drop.container}/{found.drop.blob}")
            elif sys.stderr.isatty():
                filled = BAR_WIDTH * found.done // found.total
                bar = "#" * filled + "-" * (BAR_WIDTH - filled)
                end = "\n" if found.done == found.total else ""
                print(f"\r[{bar}] {found.done:,} of {found.total:,} iTwins", end=end, file=sys.stderr, flush=True)
    except BaseException:
        if done < len(containers):
            print(f"\nStopped. To continue: --from {containers[done]}", file=sys.stderr)
        raise
    return count


def _with_account(environ: Mapping[str, str], account: str | None) -> Mapping[str, str]:
    if account is None:
        return environ
    return {
        **{name: value for name, value in environ.items() if name != CONNECTION},
        f"{CONNECTION}__blobServiceUri": f"https://{account}.blob.core.windows.net",
        f"{CONNECTION}__queueServiceUri": f"https://{account}.queue.core.windows.net",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shared.replay", description=replay.__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--status", choices=FINAL, help="replay drops whose results have this status")
    which.add_argument("--missing", action="store_true", help="send blobs whose content has no result")
    parser.add_argument("--itwin", metavar="ID", help="only those of this iTwin")
    parser.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="only those finished (with --missing: written) since this time, such as 2026-11-23T12:00Z",
    )
    parser.add_argument(
        "--from", dest="first", metavar="ID", help="with --missing: start at this iTwin, in the order of their IDs"
    )
    parser.add_argument("--account", metavar="NAME", help="the drop account (default: the one in the app's settings)")
    parser.add_argument("--dry-run", action="store_true", help="only list what would be replayed")
    return parser


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 2026-11-23T12:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
