"""Puts the gateway together: one API behind one policy, the cache, and the gateway's own identity."""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import jwt
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from local.api_management.call import Call, told
from local.api_management.policy import Policy
from local.api_management.statements import HOP_BY_HOP
from local.processes import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.requests import Request

    from local.api_management.call import Response
    from local.tokens import TokenIssuer

# The server that runs this gateway sets its own.
SET_BY_SERVER = frozenset({"date", "server", "transfer-encoding"})


def deployed_policy() -> str:
    """Return the deployed policy document."""
    return (PROJECT / "infra" / "gateway-policy.xml").read_text()


class Gateway:
    """One API Management gateway with the deployed API; `app` is its ASGI application.

    `named_values` are the values that the policy refers to as `{{...}}`; `backend_url` is the API's address; `entra`
    issues the tokens that the gateway accepts, and its own, whose subject is `principal_id`. For tests, `policy` may be
    another document, and `timeout_scale` shortens every timeout in it.
    """

    def __init__(
        self,
        *,
        named_values: Mapping[str, str],
        backend_url: str,
        entra: TokenIssuer,
        principal_id: str,
        policy: str | None = None,
        timeout_scale: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backend_url = backend_url
        self.timeout_scale = timeout_scale
        self._policy = Policy(deployed_policy() if policy is None else policy, named_values)
        self._entra = entra
        self._principal_id = principal_id
        self._clock = clock
        self._cache: dict[str, tuple[str, float]] = {}
        operations = json.loads((PROJECT / "infra" / "contract.json").read_text())["gatewayOperations"]
        self.app = Starlette(
            routes=[Route(each["urlTemplate"], self._answer, methods=[each["method"]]) for each in operations],
            exception_handlers={404: _answer_unknown, 405: _answer_unknown},
        )

    def claims_of(self, token: str, *, tenant_id: str, audiences: Sequence[str]) -> Mapping[str, Any]:
        """Return the claims of a token issued by the tenant; raises jwt.InvalidTokenError."""
        if self._entra.issuer != f"https://sts.windows.net/{tenant_id}/":
            raise jwt.InvalidIssuerError("The keys of this tenant are not known.")
        return self._entra.verify(token, audience=audiences)

    def identity_token(self, resource: str) -> str:
        """Return a token of the gateway's own identity."""
        return self._entra.issue(subject=self._principal_id, audience=resource)

    def look_up(self, key: str) -> str | None:
        """Return a cached value, or None."""
        value, until = self._cache.get(key, (None, 0.0))
        return value if until > self._clock() else None

    def store(self, key: str, value: str, duration_s: int) -> None:
        """Put a value into the cache."""
        self._cache[key] = (value, self._clock() + duration_s)

    def remove(self, key: str) -> None:
        """Remove a value from the cache."""
        self._cache.pop(key, None)

    async def _answer(self, request: Request) -> StreamingResponse:
        query = request.url.query
        call = Call(
            self,
            method=request.method,
            target=request.scope["raw_path"].decode("ascii") + (f"?{query}" if query else ""),
            headers=[(name, value) for name, value in request.headers.items()],
            body=request.stream(),
        )
        return _streamed(await self._policy.run(call))


async def _answer_unknown(_request: Request, _error: Exception) -> StreamingResponse:
    return _streamed(told(HTTPStatus.NOT_FOUND, "Resource not found"))


def _streamed(response: Response) -> StreamingResponse:
    streamed = StreamingResponse(response.body, response.status)
    streamed.raw_headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers
        if name.lower() not in HOP_BY_HOP | SET_BY_SERVER
    ]
    return streamed
