"""The links to images end after an hour, and nobody changes them."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import requests

from tests.deadlines import HANG_S
from tests.local_itwin_platform.client import Client, Clock, picture


def test_a_link_expires_after_an_hour_and_not_before(timed: tuple[Client, Clock]) -> None:
    """403 with Azure Storage's own error; a new link is valid again."""
    client, clock = timed
    clock.now += 0.5
    itwin = client.platform.add_itwin()
    image = client.put(itwin, picture()).json()["image"]
    for size in ("small", "large"):
        clock.now += 1800
        assert requests.get(image[f"{size}ImageUrl"], timeout=HANG_S).status_code == 200
    clock.now += 1
    for size in ("small", "large"):
        expired = requests.get(image[f"{size}ImageUrl"], timeout=HANG_S)
        assert (expired.status_code, expired.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    renewed = client.get(itwin).json()["image"]["smallImageUrl"]
    assert requests.get(renewed, timeout=HANG_S).status_code == 200


def test_a_manipulated_link_is_refused(client: Client, itwin: str) -> None:
    """Nothing in it can be changed, left out or used for another image."""
    image = client.put(itwin, picture()).json()["image"]
    small, large = (urlsplit(image[f"{size}ImageUrl"]) for size in ("small", "large"))
    fields = {name: values[0] for name, values in parse_qs(small.query).items()}
    touched = [{**fields, name: f"{value}0"} for name, value in fields.items()]
    touched += [{name: value for name, value in fields.items() if name != missing} for missing in fields]
    for query in touched:
        answer = requests.get(small._replace(query="").geturl(), params=query, timeout=HANG_S)
        assert answer.status_code == 403
    assert requests.get(large._replace(query=small.query).geturl(), timeout=HANG_S).status_code == 403
