"""What all responses have in common, which requests are recorded, and scripted responses.

This is the outermost layer, so that a refusal, a scripted fault and the stand-in's own failure are treated alike. A
response is held back until its request has arrived completely: a client that sends without reading then gets the
response instead of a broken connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import struct
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from local.itwin_platform.image import media_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_REQUESTS = 10_000
MAX_DRAINED_BYTES = 100_000_000
CONTROL_PATH = "/_control"
WITHOUT_CONTENT = (204, 304)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
HEADER_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")  # RFC 9110, 5.5, without what is only there for historical reasons
CLOSING_WITH_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close without a farewell, and discard unsent data


@dataclass(frozen=True)
class ReceivedRequest:
    """What is recorded of a request: neither its token nor its query, which may contain a signature."""

    time: datetime
    method: str
    path: str
    status: int
    body_bytes: int
    body_sha256: str
    media_type: str | None
    bearer: bool
    correlation_id: str


@dataclass(frozen=True)
class ScriptedResponse:
    """A response to the next `times` requests whose method and path match, as shell patterns.

    With `status` None, the platform itself responds, and carries out the request `late_s` later, whether its client
    still waits or not. `delay_s` passes before the response. `reset` breaks the connection in the middle of the
    response's body, or before its first byte if it has none: if the platform itself responds, after the request was
    carried out, which is how an upload succeeds without its client learning it.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0
    late_s: float = 0
    reset: bool = False
    times: int = 1
    method: str = "PUT"
    path: str = "/itwins/*/image"

    def __post_init__(self) -> None:
        """Refuse what no server could send; raises ValueError."""
        if self.status is not None and not 200 <= self.status <= 599:  # noqa: PLR2004 - the statuses of final responses
            raise ValueError(f"A scripted response cannot have the status {self.status}.")
        if self.late_s and self.status is not None:
            raise ValueError("A scripted response with a status has nothing to carry out late.")
        if self.times < 1 or self.delay_s < 0 or self.late_s < 0:
            raise ValueError("A scripted response is sent at least once, and its delays cannot be negative.")
        if self.body and self.status in WITHOUT_CONTENT:
            raise ValueError(f"A scripted response of the status {self.status} cannot have a body.")
        for name, value in self.headers.items():
            if not (isinstance(value, str) and HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value)):
                raise ValueError(f"A scripted response cannot have the header {name!r} with {value!r}.")


class Exchanges:
    """The log of requests and the script of responses, for use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: deque[ReceivedRequest] = deque(maxlen=MAX_REQUESTS)
        self._script: list[ScriptedResponse] = []

    def received(self) -> list[ReceivedRequest]:
        """Return the last requests, oldest first."""
        with self._lock:
            return list(self._received)

    def remember(self, request: ReceivedRequest) -> None:
        """Add a request."""
        with self._lock:
            self._received.append(request)

    def forget(self) -> None:
        """Forget the requests."""
        with self._lock:
            self._received.clear()

    def script(self, responses: Iterable[ScriptedResponse]) -> None:
        """Replace the script."""
        with self._lock:
            self._script = list(responses)

    def remaining_script(self) -> list[ScriptedResponse]:
        """Return the responses that were not used yet."""
        with self._lock:
            return list(self._script)

    def next_response(self, method: str, path: str) -> ScriptedResponse | None:
        """Remove the first matching response from the script, and return it."""
        with self._lock:
            for position, response in enumerate(self._script):
                if fnmatchcase(method, response.method) and fnmatchcase(path, response.path):
                    rest = [replace(response, times=response.times - 1)] if response.times > 1 else []
                    self._script[position : position + 1] = rest
                    return response
        return None


class ExchangeMiddleware:
    """Stands between the server and the platform."""

    def __init__(self, app: ASGIApp, exchanges: Exchanges) -> None:
        self._app = app
        self._exchanges = exchanges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the script or the platform respond; then record the request, and send the response."""
        if scope["type"] != "http":
            return
        scripted = None if _is_control(scope) else self._exchanges.next_response(scope["method"], scope["path"])
        request, response = _Incoming(receive), _Outgoing()
        try:
            if scripted is not None and scripted.late_s:
                await request.drain(keep=True)
                await asyncio.sleep(scripted.late_s)
            if scripted is None or scripted.status is None:
                await self._app(scope, request.receive, response.hold)
            else:
                await _scripted_response(scripted)(scope, request.receive, response.hold)
        finally:
            await self._finish(scope, request, response, scripted, send)

    async def _finish(
        self, scope: Scope, request: _Incoming, response: _Outgoing, scripted: ScriptedResponse | None, send: Send
    ) -> None:
        await request.drain()
        response.headers.setdefault("x-correlation-id", str(uuid.uuid4()))
        if not request.complete:
            response.headers["connection"] = "close"
        if not _is_control(scope):
            self._exchanges.remember(_remembered(scope, request, response))
        if scripted is not None:
            await asyncio.sleep(scripted.delay_s)
        if scripted is not None and scripted.reset:
            await response.send_half(send)
            await _reset_connection(request)
        else:
            await response.send(send)


