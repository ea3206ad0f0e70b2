"""One try at a drop, and the message that makes the next one.

A message, as it stands in the queue in base64::

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

# When the first attempt of an event is, until it begins.
NOT_BEGUN = datetime.max.replace(tzinfo=UTC)

# More than anybody counts to; Python does not even print a number of 4,301 digits.
MAX_COUNT = 10**9


@dataclass(frozen=True)
class Attempt:
    """One try at a drop: which it is, when the first was, and of which version of the blob.

    `etag` is None where the version is not known yet, `last_modified` where nobody has read it, and `content` is ""
    then (see `Version`). A replay sends a drop that has its final result already: an operator wants it, or an older
    image may be shown over it. `poisoned` counts how often the host stopped trying the drop. `brief_since` is when it
    first met an error that is retried for minutes alone (`DropError.is_brief`); None where it has met none.
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
        """Return the version, once it has been read; a later attempt may find that it has gone."""
        if not (self.etag and self.last_modified):
            return None
        return Version(self.last_modified, self.etag, self.drop.blob, self.content)

    @classmethod
    def event(cls, drop: Drop) -> Attempt:
        """Return the attempt that a new blob's event makes; its time is told when it begins."""
        return cls(drop, number=1, first_at=NOT_BEGUN)

    @classmethod
    def missed(cls, drop: Drop) -> Attempt:
        """Return what, postponed, makes the attempt of an event that was lost."""
        return cls(drop, number=0, first_at=NOT_BEGUN)

    @classmethod
    def replay(cls, drop: Drop, version: Version | None = None) -> Attempt:
        """Return what, postponed, sends a drop from the start that has its final result already."""
        attempt = cls(drop, number=0, first_at=NOT_BEGUN, is_replay=True)
        return attempt.at(version, NOT_BEGUN) if version else attempt

    def at(self, version: Version, now: datetime) -> Attempt:
        """Return the attempt at `version`: the first, where it is not the one that was tried."""
        tried = self if self.etag in (None, version.etag) else Attempt(self.drop, number=1, first_at=now)
        return replace(tried, etag=version.etag, last_modified=version.last_modified, content=version.content)

    def begun_by(self, now: datetime) -> Attempt:
        """Return the attempt with nothing of it in the future: that would never reach its horizon."""
        return replace(
            self, first_at=min(self.first_at, now), brief_since=self.brief_since and min(self.brief_since, now)
        )

    def met(self, error: DropError, now: datetime) -> Attempt:
        """Return the attempt that has met the error: of a brief one, the first counts."""
        return replace(self, brief_since=now) if error.is_brief and self.brief_since is None else self

    def tried_since(self, error: DropError) -> datetime:
        """Return from when on the time counts for which an error as this one is retried.

        A message may say more, but nothing before the first attempt.
        """
        return max(self.first_at, self.brief_since) if error.is_brief and self.brief_since else self.first_at

    def message(self) -> str:
        """Return the message that makes the next attempt."""
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
        """Read a message, also of an earlier release. Raises ValueError where it is none of ours."""
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
            # What an earlier release called "again".
            is_replay=fields.get("replay", fields.get("again")) is True,
            poisoned=poisoned,
            brief_since=brief_since,
        )
