"""The client secret: read with the app's identity, kept while it works, and read again when it is refused."""

from __future__ import annotations

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from local.itwin_platform import ITwinPlatform
from local.key_vault import KeyVault
from local.managed_identity import SYSTEM_ASSIGNED_ID, ManagedIdentity
from local.serving import serve
from shared.credentials import AccessTokens, ClientCredentials, ClientCredentialsLogin, open_tokens
from shared.errors import DropError, TokenServiceUnavailable, TokenUnavailable
from shared.http_client import HttpClient
from shared.http_client.environment import look_up
from shared.identity import ManagedIdentity as IdentityCredential
from shared.vault import READ_AGAIN_AFTER_S, VaultSecret, scope_of
from tests.deadlines import HANG_S
from tests.wire import conversing, read_request, respond

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.http_client.environment import Address

NAME = "itwin-client-secret"
EXPIRES = datetime(2027, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("vault", "scope"),
    [
        ("https://kv.vault.azure.net", "https://vault.azure.net/.default"),
        ("https://kv.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net/.default"),
        ("https://KV.vault.azure.cn", "https://vault.azure.cn/.default"),
        ("http://127.0.0.1:7000", "https://vault.azure.net/.default"),
        ("https://localhost", "https://vault.azure.net/.default"),
    ],
)
def test_the_token_requested_is_for_the_vaults_own_cloud(vault: str, scope: str) -> None:
    """Each cloud's vaults accept their own tokens; a host that only resembles one gets no usable token."""
    assert scope_of(f"{vault}/secrets/itwin-client-secret") == scope


def later() -> float:
    """Return a deadline that is far away."""
    return time.monotonic() + HANG_S


