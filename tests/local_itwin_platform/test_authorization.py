"""Who may do what, and what a token must be."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import jwt
import pytest
import requests

from local.tokens import TokenIssuer
from tests.deadlines import HANG_S
from tests.local_itwin_platform.client import (
    ADMINISTRATOR,
    AUDIENCE,
    IDENTITY,
    OTHER_IDENTITY,
    Client,
    error_of,
    picture,
    sample,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.itwin_platform import ITwinPlatform


def forged(subject: str = "app") -> str:
    """Make a token that says it is of the identity provider, signed with another key."""
    return TokenIssuer(IDENTITY.issuer).issue(subject=subject, audience=AUDIENCE)


BAD_AUTHORIZATION: dict[str, Callable[[ITwinPlatform], str]] = {
    "another scheme": lambda _: "Basic YXBwOnNlY3JldA==",
    "no token": lambda _: "Bearer",
    "a token alone": lambda _: IDENTITY.issue(subject="app", audience=AUDIENCE),
    "not a token": lambda _: "Bearer abc",
    "three parts of nothing": lambda _: "Bearer a.b.c",
    "wrong issuer": lambda _: (
        "Bearer " + OTHER_IDENTITY.issue(subject="app", audience=AUDIENCE, scope="itwin-platform")
    ),
    "wrong key": lambda _: "Bearer " + forged(),
    "unsigned": lambda _: "Bearer " + jwt.encode({"iss": IDENTITY.issuer, "sub": "app"}, "", algorithm="none"),
    "expired": lambda _: "Bearer " + IDENTITY.issue(subject="app", audience=AUDIENCE, lifetime_s=-60),
    "wrong audience": lambda _: "Bearer " + IDENTITY.issue(subject="app", audience="https://storage.azure.com"),
    "own expired": lambda platform: "Bearer " + platform.token("app", lifetime_s=-60),
    "own without scope": lambda platform: "Bearer " + platform.token("app", scope=None),
    "own with another scope": lambda platform: "Bearer " + platform.token("app", scope="openid itwin-platform-x"),
}


def test_a_request_without_a_token_is_refused_as_documented(client: Client, itwin: str) -> None:
    """401 HeaderNotFound."""
    answer = requests.put(f"{client.address}/itwins/{itwin}/image", data=picture(), timeout=HANG_S)
    assert error_of(answer, 401) == sample("401_header_not_found")["error"]


@pytest.mark.parametrize("name", BAD_AUTHORIZATION)
def test_a_bad_token_is_refused(client: Client, itwin: str, name: str) -> None:
    """401 for every invalid token, even if the iTwin is unknown."""
    headers = {"authorization": BAD_AUTHORIZATION[name](client.platform)}
    for path in (f"/itwins/{itwin}/image", f"/itwins/{uuid.uuid4()}/image"):
        error = error_of(client.call("PUT", path, picture(), headers=headers), 401)
        assert error["code"] in {"InvalidHeader", "InvalidToken"}
        assert error["message"].endswith("Access denied.")
    assert client.platform.image(itwin) is None


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_changing_an_image_needs_itwins_modify(client: Client, method: str) -> None:
    """A member without it is refused; a non-member does not see the iTwin at all."""
    permissions = {"editor": ["itwins_modify"], "reader": ["imodels_webview"], "guest": []}
    itwin = client.platform.add_itwin(permissions=permissions)
    headers = {"content-type": "image/png"}
    assert client.put(itwin, picture(), subject="editor").status_code == 201
    for subject in ("reader", "guest"):
        refused = client.call(method, f"/itwins/{itwin}/image", picture(), subject=subject, headers=headers)
        assert error_of(refused, 403)["code"] == "InsufficientPermissions"
        assert client.get(itwin, subject=subject).status_code == 200
    stranger = client.call(method, f"/itwins/{itwin}/image", picture(), subject="stranger", headers=headers)
    assert error_of(stranger, 404) == sample("404_itwin_not_found")["error"]
    assert client.get(itwin, subject="stranger").status_code == 404
    assert client.call(method, f"/itwins/{itwin}/image", picture(), subject="editor", headers=headers).ok


def test_an_administrator_may_modify_every_itwin_of_the_organization(client: Client) -> None:
    """Those of their organization, and no other."""
    own = client.platform.add_itwin(permissions={})
    foreign = client.platform.add_itwin(permissions={}, organization="Another Company")
    assert client.put(own, picture(), subject=ADMINISTRATOR).status_code == 201
    assert client.put(foreign, picture(), subject=ADMINISTRATOR).status_code == 404


def test_anybody_may_read_their_own_permissions(client: Client) -> None:
    """Reading them needs no permission; a non-member's list is empty."""
    itwin = client.platform.add_itwin(permissions={"editor": ["itwins_modify", "imodels_read"]})
    path = f"/accesscontrol/itwins/{itwin}/permissions"
    expected = {"editor": ["itwins_modify", "imodels_read"], "stranger": [], ADMINISTRATOR: ["itwins_modify"]}
    for subject, permissions in expected.items():
        answer = client.call("GET", path, subject=subject)
        assert (answer.status_code, answer.json()) == (200, {"permissions": permissions})
    unknown = client.call("GET", f"/accesscontrol/itwins/{uuid.uuid4()}/permissions")
    assert error_of(unknown, 404)["code"] == "iTwinNotFound"
    open_to_all = client.platform.add_itwin()
    answer = client.call("GET", f"/accesscontrol/itwins/{open_to_all}/permissions")
    assert answer.json() == {"permissions": ["itwins_modify"]}
