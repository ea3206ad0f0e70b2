"""Every rule about a drop: what an attempt does, which of two results stays, and when to retry."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.attempt import Attempt
from shared.decisions import (
    MAX_RANK_DELAYS,
    OPERATOR_FACTOR,
    SPREAD,
    Action,
    RetryPolicy,
    decide,
    is_settled,
    replaces,
    retry_delay_s,
    unsettled_until,
    version_for,
)
from shared.drop import Drop, Version
from shared.errors import (
    CorruptImage,
    DropError,
    ITwinBusy,
    ITwinNotFound,
    NeedsOperator,
    NeedsTime,
    PlatformForbidden,
    PlatformResponse,
    PlatformThrottled,
    PlatformUnavailable,
)
from shared.records import Entry, Recorded, Upload

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SPACING = timedelta(seconds=5)
DROP = Drop(str(uuid.UUID(int=1)), "a.png")


def version(second: int = 0, etag: str = "0x1", blob: str = "a.png", content: str = "") -> Version:
    """Return a version written in the given second."""
    return Version(NOW - timedelta(hours=1) + timedelta(seconds=second), etag, blob, content or f"content of {etag}")


def recorded(status: str, of: Version | None = None, *, attempts: int = 1, waits_s: float | None = None) -> Recorded:
    """Return the content of the results container for a version."""
    source = {
        "etag": of.etag if of else None,
        "lastModified": of.last_modified.isoformat() if of else None,
        "sha256": of.content if of else None,
        "blob": "a.png",
    }
    next_attempt_at = None if waits_s is None else (NOW + timedelta(seconds=waits_s)).isoformat()
    return Recorded({"status": status, "source": source, "attempts": attempts, "nextAttemptAt": next_attempt_at})


def entry(up: Version | None = None, *, ago_s: float = 3600, busy_s: float | None = None) -> Entry:
    """Return a ledger entry: what was uploaded, when, and for how long another call is in progress."""
    document = {"status": "uploaded"}
    upload = Upload(up, NOW - timedelta(seconds=ago_s), document) if up else None
    return Entry(upload, None if busy_s is None else NOW + timedelta(seconds=busy_s), {}, "tag")


EVENT = Attempt.event(DROP)
THIRD = Attempt(DROP, 3, NOW).at(version(), NOW)
REPLAY = Attempt.replay(DROP)
OWN_REPLAY = Attempt.replay(DROP, version())
V, NEWER, OLDER = version(), version(1, "0x2", "b.png"), version(-1, "0x0", "b.png")
NOTHING = Recorded()
TOUCHED = version(100, "0x5", content=V.content)
OTHER = version(100, "0x5")


@pytest.mark.parametrize(
    ("attempt", "found", "known", "up", "action"),
    [
        (EVENT, V, NOTHING, entry(), Action.UPLOAD),
        (EVENT, V, recorded("uploaded", V), entry(), Action.IGNORE),
        (THIRD, V, recorded("failed", V), entry(), Action.IGNORE),
        (EVENT, V, recorded("retrying", V, waits_s=9), entry(), Action.IGNORE),
        (EVENT, V, recorded("retrying", V, waits_s=-9), entry(), Action.UPLOAD),
        (THIRD, V, recorded("retrying", V, attempts=2, waits_s=0.1), entry(), Action.UPLOAD),
        (THIRD, V, recorded("retrying", V, attempts=3, waits_s=9), entry(), Action.IGNORE),
        (EVENT, V, recorded("retrying", V, waits_s=1e9), entry(), Action.UPLOAD),
        (EVENT, V, recorded("uploaded", OLDER), entry(), Action.UPLOAD),
        (EVENT, V, NOTHING, entry(NEWER), Action.SUPERSEDED),
        (EVENT, V, NOTHING, entry(NEWER, ago_s=1), Action.SUPERSEDED),
        (EVENT, V, NOTHING, entry(NEWER, busy_s=9), Action.SUPERSEDED),
        (REPLAY, V, recorded("uploaded", V), entry(NEWER), Action.SUPERSEDED),
        (EVENT, V, NOTHING, entry(V), Action.REPEAT),
        (EVENT, V, NOTHING, entry(V, busy_s=9), Action.REPEAT),
        (THIRD, TOUCHED, recorded("retrying", V), entry(TOUCHED), Action.REPEAT),
        (EVENT, TOUCHED, recorded("uploaded", V), entry(V), Action.UPLOAD),
        (REPLAY, V, recorded("uploaded", V), entry(V), Action.UPLOAD),
        (OWN_REPLAY, V, recorded("uploaded", V), entry(V), Action.UPLOAD),
        (OWN_REPLAY, version(1, "0x7"), recorded("uploaded", V), entry(V), Action.IGNORE),
        (REPLAY, V, recorded("uploaded", V), entry(V, ago_s=1), Action.WAIT),
        (EVENT, V, NOTHING, entry(busy_s=9), Action.WAIT),
        (EVENT, V, NOTHING, entry(busy_s=-9), Action.UPLOAD),
        (EVENT, V, NOTHING, entry(OLDER, ago_s=4), Action.WAIT),
        (EVENT, V, NOTHING, entry(OLDER, ago_s=5), Action.UPLOAD),
        (EVENT, V, NOTHING, entry(OLDER, ago_s=-1e9), Action.UPLOAD),
        # Of two versions of one blob within a second, the one in storage is the later one, whatever their ETags.
        (EVENT, V, NOTHING, entry(version(0, "0x9")), Action.UPLOAD),
        (EVENT, V, NOTHING, entry(version(0, "0x0")), Action.UPLOAD),
        # Of two blobs within a second, the ETags decide.
        (EVENT, V, NOTHING, entry(version(0, "0x9", "b.png")), Action.SUPERSEDED),
        (EVENT, V, NOTHING, entry(version(0, "0x0", "b.png")), Action.UPLOAD),
    ],
)
def test_what_is_done_with_an_attempt(
    attempt: Attempt, found: Version, known: Recorded, up: Entry, action: Action
) -> None:
    """By the first row of the module's table that applies."""
    target = version_for(attempt, found, known)
    assert decide(attempt, target, known, up, now=NOW, spacing=SPACING).action is action


