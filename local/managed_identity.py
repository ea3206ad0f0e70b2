"""The managed identity endpoint of App Service and Functions, for an unmodified `ManagedIdentityCredential`.

https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
import uuid
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.tokens import TokenIssuer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

API_VERSION = "2019-08-01"
TOKEN_PATH = "/msi/token"  # noqa: S105 - a path, as App Service has it
TENANT_ID = "9b6f1a52-5c0e-4d0a-8b3c-2f4f7f5f6c11"
SYSTEM_ASSIGNED_ID = "5f1c6a0e-0d53-4a6e-9d5b-6d9a0f2d7e34"
SYSTEM_ASSIGNED_CLIENT_ID = "c1d0e3f2-7a4b-4c59-8e6d-0b1f2a3c4d5e"
UNKNOWN_IDENTITY = "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
HANGS_FOR_S = 0.05
LIFETIME_S = 24 * 3600.0  # Azure's are valid for 24 hours


class ManagedIdentity:
    """One app's identities: a system-assigned one, and user-assigned ones by client id.

    `tokens` is the authority whose tokens the other stand-ins may trust. For tests, `failing_with` makes every response
    that status, with `hangs` there is none while it is set, and `lifetime_s` decides how soon a token expires;
    `requests` counts what was asked.
    """

    def __init__(self, *, user_assigned: Mapping[str, str] | None = None, tenant_id: str = TENANT_ID) -> None:
        """Take principal ids by client id for user-assigned identities."""
        self.tokens = TokenIssuer(f"https://sts.windows.net/{tenant_id}/")
        self.header = secrets.token_hex(32)
        self.lifetime_s = LIFETIME_S
        self.failing_with: int | None = None
        self.hangs = False
        self.requests = 0
        self._tenant_id = tenant_id
        self._principals = {
            SYSTEM_ASSIGNED_CLIENT_ID: SYSTEM_ASSIGNED_ID,
            **{key.lower(): principal for key, principal in (user_assigned or {}).items()},
        }
        self.app = Starlette(routes=[Route(TOKEN_PATH, self._token, methods=["GET"])])

    def settings(self, address: str) -> dict[str, str]:
        """Return the variables that App Service gives an app whose endpoint is served at `address`."""
        return {"IDENTITY_ENDPOINT": address + TOKEN_PATH, "IDENTITY_HEADER": self.header}

    def issue(self, client_id: str, resource: str) -> str:
        """Issue a token to one of the identities, with the claims of a version 1.0 token.

        https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
        """
        principal = self._principals[client_id]
        claims = {"appid": client_id, "oid": principal, "tid": self._tenant_id, "idtyp": "app", "ver": "1.0"}
        return self.tokens.issue(subject=principal, audience=resource, lifetime_s=self.lifetime_s, claims=claims)

    async def _token(self, request: Request) -> Response:
        self.requests += 1
        while self.hangs and not await request.is_disconnected():  # noqa: ASYNC110 - another thread decides
            await asyncio.sleep(HANGS_FOR_S)
        if self.failing_with is not None:
            return _refusal(self.failing_with, "The managed identity service is failing on demand.")
        if not hmac.compare_digest(request.headers.get("x-identity-header", "").encode(), self.header.encode()):
            return _refusal(401, "The X-IDENTITY-HEADER is missing or wrong.")
        if request.query_params.get("api-version") != API_VERSION:
            return _refusal(400, f"The api-version must be {API_VERSION}.")
        resource = request.query_params.get("resource")
        if not resource:
            return _refusal(400, "The query parameter resource is missing.")
        client_id = request.query_params.get("client_id", SYSTEM_ASSIGNED_CLIENT_ID).lower()
        if client_id not in self._principals:
            return _refusal(400, UNKNOWN_IDENTITY)
        token = self.issue(client_id, resource)
        return JSONResponse(
            {
                "access_token": token,
                "expires_on": str(int(time.time() + self.lifetime_s)),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": client_id.upper(),
            }
        )


def _refusal(status: int, message: str) -> Response:
    body = {"statusCode": status, "message": message, "correlationId": str(uuid.uuid4())}
    return JSONResponse(body, status_code=status)