class _Incoming:
    """A request on its way in: its size is counted, and its content is kept only if it is read later."""

    def __init__(self, receive: Receive) -> None:
        self.raw_receive = receive
        self.began_at = datetime.now(UTC)
        self.complete = False
        self.body_bytes = 0
        self.digest = hashlib.sha256()
        self._ended = False
        self._kept: deque[Message] = deque()

    async def receive(self) -> Message:
        if self._kept:
            return self._kept.popleft()
        message = await self.raw_receive()
        if message["type"] == "http.request":
            body = message.get("body", b"")
            self.body_bytes += len(body)
            self.digest.update(body)
            self.complete = self._ended = not message.get("more_body", False)
        else:
            self._ended = True
        return message

    async def drain(self, *, keep: bool = False) -> None:
        """Receive the rest of the body, within reason."""
        taken: list[Message] = []
        while not self._ended and self.body_bytes <= MAX_DRAINED_BYTES:
            message = await self.receive()
            if keep:
                taken.append(message)
        self._kept.extend(taken)


class _Outgoing:
    """A response on its way out."""

    def __init__(self) -> None:
        self.status = 500
        self.body = b""
        self.headers = MutableHeaders()

    async def hold(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = MutableHeaders(raw=list(message["headers"]))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers.raw})
        await send({"type": "http.response.body", "body": self.body})

    async def send_half(self, send: Send) -> None:
        if half := self.body[: len(self.body) // 2]:
            await send({"type": "http.response.start", "status": self.status, "headers": self.headers.raw})
            await send({"type": "http.response.body", "body": half, "more_body": True})


def _is_control(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == CONTROL_PATH or path.startswith(CONTROL_PATH + "/")


def _scripted_response(scripted: ScriptedResponse) -> Response:
    computed = {"content-length", "transfer-encoding"}
    headers = {name: value for name, value in scripted.headers.items() if name.lower() not in computed}
    return Response(scripted.body, scripted.status or 200, headers=headers)


def _remembered(scope: Scope, request: _Incoming, response: _Outgoing) -> ReceivedRequest:
    headers = Headers(scope=scope)
    return ReceivedRequest(
        time=request.began_at,
        method=scope["method"],
        path=scope["path"],
        status=response.status,
        body_bytes=request.body_bytes,
        body_sha256=request.digest.hexdigest(),
        media_type=media_type(headers.get("content-type")) or None,
        bearer=headers.get("authorization", "").lower().startswith("bearer "),
        correlation_id=response.headers["x-correlation-id"],
    )


async def _reset_connection(request: _Incoming) -> None:
    """Break the connection. ASGI has no call for it; uvicorn's cycle, to which `receive` belongs, has the socket."""
    cycle = getattr(request.raw_receive, "__self__", None)
    transport: asyncio.Transport | None = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("Only uvicorn's connections can be reset.")
    with contextlib.suppress(OSError):  # the client was faster
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSING_WITH_RESET)
    transport.abort()
    while (await request.raw_receive())["type"] != "http.disconnect":
        pass
