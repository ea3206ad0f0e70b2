"""The bearer token: fetched once for many, renewed in time, and never a bad one."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qs

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import function_app  # noqa: F401 - it decides what the SDK may log
from local.managed_identity import ManagedIdentity
from local.serving import serve
from shared.credentials import (
    RENEWAL_PAUSE_S,
    AccessTokens,
    ClientCredentialsLogin,
    ManagedIdentityLogin,
    Token,
    open_tokens,
)
from shared.errors import DropError, TokenServiceUnavailable, TokenUnavailable
from shared.http_client import Cause, HttpClient, NoResponse
from shared.http_client import Response as HttpResponse
from tests.deadlines import HANG_S, SHORT_S
from tests.wire import conversing, read_request, respond

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request

    from tests.conftest import ReadableVault

SCOPE = "api://itwin-platform/.default"


def later(seconds: float = HANG_S) -> float:
    """Return a deadline that is far away."""
    return time.monotonic() + seconds


@pytest.fixture
def http() -> Iterator[HttpClient]:
    """Return a client that speaks to its peers directly."""
    http = HttpClient()
    yield http
    http.close()


class CountingSource:
    """A source of tokens that a test steers: they are numbered, and live as long as it says."""

    def __init__(self, *, lifetime_s: float = 3600) -> None:
        self.now = 1_000_000.0
        self.lifetime_s = lifetime_s
        self.fetched = 0
        self.failing: DropError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.tokens = AccessTokens(self, clock=lambda: self.now)

    def fetch(self, deadline: float, *, renew: bool) -> Token:  # noqa: ARG002 - as every source
        """Return the next token."""
        self.fetched += 1
        assert self.gate.wait(HANG_S)
        if self.failing:
            raise self.failing
        return Token(f"token-{self.fetched}", self.lifetime_s)

    def get(self) -> str:
        """Return a token in time."""
        return self.tokens.get(self.now + HANG_S)

    def renew(self, rejected: str) -> str | None:
        """Return another one in time."""
        return self.tokens.renew(rejected, self.now + HANG_S)


def test_many_concurrent_drops_share_one_fetch() -> None:
    """The identity endpoint gets one request, however many drops start at the same time."""
    source = CountingSource()
    source.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(source.get) for _ in range(16)]
        source.gate.set()
        assert {future.result() for future in waiting} == {"token-1"}
    assert source.fetched == 1


def test_no_drop_waits_for_anothers_fetch_beyond_its_own_deadline() -> None:
    """A drop with less time left than the one that fetches returns without a token."""
    source = CountingSource()
    source.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(source.get)
        while not source.fetched:
            threading.Event().wait(0.001)
        with pytest.raises(TokenServiceUnavailable, match="another drop"):
            source.tokens.get(source.now)
        source.gate.set()
        assert first.result() == "token-1"


def test_a_failed_fetch_is_not_cached() -> None:
    """Every later drop tries again, so that a repaired login is noticed at once."""
    source = CountingSource()
    source.failing = TokenUnavailable("no")
    for _ in range(2):
        with pytest.raises(TokenUnavailable):
            source.get()
    assert source.fetched == 2
    source.failing = None
    assert source.get() == "token-3"


def test_a_token_is_renewed_before_it_expires() -> None:
    """No request is sent with a token that may expire on its way."""
    source = CountingSource()
    assert source.get() == "token-1"
    source.now += 3600 - 301
    assert source.get() == "token-1"
    source.now += 2
    assert source.get() == "token-2"


def test_a_short_lived_token_is_used_for_half_of_its_life() -> None:
    """Not every drop fetches a token, even if it expires sooner than the usual margin."""
    source = CountingSource(lifetime_s=120)
    assert [source.get() for _ in range(3)] == ["token-1"] * 3
    source.now += 61
    assert source.get() == "token-2"


def test_a_valid_token_is_used_while_the_authority_fails() -> None:
    """An outage shorter than the margin is not noticed; an expired token is never used."""
    source = CountingSource()
    source.get()
    source.failing = TokenServiceUnavailable("no", retry_after_s=7)
    source.now += 3600 - 100
    assert source.get() == "token-1"
    source.now += 100
    with pytest.raises(TokenServiceUnavailable) as caught:
        source.get()
    assert caught.value.retry_after_s == 7


def test_a_rejected_token_is_replaced_once_for_all_drops() -> None:
    """Many drops that get a 401 at once cause one fetch, and none of them gets the rejected token again."""
    source = CountingSource()
    assert source.get() == "token-1"
    assert [source.renew("token-1") for _ in range(8)] == ["token-2"] * 8
    assert source.fetched == 2


def test_a_renewed_token_that_is_rejected_too_is_remembered_for_a_minute() -> None:
    """Thirty drops do not cause thirty renewals."""
    source = CountingSource()
    source.get()
    assert source.renew("token-1") == "token-2"
    source.tokens.refused("token-2")
    for _ in range(30):
        assert source.get() == "token-2"
        assert source.renew("token-2") is None
    assert source.fetched == 2
    source.now += RENEWAL_PAUSE_S
    assert source.renew("token-2") == "token-3"


def test_a_renewed_token_that_was_accepted_can_be_renewed_again() -> None:
    """A gateway may have discarded the platform's token a second time within a minute."""
    source = CountingSource()
    source.get()
    assert source.renew("token-1") == "token-2"
    assert source.renew("token-2") == "token-3"