def test_a_version_that_storage_no_longer_has_is_ignored() -> None:
    """The later version of the same second has its own event."""
    up = entry(version(0, "0x9"))
    assert decide(EVENT, V, NOTHING, up, is_current=False, now=NOW, spacing=SPACING).action is Action.IGNORE


@pytest.mark.parametrize(
    ("attempt", "found", "known", "expected"),
    [
        (EVENT, V, NOTHING, V),
        (EVENT, TOUCHED, recorded("uploaded", V), TOUCHED),  # an event is a new drop, even with the same bytes
        (THIRD, TOUCHED, NOTHING, V),
        (THIRD, TOUCHED, recorded("retrying", V), V),
        (THIRD, OTHER, recorded("retrying", V), OTHER),
        (REPLAY, TOUCHED, recorded("uploaded", V), V),
        (REPLAY, OTHER, recorded("uploaded", V), OTHER),
        (OWN_REPLAY, TOUCHED, NOTHING, V),
        (
            Attempt(DROP, 2, NOW),
            TOUCHED,
            recorded("uploaded", V),
            TOUCHED,
        ),  # the version that the message is about could never be read
        (Attempt(DROP, 1, NOW, "0x1"), TOUCHED, recorded("retrying", V), V),  # the host's message, which has an ETag
        (replace(THIRD, last_modified=NOW), V, NOTHING, V),  # the same ETag with another date
        (replace(THIRD, content=""), TOUCHED, recorded("retrying", V), V),  # from an earlier release
        (replace(THIRD, content=""), TOUCHED, NOTHING, TOUCHED),
    ],
)
def test_a_blob_whose_metadata_was_set_is_the_same_drop_to_its_messages(
    attempt: Attempt, found: Version, known: Recorded, expected: Version
) -> None:
    """Setting metadata changes the ETag and the date without an event; the content decides."""
    target = version_for(attempt, found, known)
    assert (target, target.content) == (expected, expected.content)


def test_an_attempt_that_is_due_is_made() -> None:
    """A small clock skew keeps no drop from being uploaded; a duplicate is ignored."""
    waiting = recorded("retrying", V, attempts=2, waits_s=9)
    assert not is_settled(THIRD, waiting, NOW)
    assert is_settled(replace(THIRD, number=2), waiting, NOW)
    assert is_settled(replace(THIRD, number=9, etag="0x0"), waiting, NOW)


def test_uploads_to_an_itwin_are_spaced_out() -> None:
    """A burst costs one upload per pause, not one per drop."""
    up = entry(version(3599), ago_s=2)
    fresh = version(3599, "0x9")
    assert decide(EVENT, fresh, NOTHING, up, now=NOW, spacing=SPACING).wait_s == 3 + 1


