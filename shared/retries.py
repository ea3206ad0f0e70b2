"""When a drop is tried again, and the delayed message that does it.

A message on a storage queue survives restarts and deployments, and waits without holding a worker; a raised exception
would burn the host's five attempts in seconds.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.drop import Drop, Version
from shared.errors import DropError, NeedsOperator, NeedsTime
from shared.untrusted_json import parse_object, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.storage.queue import QueueClient

RETRY_QUEUE = "drop-retries"

# How much slower than time alone an operator is expected to be.
OPERATOR_FACTOR = 12
# Waiting drops come back spread over this part of their delay, so that they do not all come at once.
SPREAD = 0.5
NEVER_EXPIRES = -1
# https://learn.microsoft.com/rest/api/storageservices/put-message: the longest that a queue hides a message
MAX_DELAY_S = 7 * 24 * 3600


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a drop is tried; seconds."""

    min_delay_s: float = 5
    max_delay_s: float = 3600
    horizon_s: float = 24 * 3600


@dataclass(frozen=True)
class Attempt:
    """One try at a drop: which it is, when the first was, and of which version of the blob.

    `etag` is None where the version is not known yet, and `last_modified` where nobody has read it yet. `again` is set
    where a drop shall be done once more that has its final result already: an operator wants it, or an older image may
    lie over it.
    """

    drop: Drop
    number: int
    first_at: datetime
    etag: str | None = None
    last_modified: datetime | None = None
    again: bool = False

    @property
    def version(self) -> Version | None:
        """Return the version, once it has been read; a later attempt may find that it has gone."""
        return Version(self.last_modified, self.etag, self.drop.blob) if self.etag and self.last_modified else None

    @classmethod
    def first(cls, drop: Drop, etag: str | None = None) -> Attempt:
        """Return the attempt that a new blob's event makes."""
        return cls(drop, number=1, first_at=datetime.now(UTC), etag=etag)

    @classmethod
    def once_more(cls, drop: Drop, version: Version | None = None) -> Attempt:
        """Return what, postponed, does a drop again from the start that has its final result already."""
        attempt = cls(drop, number=0, first_at=datetime.now(UTC), again=True)
        return attempt.of_version(version, attempt.first_at) if version else attempt

    def of_version(self, version: Version, now: datetime) -> Attempt:
        """Return the attempt at the version that was found: the first, where it is not the one that was tried."""
        tried = self if self.etag in (None, version.etag) else Attempt(self.drop, number=1, first_at=now)
        return replace(tried, etag=version.etag, last_modified=version.last_modified)

    def message(self) -> str:
        """Return the message that makes the next attempt."""
        fields = {
            "drop": {"container": self.drop.container, "blob": self.drop.blob},
            "number": self.number + 1,
            "first_at": self.first_at.isoformat(),
            "etag": self.etag,
            "last_modified": self.last_modified.isoformat() if self.last_modified else None,
            "again": self.again,
        }
        return json.dumps(fields)

    @classmethod
    def from_message(cls, text: str | bytes) -> Attempt:
        """Read a message. Raises ValueError where it is none of ours."""
        try:
            fields = parse_object(text)
            number, etag, read = fields["number"], fields["etag"], fields.get("last_modified")
            first_at = parse_time(fields["first_at"])
            last_modified = None if read is None else parse_time(read)
            drop = Drop.named(fields["drop"]["container"], fields["drop"]["blob"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError("Not a message of this app.") from error
        counted = type(number) is int and number >= 1
        if not counted or not (etag is None or isinstance(etag, str)):
            raise ValueError("Not a message of this app.")
        return cls(
            drop,
            number,
            # Nobody's clock is right; a first attempt to come would never reach the horizon.
            first_at=min(first_at, datetime.now(UTC)),
            etag=etag,
            last_modified=last_modified,
            again=fields.get("again") is True,
        )


def retry_delay_s(
    error: DropError, attempt: int, elapsed_s: float, policy: RetryPolicy, uniform: Callable[[float, float], float]
) -> float | None:
    """Return how many seconds to wait before the next try; None where there is none.

    What the peer says (Retry-After) comes first, spread a little, but never hurries the app. Else exponential backoff
    with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), slower for what an
    operator must cure. The last try is made when the horizon is reached.
    """
    if not isinstance(error, NeedsTime | NeedsOperator):
        return None
    left_s = policy.horizon_s - elapsed_s
    if left_s <= 0:
        return None
    if error.retry_after_s is not None:
        # What the app tells itself, it means; what a peer says may be 0 time and again.
        wait_s = max(error.retry_after_s, policy.min_delay_s) if error.response else error.retry_after_s
        delay_s = wait_s * (1 + uniform(0, SPREAD))
    else:
        least_s = policy.min_delay_s * (OPERATOR_FACTOR if isinstance(error, NeedsOperator) else 1)
        most_s = min(least_s * 2.0 ** min(attempt - 1, 30), policy.max_delay_s)
        delay_s = uniform(least_s, most_s) if most_s > least_s else min(least_s, policy.max_delay_s)
    return min(delay_s, left_s)


class RetryQueue:
    """The queue of drops that wait."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue

    def postpone(self, attempt: Attempt, delay_s: float) -> datetime:
        """Have the drop tried again after the delay, and return when. Raises azure.core.exceptions.AzureError.

        A queue counts in whole seconds.
        """
        seconds = max(1, math.ceil(delay_s))
        self._queue.send_message(attempt.message(), visibility_timeout=seconds, time_to_live=NEVER_EXPIRES)
        return datetime.now(UTC) + timedelta(seconds=seconds)
