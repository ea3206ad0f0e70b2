"""The program: which results are wanted, and how their drops get back onto the queue."""

# ruff: noqa: T201 - a program prints
from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

from shared import replay
from shared.attempt import Attempt
from shared.clock import utc_now
from shared.errors import InvalidSettings
from shared.records import FINAL, Recorded
from shared.retries import RETRY_QUEUE, RetryQueue
from shared.settings import CONNECTION, StorageSettings
from shared.storage import open_blobs, open_queue, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from azure.storage.blob import ContainerClient

    from shared.drop import Drop

READERS = 16


@dataclass(frozen=True)
class Wanted:
    """Which results are replayed: of one status, of one iTwin (None: all), and finished since then (None: ever)."""

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


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Replay what is asked for; 0 when all went well, else one sentence on stderr: 2 where an option is missing."""
    options = _parser().parse_args(arguments)
    try:
        settings = StorageSettings.from_environ(_with_account(environ, options.account))
        login = DefaultAzureCredential()
        results = open_blobs(settings, login).get_container_client(settings.results_container)
        queue = RetryQueue(partial(open_queue, settings, RETRY_QUEUE, login), utc_now)
        count = 0
        for drop in find_drops(results, Wanted(options.status, options.itwin, options.since)):
            count += 1
            print(f"{drop.container}/{drop.blob}")
            if not options.dry_run:
                queue.postpone(Attempt.replay(drop, utc_now()), 0)
    except InvalidSettings as error:
        print(f"{error} Or name the drop account with --account.", file=sys.stderr)
        return 2
    except AzureError as error:
        print(storage_error(error), file=sys.stderr)
        return 1
    print(f"{count} drops {'would be replayed' if options.dry_run else 'are on their way'}.")
    return 0


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
    parser.add_argument("--status", required=True, choices=FINAL, help="which results are replayed")
    parser.add_argument("--itwin", metavar="ID", help="only those of this iTwin")
    parser.add_argument(
        "--since", type=_moment, metavar="TIME", help="only those finished since this time, like 2026-11-23T12:00Z"
    )
    parser.add_argument("--account", metavar="NAME", help="the drop account (default: what the settings say)")
    parser.add_argument("--dry-run", action="store_true", help="only say which would be replayed")
    return parser


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 2026-11-23T12:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
