"""Whose turn it is on an iTwin, and what is up there: the newest wins, one upload at a time.

One small blob per iTwin holds the version that was last uploaded, with its result; its lease is the turn. The lease
ends by itself, so a crashed holder blocks its iTwin for a minute at most.

An upload that nobody answered may still be carried out, and then lie over a newer image. So it is written down as a
doubt, which lasts for as long as that can happen; whoever uploads meanwhile does so once more when it is over. A lease
that expired instead of being given back is such a doubt as well: its holder crashed, and nobody knows over what.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobLeaseClient

from shared.drop import Version
from shared.errors import ITwinBusy
from shared.untrusted_json import parse_object, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from azure.storage.blob import BlobClient, BlobServiceClient

LEDGER_CONTAINER = "ledger"

# How much later than a fresh drop an old one comes back, at most, in shortest delays.
MAX_RANK = 6

# Nobody dates an image later than it was uploaded, but for clocks that are apart.
CLOCKS_APART = timedelta(hours=1)
# What became of a lease that was not given back, and whose version is in doubt then.
GIVEN_UP = ("expired", "broken")
SOMEBODY = "*"

# For how many iTwins the clients are kept.
RECENT = 64

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

    `tag` is the ETag of the entry itself; None before there is one. `doubts` are the ETags of the versions that the
    platform may still bring up unasked, and until when.
    """

    upload: Upload | None = None
    taken: bool = False
    tag: str | None = None
    doubts: Mapping[str, datetime] = field(default_factory=dict)
    read_at: float = field(default_factory=time.monotonic, compare=False)

    def in_doubt_until(self, version: Version) -> datetime | None:
        """Return until when another image may come to lie over this version; None where none can."""
        return max((until for etag, until in self.doubts.items() if etag != version.etag), default=None)

    def check_free(self, version: Version, now: datetime, spacing: timedelta) -> None:
        """Raise ITwinBusy while another drop has the turn, and for a while after an upload.

        The iTwin rests for `spacing`, and of the drops that wait, the younger come back first: then the older find a
        newer one up and need not be sent. So a burst on one iTwin costs few uploads.
        """
        rest = spacing
        if not self.taken:
            # Nobody's clock is right: an upload to come must not keep everybody waiting for it.
            rest = spacing - abs(now - self.upload.at) if self.upload else timedelta()
            if rest <= timedelta():
                return
        rank = min(max(now - version.last_modified, timedelta()), MAX_RANK * spacing)
        message = "Another image is being uploaded to this iTwin, or was a moment ago."
        raise ITwinBusy(message, retry_after_s=(rest + rank).total_seconds())


class Turn:
    """The turn on an iTwin, while it lasts; `entry` is what was known when it began."""

    def __init__(self, blob: BlobClient, lease: BlobLeaseClient, entry: Entry, doubt_lasts: timedelta) -> None:
        self.entry = entry
        self._blob = blob
        self._lease = lease
        self._doubt_lasts = doubt_lasts

    def record(self, upload: Upload) -> None:
        """Write down what is up now. Raises azure.core.exceptions.AzureError, also where the turn was over before."""
        self._write(upload, self.entry.doubts)

    def leave_in_doubt(self, version: Version) -> None:
        """Write down that the upload of `version` may still be carried out. Raises as `record` does."""
        self._write(self.entry.upload, {**self.entry.doubts, version.etag: datetime.now(UTC) + self._doubt_lasts})

    def keep_doubts(self) -> None:
        """Write down what is in doubt as yet. Raises as `record` does."""
        self._write(self.entry.upload, self.entry.doubts)

    def _write(self, upload: Upload | None, doubts: Mapping[str, datetime]) -> None:
        self._blob.upload_blob(_entry_json(upload, doubts), overwrite=True, lease=self._lease)


