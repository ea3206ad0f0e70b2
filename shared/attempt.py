"""One attempt at a drop, and the message that schedules the next one.

A message, which is in the queue as base64::

    {
      "drop": {"container": "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a", "blob": "site/cam1.jpg"},
      "number": 3,
      "first_at": "2026-11-23T12:00:01.100000+00:00",
      "brief_since": null,
      "etag": "0x8DE2B1",
      "last_modified": "2026-11-23T12:00:00+00:00",
      "content": "34a42eaa4edaf4ca3bfb9da37db10b776aa28ee68082484141b4771235b8459a",
      "replay": false,
      "poisoned": 0
    }
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.drop import Drop, Version
from shared.untrusted_json import parse_object, parse_time

if TYPE_CHECKING:
    from shared.errors import DropError

# Stands for the time of an event's first attempt until that begins.
NOT_BEGUN = datetime.max.replace(tzinfo=UTC)

# No counter gets this far; Python refuses to even print a number with 4,301 digits.
MAX_COUNT = 10**9


@dataclass(frozen=True)
class Attempt:
    """One attempt at a drop: its number, when the first one was made, and for which version of the blob.

    `etag` is None if the version is not known yet; `last_modified` is None and `content` "" if it was never read (see
    `Version`). A replay sends a drop that already has its final result, because an operator asked for it or an older
    image may have replaced it. `poisoned` counts how often the host stopped trying the drop. `brief_since` is when
    it first met an error that is retried only for minutes (`DropError.is_brief`), or None.
    """

    drop: Drop
    number: int
    first_at: datetime
    etag: str | None = None
    last_modified: datetime | None = None
    content: str = ""
    is_replay: bool = False
    poisoned: int = 0
    brief_since: datetime | None = None

    @property
    def version(self) -> Version | None:
        """Return the version, once it has been read; a later attempt may find the blob deleted."""
        if not (self.etag and self.last_modified):
            return None
        return Version(self.last_modified, self.etag, self.drop.blob, self.content)

    @classmethod
    def event(cls, drop: Drop) -> Attempt:
        """Return the attempt for a new blob's event; its time is set when it begins."""
        return cls(drop, number=1, first_at=NOT_BEGUN)

    @classmethod
    def missed(cls, drop: Drop) -> Attempt:
        """Return what to postpone in order to make the attempt of a lost event."""
        return cls(drop, number=0, first_at=NOT_BEGUN)

    @classmethod
    def replay(cls, drop: Drop, version: Version | None = None) -> Attempt:
        """Return what to postpone in order to process a finished drop again from the start."""
        attempt = cls(drop, number=0, first_at=NOT_BEGUN, is_replay=True)
        return attempt.at(version, NOT_BEGUN) if version else attempt

    def at(self, version: Version, now: datetime) -> Attempt:
        """Return the attempt at `version`: the first one, if another version was tried before."""
        tried = self if self.etag in (None, version.etag) else Attempt(self.drop, number=1, first_at=now)
        return replace(tried, etag=version.etag, last_modified=version.last_modified, content=version.content)

    def begun_by(self, now: datetime) -> Attempt:
        """Return the attempt with no time in the future, as that would never reach its horizon."""
        return replace(
            self, first_at=min(self.first_at, now), brief_since=self.brief_since and min(self.brief_since, now)
        )

    def met(self, error: DropError, now: datetime) -> Attempt:
        """Return the attempt with this error noted: the time of the first brief one counts."""
        return replace(self, brief_since=now) if error.is_brief and self.brief_since is None else self

    def tried_since(self, error: DropError) -> datetime:
        """Return the start of the time for which such an error is retried.

        A message can claim any time, but never one before the first attempt.
        """
        return max(self.first_at, self.brief_since) if error.is_brief and self.brief_since else self.first_at

    def message(self) -> str:
        """Return the message that schedules the next attempt."""
        fields = {
            "drop": {"container": self.drop.container, "blob": self.drop.blob},
            "number": self.number + 1,
            "first_at": self.first_at.isoformat(),
            "brief_since": self.brief_since.isoformat() if self.brief_since else None,
            "etag": self.etag,
            "last_modified": self.last_modified.isoformat() if self.last_modified else None,
            "content": self.content,
            "replay": self.is_replay,
            "poisoned": self.poisoned,
        }
        return json.dumps(fields)

    @classmethod
    def from_message(cls, text: str | bytes) -> Attempt:
        """Read a message, including one of an earlier release. Raises ValueError if it is not one of the app's."""
        try:
            fields = parse_object(text)
            number, etag, read = fields["number"], fields["etag"], fields.get("last_modified")
            since = fields.get("brief_since")
            content, poisoned = fields.get("content", ""), fields.get("poisoned", 0)
            first_at = parse_time(fields["first_at"])
            last_modified = None if read is None else parse_time(read)
            brief_since = None if since is None else parse_time(since)
            drop = Drop.named(fields["drop"]["container"], fields["drop"]["blob"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError("Not a message of this app.") from error
        are_counts = type(number) is int and type(poisoned) is int
        is_counted = are_counts and 1 <= number <= MAX_COUNT and 0 <= poisoned <= MAX_COUNT
        if not is_counted or not (etag is None or isinstance(etag, str)) or not isinstance(content, str):
            raise ValueError("Not a message of this app.")
        return cls(
            drop,
            number,
            first_at=first_at,
            etag=etag,
            last_modified=last_modified,
            content=content,
            # An earlier release called it "again".
            is_replay=fields.get("replay", fields.get("again")) is True,
            poisoned=poisoned,
            brief_since=brief_since,
        )
