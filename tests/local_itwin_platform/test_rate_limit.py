"""A client that calls too often is told when to come back."""

from __future__ import annotations

from tests.local_itwin_platform.client import Client, Clock, error_of, picture, sample


def test_a_client_that_calls_too_often_is_told_when_to_come_back(timed: tuple[Client, Clock]) -> None:
    """429 as documented, with retry-after in seconds; a retry then works, and other clients are not affected."""
    client, clock = timed
    itwin = client.platform.add_itwin()
    for _ in range(3):
        assert client.put(itwin, picture()).status_code == 201
        clock.now += 10
    refused = client.put(itwin, picture())
    assert error_of(refused, 429) == sample("429_too_many_requests")["error"]
    assert refused.headers["retry-after"] == "30"
    assert client.put(itwin, picture(), subject="another").status_code == 201
    clock.now += 29
    assert client.put(itwin, picture()).headers["retry-after"] == "1"
    clock.now += 1
    assert client.put(itwin, picture()).status_code == 201


def test_calls_per_hour_are_limited_too(timed: tuple[Client, Clock]) -> None:
    """It applies to slow callers as well."""
    client, clock = timed
    itwin = client.platform.add_itwin()
    for _ in range(5):
        assert client.put(itwin, picture()).status_code == 201
        clock.now += 100
    assert client.put(itwin, picture()).headers["retry-after"] == "3100"
    clock.now += 3100
    assert client.put(itwin, picture()).status_code == 201
