"""Every rule about a drop, as pure functions: what is known goes in, and what to do comes out.

What to do with an attempt, by the first row that applies:

========== ================================================== ===================================================
decision   when                                               what the pipeline does
========== ================================================== ===================================================
IGNORE     this version has its final result, or the message  nothing: the delivery was a duplicate
           of its next attempt is on its way; or it was
           overwritten, and the later one has an event of its
           own (a replay's, and one of two within a second)
REPEAT     this version is up, or the same content under a    writes the ledger's copy of the result
           later ETag, and only its result was lost
SUPERSEDED a newer version of any blob of the iTwin is up     writes that, and sends nothing
WAIT       an upload to the iTwin is in progress, or was a    sends a delayed message; the newer a drop, the
           moment ago                                         sooner it comes back
UPLOAD     else                                               normalizes, notes the upload in the ledger, sends,
                                                              records, publishes
========== ================================================== ===================================================

A replay, requested by an operator or by the app itself, skips the first two reasons for IGNORE, and REPEAT: its purpose
is to send a drop that has already ended.

Which version an attempt is for (`version_for`): the one in storage. But a message whose content is still the same is
for the drop for which it was sent, however often the blob's metadata has been set since. An event, which names no
version, is a new drop if the content is recorded under another ETag.

A drop that is uploaded while another version is unsettled (the platform may still apply it) is resent when that is over
(`unsettled_until`).

Which of two results is kept (`replaces`): the one about the later version; of two about the same version, the one with
the higher rank. A replay may replace `rejected` and `failed`, and `uploaded` by another `uploaded`.

==== =============================================================================
rank a result that
==== =============================================================================
0    does not exist, or is damaged
1    is waiting, and names no version
2    is waiting; or is final but names no version, because the blob was never read
3    is final
4    is `uploaded`
==== =============================================================================

When a drop is retried (`retry_delay_s`): when the platform asks for it, otherwise after exponential backoff, until the
horizon, which is counted from the first attempt; for a brief error, from the first error of that kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from shared.errors import DropError, NeedsOperator, NeedsTime

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.attempt import Attempt
    from shared.drop import Version
    from shared.records import Entry, Recorded

# https://learn.microsoft.com/rest/api/storageservices/put-message: the longest that a queue hides a message
MAX_DELAY_S = 7 * 24 * 3600
# How much longer the delays are when an operator has to act.
OPERATOR_FACTOR = 12
# Retries are spread over an additional part of their delay, so that they do not all come at once.
SPREAD = 0.5
# How much later than a new drop an old one is retried, at most, in shortest delays.
MAX_RANK_DELAYS = 6

WAITING, ENDED, UPLOADED = 2, 3, 4


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a drop is retried, in seconds. Uploads to one iTwin are `min_delay_s` apart, too."""

    min_delay_s: float = 5
    max_delay_s: float = 3600
    horizon_s: float = 24 * 3600
    # For errors that are retried only for minutes (`DropError.is_brief`).
    brief_horizon_s: float = 15 * 60


class Action(Enum):
    """What to do with an attempt: see the module's table."""

    IGNORE = auto()
    SUPERSEDED = auto()
    REPEAT = auto()
    WAIT = auto()
    UPLOAD = auto()


@dataclass(frozen=True)
class Decision:
    """What to do; `wait_s` says how long to WAIT."""

    action: Action
    wait_s: float = 0


def version_for(attempt: Attempt, found: Version, recorded: Recorded) -> Version:
    """Return the version that the attempt is for, given that storage has `found`."""
    is_recorded = attempt.etag == recorded.etag or (attempt.is_replay and attempt.etag is None)
    known = recorded.version if is_recorded and recorded.version else attempt.version
    # Setting metadata only makes a blob newer: no message may place a drop before drops that were written earlier.
    is_touched = known and known.etag != found.etag and known.last_modified <= found.last_modified
    return known if known and is_touched and known.has_content_of(found) else found


def attempt_at(attempt: Attempt, version: Version, recorded: Recorded, now: datetime) -> Attempt:
    """Return the attempt at `version`, with its number and the time of the first one.

    A record of the same version takes precedence over the message, which others may have written; a replay starts over.
    """
    found = attempt.at(version, now)
    if attempt.is_replay or recorded.version != version:
        return found
    first_at = min(recorded.first_attempt_at or found.first_at, now)
    return replace(found, number=recorded.attempts + 1, first_at=first_at)


def is_settled(attempt: Attempt, recorded: Recorded, now: datetime) -> bool:
    """Whether nothing is left to do for the recorded version: it has ended, or another attempt is scheduled."""
    if attempt.is_replay or recorded.etag is None:
        return False
    is_another = attempt.number <= recorded.attempts or attempt.etag != recorded.etag
    return recorded.is_final or (is_another and waits_s(recorded, now) > 0)


