"""What was last uploaded to each iTwin, and which upload may be in progress: one small blob per iTwin.

An upload is noted before the call and recorded after its response, both conditional on the entry's ETag: a writer that
finds another ETag was too late. (AWS Lambda Powertools' idempotency records and Stripe's idempotency keys work the same
way: a conditional "in progress until" before the work, the outcome after it, expiry instead of a lock.)

A call without a response may still be applied, and its image may then replace a newer one. So every call is unsettled
from the moment it is noted until there is a response. A response removes only what this call added, since an earlier
call of the same version may also have had no response. Without one, only `busyUntil` is removed; after a crash, both
remain until they expire.

An entry, `ledger/<iTwin ID>.json`, while a second version is being uploaded::

    {
      "upload": {
        "blob": "site/cam1.jpg",
        "etag": "0x8DE2B1",
        "lastModified": "2026-11-23T12:00:00+00:00",
        "content": "34a42eaa4edaf4ca3bfb9da37db10b776aa28ee68082484141b4771235b8459a",
        "at": "2026-11-23T12:00:02.120000+00:00",
        "result": {"status": "uploaded", "...": "the result document, whole"}
      },
      "busyUntil": "2026-11-23T12:01:10.412000+00:00",
      "call": "5e0d2c1f0b6c4a54a8a5c4f7b5d5f0aa",
      "unsettled": {
        "6261d50a93e61f2cf137abfe255ce05f623f87f159ea09272afd159c36e41a40": "2026-11-23T12:04:30.412000+00:00"
      }
    }
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.documents import Documents, Overtaken
from shared.drop import Version
from shared.errors import ITwinBusy
from shared.records import Entry, Upload
from shared.untrusted_json import parse_object, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from azure.storage.blob import BlobServiceClient

LEDGER_CONTAINER = "ledger"

# No image is newer than its upload, except for clock skew.
CLOCK_SKEW = timedelta(hours=1)

log = logging.getLogger("itwin_image_drop")


@dataclass(frozen=True)
class Call:
    """A noted upload: the entry before it, and the entry as it was written."""

    version: Version
    before: Entry
    noted: Entry


class Ledger:
    """The ledger container. Every method raises azure.core.exceptions.AzureError if storage fails.

    A call takes at most `call_s` seconds, and the platform may apply it up to `unsettled_s` seconds later.
    """

    def __init__(
        self, storage: BlobServiceClient, now: Callable[[], datetime], *, call_s: float, unsettled_s: float
    ) -> None:
        self._documents = Documents(storage, LEDGER_CONTAINER)
        self._now = now
        self.call_s = call_s
        self._call_lasts = timedelta(seconds=call_s)
        self._unsettled_lasts = timedelta(seconds=call_s + unsettled_s)

    def read(self, itwin_id: str) -> Entry:
        """Return what is known about the iTwin; a damaged entry is treated as empty."""
        stored = self._documents.read(_name(itwin_id))
        if stored.content is not None:
            return replace(self._parse(itwin_id, stored.content), tag=stored.tag)
        if stored.tag:
            log.warning("The ledger's entry of %s is too large to be one, and counts as empty.", itwin_id)
        return Entry(tag=stored.tag)

    def begin(self, itwin_id: str, entry: Entry, version: Version) -> Call:
        """Note that `version` is about to be uploaded. Raises ITwinBusy if another drop was faster."""
        now = self._now()
        ends = {"busy_until": now + self._call_lasts, "unsettled_until": now + self._unsettled_lasts}
        noted = entry.begun(version, call=uuid.uuid4().hex, **ends)
        try:
            tag = self._write(itwin_id, noted)
        except Overtaken as error:
            raise ITwinBusy("Another image is being uploaded to this iTwin, or was a moment ago.") from error
        return Call(version, entry, replace(noted, tag=tag))

    def record_upload(self, itwin_id: str, call: Call, upload: Upload, *, is_settled: bool = True) -> None:
        """Record a success, and that its call is settled.

        Also raises AzureError if another drop has begun its own upload: then it is unknown which image is shown.
        """
        settled = call.noted.settled(call.version, call.before, upload)
        self._write(itwin_id, settled if is_settled else replace(settled, unsettled=call.noted.unsettled))

    def record_failure(self, itwin_id: str, call: Call, *, is_settled: bool) -> None:
        """Record that the call has failed; without a response it remains unsettled."""
        noted = call.noted
        self._write(itwin_id, noted.settled(call.version, call.before, None) if is_settled else noted.silent())

    def _write(self, itwin_id: str, entry: Entry) -> str:
        """Replace the entry that has this one's ETag, and return the new ETag. Raises Overtaken."""
        return self._documents.write(_name(itwin_id), _entry_json(entry), entry.tag)

    def _parse(self, itwin_id: str, text: bytes) -> Entry:
        """Parse an entry; times further in the future than the app ever notes are capped."""
        now = self._now()
        try:
            fields = parse_object(text)
            # An earlier release had the upload's fields at the top level and "doubts", where "*" meant any version.
            upload = fields.get("upload") or (fields if "etag" in fields else None)
            ends = dict(fields.get("unsettled") or fields.get("doubts") or {})
            latest = now + self._unsettled_lasts
            unsettled = {key: min(until, latest) for key, end in ends.items() if (until := parse_time(end)) > now}
            busy_until = parse_time(fields["busyUntil"]) if fields.get("busyUntil") else None
            call = fields.get("call")
            return Entry(
                _read_upload(upload) if upload else None,
                min(busy_until, now + self._call_lasts) if busy_until else None,
                unsettled,
                call if isinstance(call, str) else None,
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            log.exception("The ledger's entry for %s is damaged and is treated as empty.", itwin_id)
            return Entry()


def _name(itwin_id: str) -> str:
    return f"{itwin_id}.json"


def _entry_json(entry: Entry) -> bytes:
    upload = entry.upload
    fields = {
        "upload": upload
        and {
            "blob": upload.version.blob,
            "etag": upload.version.etag,
            "lastModified": upload.version.last_modified.isoformat(),
            "content": upload.version.content,
            "at": upload.at.isoformat(),
            "result": upload.document,
        },
        "busyUntil": entry.busy_until.isoformat() if entry.busy_until else None,
        "call": entry.call,
        "unsettled": {key: until.isoformat() for key, until in entry.unsettled.items()},
    }
    return json.dumps(fields, allow_nan=False).encode()


def _read_upload(fields: Mapping[str, Any]) -> Upload:
    content = fields.get("content", "")
    if not isinstance(content, str):
        raise TypeError("no content's name")
    version = Version(parse_time(fields["lastModified"]), str(fields["etag"]), str(fields["blob"]), content)
    at = parse_time(fields["at"] if "at" in fields else fields["uploadedAt"])
    upload = Upload(version, at, dict(fields["result"]))
    if upload.document["status"] != "uploaded" or upload.document["source"]["etag"] != version.etag:
        raise ValueError("a result of something else")
    if version.last_modified - upload.at > CLOCK_SKEW:
        raise ValueError("an image that was uploaded before it was written")
    return upload
