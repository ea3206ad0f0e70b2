"""One call through the gateway: what expressions know as `context`, and how it can end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from local.api_management.expressions import ExpressionError
from local.api_management.http_client import Headers, pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence


class Services(Protocol):
    """What a gateway provides for its policy."""

    backend_url: str
    timeout_scale: float

    def claims_of(self, token: str, *, tenant_id: str, audiences: Sequence[str]) -> Mapping[str, Any]:
        """Return the claims of a token issued by Entra; raises jwt.InvalidTokenError."""

    def identity_token(self, resource: str) -> str:
        """Return a token of the gateway's own identity."""

    def look_up(self, key: str) -> str | None:
        """Return a cached value, or None."""

    def store(self, key: str, value: str, duration_s: int) -> None:
        """Put a value into the cache."""

    def remove(self, key: str) -> None:
        """Remove a value from the cache."""


@dataclass(frozen=True)
class LastError:
    """What `context.LastError` says about a failure."""

    source: str
    reason: str
    section: str
    policy_id: str | None
    message: str


@dataclass
class Response:
    """A response as expressions see it; `content` is None if it is streamed or has been read already."""

    status: int
    headers: Headers
    body: AsyncIterator[bytes]
    content: bytes | None = None

    def read(self, preserve: bool) -> bytes:  # noqa: FBT001 - as in expressions
        """Return the body, which is gone afterwards unless it is to be preserved."""
        if self.content is None:
            raise ExpressionError("The body is no longer there.")
        content = self.content
        if not preserve:
            self.content = None
        return content


@dataclass
class Call:
    """One request in progress: what expressions know as `context`, and its state."""

    services: Services
    method: str
    target: str
    headers: Headers
    body: AsyncIterator[bytes]
    variables: dict[str, Any] = field(default_factory=dict)
    response: Response | None = None
    last_error: LastError | None = None


class Returned(Exception):
    """`return-response` ends the call with this response."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Failure(Exception):
    """A statement failed: the call continues in `on-error`, with this status unless that section sets another."""

    def __init__(self, status: int, error: LastError) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


def told(status: int, message: str) -> Response:
    """Create a response of API Management itself."""
    content = json.dumps({"statusCode": status, "message": message}).encode()
    return response_of(status, [("Content-Type", "application/json")], content)


def response_of(status: int, headers: Headers, content: bytes) -> Response:
    """Create a response whose length is known."""
    return Response(status, [*headers, ("Content-Length", str(len(content)))], pieces(content), content)
