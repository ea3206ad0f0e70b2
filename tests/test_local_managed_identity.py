"""The unmodified ManagedIdentityCredential gets real tokens, and the service's real refusals."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential

from local.managed_identity import (
    SYSTEM_ASSIGNED_CLIENT_ID,
    SYSTEM_ASSIGNED_ID,
    TENANT_ID,
    UNKNOWN_IDENTITY,
    ManagedIdentity,
)
from local.processes import wait_until
from local.serving import serve
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator

SCOPE = "api://some-api/.default"
CLIENT_ID = "11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
PRINCIPAL_ID = "22222222-bbbb-4bbb-8bbb-bbbbbbbbbbbb"


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagedIdentity]:
    """Serve an endpoint and set the variables that App Service sets."""
    made = ManagedIdentity(user_assigned={CLIENT_ID: PRINCIPAL_ID})
    with serve(made.app) as address:
        for name, value in made.settings(address).items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.mark.parametrize(("client_id", "principal"), [(None, SYSTEM_ASSIGNED_ID), (CLIENT_ID, PRINCIPAL_ID)])
def test_the_credential_gets_a_token_of_the_tenant_for_the_resource(
    identity: ManagedIdentity, client_id: str | None, principal: str
) -> None:
    """System-assigned without a client ID, user-assigned with one."""
    with ManagedIdentityCredential(client_id=client_id) as credential:
        token = credential.get_token(SCOPE)
    claims = identity.tokens.verify(token.token, audience="api://some-api")
    assert (claims["iss"], claims["sub"]) == (f"https://sts.windows.net/{TENANT_ID}/", principal)
    assert abs(token.expires_on - (time.time() + identity.lifetime_s)) < 60


@pytest.mark.parametrize("client_id", [None, CLIENT_ID])
def test_the_token_names_the_identity_as_its_client(identity: ManagedIdentity, client_id: str | None) -> None:
    """`appid` identifies the caller to whoever accepts the token; `tid` is the tenant."""
    with ManagedIdentityCredential(client_id=client_id) as credential:
        token = credential.get_token(SCOPE)
    claims = identity.tokens.verify(token.token, audience="api://some-api")
    assert (claims["appid"], claims["tid"]) == (client_id or SYSTEM_ASSIGNED_CLIENT_ID, TENANT_ID)


def test_requests_are_counted(identity: ManagedIdentity) -> None:
    """The credential caches: two tokens cost one request."""
    with ManagedIdentityCredential() as credential:
        assert credential.get_token(SCOPE).token == credential.get_token(SCOPE).token
    assert identity.requests == 1


def test_an_unknown_client_id_is_refused_as_app_service_does(identity: ManagedIdentity) -> None:
    """400 with the service's own message, which the credential passes on."""
    with (
        ManagedIdentityCredential(client_id=str(uuid.uuid4())) as credential,
        pytest.raises((CredentialUnavailableError, ClientAuthenticationError), match=UNKNOWN_IDENTITY),
    ):
        credential.get_token(SCOPE)
    assert identity.requests == 1


@pytest.mark.parametrize(
    ("headers", "params", "status"),
    [
        ({}, {}, 401),
        ({"X-IDENTITY-HEADER": "wrong"}, {}, 401),
        (None, {"api-version": "2017-09-01"}, 400),
        (None, {"resource": ""}, 400),
    ],
)
def test_a_wrong_request_is_refused(
    identity: ManagedIdentity, headers: dict[str, str] | None, params: dict[str, str], status: int
) -> None:
    """Every refusal has the service's JSON."""
    with serve(identity.app) as address:
        settings = identity.settings(address)
        response = requests.get(
            settings["IDENTITY_ENDPOINT"],
            headers={"X-IDENTITY-HEADER": settings["IDENTITY_HEADER"]} if headers is None else headers,
            params={"api-version": "2019-08-01", "resource": "api://some-api", **params},
            timeout=HANG_S,
        )
    assert response.status_code == response.json()["statusCode"] == status
    assert response.json().keys() == {"statusCode", "message", "correlationId"}


def test_the_identity_service_fails_on_demand(identity: ManagedIdentity) -> None:
    """For tests of an app without a token; it recovers on demand too."""
    identity.failing_with = 403
    with ManagedIdentityCredential() as credential:
        with pytest.raises((CredentialUnavailableError, ClientAuthenticationError)):
            credential.get_token(SCOPE)
        identity.failing_with = None
        assert credential.get_token(SCOPE).token


def test_the_identity_service_hangs_on_demand(identity: ManagedIdentity) -> None:
    """No request is answered until it recovers; those that are still waiting then are."""
    identity.hangs = True
    with serve(identity.app) as address, ThreadPoolExecutor() as pool:
        settings = identity.settings(address)
        call = partial(
            requests.get,
            settings["IDENTITY_ENDPOINT"],
            headers={"X-IDENTITY-HEADER": settings["IDENTITY_HEADER"]},
            params={"api-version": "2019-08-01", "resource": "api://some-api"},
        )
        with pytest.raises(requests.Timeout):
            call(timeout=0.2)
        waits = pool.submit(call, timeout=HANG_S)
        assert wait_until(lambda: identity.requests == 2, timeout_s=HANG_S)
        assert not waits.done()
        identity.hangs = False
        assert waits.result().ok


def test_tokens_expire_on_demand(identity: ManagedIdentity) -> None:
    """A token that is about to expire is requested again each time."""
    identity.lifetime_s = 1
    with ManagedIdentityCredential() as credential:
        credential.get_token(SCOPE)
        credential.get_token(SCOPE)
    assert identity.requests == 2
    identity.lifetime_s = -60
    token = identity.tokens.issue(subject="s", audience="a", lifetime_s=identity.lifetime_s)
    with pytest.raises(jwt.ExpiredSignatureError):
        identity.tokens.verify(token, audience="a")