def waits_s(recorded: Recorded, now: datetime) -> float:
    """Return the seconds until the drop's next attempt; 0 if none is scheduled."""
    left_s = (recorded.next_attempt_at - now).total_seconds() if recorded.next_attempt_at else 0
    # A queue cannot hide a message for longer: such a result is damaged.
    return left_s if 0 < left_s < MAX_DELAY_S else 0


def decide(
    attempt: Attempt,
    version: Version,
    recorded: Recorded,
    entry: Entry,
    *,
    is_current: bool = True,
    now: datetime,
    spacing: timedelta,
) -> Decision:
    """Return what to do with the attempt, which is for `version`.

    `is_current` says whether storage still has that version, which orders two versions of the same second. Two uploads
    to an iTwin are at least `spacing` apart.
    """
    is_overwritten = not is_current or (attempt.is_replay and attempt.etag not in (None, version.etag))
    if is_overwritten:
        return Decision(Action.IGNORE)
    if version == recorded.version and is_settled(attempt, recorded, now):
        return Decision(Action.IGNORE)
    up = entry.upload.version if entry.upload else None
    if up and not attempt.is_replay and (up == version or (up > version and up.has_content_of(version))):
        return Decision(Action.REPEAT)
    if up and up > version and not up.ties_with(version):
        return Decision(Action.SUPERSEDED)
    wait_s = _wait_s(version, entry, now, spacing)
    return Decision(Action.WAIT, wait_s) if wait_s > 0 else Decision(Action.UPLOAD)


def _wait_s(version: Version, entry: Entry, now: datetime, spacing: timedelta) -> float:
    """Return how long to wait for the iTwin; 0 if it is free.

    After an upload it rests for a while, and of the drops that wait, newer ones come back first: then the older ones
    are superseded and need not be sent. So a burst of drops on one iTwin costs few uploads.
    """
    rest = spacing
    if not entry.is_busy(now):
        # Clocks are not exact: an upload recorded in the future must not block the iTwin until then.
        rest = spacing - abs(now - entry.upload.at) if entry.upload else timedelta()
        if rest <= timedelta():
            return 0
    rank = min(max(now - version.last_modified, timedelta()), MAX_RANK_DELAYS * spacing)
    return (rest + rank).total_seconds()


def unsettled_until(version: Version, entry: Entry) -> datetime | None:
    """Return until when the platform may still replace this version by another one; None if none is unsettled."""
    others = [until for key, until in entry.unsettled.items() if key not in (version.content, version.etag)]
    return max(others, default=None)


def replaces(new: Recorded, old: Recorded, *, is_current: bool = False, is_replay: bool = False) -> bool:
    """Whether the result `new` replaces `old`.

    `is_current` says whether `new` is about the version in storage, which orders two versions of the same second.
    """
    if old.version and new.version and old.version != new.version:
        return is_current if new.version.ties_with(old.version) else new.version > old.version
    old_rank, new_rank = _rank(old), _rank(new)
    if is_replay and old_rank >= ENDED:
        return new_rank >= ENDED and (new_rank == UPLOADED or old.status in ("rejected", "failed"))
    return new_rank > old_rank or new_rank == old_rank < ENDED


def _rank(result: Recorded) -> int:
    if result.status == "uploaded" and result.version:
        return UPLOADED
    if result.is_final:
        return ENDED if result.version else WAITING
    if result.status == "retrying":
        return WAITING if result.version else WAITING - 1
    return 0


def retry_delay_s(
    error: DropError, attempt: int, elapsed_s: float, policy: RetryPolicy, uniform: Callable[[float, float], float]
) -> float | None:
    """Return how many seconds to wait before the next attempt; None if there is none.

    The platform's Retry-After comes first, spread a little and limited to the longest delay, but never shorter than the
    shortest one. Otherwise exponential backoff with jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), slower if an operator has to act. The
    last attempt is made when the horizon is reached.
    """
    if not isinstance(error, NeedsTime | NeedsOperator):
        return None
    left_s = (policy.brief_horizon_s if error.is_brief else policy.horizon_s) - elapsed_s
    if left_s <= 0:
        return None
    if error.retry_after_s is not None:
        # The app's own delays are exact; the platform's Retry-After may be 0 again and again.
        wait_s = min(error.retry_after_s, policy.max_delay_s)
        least_s = max(wait_s, policy.min_delay_s) if error.response else wait_s
        most_s = max(min(least_s * (1 + SPREAD), policy.max_delay_s), least_s)
        delay_s = uniform(least_s, most_s)
    else:
        least_s = policy.min_delay_s * (OPERATOR_FACTOR if isinstance(error, NeedsOperator) else 1)
        most_s = min(least_s * 2.0 ** min(attempt - 1, 30), policy.max_delay_s)
        delay_s = uniform(least_s, most_s) if most_s > least_s else min(least_s, policy.max_delay_s)
    return min(delay_s, left_s)
