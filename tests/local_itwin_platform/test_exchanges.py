"""What came is logged without secrets, and scripts answer before the platform does."""

from __future__ import annotations

import hashlib
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from local.itwin_platform import ScriptedResponse
from local.processes import wait_until
from tests.deadlines import HANG_S
from tests.local_itwin_platform.client import AUDIENCE, IDENTITY, Client, ask_token, noise, picture


def test_the_log_records_requests_without_secrets(client: Client, itwin: str) -> None:
    """Time, method, path, status, size, digest, type, and whether there was a token; neither tokens nor signatures."""
    began = time.time()
    link = client.put(itwin, picture()).json()["image"]["largeImageUrl"]
    requests.get(link, timeout=HANG_S)
    put, get = client.platform.requests()
    assert (put.method, put.path, put.status) == ("PUT", f"/itwins/{itwin}/image", 201)
    assert (put.body_bytes, put.media_type, put.bearer) == (len(picture()), "image/png", True)
    assert put.body_sha256 == hashlib.sha256(picture()).hexdigest()
    assert began <= put.time.timestamp() <= get.time.timestamp() <= time.time()
    assert (get.method, get.status, get.media_type, get.bearer) == ("GET", 200, None, False)
    shown = client.control("GET", "/requests").text
    assert parse_qs(urlsplit(link).query)["sig"][0] not in shown
    assert "eyJ" not in shown


def test_scripted_responses_are_sent_in_order_and_then_the_platforms_own(client: Client, itwin: str) -> None:
    """Each as often as it says, to matching requests, byte for byte."""
    answers = [
        ScriptedResponse(status=429, headers={"retry-after": "2"}, times=2),
        ScriptedResponse(status=502, headers={"content-type": "text/html"}, body=b"<html>Bad Gateway</html>"),
        ScriptedResponse(status=201, body=b'{"image": {"id"'),
        ScriptedResponse(status=201),
        ScriptedResponse(status=302, headers={"location": "https://elsewhere.example/"}),
    ]
    client.platform.script(answers)
    got = [client.put(itwin, picture()) for _ in range(7)]
    assert [answer.status_code for answer in got] == [429, 429, 502, 201, 201, 302, 201]
    assert got[0].headers["retry-after"] == "2"
    assert (got[2].content, got[2].headers["content-type"]) == (b"<html>Bad Gateway</html>", "text/html")
    assert [got[3].content, got[4].content] == [b'{"image": {"id"', b""]
    assert got[5].headers["location"] == "https://elsewhere.example/"
    assert got[6].json()["image"]
    assert client.platform.remaining_script() == []
    assert [request.status for request in client.platform.requests()] == [answer.status_code for answer in got]


def test_a_script_applies_only_to_matching_requests(client: Client, itwin: str) -> None:
    """Method and path are patterns; the platform itself responds to all others."""
    client.platform.script([ScriptedResponse(status=500, method="*", path="/connect/*")])
    assert client.put(itwin, picture()).status_code == 201
    assert ask_token(client).status_code == 500
    assert ask_token(client).status_code == 200


def test_a_scripted_response_needs_no_token(client: Client, itwin: str) -> None:
    """A gateway fails before the request is evaluated, but receives all of it."""
    client.platform.script([ScriptedResponse(status=503)])
    url = f"{client.address}/itwins/{itwin}/image"
    assert requests.put(url, data=bytes(3_000_000), timeout=HANG_S).status_code == 503
    assert client.platform.requests()[-1].body_bytes == 3_000_000


@pytest.mark.parametrize("body", [b"", b'{"image": {"id": "0123456789"}}'])
def test_a_scripted_reset_breaks_the_connection(client: Client, itwin: str, body: bytes) -> None:
    """Before the response, or in the middle of it; the next request is served."""
    client.platform.script([ScriptedResponse(status=201, body=body, reset=True)])
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.put(itwin, picture())
    assert client.platform.image(itwin) is None
    assert client.put(itwin, picture()).status_code == 201


def test_a_response_can_be_lost_after_the_image_was_stored(client: Client, itwin: str) -> None:
    """The image is there, but the client does not learn it."""
    client.platform.script([ScriptedResponse(reset=True)])
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.put(itwin, picture())
    assert client.platform.image(itwin) == (picture(), "image/png")
    assert client.platform.requests()[-1].status == 201


def test_a_response_can_be_late(client: Client, itwin: str) -> None:
    """A scripted one or the platform's own."""
    client.platform.script([ScriptedResponse(status=500, delay_s=0.2), ScriptedResponse(delay_s=0.2)])
    for status in (500, 201):
        answer = client.put(itwin, picture())
        assert answer.status_code == status
        assert answer.elapsed.total_seconds() >= 0.2


def test_an_upload_can_be_applied_late(client: Client, itwin: str) -> None:
    """Long after its client has stopped waiting, however large the image is, and over newer images."""
    late_s = max(1.0, 20 * client.put(itwin, picture()).elapsed.total_seconds())
    client.platform.script([ScriptedResponse(late_s=late_s)])
    token = IDENTITY.issue(subject="app", audience=AUDIENCE)
    headers = {"authorization": f"Bearer {token}", "content-type": "image/png"}
    with pytest.raises(requests.Timeout):
        requests.put(f"{client.address}/itwins/{itwin}/image", data=noise(), headers=headers, timeout=late_s / 2)
    assert client.platform.image(itwin) == (picture(), "image/png")
    assert client.put(itwin, picture(colour="red")).status_code == 201
    assert wait_until(lambda: client.platform.image(itwin) == (noise(), "image/png"), timeout_s=HANG_S)
    assert [request.status for request in client.platform.requests()] == [201, 201, 201]


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"status": 100},
            {"status": 600},
            {"times": 0},
            {"delay_s": -1},
            {"late_s": -1},
            {"status": 201, "late_s": 1},
        ),
        *({"headers": {name: "x"}} for name in ("", "a b", "a:b", "ä", "a\n")),
        *({"headers": {"a": value}} for value in (" y ", "y\t", "\n", "ä", 1)),
        *({"status": status, "body": b"x"} for status in (204, 304)),
    ],
)
def test_an_impossible_script_is_refused(wrong: dict[str, Any]) -> None:
    """When it is written, not when it would be used."""
    with pytest.raises(ValueError, match="scripted response"):
        ScriptedResponse(**wrong)


@pytest.mark.parametrize("status", [204, 304])
def test_every_valid_header_and_body_is_sent_as_scripted(client: Client, itwin: str, status: int) -> None:
    """Every character that a header's name may have, a value with spaces and an empty one, no content."""
    headers = {"x!#$%&'*+-.^_`|~7": "a: b, c", "x-empty": ""}
    client.platform.script([ScriptedResponse(status, headers)])
    answer = client.put(itwin, picture())
    assert (answer.status_code, answer.content) == (status, b"")
    assert headers.items() <= dict(answer.headers.lower_items()).items()
