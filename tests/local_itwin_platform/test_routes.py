"""The edges of the API: unknown paths, wrong methods, other versions."""

from __future__ import annotations

import uuid

import pytest
import requests

from local.itwin_platform import ScriptedResponse
from tests.deadlines import HANG_S
from tests.local_itwin_platform.client import Client, ask_token, error_of, picture


@pytest.mark.parametrize("path", ["/", "/itwins", "/itwins/x/y/z", "/itwins/x/image/", "/connect", "/_control/nothing"])
def test_an_unknown_path_is_not_found_in_the_apis_shape(client: Client, path: str) -> None:
    """404, never a redirect."""
    error = error_of(client.call("POST", path), 404)
    assert (error["code"], error["details"][0]["code"]) == ("ResourceNotFound", "OperationNotFound")


def test_a_wrong_method_is_refused_in_the_apis_shape(client: Client, itwin: str) -> None:
    """405 with the allowed methods."""
    answer = client.call("POST", f"/itwins/{itwin}/image", picture())
    assert error_of(answer, 405)["code"] == "MethodNotAllowed"
    assert set(answer.headers["allow"].split(", ")) >= {"GET", "PUT", "DELETE"}


def test_only_version_1_is_served(client: Client, itwin: str) -> None:
    """Another version in Accept matches no operation; no version, or any type, means version 1."""
    client.put(itwin, picture())
    expected = {"v1": 200, "v2": 404, "v10": 404}
    for version, status in expected.items():
        accept = {"accept": f"application/vnd.bentley.itwin-platform.{version}+json"}
        assert client.call("GET", f"/itwins/{itwin}/image", headers=accept).status_code == status
    assert client.call("GET", f"/itwins/{itwin}/image", headers={"accept": "application/json"}).status_code == 200


@pytest.mark.parametrize(("version", "status"), [("v1", 200), ("v2", 200), ("v3", 404)])
def test_access_control_is_served_as_version_2(client: Client, itwin: str, version: str, status: int) -> None:
    """Its own client requests that."""
    accept = {"accept": f"application/vnd.bentley.itwin-platform.{version}+json"}
    answer = client.call("GET", f"/accesscontrol/itwins/{itwin}/permissions", headers=accept)
    assert answer.status_code == status


def test_every_response_has_its_own_correlation_id(client: Client, itwin: str) -> None:
    """Successes, refusals, images, tokens, scripted responses and the control's."""
    link = client.put(itwin, picture()).json()["image"]["smallImageUrl"]
    client.platform.script([ScriptedResponse(status=503)])
    answers = [
        client.put(itwin, picture()),
        client.put(itwin, picture()),
        client.get(str(uuid.uuid4())),
        client.call("GET", "/nothing"),
        requests.get(link, timeout=HANG_S),
        ask_token(client),
        client.control("GET", "/requests"),
    ]
    assert len({uuid.UUID(answer.headers["x-correlation-id"]) for answer in answers}) == len(answers)
    assert client.platform.requests()[1].correlation_id == answers[0].headers["x-correlation-id"]
