"""The bearer token: which login it comes from, and when a new one is fetched.

There are two: the managed identity's own token for a configured scope, which a gateway exchanges; or client credentials
at the iTwin token authority, with a secret that the managed identity reads from a key vault.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from shared.errors import TokenServiceUnavailable, TokenUnavailable
from shared.http_client import TEMPORARY_STATUSES, NoResponse, retry_after_s
from shared.identity import BEARER_TOKEN, LEAST_PAUSE_S, ManagedIdentity
from shared.untrusted_json import parse_object
from shared.vault import VaultSecret

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.http_client import Response, Sender
    from shared.vault import Secret

ITWIN_SCOPE = "itwin-platform"
TIMEOUT_S = 30.0
RENEW_BEFORE_EXPIRY_S = 300.0
# The longest that a token is assumed to be valid.
MAX_LIFETIME_S = 30 * 24 * 3600
# RFC 6749, 5.1: a token authority need not say how long a token is valid. The platform responds with 401 afterwards.
UNKNOWN_LIFETIME_S = 2 * RENEW_BEFORE_EXPIRY_S
# How long no token is renewed after the platform has rejected one that had just been renewed.
RENEWAL_PAUSE_S = 60.0


log = logging.getLogger("itwin_image_drop")

# RFC 6749, 5.2: error codes; nothing else from an untrusted response is published.
OAUTH_ERROR = re.compile(r"[a-z_]{1,40}")
# Temporary, whatever the status (RFC 6749, 4.1.2.1; RFC 8628, 3.5).
TEMPORARY_ERRORS = ("temporarily_unavailable", "server_error", "slow_down")


@dataclass(frozen=True)
class ManagedIdentityLogin:
    """Log in with the managed identity's own token for `scope`; without `client_id`, the system-assigned identity's."""

    scope: str
    client_id: str | None = None


@dataclass(frozen=True)
class ClientCredentialsLogin:
    """Log in as an iTwin Platform service app, whose secret is in a key vault that the managed identity may read.

    Without `identity_client_id`, the identity is the system-assigned one.
    """

    token_url: str
    client_id: str
    secret_url: str
    scope: str = ITWIN_SCOPE
    identity_client_id: str | None = None


Login = ManagedIdentityLogin | ClientCredentialsLogin


@dataclass(frozen=True)
class Token:
    """An access token, and for how long it is valid from now on."""

    text: str = field(repr=False)
    lifetime_s: float


class TokenSource(Protocol):
    """Where tokens come from."""

    def fetch(self, deadline: float, *, renew: bool) -> Token:
        """Return a token, a different one from the last if `renew` is true.

        Raises TokenUnavailable and TokenServiceUnavailable.
        """


def open_tokens(login: Login, http: Sender) -> AccessTokens:
    """Open the process's source of bearer tokens; nothing is sent yet."""
    if isinstance(login, ManagedIdentityLogin):
        return AccessTokens(IdentityTokens(login, http))
    return AccessTokens(ClientCredentials(login, http, read_by_identity(login, http)))


