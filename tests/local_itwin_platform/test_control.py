"""Tests and people steer the stand-in over HTTP, and no web page does."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
import requests

from local.itwin_platform import ITwinPlatform, ScriptedResponse
from tests.deadlines import HANG_S
from tests.local_itwin_platform.client import Client, Clock, create, error_of, picture


def test_itwins_are_created_and_images_read_over_http(client: Client) -> None:
    """PUT is idempotent and keeps the image; its bytes come back unchanged."""
    itwin = str(uuid.uuid4())
    assert client.control("PUT", f"/itwins/{itwin.upper()}", {"displayName": "Site 1"}).status_code == 201
    assert client.control("GET", f"/itwins/{itwin}/image").status_code == 404
    assert client.put(itwin, picture("JPEG"), "image/jpeg").status_code == 201
    again = client.control("PUT", f"/itwins/{itwin}", {"permissions": {"editor": ["itwins_modify"]}})
    assert (again.status_code, again.json()) == (200, {"iTwin": {"id": itwin}})
    image = client.control("GET", f"/itwins/{itwin}/image")
    assert (image.content, image.headers["content-type"]) == (picture("JPEG"), "image/jpeg")
    (listed,) = client.control("GET", "/itwins").json()["iTwins"]
    assert (listed["id"], listed["image"]["bytes"]) == (itwin, len(picture("JPEG")))
    assert listed["permissions"] == {"editor": ["itwins_modify"]}
    assert client.put(itwin, picture()).status_code == 404
    assert [known.id for known in client.platform.itwins()] == [itwin]


def test_omitted_properties_of_an_itwin_stay(client: Client) -> None:
    """Putting an existing iTwin, to make sure that it exists, removes nothing."""
    made = create(client, **{"class": "Endeavor", "subClass": "Project"}).json()["iTwin"]
    client.put(made["id"], picture())
    assert client.control("PUT", f"/itwins/{made['id'].upper()}", {}).status_code == 200
    known = client.call("GET", f"/itwins/{made['id']}").json()["iTwin"]
    assert {**known, "image": None, "imageName": None} == made
    assert client.put(made["id"], picture(), subject="stranger").status_code == 404
    assert client.control("PUT", f"/itwins/{made['id']}", {"permissions": None}).status_code == 200
    assert client.put(made["id"], picture(), subject="stranger").status_code == 201


def test_an_itwin_can_be_put_without_a_body(client: Client) -> None:
    """As `curl -X PUT` does."""
    itwin = uuid.uuid4()
    made = requests.put(f"{client.address}/_control/itwins/{itwin}", timeout=HANG_S)
    assert (made.status_code, made.json()) == (201, {"iTwin": {"id": str(itwin)}})


def test_requests_and_scripts_are_read_set_and_cleared_over_http(client: Client, itwin: str) -> None:
    """The log without the control's own requests; bodies of scripted responses as text, JSON or Base64."""
    answers = [
        {"status": 502, "body": "<html>"},
        {"status": 422, "body": {"error": {"code": "X"}}},
        {"status": 201, "body_base64": "/w=="},
        {"status": 500, "times": 2},
    ]
    assert client.control("PUT", "/script", {"responses": answers}).status_code == 204
    got = [client.put(itwin, picture()).content for _ in range(3)]
    assert got == [b"<html>", b'{"error": {"code": "X"}}', b"\xff"]
    (left,) = client.control("GET", "/script").json()["responses"]
    assert (left["status"], left["times"]) == (500, 2)
    assert client.control("PUT", "/script", {"responses": [left]}).status_code == 204
    assert client.control("DELETE", "/script").status_code == 204
    assert client.put(itwin, picture()).status_code == 201
    logged = client.control("GET", "/requests").json()["requests"]
    assert [request["status"] for request in logged] == [502, 422, 201, 201]
    assert client.control("DELETE", "/requests").status_code == 204
    assert client.control("GET", "/requests").json() == {"requests": []}


def test_reset_restores_the_initial_state(timed: tuple[Client, Clock]) -> None:
    """No iTwins, no requests, no script, no throttled client."""
    client, _ = timed
    client.platform.script([ScriptedResponse(status=500)])
    itwin = client.platform.add_itwin()
    while client.get(itwin).status_code != 429:
        pass
    assert client.control("POST", "/reset").status_code == 204
    assert (client.platform.itwins(), client.platform.requests(), client.platform.remaining_script()) == ([], [], [])
    assert client.get(itwin).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/itwins/not-a-guid", {}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", []),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"permissions": ["itwins_modify"]}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"permissions": {"app": "itwins_modify"}}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"displayName": 7}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"organization": None}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"displayname": "Site"}),
        ("/script", {}),
        ("/script", {"responses": {}}),
        ("/script", {"responses": ["500"]}),
        ("/script", {"responses": [{"status": 99}]}),
        ("/script", {"responses": [{"status": "500"}]}),
        ("/script", {"responses": [{"code": 500}]}),
        ("/script", {"responses": [{"status": 200, "body_base64": "#"}]}),
        ("/script", {"responses": [{"status": 200, "body_base64": 7}]}),
        ("/script", {"responses": [{"status": 200, "headers": ["a"]}]}),
        ("/script", {"responses": [{"status": 200, "headers": {"a": 1}}]}),
        ("/script", {"responses": [{"status": 200, "headers": {"a": "b\r\nc: d"}}]}),
        ("/script", {"responses": [{"status": 200, "method": None}]}),
        ("/script", {"responses": [{"status": 200, "delay_s": "1"}]}),
    ],
)
def test_a_bad_control_request_is_refused_and_changes_nothing(client: Client, path: str, body: Any) -> None:
    """422, with what is wrong."""
    assert error_of(client.control("PUT", path, body), 422)["message"]
    assert (client.platform.itwins(), client.platform.remaining_script()) == ([], [])


@pytest.mark.parametrize(("host", "status"), [("203.0.113.9", 403), ("127.0.0.1", 200), ("::1", 200)])
def test_the_control_serves_only_this_machine(host: str, status: int) -> None:
    """Wherever the application is served."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    path = "/_control/itwins"
    headers = [(b"host", b"localhost:8080")]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": headers, "client": (host, 1)}
    asyncio.run(ITwinPlatform().app({**scope, "query_string": b"", "http_version": "1.1"}, receive, send))  # type: ignore[arg-type]  # plain dictionaries are messages
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"host": "localhost"}, 204),
        ({"host": "localhost:8080", "origin": "http://localhost:8080"}, 204),
        ({"host": "[::1]:8080"}, 204),
        ({"host": "rebound.example"}, 403),
        ({"host": "127.0.0.1.rebound.example:8080"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": ""}, 403),
        ({"origin": "https://any.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "rebound.example", "origin": "http://rebound.example"}, 403),
    ],
)
def test_no_web_page_can_use_the_control(client: Client, itwin: str, headers: dict[str, str], status: int) -> None:
    """Neither by a DNS name that resolves to loopback, nor from another origin."""
    answer = requests.post(f"{client.address}/_control/reset", headers=headers, timeout=HANG_S)
    assert answer.status_code == status
    assert (itwin in [known.id for known in client.platform.itwins()]) is (status == 403)