@pytest.mark.parametrize("token", ["", "two words", "line\r\nbreak", "ünï"])
def test_an_invalid_bearer_token_is_never_put_into_a_header(token: str) -> None:
    """RFC 6750 says what a bearer token consists of; anything else could forge a header."""

    class Odd:
        def fetch(self, deadline: float, *, renew: bool) -> Token:  # noqa: ARG002 - as every source
            return Token(token, 3600)

    with pytest.raises(TokenUnavailable, match="not a bearer token"):
        AccessTokens(Odd()).get(later())


def test_the_managed_identitys_own_token_comes_through_the_real_credential(
    http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's credential gets it from the endpoint; after a 401 it requests another one."""
    identity = ManagedIdentity()
    with serve(identity.app) as address:
        for name, value in identity.settings(address).items():
            monkeypatch.setenv(name, value)
        tokens = open_tokens(ManagedIdentityLogin(SCOPE), http)
        first = tokens.get(later())
        assert tokens.get(later()) == first
        second = tokens.renew(first, later())
        assert second
        assert second != first
        assert tokens.get(later()) == second
    claims = identity.tokens.verify(second, audience="api://itwin-platform")
    assert claims["iss"].startswith("https://sts.windows.net/")


def test_a_missing_identity_names_what_to_check(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads which settings to check."""
    identity = ManagedIdentity()
    login = ManagedIdentityLogin(SCOPE, client_id="00000000-0000-0000-0000-000000000000")
    with serve(identity.app) as address:
        for name, value in identity.settings(address).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(TokenUnavailable, match=r"\(400\).*AZURE_CLIENT_ID.*ITWIN_TOKEN_SCOPE"):
            open_tokens(login, http).get(later())


@pytest.mark.parametrize(
    ("response", "says", "retry_after_s"),
    [
        (Response("", 200), "contains no access token", None),
        (Response("[]", 200), "contains no access token", None),
        (Response("<html>Sorry</html>", 200, media_type="text/html"), "contains no access token", None),
        (Response('{"access_token": "eyJ.secret", "expires_on": "11/27/2026 7:22:31 PM +00:00"}'), "contains no", None),
        (Response('{"access_token": "eyJ.secret", "expires_on": "z"}'), "contains no access token", None),
        (Response('{"access_token": "eyJ.secret"}'), "contains no access token", None),
        (Response(f'{{"access_token": "eyJ.secret", "expires_on": 1{"0" * 400}}}'), "contains no access token", None),
        (Response('{"access_token": ["eyJ.secret"], "expires_on": "9999999999"}'), "contains no access token", None),
        (Response("[" * 100_000), "contains no access token", None),
        (Response('{"acc', media_type="application/json"), "contains no access token", None),
        (Response("<html>Sorry</html>", 500), "responded with 500", None),
        (Response("", 503, headers={"Retry-After": "3600"}), "responded with 503", 3600),
        (Response("", 429, headers={"Retry-After": "0"}), "responded with 429", 5),
        (Response("", 408), "responded with 408", None),
        (Response("", 302, headers={"Location": "https://elsewhere.example"}), "contains no access token", None),
    ],
)
def test_a_malformed_response_of_the_identity_endpoint_is_one_error_without_secrets(
    http: HttpClient,
    *,
    response: Response,
    says: str,
    retry_after_s: float | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever the SDK raises, the drop waits; what the endpoint responded appears in neither log nor message."""

    async def endpoint(_: Request) -> Response:
        return response

    with serve(Starlette(routes=[Route("/", endpoint)])) as address:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        problem = refused_soon(open_tokens(ManagedIdentityLogin(SCOPE), http), says)
    assert type(problem) is TokenServiceUnavailable
    assert problem.retry_after_s == retry_after_s
    assert "eyJ" not in caplog.text + problem.message


def refused_soon(tokens: AccessTokens, says: str) -> DropError:
    """Return why no token came in a short time; in a longer one where a busy machine took that for what is before."""
    for within_s in SHORT_S:
        with pytest.raises(DropError) as caught:
            tokens.get(later(within_s))
        if re.search(says, caught.value.message):
            break
    assert re.search(says, caught.value.message)
    return caught.value


def test_a_hanging_identity_endpoint_ends_at_the_deadline(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the SDK's retries together, which would take twenty minutes."""
    enough = threading.Event()

    def hang(connection: socket.socket) -> None:
        read_request(connection)
        enough.wait(HANG_S)

    with conversing(hang, again=True) as address:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        problem = refused_soon(open_tokens(ManagedIdentityLogin(SCOPE), http), r"did not respond within \S+ s")
        enough.set()
    assert type(problem) is TokenServiceUnavailable


def test_a_new_token_has_not_expired_whatever_the_clock_says(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is hours ahead does not request one for every drop."""
    asked: list[str] = []

    async def endpoint(request: Request) -> Response:
        asked.append(request.url.path)
        return JSONResponse({"access_token": "abc", "expires_on": str(int(time.time()) - 5 * 3600)})

    with serve(Starlette(routes=[Route("/", endpoint)])) as address:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        tokens = open_tokens(ManagedIdentityLogin(SCOPE), http)
        assert [tokens.get(later()) for _ in range(3)] == ["abc"] * 3
    assert len(asked) == 1


def test_an_unreachable_identity_endpoint_is_named(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server listens there."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    tokens = open_tokens(ManagedIdentityLogin(SCOPE), http)
    problem = refused_soon(tokens, r"identity endpoint.*127\.0\.0\.1:1.*Connection refused")
    assert type(problem) is TokenServiceUnavailable


class TokenAuthority:
    """A token endpoint that responds as a test tells it to, and keeps the forms it was sent."""

    def __init__(self) -> None:
        self.response: Response = JSONResponse({"access_token": "abc", "expires_in": 3600, "token_type": "Bearer"})
        self.forms: list[dict[str, list[str]]] = []
        self.authorizations: list[str | None] = []
        self.app = Starlette(routes=[Route("/connect/token", self._token, methods=["POST"])])

    async def _token(self, request: Request) -> Response:
        self.authorizations.append(request.headers.get("authorization"))
        self.forms.append(parse_qs((await request.body()).decode()))
        return self.response


@pytest.fixture
def secret_url(readable_vault: ReadableVault, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a secret that this process may read."""
    for name, value in readable_vault.identity.items():
        monkeypatch.setenv(name, value)
    return readable_vault.hold("hu&sh")


@pytest.fixture
def authority(http: HttpClient, secret_url: str) -> Iterator[tuple[TokenAuthority, AccessTokens]]:
    """Serve a token authority, with the tokens that come from it."""
    authority = TokenAuthority()
    with serve(authority.app) as address:
        login = ClientCredentialsLogin(f"{address}/connect/token", "service-app", secret_url)
        yield authority, open_tokens(login, http)


def test_client_credentials_are_exchanged_as_documented(authority: tuple[TokenAuthority, AccessTokens]) -> None:
    """Form encoded, with the scope of the iTwin Platform."""
    endpoint, tokens = authority
    assert tokens.get(later()) == "abc"
    assert endpoint.forms == [
        {
            "grant_type": ["client_credentials"],
            "scope": ["itwin-platform"],
            "client_id": ["service-app"],
            "client_secret": ["hu&sh"],
        }
    ]
    assert endpoint.authorizations == [None]


CHECK_THE_SECRET = "check ITWIN_CLIENT_ID, the secret at ITWIN_SECRET_URL"
CHECK_THE_ADDRESS = "neither an access token nor an OAuth 2.0 error: check ITWIN_TOKEN_URL"


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (JSONResponse({"error": "invalid_client"}, 400), rf"with 400 \(invalid_client\): {CHECK_THE_SECRET}"),
        (JSONResponse({"error": "hu&sh <script>"}, 401), rf"with 401: {CHECK_THE_SECRET}"),
        (Response("<html>", 404), CHECK_THE_ADDRESS),
        (Response("<html>", 200), CHECK_THE_ADDRESS),
        (Response("", 200), CHECK_THE_ADDRESS),
        (JSONResponse(["abc"]), CHECK_THE_ADDRESS),
        (Response("[" * 100_000), CHECK_THE_ADDRESS),
        (JSONResponse({"access_token": ["abc"], "expires_in": 3600}), CHECK_THE_ADDRESS),
        (JSONResponse({"access_token": "", "expires_in": 3600}), r"not a bearer token"),
        (Response(status_code=302, headers={"Location": "http://127.0.0.1:1/"}), CHECK_THE_ADDRESS),
    ],
)
def test_a_refused_login_names_what_to_check(
    authority: tuple[TokenAuthority, AccessTokens], response: Response, message: str
) -> None:
    """Only known error codes of an untrusted response are repeated, and never the secret."""
    endpoint, tokens = authority
    endpoint.response = response
    with pytest.raises(TokenUnavailable, match=message) as caught:
        tokens.get(later())
    assert "hu&sh" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "retry_after", "retry_after_s"),
    [(429, "120", 120), (429, "0", 5), (500, "", None), (502, "soon", None), (503, "7", 7), (504, "", None)],
)
def test_a_busy_token_authority_is_retried_after_its_retry_after(
    authority: tuple[TokenAuthority, AccessTokens], status: int, retry_after: str, retry_after_s: float | None
) -> None:
    """Nobody is told to check a secret that is correct."""
    endpoint, tokens = authority
    endpoint.response = Response("<html>", status, headers={"Retry-After": retry_after})
    with pytest.raises(TokenServiceUnavailable, match=rf"currently unavailable \({status}\)") as caught:
        tokens.get(later())
    assert caught.value.retry_after_s == retry_after_s
    assert "check" not in caught.value.message