@dataclass
class Site:
    """A vault and a token authority, and the app's way to them; time goes on where a test says so."""

    vault: KeyVault
    platform: ITwinPlatform
    login: ClientCredentialsLogin
    http: HttpClient = field(default_factory=HttpClient)
    now: float = 0.0

    def secret(self) -> VaultSecret:
        """Return the app's secret, of which nothing is read yet."""
        identity = IdentityCredential(self.http, None, settings="AZURE_CLIENT_ID")
        return VaultSecret(self.login.secret_url, identity, self.http, clock=lambda: self.now)

    def credentials(self) -> ClientCredentials:
        """Return the app's login."""
        return ClientCredentials(self.login, self.http, self.secret())

    def rotate(self, value: str) -> str:
        """Give the service app another secret, and put it into the vault; returns its version."""
        self.platform.set_secrets("service-app", value)
        return self.vault.set_secret(NAME, value)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve them, with a first secret that works."""
    identity = ManagedIdentity()
    vault = KeyVault(identity.tokens, readers=[SYSTEM_ASSIGNED_ID])
    platform = ITwinPlatform()
    with serve(identity.app) as endpoint, serve(vault.app) as vault_url, serve(platform.app) as platform_url:
        for name, value in identity.settings(endpoint).items():
            monkeypatch.setenv(name, value)
        login = ClientCredentialsLogin(f"{platform_url}/connect/token", "service-app", f"{vault_url}/secrets/{NAME}")
        site = Site(vault, platform, login)
        site.rotate("hush-1")
        yield site
        site.http.close()


def test_the_secret_is_read_once_and_cached(site: Site) -> None:
    """Every token of the process is requested with it, and it never appears in the log."""
    version = site.vault.set_secret(NAME, "hush-1", expires=EXPIRES)
    credentials = site.credentials()
    assert [credentials.fetch(later(), renew=False).text.count(".") for _ in range(3)] == [2] * 3
    assert site.vault.requests == 1
    secret = site.secret().current(later())
    assert (secret.value, secret.version, secret.expires_at) == ("hush-1", version, EXPIRES)
    assert "hush" not in repr(secret)


def test_each_login_logs_the_version_of_its_secret(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """An alert reads the expiry date from that log line."""
    caplog.set_level(logging.INFO, "itwin_image_drop")
    version = site.vault.set_secret(NAME, "hush-1", expires=EXPIRES)
    site.credentials().fetch(later(), renew=False)
    line = f'{{"token": "obtained", "secretVersion": "{version}", "secretExpires": "2027-03-01T00:00:00+00:00"}}'
    assert line in caplog.messages
    assert "hush" not in caplog.text


def test_a_rotated_secret_is_read_again_when_the_old_one_is_refused(site: Site) -> None:
    """Without a restart, and in whatever order the operator did it."""
    credentials = site.credentials()
    credentials.fetch(later(), renew=False)
    site.rotate("hush-2")
    assert credentials.fetch(later(), renew=False).text
    assert site.vault.requests == 2


def test_a_secret_is_read_again_once_a_minute_at_most(site: Site) -> None:
    """While the vault has a wrong one, waiting drops cause no more reads than that."""
    credentials = site.credentials()
    site.platform.set_secrets("service-app", "hush-2")
    for _ in range(10):
        with pytest.raises(TokenUnavailable, match=r"invalid_client.*ITWIN_SECRET_URL"):
            credentials.fetch(later(), renew=False)
    assert site.vault.requests == 2
    site.now += READ_AGAIN_AFTER_S
    for _ in range(10):
        with pytest.raises(TokenUnavailable):
            credentials.fetch(later(), renew=False)
    assert site.vault.requests == 3
    site.vault.set_secret(NAME, "hush-2\n")  # as `az keyvault secret set --file` may put it there
    site.now += READ_AGAIN_AFTER_S
    assert credentials.fetch(later(), renew=False).text


def test_a_secret_is_rotated_under_load_without_a_failure(site: Site) -> None:
    """Many drops renew their tokens meanwhile; each gets one."""
    tokens = AccessTokens(site.credentials())

    def drop(number: int) -> str | None:
        if number % 25 == 24:
            site.now += READ_AGAIN_AFTER_S
            site.rotate(f"hush-{number}")
        return tokens.renew(tokens.get(later()), later())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(drop, range(100)))


def refusal(site: Site) -> DropError:
    """Return why there is no token."""
    with pytest.raises(DropError) as caught:
        open_tokens(site.login, site.http).get(later())
    assert "hush" not in caught.value.message
    return caught.value


def test_a_vault_that_refuses_the_app_is_reported_with_the_missing_role(site: Site) -> None:
    """Not with the secret, which was never read."""
    site.vault.readers.clear()
    error = refusal(site)
    assert type(error) is TokenUnavailable
    assert "(ForbiddenByRbac)" in error.message
    assert "Key Vault Secrets User" in error.message


def test_a_disabled_secret_is_not_called_a_missing_role(site: Site) -> None:
    """The vault says which it is."""
    site.vault.disable_secret(NAME)
    message = refusal(site).message
    assert "(SecretDisabled)" in message
    assert "Key Vault Secrets User" not in message


def test_a_missing_secret_is_reported(site: Site) -> None:
    """The operator has to set it."""
    site.vault.delete_secret(NAME)
    assert "no secret at ITWIN_SECRET_URL (404)" in refusal(site).message


def forbidden(code: str) -> Response:
    """Return a 403 of the vault."""
    return JSONResponse({"error": {"code": "Forbidden", "innererror": {"code": code}}}, 403)


@pytest.mark.parametrize(
    ("response", "kind", "says", "retry_after_s"),
    [
        (forbidden("ForbiddenByFirewall"), TokenUnavailable, "firewall", None),
        (forbidden("ForbiddenByConnection"), TokenUnavailable, "accepts no connections", None),
        (forbidden("hush <script>"), TokenUnavailable, "(403)", None),
        (Response("<html>", 403), TokenUnavailable, "(403)", None),
        (Response("", 401), TokenUnavailable, "tenant", None),
        (Response("", 503, {"Retry-After": "7"}), TokenServiceUnavailable, "currently unavailable (503)", 7),
        (Response("", 429, {"Retry-After": "0"}), TokenServiceUnavailable, "currently unavailable (429)", 5),
        (Response("<html>"), TokenUnavailable, "responded with 200 and no secret", None),
        (JSONResponse({"value": "", "id": "x/1"}), TokenUnavailable, "responded with 200 and no secret", None),
        (Response('{"value": "\\ud800", "id": "x/1"}'), TokenUnavailable, "responded with 200 and no secret", None),
        (JSONResponse({"value": "x", "id": 5}), TokenUnavailable, "responded with 200 and no secret", None),
        (JSONResponse({"value": ["x"], "id": "x/1"}), TokenUnavailable, "responded with 200 and no secret", None),
        (JSONResponse({"value": "x", "id": "x/1", "attributes": {"exp": "soon"}}), TokenUnavailable, "no secret", None),
        (Response("", 302, {"Location": "https://elsewhere.example"}), TokenUnavailable, "with 302", None),
    ],
)
def test_each_response_of_the_vault_has_its_own_message(
    site: Site, response: Response, kind: type, says: str, retry_after_s: float | None
) -> None:
    """Only known error codes are repeated, and temporary failures are retried."""
    with serve(response) as address:
        site.login = ClientCredentialsLogin(site.login.token_url, "service-app", f"{address}/secrets/{NAME}")
        error = refusal(site)
    assert type(error) is kind
    assert says in error.message
    assert error.retry_after_s == retry_after_s
    assert "script" not in error.message


def test_a_truncated_response_of_the_vault_is_retried(site: Site) -> None:
    """Its status has arrived, and says nothing against the setting."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(respond(body=b'{"value": "x", "id": "x/1"}')[:-5])

    with conversing(conversation, again=True) as address:
        site.login = ClientCredentialsLogin(site.login.token_url, "service-app", f"{address}/secrets/{NAME}")
        error = refusal(site)
    assert type(error) is TokenServiceUnavailable
    assert "cut off" in error.message


def test_an_unreachable_vault_is_reported_with_its_setting(site: Site) -> None:
    """No server listens there, which may be temporary."""
    site.login = ClientCredentialsLogin(site.login.token_url, "service-app", f"http://127.0.0.1:1/secrets/{NAME}")
    error = refusal(site)
    assert type(error) is TokenServiceUnavailable
    assert "Check ITWIN_SECRET_URL and the network if this lasts." in error.message


@pytest.mark.parametrize(
    ("problem", "kind"),
    [(socket.EAI_AGAIN, TokenServiceUnavailable), (socket.EAI_NONAME, TokenUnavailable)],
)
def test_a_failing_lookup_of_the_vaults_name_is_retried(site: Site, problem: int, kind: type[DropError]) -> None:
    """A name that does not exist is for the operator to correct."""

    def resolve(host: str, port: int) -> Sequence[Address]:
        if host == "kv.vault.example":
            raise socket.gaierror(problem, "As the system says")
        return look_up(host, port)

    site.http = HttpClient(resolve=resolve)
    site.login = ClientCredentialsLogin(site.login.token_url, "service-app", f"https://kv.vault.example/secrets/{NAME}")
    error = refusal(site)
    assert type(error) is kind
    assert "The name kv.vault.example could not be resolved: As the system says." in error.message


def test_a_failing_identity_is_not_blamed_on_the_vault(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vault received no request."""
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    error = refusal(site)
    assert "identity endpoint" in error.message
    assert "ITWIN_SECRET_URL" in error.message
    assert site.vault.requests == 0
