"""The app's managed identity: the Azure SDK's own credential, sent through the app's HTTP client.

However the identity endpoint responds, and whatever the SDK then raises, the result is one of two errors: one for the
operator to fix, or a temporary one. https://learn.microsoft.com/azure/app-service/overview-managed-identity
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential

from shared.deadline import left_s
from shared.errors import TokenServiceUnavailable, TokenUnavailable
from shared.http_client import TEMPORARY_STATUSES, NoResponse, Response, retry_after_s
from shared.sdk_transport import SdkResponse, SdkTransport, sdk_error

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import HttpResponse
    from azure.core.rest import HttpRequest

    from shared.http_client import Sender

# For all the SDK's tries together.
TIMEOUT_S = 15.0
TRIES = 4
# A shorter Retry-After is treated as this one.
LEAST_PAUSE_S = 5.0
# Any claims challenge makes the SDK bypass its own cache.
CLAIMS_CHALLENGE = '{"access_token":{}}'

# In the year 5138. A later expiry is not a time, and may be a number that overflows a float.
LATEST_EXPIRY = 10**11

# RFC 6750, 2.1: what a bearer token may consist of. Anything else must not get into a header.
BEARER_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")

REFUSALS = range(400, 500)


class IdentityFailed(ClientAuthenticationError):
    """The managed identity gave no access token; `problem` is what that means for a drop."""

    def __init__(self, problem: TokenUnavailable | TokenServiceUnavailable) -> None:
        super().__init__(problem.message)
        self.problem = problem


class ManagedIdentity:
    """A token credential for clients of the Azure SDK, and for the app itself; it keeps the tokens of all scopes.

    Without `client_id` it is the system-assigned identity. `settings` names those that an operator should check.
    """

    def __init__(self, http: Sender, client_id: str | None, *, settings: str) -> None:
        self._transport = _Transport(http)
        self._credential = ManagedIdentityCredential(
            client_id=client_id, transport=self._transport, retry_total=TRIES - 1
        )
        self._settings = settings

    def get_token(self, *scopes: str, claims: str | None = None, **_options: Any) -> AccessToken:
        """Return an access token in the time that the attempt has left. Raises IdentityFailed, and OutOfTime."""
        return self._get_token(scopes, claims, time.monotonic() + min(TIMEOUT_S, left_s()))

    def fetch(self, scope: str, deadline: float, *, renew: bool = False) -> AccessToken:
        """Return an access token, a different one from the last if `renew` is true.

        Raises TokenUnavailable and TokenServiceUnavailable.
        """
        try:
            claims = CLAIMS_CHALLENGE if renew else None
            return self._get_token((scope,), claims, min(deadline, time.monotonic() + TIMEOUT_S))
        except IdentityFailed as error:
            raise error.problem from error.__cause__

    def _get_token(self, scopes: tuple[str, ...], claims: str | None, deadline: float) -> AccessToken:
        exchange = _Exchange(deadline)
        previous = _current.set(exchange)
        try:
            token: AccessToken = self._credential.get_token(*scopes, claims=claims)
            is_good = BEARER_TOKEN.fullmatch(token.token) and token.expires_on < LATEST_EXPIRY
        except MemoryError:
            raise
        except Exception as error:  # the SDK may raise anything for an unusual response
            raise IdentityFailed(self._problem(exchange.last)) from error
        finally:
            _current.reset(previous)
        if not is_good:
            raise IdentityFailed(self._problem(exchange.last))
        return token

    def _problem(self, last: Response | NoResponse | None) -> TokenUnavailable | TokenServiceUnavailable:
        advice = f"If this lasts, check that the app has a managed identity, and {self._settings}."
        if isinstance(last, NoResponse):
            return TokenServiceUnavailable(f"The identity endpoint gave no access token: {last.message} {advice}")
        if last is None:
            return TokenServiceUnavailable(f"The managed identity gave no access token. {advice}")
        if last.status in TEMPORARY_STATUSES:
            # App Service also responds with 500 to a scope that it does not know.
            message = f"The identity endpoint responded with {last.status} instead of an access token. {advice}"
            return TokenServiceUnavailable(message, retry_after_s=retry_after_s(last.headers, at_least=LEAST_PAUSE_S))
        if last.status in REFUSALS:
            return TokenUnavailable(
                f"The identity endpoint refused an access token ({last.status}): check that the app has the managed "
                f"identity, and {self._settings}."
            )
        return TokenServiceUnavailable(f"The identity endpoint's response contains no access token. {advice}")


class _Exchange:
    """One request for a token: its deadline, and the outcome of its last try."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.last: Response | NoResponse | None = None


_current: ContextVar[_Exchange] = ContextVar("identity_exchange")


class _Transport(SdkTransport):
    """The transport from the SDK to the HTTP client; between tries, the SDK sleeps here, until the deadline."""

    def __init__(self, http: Sender) -> None:
        self._http = http

    def send(self, request: HttpRequest, **_options: Any) -> HttpResponse:
        exchange = _current.get()
        if exchange.last and exchange.deadline <= time.monotonic():
            raise _too_late()
        try:
            response = self._http.send(request.method, request.url, headers=request.headers, deadline=exchange.deadline)
        except NoResponse as error:
            exchange.last = error
            raise sdk_error(error) from error
        exchange.last = response
        return SdkResponse(request, response)

    def sleep(self, duration: float) -> None:
        if duration > _current.get().deadline - time.monotonic():
            raise _too_late()
        time.sleep(duration)


def _too_late() -> ClientAuthenticationError:
    """Return an error after which the SDK does not try again."""
    return ClientAuthenticationError("There is no time for another try.")
