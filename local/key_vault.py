"""A vault of Azure Key Vault: the secrets it holds, their versions, and who may read them.

https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret
https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from starlette.requests import Request
    from starlette.responses import Response

    from local.tokens import TokenIssuer

AUDIENCE = "https://vault.azure.net"
API_VERSION = re.compile(r"7\.[0-9]|\d{4}-\d\d-\d\d")


@dataclass
class SecretVersion:
    """One version of a secret; times are in seconds since 1970."""

    id: str
    value: str
    created: int
    expires: int | None
    enabled: bool = True


class KeyVault:
    """One vault, empty at first; every method may be called while it is served in another thread.

    `tokens` is the authority whose tokens are trusted, `readers` are the principals with the role Key Vault Secrets
    User. For tests, `failing_with` makes every response that status; `requests` counts what was asked.
    """

    def __init__(self, tokens: TokenIssuer, *, readers: Collection[str] = ()) -> None:
        self.readers = set(readers)
        self.failing_with: int | None = None
        self.requests = 0
        self._tokens = tokens
        self._secrets: dict[str, tuple[SecretVersion, ...]] = {}
        routes = [
            Route("/secrets/{name}", self._secret, methods=["GET"]),
            Route("/secrets/{name}/{version}", self._secret, methods=["GET"]),
        ]
        self.app = Starlette(routes=routes)

    def set_secret(self, name: str, value: str, *, expires: datetime | None = None) -> str:
        """Make a new version of the secret, its current one from now on, and return the version's ID."""
        expiry = None if expires is None else int(expires.timestamp())
        version = SecretVersion(secrets.token_hex(16), value, int(time.time()), expiry)
        self._secrets[name] = (*self._secrets.get(name, ()), version)
        return version.id

    def disable_secret(self, name: str) -> None:
        """Disable the secret's current version, which can no longer be read."""
        self._secrets[name][-1].enabled = False

    def delete_secret(self, name: str) -> None:
        """Delete the secret with all its versions."""
        del self._secrets[name]

    async def _secret(self, request: Request) -> Response:
        self.requests += 1
        if self.failing_with is not None:
            return _refusal(self.failing_with, "ServiceUnavailable", "The vault is failing on demand.")
        if refusal := self._refuse_caller(request) or _refuse_api_version(request):
            return refusal
        name, wanted = request.path_params["name"], request.path_params.get("version")
        versions = [version for version in self._secrets.get(name, ()) if wanted in (None, version.id)]
        if not versions:
            return _refusal(404, "SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault.")
        if not versions[-1].enabled:
            message = "Operation get is not allowed on a disabled secret."
            return _refusal(403, "Forbidden", message, inner="SecretDisabled")
        return JSONResponse(_bundle(f"{request.base_url}secrets/{name}", versions[-1]))

    def _refuse_caller(self, request: Request) -> Response | None:
        """Return why the caller may not read, None where they may."""
        tenant = self._tokens.issuer.rstrip("/").rpartition("/")[2]
        challenge = f'Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="{AUDIENCE}"'
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            message = "AKV10000: Request is missing a Bearer or PoP token."
            return _refusal(401, "Unauthorized", message, challenge=challenge)
        try:
            claims = self._tokens.verify(token, audience=AUDIENCE)
        except jwt.InvalidTokenError as error:
            return _refusal(401, "Unauthorized", f"The token is not accepted: {error}", challenge=challenge)
        if claims["sub"] not in self.readers:
            message = "Caller is not authorized to perform action on resource."
            return _refusal(403, "Forbidden", message, inner="ForbiddenByRbac")
        return None


def _refuse_api_version(request: Request) -> Response | None:
    api_version = request.query_params.get("api-version")
    if api_version is None:
        return _refusal(400, "BadParameter", "api-version must be specified")
    if not API_VERSION.fullmatch(api_version):
        return _refusal(400, "BadParameter", f"The specified version ({api_version}) is not recognized.")
    return None


def _bundle(identifier: str, version: SecretVersion) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "enabled": True,
        "created": version.created,
        "updated": version.created,
        "recoveryLevel": "CustomizedRecoverable+ProtectedSubscription",
        "recoverableDays": 7,
    }
    if version.expires is not None:
        attributes["exp"] = version.expires
    return {"value": version.value, "id": f"{identifier}/{version.id}", "attributes": attributes, "tags": {}}


def _refusal(
    status: int, code: str, message: str, *, inner: str | None = None, challenge: str | None = None
) -> Response:
    error: dict[str, Any] = {"code": code, "message": message}
    if inner is not None:
        error["innererror"] = {"code": inner}
    headers = {} if challenge is None else {"www-authenticate": challenge}
    return JSONResponse({"error": error}, status_code=status, headers=headers)