@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error", "slow_down"])
def test_a_temporary_oauth_error_is_retried_whatever_its_status(
    authority: tuple[TokenAuthority, AccessTokens], error: str
) -> None:
    """Its error code takes precedence over its status."""
    endpoint, tokens = authority
    endpoint.response = JSONResponse({"error": error}, 400, headers={"Retry-After": "9"})
    with pytest.raises(TokenServiceUnavailable) as caught:
        tokens.get(later())
    assert caught.value.retry_after_s == 9


ODD_LIFETIMES: tuple[object, ...] = (None, True, "11/27/2026", 0, -1, 10**400, 1e300, "9" * 400, [], "3599.0")


@pytest.mark.parametrize(
    "extra",
    [{}, {"expires_on": 10**400}, *({"expires_in": odd} for odd in ODD_LIFETIMES)],
    ids=lambda extra: str(extra)[:30],
)
def test_a_token_without_an_expiry_is_accepted(
    authority: tuple[TokenAuthority, AccessTokens], extra: dict[str, object]
) -> None:
    """RFC 6749, 5.1, only recommends one; such a token is kept for a while, and the platform rejects it in time."""
    endpoint, tokens = authority
    endpoint.response = JSONResponse({"access_token": "abc", "token_type": "Bearer", **extra})
    assert [tokens.get(later()) for _ in range(3)] == ["abc"] * 3
    assert len(endpoint.forms) == 1


