"""The message that makes the next attempt, and the queue that holds it."""

from __future__ import annotations

import json
import math
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.storage.queue import QueueClient, TextBase64DecodePolicy, TextBase64EncodePolicy
from hypothesis import given
from hypothesis import strategies as st

from local.processes import wait_until
from shared.attempt import MAX_COUNT, Attempt
from shared.clock import utc_now
from shared.drop import Drop
from shared.errors import ITwinNotFound, PlatformThrottled
from shared.retries import RetryQueue
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.storage.queue import QueueMessage

    from local.azurite import Azurite

DROP = Drop("b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a", "site/größe 1.jpg")

attempts = st.builds(
    Attempt,
    drop=st.builds(
        Drop,
        st.from_regex(r"[a-z0-9]{3,63}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=1024),
    ),
    number=st.integers(0, MAX_COUNT - 1),
    first_at=st.integers(0, 1_700_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    etag=st.none() | st.text(),
    last_modified=st.none() | st.datetimes(timezones=st.just(UTC)),
    content=st.text(),
    is_replay=st.booleans(),
    brief_since=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(attempts)
def test_a_message_contains_everything_for_the_next_attempt(attempt: Attempt) -> None:
    """And fits into one queue message."""
    message = attempt.message()
    assert Attempt.from_message(message) == replace(attempt, number=attempt.number + 1)
    assert len(message) * 4 / 3 < 48 * 1024


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
GOOD = json.loads(Attempt(DROP, 1, datetime(2026, 1, 1, tzinfo=UTC), "0x1").message())


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_an_unknown_message_is_a_value_error(body: bytes) -> None:
    """Whoever put it there, and whatever it is."""
    with pytest.raises(ValueError, match="Not a message"):
        Attempt.from_message(body)


@given(
    st.sampled_from(["drop", "number", "first_at", "etag", "last_modified", "content", "replay", "brief_since"]),
    json_values,
)
def test_a_message_with_one_wrong_field_is_read_safely_or_refused(name: str, value: object) -> None:
    """It yields a valid attempt or a ValueError."""
    try:
        attempt = Attempt.from_message(json.dumps({**GOOD, name: value}))
    except ValueError:
        return
    assert type(attempt.number) is int
    assert attempt.number >= 1
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
        {"number": 10**4299},
        {"poisoned": 10**4299},
        {"poisoned": -1},
        {"first_at": "2026-01-01T00:00:00"},
        {"first_at": "now"},
        {"first_at": 0},
        {"last_modified": "2026-01-01T00:00:00"},
        {"last_modified": "9999-12-31T23:59:59-12:00"},
        {"last_modified": 0},
        {"brief_since": 0},
        {"etag": ["0x1"]},
        {"content": 7},
        {"drop": {"container": "UPPER", "blob": "a"}},
        {"drop": {"container": "abc", "blob": ""}},
        {"drop": {"container": "abc"}},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_message_is_parsed_strictly(wrong: dict[str, object]) -> None:
    """A value that no attempt can have is refused here instead of failing later."""
    with pytest.raises(ValueError, match="Not a message"):
        Attempt.from_message(json.dumps({**GOOD, **wrong}))


def test_a_first_attempt_in_the_future_counts_as_now() -> None:
    """Otherwise the horizon would never be reached, and the drop would be retried forever."""
    late = "9999-12-31T23:59:59+00:00"
    attempt = Attempt.from_message(json.dumps({**GOOD, "first_at": late, "brief_since": late}))
    now = utc_now()
    assert attempt.begun_by(now).first_at == now
    assert attempt.begun_by(now).tried_since(ITwinNotFound("x")) == now


def test_a_short_horizon_begins_with_the_first_such_error() -> None:
    """A drop that waited for an hour has not been refused for an hour; a message cannot postpone the end."""
    began, refused, again = (datetime(2026, 11, 27, hour, tzinfo=UTC) for hour in (12, 13, 14))
    waited = Attempt(DROP, 9, began).met(PlatformThrottled("x"), again)
    found_missing = waited.met(ITwinNotFound("x"), refused).met(ITwinNotFound("x"), again)
    assert found_missing.tried_since(ITwinNotFound("x")) == refused
    assert found_missing.tried_since(PlatformThrottled("x")) == began
    assert replace(found_missing, brief_since=began - timedelta(days=9)).tried_since(ITwinNotFound("x")) == began


def test_a_message_of_an_earlier_release_is_understood() -> None:
    """Messages survive deployments."""
    old = {name: GOOD[name] for name in ("drop", "number", "first_at", "etag")}
    assert Attempt.from_message(json.dumps(old)) == Attempt.from_message(json.dumps(GOOD))
    assert Attempt.from_message(json.dumps({**old, "again": True})).is_replay


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


def test_a_postponed_drop_becomes_visible_when_it_is_due_and_never_expires(queue: QueueClient) -> None:
    """The largest possible drop fits into a message."""
    attempt = Attempt(Drop(DROP.container, "\U0001f3d7" * 512), 1, utc_now(), "0x1")
    due = RetryQueue(lambda: queue, utc_now).postpone(attempt, 59.2)
    assert timedelta(seconds=59) < due - datetime.now(UTC) <= timedelta(seconds=60)
    assert list(queue.receive_messages()) == []
    RetryQueue(lambda: queue, utc_now).postpone(attempt, 0)
    found: list[QueueMessage] = []

    def has_come() -> bool:
        found.extend(queue.receive_messages())
        return bool(found)

    assert wait_until(has_come, timeout_s=HANG_S)
    assert Attempt.from_message(found[0].content) == replace(attempt, number=2)
    assert found[0].expires_on
    assert found[0].expires_on.year > datetime.now(UTC).year + 10