def test_newer_drops_wait_less_than_older_ones() -> None:
    """So older drops find a newer one uploaded and need not be sent; none waits much longer than the others."""
    waits_s = [
        decide(EVENT, version(3600 - age_s), NOTHING, entry(busy_s=9), now=NOW, spacing=SPACING).wait_s
        for age_s in (0, 1, 20, 10**6, -5)
    ]
    assert waits_s == [5, 6, 25, 5 + 5 * MAX_RANK_DELAYS, 5]


def test_an_unsettled_upload_affects_all_other_versions() -> None:
    """Until the last of them is over; the same content uploaded late does no harm."""
    later = NOW + timedelta(seconds=9)
    unsettled = Entry(unsettled={V.content: later, NEWER.content: NOW})
    assert unsettled_until(V, unsettled) == NOW
    assert unsettled_until(version(9, "0x9", content=V.content), unsettled) == NOW
    assert unsettled_until(NEWER, unsettled) == later
    assert unsettled_until(V, Entry()) is None


DAMAGED = Recorded({"status": 7, "source": []})
SECOND = version(1, "0x0")


@pytest.mark.parametrize(
    ("old", "new", "replaced"),
    [
        (NOTHING, recorded("retrying", V), True),
        (NOTHING, recorded("rejected"), True),
        (DAMAGED, recorded("retrying", V), True),
        (recorded("retrying", V), recorded("retrying", V), True),
        (recorded("retrying", V), recorded("retrying"), False),
        (recorded("retrying"), recorded("retrying"), True),
        (recorded("retrying", V), recorded("uploaded", V), True),
        (recorded("retrying", V), recorded("rejected"), True),
        (recorded("uploaded", V), recorded("retrying", V), False),
        (recorded("uploaded", V), recorded("failed", V), False),
        (recorded("uploaded", V), recorded("rejected"), False),
        (recorded("uploaded", V), recorded("retrying"), False),
        (recorded("rejected", V), recorded("uploaded", V), True),
        (recorded("failed", V), recorded("uploaded", V), True),
        (recorded("uploaded", V), recorded("uploaded", V), False),
        (recorded("failed", V), recorded("rejected", V), False),
        (recorded("rejected"), recorded("retrying"), False),
        (recorded("rejected"), recorded("rejected"), True),
        (recorded("uploaded", SECOND), recorded("superseded", V), False),
        (recorded("retrying", SECOND), recorded("uploaded", V), False),
        (recorded("uploaded", V), recorded("retrying", SECOND), True),
        (recorded("uploaded", V), recorded("uploaded", SECOND), True),
    ],
)
def test_a_final_result_is_replaced_only_by_a_later_version(old: Recorded, new: Recorded, *, replaced: bool) -> None:
    """Neither `retrying` nor a late result of an older version replaces it; only an upload of the same version does."""
    assert replaces(new, old) is replaced


def test_a_replay_replaces_its_own_final_result() -> None:
    """An operator who replays a drop wants to see the outcome."""

    def replayed(old: Recorded, new: Recorded) -> bool:
        return replaces(new, old, is_replay=True)

    assert replayed(recorded("failed", V), recorded("uploaded", V))
    assert replayed(recorded("uploaded", V), recorded("uploaded", V))
    assert not replayed(recorded("failed", V), recorded("retrying", V))
    for worse in ("superseded", "rejected", "failed"):
        assert not replayed(recorded("uploaded", V), recorded(worse, V))
    assert not replayed(recorded("superseded", V), recorded("superseded", V))
    assert replayed(recorded("failed", V), recorded("superseded", V))
    assert not replayed(recorded("failed", V), recorded("rejected"))
    assert not replayed(recorded("failed", SECOND), recorded("uploaded", V))


@pytest.mark.parametrize("status", ["retrying", "uploaded"])
def test_of_two_versions_within_a_second_the_one_in_storage_has_the_result(status: str) -> None:
    """Dates are in whole seconds, and ETags have no order; the older version, which no longer exists, never returns."""
    for one, other in [("0x1", "0x9"), ("0x9", "0x1")]:
        old, new = recorded("uploaded", version(0, one)), recorded(status, version(0, other))
        assert replaces(new, old, is_current=True)
        assert not replaces(new, old, is_current=False)


POLICY = RetryPolicy()
LEAST, MOST = min, max  # the ends of the random range

