"""A client with a secret gets a token, as from any OAuth authority."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import requests

from local.itwin_platform import ITwinPlatform
from local.serving import serve
from tests.deadlines import HANG_S
from tests.local_itwin_platform.client import TOKEN_REQUEST, Client, ask_token, picture

BASIC = base64.b64encode(b"service-1:s3cr%3At+%26%25%C3%A4").decode()


@pytest.mark.parametrize("way", ["form", "basic"])
def test_a_client_gets_a_token_for_its_secret(client: Client, itwin: str, way: str) -> None:
    """The secret comes in the form or as HTTP Basic; the token is valid for an upload by that client."""
    if way == "form":
        answer = ask_token(client)
    else:
        answer = ask_token(client, {"authorization": f"Basic {BASIC}"}, client_id=None, client_secret=None)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    granted = answer.json()
    assert (granted["token_type"], granted["expires_in"], granted["scope"]) == ("Bearer", 3600, "itwin-platform")
    own = client.platform.add_itwin(permissions={"service-1": ["itwins_modify"]})
    headers = {"authorization": f"Bearer {granted['access_token']}", "content-type": "image/png"}
    for itwin_id in (itwin, own):
        assert client.call("PUT", f"/itwins/{itwin_id}/image", picture(), headers=headers).status_code == 201


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "invalid_request"),
        ({"scope": "itwins:read"}, 400, "invalid_scope"),
        ({"scope": None}, 400, "invalid_scope"),
        ({"padding": "x" * 100_000}, 400, "invalid_request"),
    ],
)
def test_a_bad_token_request_is_refused(client: Client, changes: dict[str, Any], status: int, code: str) -> None:
    """With the error JSON of OAuth 2.0, which differs from the API's."""
    answer = ask_token(client, **changes)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.json()["error_description"]
    assert "www-authenticate" not in answer.headers


def test_a_secret_can_be_replaced_while_clients_still_use_the_old_one() -> None:
    """As on the platform's own pages: a second secret is created, then the first is deleted; tokens stay valid."""
    platform = ITwinPlatform(clients={"service-1": "hush-1"})
    with serve(platform.app) as address:
        client = Client(platform, address)
        platform.set_secrets("service-1", "hush-1", "hush-2")
        old, new = ask_token(client, client_secret="hush-1"), ask_token(client, client_secret="hush-2")
        assert (old.status_code, new.status_code) == (200, 200)
        platform.set_secrets("service-1", "hush-2")
        assert ask_token(client, client_secret="hush-1").json()["error"] == "invalid_client"
        assert ask_token(client, client_secret="hush-2").status_code == 200


def test_a_client_must_authenticate_in_exactly_one_way(client: Client) -> None:
    """Two ways at once, a wrong secret in the header, and a malformed header are refused."""
    both = ask_token(client, {"authorization": f"Basic {BASIC}"})
    assert (both.status_code, both.json()["error"]) == (400, "invalid_request")
    wrong = base64.b64encode(b"service-1:wrong").decode()
    refused = ask_token(client, {"authorization": f"Basic {wrong}"}, client_secret=None)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic")
    for header in ("Basic ###", "Bearer abc", "Basic /w==", "Basic ä"):
        answer = ask_token(client, {"authorization": header}, client_secret=None)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_token_request_must_be_a_form_without_duplicates(client: Client) -> None:
    """JSON is refused, and so is a parameter given twice."""
    url = f"{client.address}/connect/token"
    assert requests.post(url, json=TOKEN_REQUEST, timeout=HANG_S).json()["error"] == "invalid_request"
    twice = [*TOKEN_REQUEST.items(), ("scope", "itwin-platform")]
    assert requests.post(url, data=twice, timeout=HANG_S).json()["error"] == "invalid_request"
    assert requests.get(url, timeout=HANG_S).status_code == 405
