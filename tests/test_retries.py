"""When a drop is tried again, and the message that does it."""

from __future__ import annotations

import json
import math
import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.storage.queue import QueueClient, TextBase64DecodePolicy, TextBase64EncodePolicy
from hypothesis import given
from hypothesis import strategies as st

from local.processes import wait_until
from shared.drop import Drop
from shared.errors import (
    CorruptImage,
    DropError,
    ITwinBusy,
    NeedsOperator,
    NeedsTime,
    PlatformForbidden,
    PlatformResponse,
    PlatformThrottled,
    PlatformUnavailable,
)
from shared.retries import OPERATOR_FACTOR, SPREAD, Attempt, RetryPolicy, RetryQueue, retry_delay_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.storage.queue import QueueMessage

    from local.azurite import Azurite

DROP = Drop("b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a", "site/größe 1.jpg")
POLICY = RetryPolicy()
LEAST, MOST = min, max  # the ends of what is drawn

policies = st.builds(
    RetryPolicy,
    min_delay_s=st.integers(1, 3600),
    max_delay_s=st.integers(1, 604_800),
    horizon_s=st.integers(1, 604_800),
)
errors = st.builds(
    lambda kind, retry_after_s, is_answer: kind(
        "x",
        response=PlatformResponse(503, retry_after_s=retry_after_s) if is_answer else None,
        retry_after_s=retry_after_s,
    ),
    st.sampled_from([PlatformUnavailable, PlatformThrottled, ITwinBusy, PlatformForbidden, CorruptImage]),
    st.none() | st.floats(0, 999_999_999),
    st.booleans(),
)


@given(errors, st.integers(1, 10**9), st.floats(0, 10**7), policies, st.integers())
def test_a_delay_is_never_longer_than_what_is_left(
    error: DropError, attempt: int, elapsed_s: float, policy: RetryPolicy, seed: int
) -> None:
    """Whatever happened, there is a try before or at the horizon, or there is none; only what may pass is tried."""
    delay_s = retry_delay_s(error, attempt, elapsed_s, policy, random.Random(seed).uniform)  # noqa: S311
    if not isinstance(error, NeedsTime | NeedsOperator) or elapsed_s >= policy.horizon_s:
        assert delay_s is None
    else:
        assert delay_s is not None
        assert 0 <= delay_s <= policy.horizon_s - elapsed_s


@given(st.floats(0, 999_999_999), st.integers(1, 100), policies, st.integers())
def test_what_the_platform_asks_for_is_kept(asked_s: float, attempt: int, policy: RetryPolicy, seed: int) -> None:
    """Nobody comes back before Retry-After is over, nor hurries because it is 0, nor waits much longer."""
    throttled = PlatformThrottled("x", response=PlatformResponse(429, retry_after_s=asked_s))
    delay_s = retry_delay_s(throttled, attempt, 0, policy, random.Random(seed).uniform)  # noqa: S311
    assert delay_s is not None
    least_s = max(asked_s, policy.min_delay_s)
    assert min(least_s, policy.horizon_s) <= delay_s <= least_s * (1 + SPREAD)


@given(st.sampled_from([PlatformUnavailable, PlatformForbidden]), st.integers(1, 10_000), policies, st.integers())
def test_without_an_answer_delays_grow_within_their_bounds(
    kind: type[DropError], attempt: int, policy: RetryPolicy, seed: int
) -> None:
    """Each is drawn between the shortest and twice as much as the one before, up to the longest."""
    delay_s = retry_delay_s(kind("x"), attempt, 0, policy, random.Random(seed).uniform)  # noqa: S311
    assert delay_s is not None
    least_s = policy.min_delay_s * (OPERATOR_FACTOR if kind is PlatformForbidden else 1)
    most_s = min(least_s * 2 ** (attempt - 1), policy.max_delay_s)
    assert min(least_s, most_s, policy.horizon_s) <= delay_s <= most_s


def test_the_defaults_are_what_the_documents_say() -> None:
    """From 5 seconds to an hour, for 24 hours; an operator has a minute before the first try."""
    assert retry_delay_s(PlatformUnavailable("x"), 1, 0, POLICY, MOST) == 5
    assert retry_delay_s(PlatformUnavailable("x"), 2, 0, POLICY, MOST) == 10
    assert retry_delay_s(PlatformUnavailable("x"), 99, 0, POLICY, MOST) == 3600
    assert retry_delay_s(PlatformForbidden("x"), 1, 0, POLICY, LEAST) == 60
    assert retry_delay_s(PlatformUnavailable("x"), 99, 86_399, POLICY, MOST) == 1
    assert retry_delay_s(PlatformUnavailable("x"), 99, 86_400, POLICY, MOST) is None