policies = st.builds(
    RetryPolicy,
    min_delay_s=st.integers(1, 3600),
    max_delay_s=st.integers(1, 604_800),
    horizon_s=st.integers(1, 604_800),
)
errors = st.builds(
    lambda kind, retry_after_s, is_response: kind(
        "x",
        response=PlatformResponse(503, retry_after_s=retry_after_s) if is_response else None,
        retry_after_s=retry_after_s,
    ),
    st.sampled_from([PlatformUnavailable, PlatformThrottled, ITwinBusy, PlatformForbidden, CorruptImage]),
    st.none() | st.floats(0, 999_999_999),
    st.booleans(),
)


@given(errors, st.integers(1, 10**9), st.floats(0, 10**7), policies, st.integers())
def test_a_delay_never_exceeds_the_remaining_time(
    error: DropError, attempt: int, elapsed_s: float, policy: RetryPolicy, seed: int
) -> None:
    """Every attempt is scheduled at or before the horizon, and only errors that may pass are retried."""
    delay_s = retry_delay_s(error, attempt, elapsed_s, policy, random.Random(seed).uniform)  # noqa: S311
    if not isinstance(error, NeedsTime | NeedsOperator) or elapsed_s >= policy.horizon_s:
        assert delay_s is None
    else:
        assert delay_s is not None
        assert 0 <= delay_s <= policy.horizon_s - elapsed_s


@given(st.floats(0, 999_999_999), st.integers(1, 100), policies, st.integers())
def test_retry_after_is_respected(asked_s: float, attempt: int, policy: RetryPolicy, seed: int) -> None:
    """A retry never comes before Retry-After is over, at once because it is 0, or much later.

    RETRY_MAX_DELAY_S limits it, spread included: a peer that says a week is called again earlier.
    """
    throttled = PlatformThrottled("x", response=PlatformResponse(429, retry_after_s=asked_s))
    delay_s = retry_delay_s(throttled, attempt, 0, policy, random.Random(seed).uniform)  # noqa: S311
    assert delay_s is not None
    least_s = max(min(asked_s, policy.max_delay_s), policy.min_delay_s)
    assert min(least_s, policy.horizon_s) <= delay_s <= least_s * (1 + SPREAD)
    assert delay_s <= max(policy.max_delay_s, policy.min_delay_s)


@given(st.sampled_from([PlatformUnavailable, PlatformForbidden]), st.integers(1, 10_000), policies, st.integers())
def test_without_a_response_delays_grow_within_their_bounds(
    kind: type[DropError], attempt: int, policy: RetryPolicy, seed: int
) -> None:
    """Each delay is random between the shortest one and twice the previous one, up to the longest."""
    delay_s = retry_delay_s(kind("x"), attempt, 0, policy, random.Random(seed).uniform)  # noqa: S311
    assert delay_s is not None
    least_s = policy.min_delay_s * (OPERATOR_FACTOR if kind is PlatformForbidden else 1)
    most_s = min(least_s * 2 ** (attempt - 1), policy.max_delay_s)
    assert min(least_s, most_s, policy.horizon_s) <= delay_s <= most_s


def test_the_defaults_match_the_documentation() -> None:
    """From 5 seconds to an hour, for 24 hours; with an operator error, the first retry comes after a minute."""
    assert retry_delay_s(PlatformUnavailable("x"), 1, 0, POLICY, MOST) == 5
    assert retry_delay_s(PlatformUnavailable("x"), 2, 0, POLICY, MOST) == 10
    assert retry_delay_s(PlatformUnavailable("x"), 99, 0, POLICY, MOST) == 3600
    assert retry_delay_s(PlatformForbidden("x"), 1, 0, POLICY, LEAST) == 60
    assert retry_delay_s(PlatformUnavailable("x"), 99, 86_399, POLICY, MOST) == 1
    assert retry_delay_s(PlatformUnavailable("x"), 99, 86_400, POLICY, MOST) is None


def test_an_unknown_itwin_is_retried_for_minutes_and_not_for_a_day() -> None:
    """The iTwin may be new, or the app's role on it; retried with backoff like every error that time may fix."""
    assert retry_delay_s(ITwinNotFound("x"), 1, 0, POLICY, MOST) == 5
    assert retry_delay_s(ITwinNotFound("x"), 99, 899, POLICY, MOST) == 1
    assert retry_delay_s(ITwinNotFound("x"), 99, 900, POLICY, MOST) is None
    assert retry_delay_s(ITwinNotFound("x"), 1, 0, RetryPolicy(brief_horizon_s=0), MOST) is None
