"""Finds blobs that were dropped but have no result: their events or messages were lost, or never existed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import ResourceNotFoundError

from shared.attempt import Attempt
from shared.drop import ITWIN_ID, MAX_READABLE_BYTES, Drop, SourceFacts, Version, read_source
from shared.errors import DropError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from azure.storage.blob import BlobProperties, BlobServiceClient

    from shared.results import ResultStore

LISTERS, READERS = 8, 32
# The message of a waiting drop is considered lost this long after its next attempt was due.
LATE = timedelta(hours=1)


@dataclass(frozen=True)
class Found:
    """A blob without a result or, where `drop` is None, a container that has been searched: `done` of `total`."""

    drop: Drop | None
    done: int
    total: int


@dataclass(frozen=True)
class Account:
    """The account to search, and what to do with each blob that has no result."""

    storage: BlobServiceClient
    results: ResultStore
    send: Callable[[Attempt], object]
    now: Callable[[], datetime]

    def containers(self, itwin_id: str | None = None, first: str = "") -> list[str]:
        """Return the drop containers from `first` on, in order, or that of one iTwin."""
        found = self.storage.list_containers(name_starts_with=itwin_id)
        return sorted(c.name for c in found if ITWIN_ID.fullmatch(c.name) and c.name >= first)

    def catch_up(self, containers: list[str], since: datetime | None = None) -> Iterator[Found]:
        """Send blobs without a result, if written since then; report each of them, and each container searched.

        Raises azure.core.exceptions.AzureError.
        """

        def blobs_of(container: str) -> list[BlobProperties]:
            with suppress(ResourceNotFoundError):  # deleted meanwhile
                return list(self.storage.get_container_client(container).list_blobs(include=["metadata"]))
            return []

        def take(blob: BlobProperties) -> Drop | None:
            drop = Drop(blob.container, blob.name)
            if (since and blob.last_modified < since) or not self._is_missing(drop, blob):
                return None
            self.send(Attempt.missed(drop))
            return drop

        with ThreadPoolExecutor(LISTERS) as listers, ThreadPoolExecutor(READERS) as readers:
            for number, blobs in enumerate(listers.map(blobs_of, containers)):
                for drop in readers.map(take, blobs):
                    if drop:
                        yield Found(drop, number, len(containers))
                yield Found(None, number + 1, len(containers))

    def _is_missing(self, drop: Drop, blob: BlobProperties) -> bool:
        facts = SourceFacts(Version(blob.last_modified, blob.etag, drop.blob), blob.size, None, blob.metadata or {})
        if drop.is_housekeeping() or facts.is_directory_marker():
            return False
        recorded = self.results.read(drop)
        if recorded.etag != blob.etag.strip('"') and not self._has_content(drop, recorded.source.get("sha256")):
            return True
        if recorded.is_final:
            return False
        return recorded.next_attempt_at is None or recorded.next_attempt_at < self.now() - LATE

    def _has_content(self, drop: Drop, sha256: object) -> bool:
        """Whether the blob still has the content of its result: setting metadata changes only the ETag."""
        if not isinstance(sha256, str):
            return False
        with suppress(DropError):
            source = read_source(self.storage, drop, max_bytes=MAX_READABLE_BYTES)
            return source is not None and source.facts.sha256 in (None, sha256)
        return True  # it was deleted, or cannot be read under this name
