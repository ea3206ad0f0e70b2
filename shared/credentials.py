"""The bearer token: which login it comes from, and when a new one is fetched.

Two logins, both `azure.core` token credentials: the managed identity's own token for a configured scope, or client
credentials at the iTwin token authority.
"""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
from azure.core.credentials import AccessToken
from azure.identity import ManagedIdentityCredential

from shared.errors import TokenUnavailable
from shared.untrusted_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.core.credentials import TokenCredential

ITWIN_SCOPE = "itwin-platform"
RENEW_BEFORE_EXPIRY_S = 300
TOKEN_TIMEOUT_S = (10, 30)

# Any claims challenge makes the managed identity's client pass its own cache by.
CLAIMS_CHALLENGE = '{"access_token":{}}'

# RFC 6750, 2.1: what a bearer token may consist of. Anything else must not get into a header.
BEARER_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
# RFC 6749, 5.2: error codes; only such a word of a foreign answer is published.
OAUTH_ERROR = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True)
class ManagedIdentityLogin:
    """The app's managed identity, asked for a token for `scope`; without `client_id` the system-assigned one."""

    scope: str
    client_id: str | None = None


@dataclass(frozen=True)
class ClientCredentialsLogin:
    """A service app of the iTwin Platform, with a secret that the host resolved from Key Vault."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ITWIN_SCOPE


Login = ManagedIdentityLogin | ClientCredentialsLogin


def open_tokens(login: Login) -> AccessTokens:
    """Make the one source of bearer tokens for the process."""
    if isinstance(login, ManagedIdentityLogin):
        return AccessTokens(ManagedIdentityCredential(client_id=login.client_id), login.scope)
    return AccessTokens(ClientCredentials(login), login.scope)


class AccessTokens:
    """One access token, shared by all threads: fetched once for many, renewed before it expires."""

    def __init__(self, credential: TokenCredential, scope: str, *, clock: Callable[[], float] = time.time) -> None:
        self._credential = credential
        self._scope = scope
        self._clock = clock
        self._lock = threading.Lock()
        self._current: AccessToken | None = None
        self._fetch: Future[AccessToken] | None = None

    def get(self) -> str:
        """Return a token that is good for a while. Raises TokenUnavailable."""
        return self._get(rejected=None)

    def renew(self, rejected: str) -> str:
        """Return another token than the one the platform `rejected`. Raises TokenUnavailable."""
        return self._get(rejected=rejected)

    def _get(self, rejected: str | None) -> str:
        with self._lock:
            current = self._current
            usable = current is not None and current.token != rejected and current.expires_on > self._clock()
            if current and usable and current.expires_on - self._clock() > RENEW_BEFORE_EXPIRY_S:
                return current.token
            fetch, ours = self._fetch, self._fetch is None
            if fetch is None:
                fetch = self._fetch = Future()
        if ours:
            self._fetch_into(fetch, anew=rejected is not None)
        try:
            return fetch.result().token
        except TokenUnavailable as error:
            if current and usable:
                return current.token
            # One exception object must not be raised in several threads.
            raise TokenUnavailable(error.message) from error.__cause__

    def _fetch_into(self, fetch: Future[AccessToken], *, anew: bool) -> None:
        try:
            token = self._request_token(anew=anew)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            with self._lock:
                self._fetch = None
            fetch.set_exception(error)
        else:
            with self._lock:
                self._current, self._fetch = token, None
            fetch.set_result(token)

    def _request_token(self, *, anew: bool) -> AccessToken:
        try:
            token = self._credential.get_token(self._scope, claims=CLAIMS_CHALLENGE if anew else None)
        except TokenUnavailable:
            raise
        except Exception as error:  # what a client of an odd endpoint's answer may raise is anybody's guess
            message = (
                f"The managed identity has no access token for the scope {self._scope!r}: check that the app has "
                "the identity that AZURE_CLIENT_ID names, and that ITWIN_TOKEN_SCOPE is right. The log has the cause."
            )
            raise TokenUnavailable(message) from error
        if not BEARER_TOKEN.fullmatch(token.token):
            message = f"What came for the scope {self._scope!r} is not a bearer token (RFC 6750)."
            raise TokenUnavailable(message)
        return token


class ClientCredentials:
    """OAuth 2.0 client credentials (RFC 6749, 4.4) as a token credential; it keeps no token."""

    def __init__(self, login: ClientCredentialsLogin) -> None:
        self._login = login

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        """Ask the token authority for a token. Raises TokenUnavailable."""
        requested_at = time.time()
        form = {
            "grant_type": "client_credentials",
            "client_id": self._login.client_id,
            "client_secret": self._login.client_secret,
            "scope": " ".join(scopes),
        }
        try:
            answer = requests.post(
                self._login.token_url,
                data=form,
                timeout=TOKEN_TIMEOUT_S,
                allow_redirects=False,
                auth=_keep_as_it_is,
            )
        except requests.RequestException as error:
            message = "The token authority could not be reached: check ITWIN_TOKEN_URL and the network."
            raise TokenUnavailable(message) from error
        try:
            body = parse_object(answer.content)
        except ValueError:
            body = {}
        if not answer.ok:
            raise TokenUnavailable(_refusal(answer.status_code, body.get("error")))
        token, expires_in = body.get("access_token"), _seconds(body.get("expires_in"))
        if not isinstance(token, str) or expires_in is None:
            message = f"The token authority answered {answer.status_code} without a token: check ITWIN_TOKEN_URL."
            raise TokenUnavailable(message)
        return AccessToken(token, int(requested_at) + expires_in)


def _keep_as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep `requests` from adding what a `.netrc` has for the host."""
    return request


def _seconds(value: object) -> int | None:
    """Read `expires_in` (RFC 6749, 5.1), which some authorities send as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _refusal(status: int, error: object) -> str:
    reason = f" ({error})" if isinstance(error, str) and OAUTH_ERROR.fullmatch(error) else ""
    return (
        f"The token authority answered {status}{reason}: check ITWIN_CLIENT_ID, ITWIN_CLIENT_SECRET, "
        "ITWIN_TOKEN_SCOPE and ITWIN_TOKEN_URL."
    )
