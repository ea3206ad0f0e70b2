"""The bearer token: fetched once for many, renewed in time, and never a bad one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from azure.core.credentials import AccessToken
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import function_app  # noqa: F401 - it decides what the SDK may log
from local.managed_identity import ManagedIdentity
from local.serving import serve
from shared.credentials import AccessTokens, ClientCredentialsLogin, ManagedIdentityLogin, open_tokens
from shared.errors import TokenUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request

SCOPE = "api://itwin-platform/.default"


class CountingCredential:
    """A token credential that a test steers: tokens are numbered, and live as long as it says."""

    def __init__(self, *, lifetime_s: int = 3600) -> None:
        self.now = 1_000_000.0
        self.lifetime_s = lifetime_s
        self.fetched = 0
        self.failing = False
        self.gate = threading.Event()
        self.gate.set()

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return the next token."""
        self.fetched += 1
        assert self.gate.wait(10)
        if self.failing:
            raise TokenUnavailable("no")
        return AccessToken(f"token-{self.fetched}", int(self.now) + self.lifetime_s)


def tokens_of(credential: CountingCredential) -> AccessTokens:
    """Return tokens whose clock is the credential's."""
    return AccessTokens(credential, SCOPE, clock=lambda: credential.now)


def test_many_concurrent_drops_share_one_fetch() -> None:
    """The identity endpoint is asked once, however many drops start at the same time."""
    credential = CountingCredential()
    credential.gate.clear()
    tokens = tokens_of(credential)
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(tokens.get) for _ in range(16)]
        credential.gate.set()
        assert {future.result() for future in waiting} == {"token-1"}
    assert credential.fetched == 1


def test_a_failure_is_not_remembered() -> None:
    """Every later drop asks again, so that a cured login is noticed at once."""
    credential = CountingCredential()
    credential.failing = True
    tokens = tokens_of(credential)
    for _ in range(2):
        with pytest.raises(TokenUnavailable):
            tokens.get()
    assert credential.fetched == 2
    credential.failing = False
    assert tokens.get() == "token-3"


def test_a_token_is_renewed_before_it_expires() -> None:
    """No request is sent with a token that may expire on its way."""
    credential = CountingCredential()
    tokens = tokens_of(credential)
    assert tokens.get() == "token-1"
    credential.now += 3600 - 301
    assert tokens.get() == "token-1"
    credential.now += 2
    assert tokens.get() == "token-2"


def test_a_token_that_is_still_good_outlives_a_failing_authority() -> None:
    """An outage shorter than the margin is not noticed; an expired token is never used."""
    credential = CountingCredential()
    tokens = tokens_of(credential)
    tokens.get()
    credential.failing = True
    credential.now += 3600 - 100
    assert tokens.get() == "token-1"
    credential.now += 100
    with pytest.raises(TokenUnavailable):
        tokens.get()


def test_a_rejected_token_is_replaced_once_for_all_who_had_it() -> None:
    """Many drops that hear 401 at once cause one fetch, and none of them gets the rejected token back."""
    credential = CountingCredential()
    tokens = tokens_of(credential)
    assert tokens.get() == "token-1"
    assert [tokens.renew("token-1") for _ in range(8)] == ["token-2"] * 8
    assert credential.fetched == 2


@pytest.mark.parametrize("token", ["", "two words", "line\r\nbreak", "ünï"])
def test_what_is_no_bearer_token_never_reaches_a_header(token: str) -> None:
    """RFC 6750 says what a bearer token consists of; anything else could forge a header."""

    class Odd:
        def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
            return AccessToken(token, 2**40)

    with pytest.raises(TokenUnavailable, match="not a bearer token"):
        AccessTokens(Odd(), SCOPE).get()


def test_the_managed_identitys_own_token_comes_through_the_real_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unmodified ManagedIdentityCredential gets it from the endpoint; after a 401 it asks there again."""
    identity = ManagedIdentity()
    with serve(identity.app) as address:
        for name, value in identity.settings(address).items():
            monkeypatch.setenv(name, value)
        tokens = open_tokens(ManagedIdentityLogin(SCOPE))
        first = tokens.get()
        assert tokens.get() == first
        second = tokens.renew(first)
        assert second != first
        assert tokens.get() == second
    claims = identity.tokens.verify(second, audience="api://itwin-platform")
    assert claims["iss"].startswith("https://sts.windows.net/")


def test_a_missing_identity_names_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads which settings to look at."""
    identity = ManagedIdentity()
    with serve(identity.app) as address:
        for name, value in identity.settings(address).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(TokenUnavailable, match=r"AZURE_CLIENT_ID.*ITWIN_TOKEN_SCOPE"):
            open_tokens(ManagedIdentityLogin(SCOPE, client_id="00000000-0000-0000-0000-000000000000")).get()


