"""Whose turn it is on an iTwin, and what is up there: the newest wins, one upload at a time.

One small blob per iTwin holds the version that was last uploaded, with its result; its lease is the turn. The lease
ends by itself, so a crashed holder blocks its iTwin for a minute at most.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobLeaseClient

from shared.drop import Version
from shared.errors import ITwinBusy, TurnLost
from shared.foreign_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from azure.storage.blob import BlobClient, BlobServiceClient

LEDGER_CONTAINER = "ledger"

# How much later than a fresh drop an old one comes back, at most, in shortest delays.
MAX_RANK = 6

CONFLICT = 409
PRECONDITION_FAILED = 412

log = logging.getLogger("itwin_image_drop")


@dataclass(frozen=True)
class Upload:
    """What was last uploaded to an iTwin: which version, when, and its result document."""

    version: Version
    at: datetime
    document: Mapping[str, Any]

    def supersedes(self, version: Version) -> bool:
        """Whether a drop need not be sent any more; of two that tie, whichever storage has is to be sent."""
        return self.version > version and not self.version.ties_with(version)


@dataclass(frozen=True)
class Entry:
    """What the ledger says of an iTwin: what is up (None: nothing known), and whether somebody has the turn.

    `tag` is the ETag of the entry itself; None before there is one.
    """

    upload: Upload | None = None
    taken: bool = False
    tag: str | None = None

    def check_free(self, version: Version, now: datetime, spacing: timedelta) -> None:
        """Raise ITwinBusy while another drop has the turn, and for a while after an upload.

        The iTwin rests for `spacing`, and of the drops that wait, the younger come back first: then the older find a
        newer one up and need not be sent. So a burst on one iTwin costs few uploads.
        """
        rest = spacing
        if not self.taken:
            rest = self.upload.at + spacing - now if self.upload else timedelta()
            if rest <= timedelta():
                return
        rank = min(max(now - version.last_modified, timedelta()), MAX_RANK * spacing)
        message = "Another image is being uploaded to this iTwin, or was a moment ago."
        raise ITwinBusy(message, retry_after_s=(rest + rank).total_seconds())


class Turn:
    """The turn on an iTwin, while it lasts."""

    def __init__(self, blob: BlobClient, lease: BlobLeaseClient) -> None:
        self._blob = blob
        self._lease = lease

    def record(self, upload: Upload) -> None:
        """Write down what is up now. Raises TurnLost where the turn was over before."""
        try:
            self._blob.upload_blob(_entry_json(upload), overwrite=True, lease=self._lease)
        except HttpResponseError as error:
            if error.status_code in (CONFLICT, PRECONDITION_FAILED):
                message = "The upload took longer than its turn; it is done again, lest an older image stays."
                raise TurnLost(message) from error
            raise


class Ledger:
    """The ledger container. Every method raises azure.core.exceptions.AzureError where storage fails."""

    def __init__(self, storage: BlobServiceClient, *, turn_s: int) -> None:
        self._container = storage.get_container_client(LEDGER_CONTAINER)
        self._turn_s = turn_s

    def read(self, itwin_id: str) -> Entry:
        """Return what is known of the iTwin; an entry that somebody damaged counts as nothing known."""
        try:
            download = self._blob(itwin_id).download_blob()
            text = download.readall()
        except ResourceNotFoundError:
            return Entry()
        properties = download.properties
        return Entry(_read_upload(itwin_id, text), properties.lease.state == "leased", properties.etag)

    @contextmanager
    def turn(self, itwin_id: str, entry: Entry) -> Iterator[Turn]:
        """Have the turn for the block's time. Raises ITwinBusy where another was quicker, or `entry` is outdated."""
        blob = self._blob(itwin_id)
        lease = BlobLeaseClient(blob)
        try:
            tag = entry.tag or blob.upload_blob(b"{}", overwrite=False)["etag"]
            lease.acquire(self._turn_s, etag=tag, match_condition=MatchConditions.IfNotModified)
        except HttpResponseError as error:
            if error.status_code in (CONFLICT, PRECONDITION_FAILED):
                raise ITwinBusy("Another image is being uploaded to this iTwin.") from error
            raise
        try:
            yield Turn(blob, lease)
        finally:
            try:
                lease.release()
            except AzureError as error:
                log.warning(
                    "The turn on %s was not given back (%s); it ends by itself.", itwin_id, type(error).__name__
                )

    def _blob(self, itwin_id: str) -> BlobClient:
        return self._container.get_blob_client(f"{itwin_id}.json")


def _entry_json(upload: Upload) -> bytes:
    entry = {
        "lastModified": upload.version.last_modified.isoformat(),
        "etag": upload.version.etag,
        "blob": upload.version.blob,
        "uploadedAt": upload.at.isoformat(),
        "result": upload.document,
    }
    return json.dumps(entry, allow_nan=False).encode()


def _read_upload(itwin_id: str, text: bytes) -> Upload | None:
    try:
        entry = parse_object(text)
        if not entry:
            return None
        version = Version(datetime.fromisoformat(entry["lastModified"]), str(entry["etag"]), str(entry["blob"]))
        upload = Upload(version, datetime.fromisoformat(entry["uploadedAt"]), dict(entry["result"]))
        if version.last_modified.tzinfo is None or upload.at.tzinfo is None:
            raise ValueError("a time without a zone")  # noqa: TRY301 - one place says what damage means
        if upload.document["status"] != "uploaded" or upload.document["source"]["etag"] != version.etag:
            raise ValueError("a result of something else")  # noqa: TRY301
    except (ValueError, TypeError, KeyError):
        log.exception("The ledger's entry of %s is damaged and counts as empty.", itwin_id)
        return None
    return upload
