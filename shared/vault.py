"""The client secret: read from Azure Key Vault with the app's managed identity, and kept while it works.

A secret can be rotated without a restart: when it is refused, it is read again, at most once a minute.
https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared.errors import TokenServiceUnavailable, TokenUnavailable
from shared.http_client import TEMPORARY_STATUSES, NoResponse, retry_after_s
from shared.identity import LEAST_PAUSE_S
from shared.untrusted_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.http_client import Response, Sender
    from shared.identity import ManagedIdentity

PUBLIC_CLOUD = "vault.azure.net"
API_VERSION = "7.4"
READ_AGAIN_AFTER_S = 60.0


ROLE = "give the identity that AZURE_CLIENT_ID names the role Key Vault Secrets User on the secret"
NETWORK = "let the app's network in (Networking: virtual networks, private endpoints, firewall)"
# The vault's own error codes for 403: https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
REFUSALS = {
    "ForbiddenByRbac": f"its identity lacks a role: {ROLE}",
    "AccessDenied": f"its identity lacks a permission: {ROLE}",
    "ForbiddenByFirewall": f"its firewall refuses the app's address: {NETWORK}",
    "ForbiddenByConnection": f"it accepts no connections from the app's network: {NETWORK}",
    "SecretDisabled": "the secret's current version is disabled: set a new one, or enable it",
}


@dataclass(frozen=True)
class Secret:
    """One version of the secret; `expires_at` is None if it has no expiry date."""

    value: str = field(repr=False)
    version: str
    expires_at: datetime | None = None


class VaultSecret:
    """The secret at `url`. Its methods raise TokenUnavailable and TokenServiceUnavailable if it cannot be read."""

    def __init__(
        self, url: str, identity: ManagedIdentity, http: Sender, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._identity = identity
        self._http = http
        self._clock = clock
        self._secret: Secret | None = None
        self._read_again_at: float | None = None

    def current(self, deadline: float) -> Secret:
        """Return the cached secret, or read it."""
        return self._secret or self._read(deadline)

    def newer(self, deadline: float) -> Secret | None:
        """Read the secret again; None if that was done less than a minute ago, or it has not changed."""
        kept, now = self._secret, self._clock()
        if self._read_again_at is not None and now - self._read_again_at < READ_AGAIN_AFTER_S:
            return None
        self._read_again_at = now
        found = self._read(deadline)
        return found if found != kept else None

    def _read(self, deadline: float) -> Secret:
        token = self._identity.fetch(scope_of(self._url), deadline).token
        try:
            response = self._http.send(
                "GET",
                f"{self._url}?api-version={API_VERSION}",
                headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
                deadline=deadline,
            )
        except NoResponse as error:
            message = f"The key vault did not give the client secret: {error.message}{error.advice('ITWIN_SECRET_URL')}"
            raise (TokenServiceUnavailable if error.is_temporary else TokenUnavailable)(message) from error
        self._secret = _read_secret(response)
        return self._secret


def scope_of(url: str) -> str:
    """Return the scope of the cloud that a vault is in: the public one's, where its address names none."""
    cloud = (urlsplit(url).hostname or "").partition(".")[2]
    return f"https://{cloud if cloud.startswith('vault.') else PUBLIC_CLOUD}/.default"


def _read_secret(response: Response) -> Secret:
    document: dict[str, Any] = {}
    try:
        document = parse_object(response.body)
        if response.status == HTTPStatus.OK:
            expires, version = document.get("attributes", {}).get("exp"), document["id"].rpartition("/")[2]
            expires_at = None if expires is None else datetime.fromtimestamp(expires, UTC)
            if (value := document["value"].strip()).encode():  # UnicodeEncodeError where it could not be sent
                return Secret(value, version, expires_at)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        pass
    raise _problem(response, document)


def _problem(response: Response, document: dict[str, Any]) -> TokenUnavailable | TokenServiceUnavailable:
    status = response.status
    if status in TEMPORARY_STATUSES:
        pause_s = retry_after_s(response.headers, at_least=LEAST_PAUSE_S)
        return TokenServiceUnavailable(f"The key vault is currently unavailable ({status}).", retry_after_s=pause_s)
    if status == HTTPStatus.OK and not response.is_whole:
        return TokenServiceUnavailable("The key vault's response was cut off or too long.")
    if status == HTTPStatus.FORBIDDEN:
        code = _inner_code(document)
        advice = REFUSALS.get(code, f"{ROLE}, and {NETWORK}")
        return TokenUnavailable(f"The key vault refused the app ({code}): {advice}.")
    if status == HTTPStatus.UNAUTHORIZED:
        advice = "check that the vault belongs to the identity's tenant, and ITWIN_SECRET_URL"
        return TokenUnavailable(f"The key vault did not accept the managed identity's token (401): {advice}.")
    if status == HTTPStatus.NOT_FOUND:
        advice = "put it there, or correct ITWIN_SECRET_URL"
        return TokenUnavailable(f"The key vault has no secret at ITWIN_SECRET_URL (404): {advice}.")
    return TokenUnavailable(f"The key vault responded with {status} and no secret: check ITWIN_SECRET_URL.")


def _inner_code(document: dict[str, Any]) -> str:
    """Return the vault's own error code, if it is a known one."""
    error = document.get("error")
    inner = error.get("innererror") if isinstance(error, dict) else None
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) and code in REFUSALS else "403"
