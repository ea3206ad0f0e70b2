"""Decides whose requests are served, and what a browser may do with the responses.

Any page that a developer has open can send requests to loopback ports. So the `Host` must be loopback, which prevents
DNS rebinding; requests that change something must come from the console's own page, which prevents cross-site request
forgery; and no response can be framed, embedded, sniffed or scripted by another page, or make requests that leave the
machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from local.serving import names_this_machine

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = frozenset({"GET", "HEAD"})

# Trusted Types without any policy: no text can become HTML or script, whatever a file is called.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Stands between the server and the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on and add the headers to the response."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = _refusal(scope["method"], Headers(scope=scope))
        await (PlainTextResponse(refusal, 403) if refusal else self._app)(scope, receive, send_guarded)


def _refusal(method: str, headers: Headers) -> str | None:
    host = headers.get("host", "")
    if not names_this_machine(host):
        return "The console serves this machine only."
    if method not in SAFE_METHODS and headers.get("origin") != f"http://{host}":
        return "Only the console's own page may change anything."
    return None
