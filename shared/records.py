"""What is recorded about a drop, as values: its result, and the ledger's entry for its iTwin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from shared.drop import Drop, Version
from shared.untrusted_json import parse_object, parse_time

if TYPE_CHECKING:
    from datetime import datetime

Status = Literal["uploaded", "rejected", "superseded", "retrying", "failed"]
# No drop ever has more attempts: a document that claims so is damaged.
MAX_ATTEMPTS = 10**9
FINAL = ("uploaded", "rejected", "superseded", "failed")

# RFC 9110, 8.8.3: anything else must not get into a header
ETAG = re.compile(r"[\x21\x23-\x7e]+")


@dataclass(frozen=True)
class Recorded:
    """What the results container has for a blob: the document, and the ETag of the result's own blob.

    A damaged document is treated as an empty one; if there is no result at all, `tag` is None too.
    """

    document: Mapping[str, Any] = field(default_factory=dict)
    tag: str | None = None

    @classmethod
    def from_json(cls, text: bytes, tag: str | None = None) -> Recorded:
        """Parse a result document."""
        try:
            return cls(parse_object(text), tag)
        except ValueError:
            return cls(tag=tag)

    @property
    def drop(self) -> Drop | None:
        """The blob that it is about; None if it is damaged."""
        try:
            return Drop.named(self.source.get("container"), self.source.get("blob"))
        except ValueError:
            return None

    @property
    def status(self) -> object:
        """How the drop ended, or `retrying`."""
        return self.document.get("status")

    @property
    def is_final(self) -> bool:
        """Whether the drop has ended."""
        return self.status in FINAL

    @property
    def etag(self) -> str | None:
        """The ETag of that version; None if it was unknown."""
        return legal_etag(self.source.get("etag"))

    @property
    def version(self) -> Version | None:
        """The version that it is about; None if that was unknown."""
        source, last_modified = self.source, _moment(self.source.get("lastModified"))
        if not (last_modified and self.etag):
            return None
        sha256, size = source.get("sha256"), source.get("bytes")
        content = sha256 if isinstance(sha256, str) else f"{size} bytes {self.etag}" if size else ""
        return Version(last_modified, self.etag, str(source.get("blob")), content)

    @property
    def attempts(self) -> int:
        """How many attempts had been made when it was written."""
        attempts = self.document.get("attempts")
        return attempts if isinstance(attempts, int) and 0 <= attempts <= MAX_ATTEMPTS else 0

    @property
    def first_attempt_at(self) -> datetime | None:
        """When the first attempt began; None if an earlier release did not record it."""
        return _moment(self.document.get("firstAttemptAt"))

    @property
    def finished_at(self) -> datetime | None:
        """When it was written."""
        return _moment(self.document.get("finishedAt"))

    @property
    def next_attempt_at(self) -> datetime | None:
        """When the message of the next attempt is due."""
        return _moment(self.document.get("nextAttemptAt"))

    @property
    def source(self) -> Mapping[str, Any]:
        """What it says about the blob."""
        source = self.document.get("source")
        return source if isinstance(source, Mapping) else {}


NOTHING = Recorded()


@dataclass(frozen=True)
class Upload:
    """The last upload to an iTwin: which version, when, and its result document."""

    version: Version
    at: datetime
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """What the ledger says about an iTwin.

    `upload` is what was last uploaded (None: nothing known), `busy_until` when the call ends that is in progress.
    `unsettled` says until when the platform may still apply a version that it did not answer for, by the version's
    content. `call` is the ID of the call that was noted last, by which its writer recognizes it. `tag` is the ETag of
    the entry itself; None before there is one.
    """

    upload: Upload | None = None
    busy_until: datetime | None = None
    unsettled: Mapping[str, datetime] = field(default_factory=dict)
    call: str | None = field(default=None, compare=False)
    tag: str | None = None

    def is_busy(self, now: datetime) -> bool:
        """Whether a call may be in progress."""
        return self.busy_s(now) > 0

    def busy_s(self, now: datetime) -> float:
        """Return for how many seconds a call may still be in progress."""
        return (self.busy_until - now).total_seconds() if self.busy_until else 0

    def begun(self, version: Version, *, call: str, busy_until: datetime, unsettled_until: datetime) -> Entry:
        """Return the entry with a call noted."""
        unsettled = {**self.unsettled, version.content: unsettled_until}
        return replace(self, busy_until=busy_until, unsettled=unsettled, call=call)

    def settled(self, version: Version, before: Entry, upload: Upload | None) -> Entry:
        """Return the entry after the response to a call that found the entry `before`.

        An earlier call of the same version remains as unsettled as it was.
        """
        unsettled = {key: until for key, until in self.unsettled.items() if key != version.content}
        if version.content in before.unsettled:
            unsettled[version.content] = before.unsettled[version.content]
        return replace(self, upload=upload or self.upload, busy_until=None, unsettled=unsettled)

    def silent(self) -> Entry:
        """Return the entry after a call without a response: another may begin, but this one remains unsettled."""
        return replace(self, busy_until=None)


def legal_etag(etag: object) -> str | None:
    """Return the ETag if it is a valid one; None if it must not get into a header."""
    return etag if isinstance(etag, str) and ETAG.fullmatch(etag) else None


def _moment(text: Any) -> datetime | None:
    try:
        return parse_time(text)
    except (TypeError, ValueError):
        return None