class Ledger:
    """The ledger container. Every method raises azure.core.exceptions.AzureError where storage fails.

    A turn lasts `turn_s` at most, and a doubt `doubt_s`.
    """

    def __init__(self, storage: BlobServiceClient, *, turn_s: int, doubt_s: float) -> None:
        container = storage.get_container_client(LEDGER_CONTAINER)
        # A client is slow to make, and a drop needs it twice.
        self._blob = lru_cache(RECENT)(lambda itwin_id: container.get_blob_client(f"{itwin_id}.json"))
        self._turn_s = turn_s
        self._doubt_lasts = timedelta(seconds=doubt_s)

    def read(self, itwin_id: str) -> Entry:
        """Return what is known of the iTwin; an entry that somebody damaged counts as nothing known."""
        read_at = time.monotonic()
        try:
            download = self._blob(itwin_id).download_blob()
            text = download.readall()
        except ResourceNotFoundError:
            return Entry(read_at=read_at)
        lease, tag = download.properties.lease.state, download.properties.etag
        latest = datetime.now(UTC) + self._doubt_lasts
        upload, doubts = _read_entry(itwin_id, text, latest)
        if lease in GIVEN_UP:
            doubts[SOMEBODY] = latest
        return Entry(upload, lease == "leased", tag, doubts, read_at)

    @contextmanager
    def turn(self, itwin_id: str, entry: Entry) -> Iterator[Turn]:
        """Have the turn for the block's time. Raises ITwinBusy where another was quicker, or `entry` is outdated.

        The turn is not given back where AzureError ends the block: who comes next shall see that something is amiss.
        """
        if self._is_outdated(entry):
            entry, known = self.read(itwin_id), entry
            if entry.tag != known.tag:
                raise ITwinBusy("Another image was uploaded to this iTwin meanwhile.")
        blob = self._blob(itwin_id)
        lease = BlobLeaseClient(blob)
        try:
            tag = entry.tag or blob.upload_blob(b"{}", overwrite=False)["etag"]
            lease.acquire(self._turn_s, etag=tag, match_condition=MatchConditions.IfNotModified)
        except HttpResponseError as error:
            if error.status_code in (CONFLICT, PRECONDITION_FAILED):
                raise ITwinBusy("Another image is being uploaded to this iTwin.") from error
            raise
        if self._is_outdated(entry):
            entry = replace(entry, doubts={**entry.doubts, SOMEBODY: datetime.now(UTC) + self._doubt_lasts})
        with ExitStack() as ending:
            ending.callback(_release, lease, itwin_id)
            turn = Turn(blob, lease, entry, self._doubt_lasts)
            try:
                if SOMEBODY in entry.doubts:
                    turn.keep_doubts()  # the lease that tells of it will be given back, whatever comes of this turn
                yield turn
            except AzureError:
                ending.pop_all()
                raise

    def _is_outdated(self, entry: Entry) -> bool:
        """Whether another may have had the turn since, and crashed: that leaves no trace in the tag."""
        return time.monotonic() - entry.read_at > self._turn_s


def _release(lease: BlobLeaseClient, itwin_id: str) -> None:
    try:
        lease.release()
    except AzureError as error:
        log.warning("The turn on %s was not given back (%s); it ends by itself.", itwin_id, type(error).__name__)


def _entry_json(upload: Upload | None, doubts: Mapping[str, datetime]) -> bytes:
    entry: dict[str, Any] = {"doubts": {etag: until.isoformat() for etag, until in doubts.items()}}
    if upload:
        entry |= {
            "lastModified": upload.version.last_modified.isoformat(),
            "etag": upload.version.etag,
            "blob": upload.version.blob,
            "uploadedAt": upload.at.isoformat(),
            "result": upload.document,
        }
    return json.dumps(entry, allow_nan=False).encode()


def _read_entry(itwin_id: str, text: bytes, latest: datetime) -> tuple[Upload | None, dict[str, datetime]]:
    """Return what is up, and the doubts that are not over; none of them lasts longer than until `latest`."""
    try:
        entry = parse_object(text)
        now = datetime.now(UTC)
        ends = {etag: parse_time(until) for etag, until in dict(entry.get("doubts", {})).items()}
        doubts = {etag: min(until, latest) for etag, until in ends.items() if until > now}
        return (_read_upload(entry) if "etag" in entry else None), doubts
    except (ValueError, TypeError, KeyError):
        log.exception("The ledger's entry of %s is damaged and counts as empty.", itwin_id)
        return None, {}


def _read_upload(entry: Mapping[str, Any]) -> Upload:
    version = Version(parse_time(entry["lastModified"]), str(entry["etag"]), str(entry["blob"]))
    upload = Upload(version, parse_time(entry["uploadedAt"]), dict(entry["result"]))
    if upload.document["status"] != "uploaded" or upload.document["source"]["etag"] != version.etag:
        raise ValueError("a result of something else")
    if version.last_modified - upload.at > CLOCKS_APART:
        raise ValueError("an image that was uploaded before it was written")
    return upload