class TokenAuthority:
    """A token endpoint that answers what a test tells it to, and keeps the forms it was sent."""

    def __init__(self) -> None:
        self.answer: Response = JSONResponse({"access_token": "abc", "expires_in": 3600, "token_type": "Bearer"})
        self.forms: list[dict[str, list[str]]] = []
        self.authorizations: list[str | None] = []
        self.app = Starlette(routes=[Route("/connect/token", self._token, methods=["POST"])])

    async def _token(self, request: Request) -> Response:
        self.authorizations.append(request.headers.get("authorization"))
        self.forms.append(parse_qs((await request.body()).decode()))
        return self.answer


@pytest.fixture
def authority() -> Iterator[tuple[TokenAuthority, AccessTokens]]:
    """Serve a token authority, with the tokens that come from it."""
    authority = TokenAuthority()
    with serve(authority.app) as address:
        yield authority, open_tokens(ClientCredentialsLogin(f"{address}/connect/token", "service-app", "hu&sh"))


def test_client_credentials_are_exchanged_as_documented(authority: tuple[TokenAuthority, AccessTokens]) -> None:
    """Form encoded, with the scope of the iTwin Platform."""
    endpoint, tokens = authority
    assert tokens.get() == "abc"
    assert endpoint.forms == [
        {
            "grant_type": ["client_credentials"],
            "scope": ["itwin-platform"],
            "client_id": ["service-app"],
            "client_secret": ["hu&sh"],
        }
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (JSONResponse({"error": "invalid_client"}, 400), r"answered 400 \(invalid_client\): check ITWIN_CLIENT_ID"),
        (JSONResponse({"error": "hu&sh <script>"}, 401), r"answered 401: check"),
        (Response("<html>", 502), r"answered 502: check"),
        (Response("<html>", 200), r"answered 200 without a token"),
        (JSONResponse(["abc"]), r"answered 200 without a token"),
        (Response("[" * 100_000), r"answered 200 without a token"),
        (JSONResponse({"access_token": "abc", "expires_in": True}), r"answered 200 without a token"),
        (JSONResponse({"access_token": "abc"}), r"answered 200 without a token"),
        (JSONResponse({"access_token": "", "expires_in": 3600}), r"not a bearer token"),
        (Response(status_code=302, headers={"Location": "http://127.0.0.1:1/"}), r"answered 302 without a token"),
    ],
)
def test_a_failing_token_authority_names_what_to_check(
    authority: tuple[TokenAuthority, AccessTokens], answer: Response, message: str
) -> None:
    """Only a known word of a foreign answer is repeated, and the secret never."""
    endpoint, tokens = authority
    endpoint.answer = answer
    with pytest.raises(TokenUnavailable, match=message) as caught:
        tokens.get()
    assert "hu&sh" not in str(caught.value)


def test_an_unreachable_token_authority_names_its_setting() -> None:
    """Nothing listens there."""
    tokens = open_tokens(ClientCredentialsLogin("http://127.0.0.1:1/connect/token", "service-app", "hush"))
    with pytest.raises(TokenUnavailable, match="ITWIN_TOKEN_URL"):
        tokens.get()


@pytest.mark.parametrize(
    "body", ["", "[]", '{"access_token": "eyJ.secret", "expires_on": "z"}', "[" * 100_000, '{"acc']
)
def test_an_odd_identity_endpoint_is_no_token_and_tells_no_secret(
    body: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its client raises, the drop waits; what the endpoint answered stays out of the log."""

    async def endpoint(_: Request) -> Response:
        return Response(body)

    with serve(Starlette(routes=[Route("/", endpoint)])) as address:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        with pytest.raises(TokenUnavailable):
            open_tokens(ManagedIdentityLogin(SCOPE)).get()
    assert "eyJ" not in caplog.text


def test_no_netrc_reaches_the_token_authority(
    authority: tuple[TokenAuthority, AccessTokens], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials of a developer's machine are nobody's here."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login joe password pw")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    endpoint, tokens = authority
    assert tokens.get() == "abc"
    assert endpoint.authorizations == [None]