def test_an_unreachable_token_authority_names_its_setting(http: HttpClient, secret_url: str) -> None:
    """No server listens there, which may be temporary."""
    tokens = open_tokens(ClientCredentialsLogin("http://127.0.0.1:1/connect/token", "service-app", secret_url), http)
    with pytest.raises(TokenServiceUnavailable, match="ITWIN_TOKEN_URL and the network if this lasts"):
        tokens.get(later())


def test_a_truncated_token_response_is_not_blamed_on_the_address(http: HttpClient, secret_url: str) -> None:
    """Its status has arrived; the token in it has not."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(respond(body=b'{"access_token": "abc"}')[:-5])

    with conversing(conversation, again=True) as address:
        tokens = open_tokens(ClientCredentialsLogin(f"{address}/connect/token", "service-app", secret_url), http)
        with pytest.raises(TokenServiceUnavailable, match="cut off"):
            tokens.get(later())


@dataclass
class Unheard:
    """A client to whom nobody responds, all for the same reason; the vault's are passed on."""

    error: NoResponse
    http: HttpClient

    def send(self, method: str, url: str, **options: Any) -> HttpResponse:
        """Fail, unless it is about the secret."""
        if "/connect/token" in url:
            raise self.error
        return self.http.send(method, url, **options)


@pytest.mark.parametrize("is_temporary", [True, False])
@pytest.mark.parametrize("cause", get_args(Cause))
def test_the_reason_for_no_response_decides_who_can_fix_it(
    http: HttpClient, secret_url: str, cause: Cause, *, is_temporary: bool
) -> None:
    """Only what stays the same until somebody changes it is the operator's."""
    login = ClientCredentialsLogin("https://authority.example/connect/token", "service-app", secret_url)
    unheard = Unheard(NoResponse("It is so.", cause, is_temporary=is_temporary), http)
    with pytest.raises(TokenServiceUnavailable if is_temporary else TokenUnavailable) as caught:
        open_tokens(login, unheard).get(later())
    assert caught.value.message.startswith("The token authority gave no access token: It is so.")
    assert caught.value.message.endswith(".")
    assert ("if this lasts" in caught.value.message) == (is_temporary and cause != "exhausted")


def test_a_token_authority_that_responds_a_byte_at_a_time_ends_at_the_deadline(
    http: HttpClient, secret_url: str
) -> None:
    """It blocked every thread forever; the error names the timeout as its cause."""

    def drip(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        connection.settimeout(0.05)
        for _ in range(200):
            connection.sendall(b"x")
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                pass

    with conversing(drip, again=True) as address:
        tokens = open_tokens(ClientCredentialsLogin(address, "service-app", secret_url), http)
        problem = refused_soon(tokens, r"did not respond within \S+ s")
    assert type(problem) is TokenServiceUnavailable


def test_no_netrc_login_reaches_the_token_authority(
    authority: tuple[TokenAuthority, AccessTokens], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials on a developer's machine are not used here."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login joe password pw")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    endpoint, tokens = authority
    assert tokens.get(later()) == "abc"
    assert endpoint.authorizations == [None]