class AccessTokens:
    """One access token, shared by all threads: fetched once for all of them, renewed before it expires.

    No thread waits longer than its `deadline`, an instant of the clock.
    """

    def __init__(self, source: TokenSource, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._current: _Held | None = None
        self._refused: tuple[str, float] | None = None
        self._fetch: Future[_Held] | None = None

    def get(self, deadline: float) -> str:
        """Return a token that is valid for a while. Raises TokenUnavailable and TokenServiceUnavailable."""
        return self._get(deadline, rejected=None)

    def renew(self, rejected: str, deadline: float) -> str | None:
        """Return a different token from the one that the platform `rejected`.

        None if that one was `refused` less than a minute ago. Raises TokenUnavailable and TokenServiceUnavailable.
        """
        with self._lock:
            text, refused_at = self._refused or ("", 0.0)
        if text == rejected and self._clock() - refused_at < RENEWAL_PAUSE_S:
            return None
        return self._get(deadline, rejected=rejected)

    def refused(self, renewed: str) -> None:
        """Note that the platform rejected a token that had just been renewed, so that no drop renews it again."""
        with self._lock:
            self._refused = renewed, self._clock()

    def _get(self, deadline: float, rejected: str | None) -> str:
        with self._lock:
            current = self._current
            usable = current if current and current.text != rejected and current.expires_at > self._clock() else None
            if usable and usable.renewed_at > self._clock():
                return usable.text
            fetch, ours = self._fetch, self._fetch is None
            if fetch is None:
                fetch = self._fetch = Future()
        if ours:
            self._fetch_into(fetch, deadline, renew=rejected is not None)
        try:
            return fetch.result(timeout=max(deadline - self._clock(), 0)).text
        except TimeoutError as error:
            problem: TokenUnavailable | TokenServiceUnavailable = TokenServiceUnavailable(
                "No access token was obtained in time: another drop is still waiting for it."
            )
            problem.__cause__ = error
        except (TokenUnavailable, TokenServiceUnavailable) as error:
            # One exception object must not be raised in several threads.
            problem = type(error)(error.message, retry_after_s=error.retry_after_s)
            problem.__cause__ = error.__cause__
        if usable:
            return usable.text
        raise problem

    def _fetch_into(self, fetch: Future[_Held], deadline: float, *, renew: bool) -> None:
        try:
            token = self._source.fetch(min(deadline, self._clock() + TIMEOUT_S), renew=renew)
            if not BEARER_TOKEN.fullmatch(token.text):
                raise TokenUnavailable("The access token in the response is not a bearer token (RFC 6750).")  # noqa: TRY301
        except BaseException as error:  # noqa: BLE001 - the waiting threads must be told, whatever it is
            with self._lock:
                self._fetch = None
            fetch.set_exception(error)
        else:
            held = _Held.from_now_on(token, self._clock())
            with self._lock:
                self._current, self._fetch = held, None
            fetch.set_result(held)


@dataclass(frozen=True)
class _Held:
    """A token, when it is to be renewed, and until when it is valid; one that lives for minutes is used for half."""

    text: str
    renewed_at: float
    expires_at: float

    @classmethod
    def from_now_on(cls, token: Token, now: float) -> _Held:
        """Return the token as it was obtained now."""
        used_s = max(token.lifetime_s - RENEW_BEFORE_EXPIRY_S, token.lifetime_s / 2)
        return cls(token.text, now + used_s, now + token.lifetime_s)


class IdentityTokens:
    """The managed identity's own tokens."""

    def __init__(self, login: ManagedIdentityLogin, http: Sender) -> None:
        self._scope = login.scope
        self._identity = ManagedIdentity(http, login.client_id, settings="AZURE_CLIENT_ID and ITWIN_TOKEN_SCOPE")

    def fetch(self, deadline: float, *, renew: bool) -> Token:
        """Ask the identity endpoint. Raises TokenUnavailable and TokenServiceUnavailable."""
        token = self._identity.fetch(self._scope, deadline, renew=renew)
        lifetime_s = token.expires_on - time.time()
        # One that was just given has not expired: then this machine's clock is ahead.
        return Token(token.token, lifetime_s if lifetime_s > 0 else UNKNOWN_LIFETIME_S)


def read_by_identity(login: ClientCredentialsLogin, http: Sender) -> VaultSecret:
    """Return the service app's secret, which is read later."""
    settings = "AZURE_CLIENT_ID and ITWIN_SECRET_URL"
    return VaultSecret(login.secret_url, ManagedIdentity(http, login.identity_client_id, settings=settings), http)


class ClientCredentials:
    """OAuth 2.0 client credentials (RFC 6749, 4.4)."""

    def __init__(self, login: ClientCredentialsLogin, http: Sender, secret: VaultSecret) -> None:
        self._login = login
        self._http = http
        self._secret = secret

    def fetch(self, deadline: float, *, renew: bool) -> Token:  # noqa: ARG002 - it keeps none that it could return
        """Ask the token authority, with a newer secret if it refuses the cached one.

        Raises TokenUnavailable and TokenServiceUnavailable.
        """
        secret = self._secret.current(deadline)
        try:
            token = self._request(secret, deadline)
        except _LoginRefused:
            newer = self._secret.newer(deadline)
            if newer is None:
                raise
            secret, token = newer, self._request(newer, deadline)
        expires_at = secret.expires_at.isoformat() if secret.expires_at else None
        # The alert about a secret that is about to expire reads it.
        log.info("%s", json.dumps({"token": "obtained", "secretVersion": secret.version, "secretExpires": expires_at}))
        return token

    def _request(self, secret: Secret, deadline: float) -> Token:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._login.client_id,
            "client_secret": secret.value,
            "scope": self._login.scope,
        }
        try:
            response = self._http.send(
                "POST",
                self._login.token_url,
                headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
                body=urlencode(form).encode(),
                deadline=deadline,
            )
        except NoResponse as error:
            message = f"The token authority gave no access token: {error.message}{error.advice('ITWIN_TOKEN_URL')}"
            raise (TokenServiceUnavailable if error.is_temporary else TokenUnavailable)(message) from error
        return _read_token(response)


class _LoginRefused(TokenUnavailable, code=TokenUnavailable.code):
    """The token authority did not accept the client's ID or secret."""


def _read_token(response: Response) -> Token:
    """Read the token authority's response (RFC 6749, 5). Raises TokenUnavailable and TokenServiceUnavailable."""
    try:
        body = parse_object(response.body)
    except ValueError:
        body = {}
    status, error = response.status, body.get("error")
    if status in TEMPORARY_STATUSES or error in TEMPORARY_ERRORS:
        pause_s = retry_after_s(response.headers, at_least=LEAST_PAUSE_S)
        raise TokenServiceUnavailable(
            f"The token authority is currently unavailable ({status}).", retry_after_s=pause_s
        )
    if status == HTTPStatus.OK and not response.is_whole:
        raise TokenServiceUnavailable("The token authority's response was cut off or too long.")
    token = body.get("access_token")
    if status == HTTPStatus.OK and isinstance(token, str):
        return Token(token, _seconds(body.get("expires_in")) or UNKNOWN_LIFETIME_S)
    if status == HTTPStatus.OK or not isinstance(error, str):
        raise TokenUnavailable(
            f"The token authority responded with {status} and neither an access token nor an OAuth 2.0 error: check "
            "ITWIN_TOKEN_URL."
        )
    word = f" ({error})" if OAUTH_ERROR.fullmatch(error) else ""
    raise _LoginRefused(
        f"The token authority refused the login with {status}{word}: check ITWIN_CLIENT_ID, the secret at "
        "ITWIN_SECRET_URL, ITWIN_TOKEN_SCOPE and ITWIN_TOKEN_URL."
    )


def _seconds(value: object) -> float | None:
    """Read `expires_in` (RFC 6749, 5.1), which some authorities send as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return float(min(value, MAX_LIFETIME_S))