attempts = st.builds(
    Attempt,
    drop=st.builds(
        Drop,
        st.from_regex(r"[a-z0-9]{3,63}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=1024),
    ),
    number=st.integers(0, 10**6),
    first_at=st.integers(0, 1_700_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    etag=st.none() | st.text(),
    last_modified=st.none() | st.datetimes(timezones=st.just(UTC)),
    again=st.booleans(),
)


@given(attempts)
def test_a_message_makes_the_next_attempt(attempt: Attempt) -> None:
    """All that is known of a drop goes along, in what one queue message holds."""
    message = attempt.message()
    assert Attempt.from_message(message) == replace(attempt, number=attempt.number + 1)
    assert len(message) * 4 / 3 < 48 * 1024


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
GOOD = json.loads(Attempt(DROP, 1, datetime(2026, 1, 1, tzinfo=UTC), "0x1").message())


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_message_is_a_value_error(body: bytes) -> None:
    """Whoever put it there, and whatever it is."""
    with pytest.raises(ValueError, match="Not a message"):
        Attempt.from_message(body)


@given(st.sampled_from(["drop", "number", "first_at", "etag", "last_modified", "again"]), json_values)
def test_a_message_with_one_wrong_field_is_read_safely_or_refused(name: str, value: object) -> None:
    """What comes of it is an attempt like any other, or a ValueError."""
    try:
        attempt = Attempt.from_message(json.dumps({**GOOD, name: value}))
    except ValueError:
        return
    assert type(attempt.number) is int
    assert attempt.number >= 1
    assert attempt.first_at <= datetime.now(UTC)
    assert isinstance(attempt.etag, str | None)
    assert Attempt.from_message(attempt.message()).drop == attempt.drop


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0},
        {"number": True},
        {"number": 1.5},
        {"number": math.inf},
        {"number": "1"},
        {"first_at": "2026-01-01T00:00:00"},
        {"first_at": "now"},
        {"first_at": 0},
        {"last_modified": "2026-01-01T00:00:00"},
        {"last_modified": "9999-12-31T23:59:59-12:00"},
        {"last_modified": 0},
        {"etag": ["0x1"]},
        {"drop": {"container": "UPPER", "blob": "a"}},
        {"drop": {"container": "abc", "blob": ""}},
        {"drop": {"container": "abc"}},
    ],
    ids=str,
)
def test_a_message_is_read_strictly(wrong: dict[str, object]) -> None:
    """What an attempt cannot have is refused, so that it fails here and not in the middle of things."""
    with pytest.raises(ValueError, match="Not a message"):
        Attempt.from_message(json.dumps({**GOOD, **wrong}))


def test_a_first_attempt_to_come_was_now() -> None:
    """Else the horizon would never be reached, and the drop tried for ever."""
    attempt = Attempt.from_message(json.dumps({**GOOD, "first_at": "9999-12-31T23:59:59+00:00"}))
    assert datetime.now(UTC) - attempt.first_at < timedelta(minutes=1)


def test_a_message_of_an_earlier_release_is_understood() -> None:
    """Messages survive deployments."""
    old = {name: GOOD[name] for name in ("drop", "number", "first_at", "etag")}
    assert Attempt.from_message(json.dumps(old)) == Attempt.from_message(json.dumps(GOOD))


@pytest.fixture
def queue(azurite: Azurite) -> Iterator[QueueClient]:
    """Make a queue of its own for a test."""
    with QueueClient.from_connection_string(
        azurite.connection_string,
        f"retries-{uuid.uuid4()}",
        message_encode_policy=TextBase64EncodePolicy(),
        message_decode_policy=TextBase64DecodePolicy(),
    ) as client:
        client.create_queue()
        yield client
        client.delete_queue()


def test_a_postponed_drop_comes_when_its_time_has_come_and_never_expires(queue: QueueClient) -> None:
    """The largest drop there may be fits in, and nobody sees it before."""
    attempt = Attempt.first(Drop(DROP.container, "\U0001f3d7" * 512), "0x1")
    due = RetryQueue(queue).postpone(attempt, 59.2)
    assert timedelta(seconds=59) < due - datetime.now(UTC) <= timedelta(seconds=60)
    assert list(queue.receive_messages()) == []
    RetryQueue(queue).postpone(attempt, 0)
    found: list[QueueMessage] = []

    def has_come() -> bool:
        found.extend(queue.receive_messages())
        return bool(found)

    assert wait_until(has_come, timeout_s=10)
    assert Attempt.from_message(found[0].content) == replace(attempt, number=2)
    assert found[0].expires_on
    assert found[0].expires_on.year > datetime.now(UTC).year + 10
