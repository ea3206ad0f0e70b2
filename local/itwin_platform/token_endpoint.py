"""Who gets a token for a client id and secret: `POST /connect/token` with the grant `client_credentials`.

Refusals are those of OAuth 2.0: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_plus

from starlette.responses import JSONResponse
from starlette.routing import Route

from local.body import read_body
from local.itwin_platform.authorization import AUDIENCE, SCOPE
from local.itwin_platform.image import media_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from local.tokens import TokenIssuer

LIFETIME_S = 3600
MAX_FORM_BYTES = 65_536
NEVER_STORED = {"cache-control": "no-store", "pragma": "no-cache"}


class OAuthError(Exception):
    """A refusal of the token endpoint; `code` is one of RFC 6749's."""

    def __init__(
        self, code: str, description: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(description)
        self.code = code
        self.status = status
        self.headers = headers or {}


class TokenEndpoint:
    """Issues tokens to the clients it knows, by client id and secret."""

    def __init__(self, tokens: TokenIssuer, clients: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._secrets: dict[str, tuple[str, ...]] = {client_id: (secret,) for client_id, secret in clients.items()}
        self.routes = [Route("/connect/token", self._respond, methods=["POST"])]

    def set_secrets(self, client_id: str, *secrets: str) -> None:
        """Let a client authenticate with any of these secrets and no other, as during a rotation."""
        self._secrets[client_id] = secrets

    async def _respond(self, request: Request) -> JSONResponse:
        try:
            form = await _read_form(request)
            client_id = self._authenticate(request, form)
            _require_grant(form)
            return self._issue(client_id)
        except OAuthError as error:
            refusal = {"error": error.code, "error_description": str(error)}
            return JSONResponse(refusal, error.status, headers={**NEVER_STORED, **error.headers})

    def _authenticate(self, request: Request, form: Mapping[str, str]) -> str:
        authorization = request.headers.get("authorization")
        if authorization is None:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        elif "client_secret" in form:
            raise OAuthError("invalid_request", "The client authenticated in more than one way.")
        else:
            client_id, secret = _basic_credentials(authorization)
        expected = self._secrets.get(client_id, ())
        if not any(hmac.compare_digest(secret.encode(), each.encode()) for each in expected):
            challenge = {} if authorization is None else {"www-authenticate": 'Basic realm="iTwin Platform"'}
            message = "Invalid client or client credentials."
            raise OAuthError("invalid_client", message, status=401, headers=challenge)
        return client_id

    def _issue(self, client_id: str) -> JSONResponse:
        token = self._tokens.issue(subject=client_id, audience=AUDIENCE, scope=SCOPE, lifetime_s=LIFETIME_S)
        granted = {"access_token": token, "expires_in": LIFETIME_S, "token_type": "Bearer", "scope": SCOPE}
        return JSONResponse(granted, headers=NEVER_STORED)


async def _read_form(request: Request) -> dict[str, str]:
    if media_type(request.headers.get("content-type")) != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "The request must be application/x-www-form-urlencoded.")
    body = await read_body(request, MAX_FORM_BYTES)
    if body is None:
        raise OAuthError("invalid_request", "The request is too large.")
    fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    if len({name for name, _ in fields}) < len(fields):
        raise OAuthError("invalid_request", "A parameter is given more than once.")
    return dict(fields)


def _basic_credentials(authorization: str) -> tuple[str, str]:
    """https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1: both parts are form encoded before they are joined."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        scheme = ""
    if scheme.lower() != "basic":
        raise OAuthError("invalid_request", "The Authorization header is not HTTP Basic.")
    return unquote_plus(client_id), unquote_plus(secret)


def _require_grant(form: Mapping[str, str]) -> None:
    grant = form.get("grant_type")
    if not grant:
        raise OAuthError("invalid_request", "The parameter grant_type is missing.")
    if grant != "client_credentials":
        raise OAuthError("unsupported_grant_type", "Only the grant type client_credentials is supported.")
    if form.get("scope", "").split() != [SCOPE]:
        raise OAuthError("invalid_scope", f"The scope must be {SCOPE}.")
